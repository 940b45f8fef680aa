"""Location-sensitive attention (Chorowski et al. 2015)."""

import torch
from torch import Tensor, nn

from heed.nn._heads import check_rows, within
from heed.nn.additive_attention import additive_scores, softmax_of_scores


class LocationSensitiveAttention(nn.Module):
    """score = v . tanh(W q + U k + V f), with features f = F * previous (a convolution) of the
    weights that the decoder's step before gave.

    Chorowski et al. 2015, "Attention-based models for speech recognition". A step sees where the
    one before looked, so alignments can move on where all places look alike.

    Args:
        query_size: width of a query.
        key_size: width of a row of memory.
        size: D, the width of the hidden layer.
        filters: features of the previous weights around each place.
        width: places that a filter sees, odd: as many before as after.
    """

    def __init__(
        self, query_size: int, key_size: int, size: int, *, filters: int = 10, width: int = 201
    ) -> None:
        super().__init__()
        if width <= 0 or width % 2 != 1:
            raise ValueError(
                f"[LocationSensitiveAttention] width: expected an odd number, got {width}"
            )
        self.query_size, self.key_size, self.size = query_size, key_size, size
        self.filters, self.width = filters, width
        self.query_projection = nn.Linear(query_size, size)
        self.key_projection = nn.Linear(key_size, size, bias=False)
        self.location_convolution = nn.Conv1d(1, filters, width, padding=width // 2, bias=False)
        self.location_projection = nn.Linear(filters, size, bias=False)
        self.score_weight = nn.Parameter(torch.empty(1, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Matrices and v from N(0, 0.01^2), the bias 0 (Chorowski et al. 2015)."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.01)
        nn.init.zeros_(self.query_projection.bias)

    def keys(self, memory: Tensor) -> Tensor:
        """memory [B,S,key_size] -> U memory [B,S,D]: once for all steps."""
        check_rows("LocationSensitiveAttention", "memory", memory, "[B,S,key_size]", self.key_size)
        return self.key_projection(memory)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        previous: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One step: query [B,1,query_size], keys as above, values [B,S,Dv] -> output [B,1,Dv],
        weights [B,1,S].

        previous: [B,1,S], the weights of the step before (or their sum so far); None at the first.
        lengths: int64 [B], the keys of each element; None: all S.

        The weights are always returned, for the next step, and with a gradient, so that a step
        learns from what it did to those after it.
        """
        check_rows(
            "LocationSensitiveAttention", "query", query, "[B,1,query_size]", self.query_size
        )
        if query.size(1) != 1:
            raise ValueError(
                "[LocationSensitiveAttention] query: expected one step, [B,1,query_size], got "
                f"{list(query.shape)}"
            )
        located = keys  # U k + V f [B,S,D]
        if previous is not None:
            check_rows("LocationSensitiveAttention", "previous", previous, "[B,1,S]", keys.size(1))
            features = self.location_convolution(previous).transpose(1, 2)  # [B,S,filters]
            located = keys + self.location_projection(features)
        scores = additive_scores(
            self.query_projection(query), located, self.score_weight, lengths
        )  # [B,S]
        weights = softmax_of_scores(scores, lengths).to(values.dtype).unsqueeze(1)  # [B,1,S]
        return weights @ within(values, lengths), weights

    def extra_repr(self) -> str:
        return (
            f"query_size={self.query_size}, key_size={self.key_size}, size={self.size}, "
            f"filters={self.filters}, width={self.width}"
        )
