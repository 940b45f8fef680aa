"""Location-based attention (Luong et al. 2015)."""

import torch
from torch import Tensor, nn

from heed.nn._heads import Output, attend_single_head, check_rows


class LocationAttention(nn.Module):
    """weights = softmax(W q), from the query and the place alone: what lies there is not looked at.

    Luong et al. 2015, "Effective approaches to attention-based neural machine translation", eq. 8.

    Args:
        query_size: width of a query.
        max_length: rows of W, the most places there can be.
    """

    def __init__(self, query_size: int, max_length: int) -> None:
        super().__init__()
        self.query_size, self.max_length = query_size, max_length
        self.position_keys = nn.Parameter(torch.empty(max_length, query_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in [-0.1, 0.1] (Luong et al. 2015, section 4.1)."""
        nn.init.uniform_(self.position_keys, -0.1, 0.1)

    def forward(
        self,
        query: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,query_size], values [B,S,Dv] with S <= max_length -> output [B,T,Dv], weights
        [B,T,S].

        lengths: int64 [B], the values of each element; None: all S.
        """
        check_rows("LocationAttention", "query", query, "[B,T,query_size]", self.query_size)
        if values.dim() != 3 or values.size(1) > self.max_length:
            raise ValueError(
                "[LocationAttention] values: expected [B,S,Dv] with S <= max_length = "
                f"{self.max_length}, got {list(values.shape)}"
            )
        # (W q)[s] is the product of q and row s of W, so the rows are keys, the same for every
        # element: no score is stored, as it would be if W q were a table that a program reads.
        B, S = query.size(0), values.size(1)
        keys = self.position_keys[:S].expand(B, S, self.query_size)
        return attend_single_head(
            query, keys, values, return_weights=return_weights, scale=1.0, kv_lengths=lengths
        )

    def extra_repr(self) -> str:
        return f"query_size={self.query_size}, max_length={self.max_length}"
