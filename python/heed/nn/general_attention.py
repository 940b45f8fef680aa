"""General (bilinear) attention (Luong et al. 2015)."""

from torch import Tensor, nn

from heed.nn._heads import Output, attend_single_head, check_rows


class GeneralAttention(nn.Module):
    """score = q W k, for queries and keys of different widths, or of different meaning.

    Luong et al. 2015, "Effective approaches to attention-based neural machine translation".

    Args:
        query_size: width of a query.
        key_size: width of a row of memory.
    """

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.query_size, self.key_size = query_size, key_size
        self.key_projection = nn.Linear(key_size, query_size, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in [-0.1, 0.1] (Luong et al. 2015, section 4.1)."""
        nn.init.uniform_(self.key_projection.weight, -0.1, 0.1)

    def keys(self, memory: Tensor) -> Tensor:
        """memory [B,S,key_size] -> W memory [B,S,query_size]: once for all queries."""
        check_rows("GeneralAttention", "memory", memory, "[B,S,key_size]", self.key_size)
        return self.key_projection(memory)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,query_size], keys as above, values [B,S,Dv] -> output [B,T,Dv], weights
        [B,T,S].

        lengths: int64 [B], the keys of each element; None: all S.
        """
        check_rows("GeneralAttention", "query", query, "[B,T,query_size]", self.query_size)
        return attend_single_head(
            query, keys, values, return_weights=return_weights, scale=1.0, kv_lengths=lengths
        )

    def extra_repr(self) -> str:
        return f"query_size={self.query_size}, key_size={self.key_size}"
