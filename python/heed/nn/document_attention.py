"""Attention within documents that share a row (packed sequences)."""

import torch
from torch import Tensor, nn

from heed.attention import Corner
from heed.nn._heads import Output, attend_heads, check_heads


class DocumentAttention(nn.Module):
    """Scaled dot products with the keys s where document[t] == document[s].

    Documents packed into one row, each blind to the others (Krell et al. 2021, "Efficient Sequence
    Packing without Cross-contamination"). Blocks of keys of other documents are never read, so
    time grows with the sum of squared lengths of the documents.

    Args:
        heads: H; the last dimension of query, keys and values is split among them.
        causal: None, "top_left" or "bottom_right": in addition.
        dropout: probability with which a weight is dropped while training.
    """

    def __init__(
        self, *, heads: int = 1, causal: Corner | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_heads("DocumentAttention", heads)
        self.heads = heads
        self.causal: Corner | None = causal
        self.dropout = dropout

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        documents: Tensor,
        key_documents: Tensor | None = None,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], documents int64 [B,T] below 2^24,
        key_documents [B,S] (none: those of the queries), lengths int64 [B] of keys.

        Returns output [B,T,H*Dv], with return_weights (output, weights [B,H,T,S]).
        """
        of_keys = documents if key_documents is None else key_documents
        for name, ids, x in (("documents", documents, query), ("key_documents", of_keys, keys)):
            if ids.shape != x.shape[:2] or ids.dtype != torch.int64:
                raise ValueError(
                    f"[DocumentAttention] {name}: expected int64 {list(x.shape[:2])}, "
                    f"got {ids.dtype} {list(ids.shape)}"
                )

        def same(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return documents[b, t] == of_keys[b, s]

        return attend_heads(
            query,
            keys,
            values,
            self.heads,
            return_weights,
            mask_mod=same,
            causal=self.causal,
            kv_lengths=lengths,
            dropout_p=self.dropout if self.training else 0.0,
        )

    def extra_repr(self) -> str:
        return f"heads={self.heads}, causal={self.causal}"
