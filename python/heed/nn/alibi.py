"""Attention with linear biases (Press et al. 2022)."""

import torch
from torch import Tensor

from heed.attention import ScoreMod
from heed.nn._heads import check_heads
from heed.nn.attention_positions import AttentionHeads, AttentionPositions, place_of


class Alibi(AttentionPositions):
    """score - slope[h] |t - s|: a penalty that grows with the distance, a slope for each head.

    Press, Smith, Lewis 2022, "Train Short, Test Long: Attention with Linear Biases Enables Input
    Length Extrapolation". Nothing is learnt.

    Args:
        heads: H.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        check_heads("Alibi", heads)
        self.slopes = alibi_slopes(heads)  # [H] double

    def score_mod(self, heads: AttentionHeads) -> ScoreMod:
        slopes, offset = self.slopes.to(heads.q.device), heads.offset

        def alibi(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return score - slopes[h] * (place_of(offset, b, t) - s).abs()

        return alibi

    def extra_repr(self) -> str:
        return f"heads={len(self.slopes)}"


def alibi_slopes(heads: int) -> Tensor:
    """[H]: 2^(-8 i / n), i = 1 .. n, for n heads, a power of 2; else those of the power below, then
    every other one of the power above.
    """
    n = 1 << (heads.bit_length() - 1)
    first = 2.0 ** (-8.0 / n * torch.arange(1, n + 1, dtype=torch.float64))
    between = 2.0 ** (-8.0 / (2 * n) * torch.arange(1, 2 * n, 2, dtype=torch.float64))
    return torch.cat((first, between[: heads - n]))
