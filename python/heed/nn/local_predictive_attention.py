"""Local attention around a predicted place (Luong et al. 2015, local-p)."""

import torch
from torch import Tensor, nn

from heed.attention import Options, attention
from heed.nn._heads import Output, check_rows, weights_of


class LocalPredictiveAttention(nn.Module):
    """The query says where to look: a Gaussian around centre[t] = S sigmoid(v . tanh(W q[t])).

    score = <q, k> - (s - centre[t])^2 / (2 sigma^2) for |s - centre[t]| <= window, with
    sigma = window / 2. Luong, Pham, Manning 2015, "Effective Approaches to Attention-based Neural
    Machine Translation", who multiply by the Gaussian after the softmax, so that weights sum to
    less than 1: normalized=False, at the price of a second sweep over the scores. Either way the
    gradient reaches W and v through the Gaussian.

    Args:
        query_size: D, width of a query; keys have it too (multiply them by a matrix first for
            Luong's general score).
        size: width of the hidden layer that predicts the centre.
        window: keys seen on either side of the centre.
        normalized: whether the Gaussian is part of the softmax, so that weights sum to 1.
        dropout: probability with which a weight is dropped while training.
    """

    def __init__(
        self,
        query_size: int,
        size: int,
        window: float,
        *,
        normalized: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if window <= 0:
            raise ValueError(
                f"[LocalPredictiveAttention] window: expected more than 0, got {window}"
            )
        self.query_size, self.size = query_size, size
        self.window = window
        self.normalized = normalized
        self.dropout = dropout
        self.query_projection = nn.Linear(query_size, size, bias=False)
        self.score_weight = nn.Parameter(torch.empty(1, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in [-0.1, 0.1], as in the paper."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def centres(self, query: Tensor, lengths: Tensor | int) -> Tensor:
        """query [B,T,query_size], lengths [B], or one for all -> centres [B,T] in (0, length)."""
        check_rows("LocalPredictiveAttention", "query", query, "[B,T,query_size]", self.query_size)
        hidden = torch.tanh(self.query_projection(query))  # [B,T,size]
        share = hidden @ self.score_weight[0]  # [B,T]
        # In float32 at least: the eight bits of bfloat16 tell no more than 256 places apart.
        share = share.to(torch.promote_types(share.dtype, torch.float32))
        longest = lengths.unsqueeze(1) if isinstance(lengths, Tensor) else lengths
        return longest * torch.sigmoid(share)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,D], keys [B,S,D], values [B,S,Dv], lengths int64 [B] of keys.

        Returns output [B,T,Dv], with return_weights (output, weights [B,T,S]).
        """
        centre = self.centres(query, keys.shape[1] if lengths is None else lengths)  # [B,T]
        window, narrowness = self.window, 2 / self.window**2  # 1 / (2 sigma^2)

        def gaussian(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            away = s - centre[b, t]
            return score - narrowness * away * away

        def near(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return (s - centre[b, t]).abs() <= window

        q, k, v = query.unsqueeze(1), keys.unsqueeze(1), values.unsqueeze(1)
        plain: Options = {"mask_mod": near, "scale": 1.0, "kv_lengths": lengths}
        dropout_p = self.dropout if self.training else 0.0
        options: Options = {**plain, "score_mod": gaussian, "dropout_p": dropout_p}
        output, lse = attention(q, k, v, return_lse=True, **options)
        share = None
        if not self.normalized:
            # softmax(score) gaussian = softmax(score + log gaussian) exp(lse with - lse without).
            _, plain_lse = attention(q, k, v[..., :0], return_lse=True, **plain)
            blind = plain_lse.isneginf()  # no key is in reach: both are -inf
            share = (lse - plain_lse.masked_fill(blind, 0)).exp().unsqueeze(-1)
            output = output * share.to(output.dtype)
        output = output.squeeze(1)
        if not return_weights:
            return output
        weights = weights_of(q, k, **options)
        return output, (weights if share is None else weights * share.detach()).squeeze(1)

    def extra_repr(self) -> str:
        return (
            f"query_size={self.query_size}, size={self.size}, window={self.window}, "
            f"normalized={self.normalized}"
        )
