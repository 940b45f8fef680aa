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
        places = places_of(offset, x.shape[1], x.device)
        if places.numel() > 0 and int(places.max()) >= len(self.weight):
            raise ValueError(
                f"[LearnedPositions] x: expected places below length = {len(self.weight)}, "
                f"got {int(places.max())}"
            )
        return x + nn.functional.embedding(places, self.weight)

    def extra_repr(self) -> str:
        return f"length={len(self.weight)}, embed_size={self.weight.shape[1]}"
