"""Attention among keys whose content hashes to the query's bucket (Kitaev et al. 2020)."""

import torch
from torch import Tensor, nn

from heed.attention import Options, attention
from heed.nn._heads import Output, check_heads, heads_of, join_heads, keys_beyond, weights_of

# Up to so many keys for each round, one sweep over all of them costs less than sorting: of H4 D64,
# forward and backward on one core, the two met at 1100 keys for two rounds, at 2000 for four.
_SWEPT_KEYS = 512


class DynamicSparseAttention(nn.Module):
    """A query sees the keys that fall into its bucket in any of several rounds of hashing.

        bucket_r(x) = argmax([x R_r; -x R_r]),   R_r [D,buckets / 2] random

    so that near vectors tend to meet: Kitaev, Kaiser, Levskaya 2020, "Reformer: The Efficient
    Transformer" (locality-sensitive hashing). Of long rows, each round sorts queries and keys by
    bucket, so that keys of other buckets lie in blocks that are never read; a pair that met in an
    earlier round is masked, so the rounds are parts of one softmax, put together by their
    log-sum-exps: time grows with rounds * T * S / buckets. Reformer passes one tensor for query and
    keys; with two, a query that meets no key gets 0.

    Args:
        head_size: D, width of a query and a key within a head.
        buckets: number of buckets, even.
        rounds: number of hashes.
        heads: H; the last dimension of query, keys and values is split among them.
        causal: keys s <= t only.
        dropout: probability with which a weight is dropped while training.
    """

    rotations: Tensor

    def __init__(
        self,
        head_size: int,
        *,
        buckets: int = 16,
        rounds: int = 2,
        heads: int = 1,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("DynamicSparseAttention", heads)
        if buckets < 2 or buckets % 2 != 0:
            raise ValueError(
                f"[DynamicSparseAttention] buckets: expected an even number, got {buckets}"
            )
        if rounds < 1:
            raise ValueError(f"[DynamicSparseAttention] rounds: expected at least 1, got {rounds}")
        self.buckets = buckets
        self.rounds = rounds
        self.heads = heads
        self.causal = causal
        self.dropout = dropout
        # [rounds,H,D,buckets / 2]
        self.register_buffer("rotations", torch.empty(rounds, heads, head_size, buckets // 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the rotations anew; a model may do so between steps."""
        nn.init.normal_(self.rotations)

    @torch.no_grad()
    def buckets_of(self, x: Tensor) -> Tensor:
        """x [B,H,T,D] -> int64 [B,rounds,H,T]."""
        rounds = [x @ rotation for rotation in self.rotations]  # each [B,H,T,buckets / 2]
        return torch.stack([torch.cat([y, -y], -1).argmax(-1) for y in rounds], 1)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths int64 [B] of keys.

        Returns output [B,T,H*Dv], with return_weights (output, weights [B,H,T,S]).
        """
        q, k, v = (heads_of(x, self.heads) for x in (query, keys, values))
        of_q, of_k = self.buckets_of(q), self.buckets_of(k)  # [B,rounds,H,T], [B,rounds,H,S]
        if lengths is not None:
            beyond = keys_beyond(lengths, k.shape[2]).unsqueeze(1).unsqueeze(1)  # [B,1,1,S]
            of_k = of_k.masked_fill(beyond, -1)  # a bucket without queries
        dropout_p = self.dropout if self.training else 0.0
        rounds = self.rounds

        def met(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            mask = of_q[b, 0, h, t] == of_k[b, 0, h, s]
            for n in range(1, rounds):
                mask = mask | (of_q[b, n, h, t] == of_k[b, n, h, s])
            return mask

        options: Options = {"mask_mod": met, "causal": "top_left" if self.causal else None}
        if k.shape[2] > _SWEPT_KEYS * self.rounds:
            mixed = self._in_rounds(q, k, v, of_q, of_k, dropout_p)
        else:
            mixed = attention(q, k, v, **(options | {"dropout_p": dropout_p}))
        output = join_heads(mixed)
        return (output, weights_of(q, k, **options)) if return_weights else output

    def _in_rounds(
        self, q: Tensor, k: Tensor, v: Tensor, of_q: Tensor, of_k: Tensor, dropout_p: float
    ) -> Tensor:
        """[B,H,T,Dv]: the rounds put together by their log-sum-exps."""
        parts = [self._round(q, k, v, of_q, of_k, n, dropout_p) for n in range(self.rounds)]
        lse = torch.stack([lse for _, lse in parts])  # [rounds,B,H,T]
        # Finite where no key was met, so that rows without any come out as 0 and not NaN.
        shares = lse.masked_fill(lse.isinf(), torch.finfo(lse.dtype).min).softmax(0)
        mixed = torch.zeros_like(parts[0][0])
        for (out, _), share in zip(parts, shares, strict=True):
            mixed = mixed + out * share.unsqueeze(-1).to(out.dtype)
        return mixed

    def _round(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        of_q: Tensor,
        of_k: Tensor,
        n: int,
        dropout_p: float,
    ) -> tuple[Tensor, Tensor]:
        """out [B,H,T,Dv] and lse [B,H,T] over the pairs that meet in round n for the first time."""
        t_of, s_of = (buckets[:, n].argsort(dim=-1, stable=True) for buckets in (of_q, of_k))
        of_q, of_k = (
            buckets[:, : n + 1].gather(-1, order.unsqueeze(1).expand(-1, n + 1, -1, -1))
            for buckets, order in ((of_q, t_of), (of_k, s_of))
        )

        causal = self.causal

        def meet(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            mask = of_q[b, n, h, t] == of_k[b, n, h, s]
            for earlier in range(n):
                mask = mask & (of_q[b, earlier, h, t] != of_k[b, earlier, h, s])
            return mask & (s_of[b, h, s] <= t_of[b, h, t]) if causal else mask

        q, k, v = _rows(q, t_of), _rows(k, s_of), _rows(v, s_of)
        out, lse = attention(q, k, v, mask_mod=meet, dropout_p=dropout_p, return_lse=True)
        back = t_of.argsort(-1)
        return _rows(out, back), lse.gather(-1, back)

    def extra_repr(self) -> str:
        return (
            f"buckets={self.buckets}, rounds={self.rounds}, heads={self.heads}, "
            f"causal={self.causal}"
        )


def _rows(x: Tensor, order: Tensor) -> Tensor:
    """x [B,H,T,D], order [B,H,T] -> x[b, h, order[b, h, t]]."""
    return x.gather(2, order.unsqueeze(-1).expand(-1, -1, -1, x.shape[-1]))
