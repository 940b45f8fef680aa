"""Learnt positions (Gehring et al. 2017)."""

import torch
from torch import Tensor, nn

from heed.nn.attention_positions import places_of


class LearnedPositions(nn.Module):
    """x[t] + weight[t]: one learnt vector a place, up to a length.

    Gehring et al. 2017, "Convolutional Sequence to Sequence Learning"; Devlin et al. 2019, "BERT".

    Args:
        length: the number of places.
        embed_size: E.
    """

    def __init__(self, length: int, embed_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, embed_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal with deviation 0.02 (Devlin et al. 2019)."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, offset: Tensor | None = None) -> Tensor:
        """x [B,T,E], offset int64 [B], the place of each element's first row (None: 0)."""
        T = x.shape[1]
        last = T - 1 if offset is None or len(offset) == 0 else T - 1 + int(offset.max())
        if T > 0 and last >= len(self.weight):
            raise ValueError(
                f"[LearnedPositions] x: expected places below length = {len(self.weight)}, "
                f"got {last}"
            )
        if offset is None:
            return x + self.weight[:T]
        return x + nn.functional.embedding(places_of(offset, T, x.device), self.weight)

    def extra_repr(self) -> str:
        return f"length={len(self.weight)}, embed_size={self.weight.shape[1]}"
