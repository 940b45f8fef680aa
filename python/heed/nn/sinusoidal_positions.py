"""Sinusoidal positions (Vaswani et al. 2017)."""

import torch
from torch import Tensor, nn

from heed.nn.attention_positions import places_of


class SinusoidalPositions(nn.Module):
    """x[t] + p(t), p(t)[2i] = sin(t / base^(2i/E)), p(t)[2i + 1] = cos(t / base^(2i/E)).

    Vaswani et al. 2017, "Attention Is All You Need". Nothing is learnt, and no length is too great.

    Args:
        embed_size: E, even.
        base: the longest wave has the length 2 pi base.
    """

    def __init__(self, embed_size: int, *, base: float = 10000.0) -> None:
        super().__init__()
        if embed_size < 2 or embed_size % 2 != 0:
            raise ValueError(
                f"[SinusoidalPositions] embed_size: expected an even number, got {embed_size}"
            )
        self.embed_size = embed_size
        self.base = base

    def forward(self, x: Tensor, offset: Tensor | None = None) -> Tensor:
        """x [B,T,E], offset int64 [B], the place of each element's first row (None: 0)."""
        places = places_of(offset, x.shape[1], x.device)
        return x + self.encode(places).to(x.dtype)

    def encode(self, places: Tensor) -> Tensor:
        """places [...] -> [...,E] in double precision."""
        angles = wave_angles(places, self.embed_size, self.base)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)

    def extra_repr(self) -> str:
        return f"embed_size={self.embed_size}, base={self.base}"


def wave_angles(places: Tensor, size: int, base: float) -> Tensor:
    """places [...] -> place / base^(2i/size) [...,size/2], double: float32 is off at 10^5 already."""
    exponents = torch.arange(0, size, 2, dtype=torch.float64, device=places.device) / size
    return places.double().unsqueeze(-1) / base**exponents
