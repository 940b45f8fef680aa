"""Local attention in a fixed window (Luong et al. 2015; Beltagy et al. 2020)."""

from torch import Tensor, nn

from heed.attention import Corner
from heed.nn._heads import Output, attend_heads, check_heads


class LocalAttention(nn.Module):
    """Scaled dot products with the keys s where |t - s| <= window; causal: t - window <= s <= t.

    Luong, Pham, Manning 2015, "Effective Approaches to Attention-based Neural Machine Translation"
    (local-m); Beltagy, Peters, Cohan 2020, "Longformer". Time grows with T * window.

    Args:
        window: keys seen on either side of the query's own place.
        heads: H; the last dimension of query, keys and values is split among them.
        causal: None looks both ways; "top_left" and "bottom_right" back only, from that corner.
        dropout: probability with which a weight is dropped while training.
    """

    def __init__(
        self, window: int, *, heads: int = 1, causal: Corner | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_heads("LocalAttention", heads)
        if window < 0:
            raise ValueError(f"[LocalAttention] window: expected at least 0, got {window}")
        self.window = window
        self.heads = heads
        self.causal: Corner | None = causal
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
            window=(self.window, self.window),
            causal=self.causal,
            kv_lengths=lengths,
            dropout_p=self.dropout if self.training else 0.0,
        )

    def extra_repr(self) -> str:
        return f"window={self.window}, heads={self.heads}, causal={self.causal}"
