"""Attention to the keys with the largest scores only (Zhao et al. 2019)."""

from torch import Tensor, nn

from heed.nn._heads import Output, attend_heads, check_heads


class TopKAttention(nn.Module):
    """Scaled dot products with the keys whose score is among the row's k largest; ties are kept.

    What is dropped gets no weight at all: it leaves the softmax instead of entering it with a
    score of 0. Zhao et al. 2019, "Explicit Sparse Transformer: Concentrated Attention Through
    Explicit Selection". Gradients reach only what was kept.

    Args:
        sparsity_factor: the share of keys that is kept, in (0, 1]: k = max(1, int(factor * S)).
        heads: H; the last dimension of query, keys and values is split among them.
        dropout: probability with which a weight is dropped while training.
    """

    def __init__(self, sparsity_factor: float, *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        check_heads("TopKAttention", heads)
        if not 0 < sparsity_factor <= 1:
            raise ValueError(
                f"[TopKAttention] sparsity_factor: expected in (0, 1], got {sparsity_factor}"
            )
        self.sparsity_factor = sparsity_factor
        self.heads = heads
        self.dropout = dropout

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths int64 [B] of keys.

        Returns output [B,T,H*Dv], with return_weights (output, weights [B,H,T,S]).
        """
        return attend_heads(
            query,
            keys,
            values,
            self.heads,
            return_weights,
            top_k=max(1, int(self.sparsity_factor * keys.shape[1])),
            kv_lengths=lengths,
            dropout_p=self.dropout if self.training else 0.0,
        )

    def extra_repr(self) -> str:
        return f"sparsity_factor={self.sparsity_factor}, heads={self.heads}"
