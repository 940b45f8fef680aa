"""Kernel regression (Nadaraya 1964, Watson 1964) with a Gaussian of learnt bandwidth."""

import math

import torch
from torch import Tensor, nn

from heed.nn._heads import Output, attend_single_head, within


class KernelRegression(nn.Module):
    """score = -|q - k|^2 / (2 bandwidth^2): weights are Gaussians around the query, divided by
    their sum.

    Nadaraya 1964, "On estimating regression"; Watson 1964, "Smooth regression analysis".

    Args:
        bandwidth: where learning starts: a Gaussian's standard deviation, in units of q and k.
    """

    def __init__(self, bandwidth: float = 1.0) -> None:
        super().__init__()
        if not bandwidth > 0:
            raise ValueError(
                f"[KernelRegression] bandwidth: expected a positive number, got {bandwidth:g}"
            )
        self.bandwidth = bandwidth
        self.log_bandwidth = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """log_bandwidth = log(bandwidth)."""
        nn.init.constant_(self.log_bandwidth, math.log(self.bandwidth))

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """Points query [B,T,D] and keys [B,S,D], and what was observed at the keys, values
        [B,S,Dv] -> output [B,T,Dv], weights [B,T,S].

        lengths: int64 [B], the keys of each element; None: all S.
        """
        # -|q - k|^2 / 2 = <q, k> - |k|^2 / 2 - |q|^2 / 2, whose last term is the same for all keys
        # of a query, so the softmax does not see it. Distances stay when all points move: around
        # the queries' mean the terms are no larger than they must be, and their difference keeps
        # its digits.
        origin = query.detach().mean(1, keepdim=True)  # [B,1,D]
        precision = (-2 * self.log_bandwidth).exp()
        q, k = (query - origin) * precision, within(keys, lengths) - origin
        real = torch.promote_types(k.dtype, torch.float32)  # 8 bits are too few for sums
        penalty = k.to(real).square().sum(-1) * (precision / 2)  # [B,S]
        return attend_single_head(
            q,
            k,
            values,
            return_weights=return_weights,
            score_mod=lambda score, b, h, t, s: score - penalty[b, s],
            scale=1.0,
            kv_lengths=lengths,
        )

    def extra_repr(self) -> str:
        return f"bandwidth={self.bandwidth:g}"
