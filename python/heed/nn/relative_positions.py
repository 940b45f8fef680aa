"""Relative position representations (Shaw et al. 2018)."""

import torch
from torch import Tensor, nn

from heed.attention import MaskMod, ScoreMod
from heed.nn.attention_positions import (
    AttendPart,
    AttentionHeads,
    AttentionPositions,
    place_of,
    places_of,
)

# Up to so many times 2 k + 1 keys, the weights themselves are found sooner than sums of them.
_FEW = 4


class RelativePositions(AttentionPositions):
    """score = scale q[t] (k[s] + a[r]), out[t] = sum_s p[t,s] (v[s] + c[r]), r = clip(s - t, +-k).

    Shaw, Uszkoreit, Vaswani 2018, "Self-Attention with Relative Position Representations". The
    vectors a and c of the 2 k + 1 distances are shared among heads. The products q a are a table
    [B,H,T,2 k + 1]. For c the attention runs over its keys once more, in the three parts r = -k,
    -k < r < k and r = k, with values that tell distances apart: O(B H T (D + k)) memory in all.

    Args:
        head_size: D.
        max_distance: k.
        values: whether there is c.
        value_size: Dv; None: D.
    """

    def __init__(
        self,
        head_size: int,
        *,
        max_distance: int = 16,
        values: bool = True,
        value_size: int | None = None,
    ) -> None:
        super().__init__()
        if max_distance < 1:
            raise ValueError(
                f"[RelativePositions] max_distance: expected at least 1, got {max_distance}"
            )
        self.max_distance = max_distance
        rows = 2 * max_distance + 1
        self.key_table = nn.Parameter(torch.empty(rows, head_size))
        self.value_table: nn.Parameter | None = None
        if values:
            width = head_size if value_size is None else value_size
            self.value_table = nn.Parameter(torch.empty(rows, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform, as the paper's own program."""
        for table in self.parameters():
            nn.init.xavier_uniform_(table)

    def score_mod(self, heads: AttentionHeads) -> ScoreMod:
        k, offset = self.max_distance, heads.offset
        products = (heads.q * heads.scale) @ self.key_table.mT  # [B,H,T,2 k + 1]

        def relative(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return score + products[b, h, t, (s - place_of(offset, b, t)).clamp(-k, k) + k]

        return relative

    def mix(self, heads: AttentionHeads, values: Tensor, attend: AttendPart) -> Tensor:
        if self.value_table is None:
            return super().mix(heads, values, attend)
        few = heads.k.shape[2] <= _FEW * len(self.value_table)
        out, shares = (self._by_weights if few else self._by_parts)(heads, values, attend)
        return out + shares @ self.value_table

    def _by_weights(
        self, heads: AttentionHeads, values: Tensor, attend: AttendPart
    ) -> tuple[Tensor, Tensor]:
        """out [B,H,T,Dv] of the values alone, and the sums of each row's weights by distance
        [B,H,T,2 k + 1]: rows of the identity, beside the values, give the weights themselves."""
        k, (S, Dv) = self.max_distance, values.shape[2:]
        identity = torch.eye(S, dtype=values.dtype, device=values.device)
        identity = identity.expand(*values.shape[:2], S, S)
        out, weights = attend(None, torch.cat((values, identity), -1))[0].split((Dv, S), -1)
        queries = places_of(heads.offset, out.shape[2], out.device).unsqueeze(-1)  # [T,1], [B,T,1]
        rows = (torch.arange(S, device=out.device) - queries).clamp(-k, k) + k
        shares = weights.new_zeros(*weights.shape[:3], 2 * k + 1)
        return out, shares.scatter_add(-1, rows.unsqueeze(-3).expand_as(weights), weights)

    def _by_parts(
        self, heads: AttentionHeads, values: Tensor, attend: AttendPart
    ) -> tuple[Tensor, Tensor]:
        """The same of any number of keys, with nothing of the size T x S."""
        k, offset = self.max_distance, heads.offset
        B, Hkv, S = heads.k.shape[:3]
        H, T = heads.q.shape[1:3]
        out, lse = attend(None, values)
        blind = lse == -torch.inf  # no key is seen: all parts are 0
        finite = lse.masked_fill(blind, 0)

        def share(part: MaskMod, values: Tensor) -> Tensor:
            """The weights of a part's keys, summed by what `values` [S,n] says: [B,H,T,n]."""
            mean, part_lse = attend(part, values.to(out.dtype).expand(B, Hkv, *values.shape))
            return mean * (part_lse - finite).exp().to(out.dtype).unsqueeze(-1)

        def ahead(b: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return s - place_of(offset, b, t)

        # The n = 2 k - 1 keys around a query have different remainders s % n, so their weights
        # come back one by one, turned by the query's place.
        n = 2 * k - 1
        rows = torch.arange(S, device=out.device)
        by_remainder = share(
            lambda b, h, t, s: ahead(b, t, s).abs() < k,
            (rows.unsqueeze(-1) % n == torch.arange(n, device=out.device)),
        )
        places = places_of(offset, T, out.device).unsqueeze(-1)  # [T,1] or [B,T,1]
        key = (places + torch.arange(1 - k, k, device=out.device)) % n  # [T,n] or [B,T,n]
        near = by_remainder.gather(-1, key.unsqueeze(-3).expand(B, H, T, n))
        ones = torch.ones(S, 1, device=out.device)
        after = share(lambda b, h, t, s: ahead(b, t, s) >= k, ones)
        if heads.drops:
            before = share(lambda b, h, t, s: ahead(b, t, s) <= -k, ones)
        else:
            total = (~blind).to(out.dtype).unsqueeze(-1)
            before = total - near.sum(-1, keepdim=True) - after
        return out, torch.cat((before, near, after), dim=-1)

    def extra_repr(self) -> str:
        return (
            f"head_size={self.key_table.shape[1]}, max_distance={self.max_distance}, "
            f"values={self.value_table is not None}"
        )
