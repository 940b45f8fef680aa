"""Convolutional block attention module (Woo et al. 2018): a weight a channel, then one a pixel."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heed.nn._feature_map import check_feature_map, check_reduction


class CbamOutput(NamedTuple):
    output: Tensor  # [B,C,rows,columns]
    channel_weights: Tensor  # [B,C], each in (0, 1); no gradient
    spatial_weights: Tensor  # [B,rows,columns], each in (0, 1); no gradient


class Cbam(nn.Module):
    """x' = x * sigmoid(mlp(mean) + mlp(max)) over pixels; output = x' * sigmoid(conv([mean, max]))
    over channels.

    Woo, Park, Lee, Kweon 2018, "CBAM: Convolutional Block Attention Module". Of equal maxima the
    first has the gradient.

    Args:
        channels: C.
        reduction: r: C // r channels, at least 1, inside the perceptron.
        kernel_size: of the convolution, odd.
        bias: of the perceptron; the convolution has none.
    """

    def __init__(
        self, channels: int, *, reduction: int = 16, kernel_size: int = 7, bias: bool = True
    ) -> None:
        super().__init__()
        check_reduction("Cbam", channels, reduction)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"[Cbam] kernel_size: expected odd, got {kernel_size}")
        self.channels = channels
        self.reduction = reduction
        self.reduce = nn.Linear(channels, max(channels // reduction, 1), bias)
        self.expand = nn.Linear(max(channels // reduction, 1), channels, bias)
        self.spatial = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's normal, biases 0."""
        for linear in (self.reduce, self.expand):
            nn.init.kaiming_normal_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        nn.init.kaiming_normal_(self.spatial.weight)

    def forward(self, x: Tensor, *, return_weights: bool = False) -> Tensor | CbamOutput:
        """x [B,C,rows,columns] -> output of the same sizes; with return_weights a CbamOutput."""
        check_feature_map("Cbam", x, self.channels)
        # Maxima by their index: amax would share the gradient, at several times the cost.
        largest = F.max_pool2d(x, x.shape[2:]).flatten(1)  # [B,C]
        of_channels = (self._mlp(x.mean((2, 3))) + self._mlp(largest)).sigmoid()  # [B,C]
        refined = x * of_channels[..., None, None]
        pooled = torch.cat((refined.mean(1, keepdim=True), refined.max(1, keepdim=True)[0]), 1)
        of_pixels = self.spatial(pooled).sigmoid()  # [B,1,rows,columns]
        output = refined * of_pixels
        if not return_weights:
            return output
        return CbamOutput(output, of_channels.detach(), of_pixels.detach().squeeze(1))

    def extra_repr(self) -> str:
        return f"channels={self.channels}, reduction={self.reduction}"

    def _mlp(self, pooled: Tensor) -> Tensor:
        return self.expand(self.reduce(pooled).relu())
