"""Attention whose heads learn how far to look (Sukhbaatar et al. 2019)."""

import torch
from torch import Tensor, nn

from heed.nn._heads import Output, attend_heads, check_heads


class AdaptiveSpanAttention(nn.Module):
    """weights[t,s] ~ m[h](t - s) exp(score), with the soft mask of a learnt span z[h]

        m[h](x) = clamp((ramp + z[h] - x) / ramp, 0, 1),   z[h] = max_span * span[h]

    which is softmax(score + log m). Sukhbaatar et al. 2019, "Adaptive Attention Span in
    Transformers". A head's time grows with its own span: keys where m is 0 are never read.

    Args:
        max_span: the farthest key that may be seen whole; ramp more fade out.
        heads: H; the last dimension of query, keys and values is split among them.
        ramp: R, over how many keys the mask falls from 1 to 0.
        causal: keys s <= t only, as in the paper; otherwise both ways, x = |t - s|.
        initial_span: what span starts from, in [0, 1].
        span_loss_weight: lambda of the loss.
        dropout: probability with which a weight is dropped while training.
    """

    def __init__(
        self,
        max_span: int,
        *,
        heads: int = 1,
        ramp: int = 32,
        causal: bool = True,
        initial_span: float = 0.0,
        span_loss_weight: float = 2e-6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("AdaptiveSpanAttention", heads)
        if max_span < 1 or ramp < 1:
            raise ValueError(
                "[AdaptiveSpanAttention] max_span, ramp: expected at least 1, "
                f"got {max_span}, {ramp}"
            )
        self.max_span = max_span
        self.heads = heads
        self.ramp = ramp
        self.causal = causal
        self.initial_span = initial_span
        self.span_loss_weight = span_loss_weight
        self.dropout = dropout
        self.span = nn.Parameter(torch.empty(heads))  # [H], in [0, 1]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.span, self.initial_span)

    @torch.no_grad()
    def clamp_span(self) -> None:
        """Puts the spans back into [0, 1]: after each step of the optimiser."""
        self.span.clamp_(0, 1)

    def span_loss(self) -> Tensor:
        """[]: lambda times the mean of z over heads, to be added to the loss."""
        return self.span_loss_weight * self.max_span * self.span.mean()

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
        ramp = self.ramp
        reach = self.max_span * self.span + ramp  # [H]: where the mask reaches 0

        def faded(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            mask = (reach[h] - (t - s).abs()) / ramp
            return score + torch.log(mask.clamp(max=1))

        def in_reach(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return (t - s).abs() < reach[h]

        farthest = self.max_span + self.ramp - 1
        return attend_heads(
            query,
            keys,
            values,
            self.heads,
            return_weights,
            score_mod=faded,
            mask_mod=in_reach,
            window=(farthest, 0 if self.causal else farthest),
            kv_lengths=lengths,
            dropout_p=self.dropout if self.training else 0.0,
        )

    def extra_repr(self) -> str:
        return (
            f"max_span={self.max_span}, heads={self.heads}, ramp={self.ramp}, causal={self.causal}"
        )
