"""Cosine attention (Graves et al. 2014) with a learnt temperature (Liu et al. 2022)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heed.nn._heads import Output, attend_single_head, within


class CosineAttention(nn.Module):
    """score = exp(logit_scale) * <q / |q|, k / |k|>.

    Graves et al. 2014, "Neural Turing machines", where the controller gives the factor; learnt and
    clamped as here in Liu et al. 2022, "Swin Transformer V2".

    Args:
        initial_scale: the factor where learning starts. A cosine is at most 1, which is too flat
            for a softmax.
        max_scale: where exp(logit_scale) is clamped: a temperature of 0.01 or more.
    """

    def __init__(self, *, initial_scale: float = 10.0, max_scale: float = 100.0) -> None:
        super().__init__()
        if not 0 < initial_scale <= max_scale:
            raise ValueError(
                "[CosineAttention] initial_scale: expected a number in (0, max_scale = "
                f"{max_scale:g}], got {initial_scale:g}"
            )
        self.initial_scale, self.max_scale = initial_scale, max_scale
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """logit_scale = log(initial_scale)."""
        nn.init.constant_(self.logit_scale, math.log(self.initial_scale))

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,D], keys [B,S,D], values [B,S,Dv] -> output [B,T,Dv], weights [B,T,S].

        lengths: int64 [B], the keys of each element; None: all S. A row that is 0 has cosine 0 with
        all others.
        """
        scale = self.logit_scale.clamp(max=math.log(self.max_scale)).exp()
        return attend_single_head(
            (_unit_rows(query) * scale).to(query.dtype),
            _unit_rows(within(keys, lengths)).to(keys.dtype),
            values,
            return_weights=return_weights,
            scale=1.0,
            kv_lengths=lengths,
        )

    def extra_repr(self) -> str:
        return f"initial_scale={self.initial_scale:g}, max_scale={self.max_scale:g}"


def _unit_rows(x: Tensor) -> Tensor:
    """x [...,D] with each row divided by its norm; in float32 at least, as a norm of eight bits would
    change all of a key's scores."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
