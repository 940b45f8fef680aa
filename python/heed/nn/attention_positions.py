"""What a module of positions may do to one call of multi-head attention."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heed.attention import MaskMod, ScoreMod

# (part, values) -> (out, lse) of the same attention over those of its keys that part(b, h, t, s)
# names, None all, with values [B,Hkv,S,*] of any width.
AttendPart = Callable[[MaskMod | None, Tensor], tuple[Tensor, Tensor]]


@dataclass
class AttentionHeads:
    """The operands of one call; query t stands at the place offset[b] + t, key s at s."""

    q: Tensor  # [B,H,T,D]
    k: Tensor  # [B,Hkv,S,D]
    offset: Tensor | None  # int64 [B]; None: 0
    scale: float  # of the product of q and k
    drops: bool = False  # whether weights are dropped, so that a row's may not sum to 1


class AttentionPositions(nn.Module):
    """Positions inside attention: rotated rows, other scores, or values of their own.

    `MultiHeadAttention(..., positions=...)` calls the three steps below; a module overrides those
    that it needs, and may be shared by many layers.
    """

    def rotate(self, x: Tensor, offset: Tensor | None = None) -> Tensor:
        """x [B,H,T,D], queries or keys whose first row stands at offset [B], turned to its place.

        Keys come here before they enter a cache, and each once.
        """
        return x

    def score_mod(self, heads: AttentionHeads) -> ScoreMod | None:
        """What becomes of a score; may widen heads.q and heads.k. None: it stays."""
        return None

    def mix(self, heads: AttentionHeads, values: Tensor, attend: AttendPart) -> Tensor:
        """values [B,Hkv,S,Dv] -> the output [B,H,T,Dv]."""
        return attend(None, values)[0]


def places_of(offset: Tensor | None, length: int, device: torch.device) -> Tensor:
    """Places of rows 0 .. length - 1: int64 [T], or [B,T] where each element has its offset."""
    rows = torch.arange(length, device=device)
    return rows if offset is None else offset.unsqueeze(-1) + rows


def place_of(offset: Tensor | None, b: Tensor, t: Tensor) -> Tensor:
    """The place of query t inside a score_mod or mask_mod."""
    return t if offset is None else t + offset[b]
