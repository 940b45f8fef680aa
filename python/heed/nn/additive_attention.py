"""Additive (MLP) attention (Bahdanau et al. 2015)."""

import torch
from torch import Tensor, nn

from heed.attention import attention
from heed.nn._heads import Output, attend_single_head, check_rows


class AdditiveAttention(nn.Module):
    """score = v . tanh(W q + U k), a network with one hidden layer and one number as its output.

    Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and translate".
    Nothing of size B x T x S x D is stored.

    Args:
        query_size: width of a query.
        key_size: width of a row of memory.
        size: D, the width of the hidden layer.
    """

    def __init__(self, query_size: int, key_size: int, size: int) -> None:
        super().__init__()
        self.query_size, self.key_size, self.size = query_size, key_size, size
        self.query_projection = nn.Linear(query_size, size)
        self.key_projection = nn.Linear(key_size, size, bias=False)
        self.score_weight = nn.Parameter(torch.empty(1, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """W and U from N(0, 0.001^2), v and the bias 0 (Bahdanau et al. 2015, appendix B.1)."""
        nn.init.normal_(self.query_projection.weight, 0, 0.001)
        nn.init.normal_(self.key_projection.weight, 0, 0.001)
        nn.init.zeros_(self.query_projection.bias)
        nn.init.zeros_(self.score_weight)

    def keys(self, memory: Tensor) -> Tensor:
        """memory [B,S,key_size] -> U memory [B,S,D]: once for all queries."""
        check_rows("AdditiveAttention", "memory", memory, "[B,S,key_size]", self.key_size)
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
        check_rows("AdditiveAttention", "query", query, "[B,T,query_size]", self.query_size)
        return attend_single_head(
            self.query_projection(query),
            keys,
            values,
            return_weights=return_weights,
            kind="additive",
            weight=self.score_weight,
            kv_lengths=lengths,
        )

    def extra_repr(self) -> str:
        return f"query_size={self.query_size}, key_size={self.key_size}, size={self.size}"


def additive_scores(
    query: Tensor, keys: Tensor, score_weight: Tensor, lengths: Tensor | None
) -> Tensor:
    """The scores v . tanh(query + keys[s]) of one query, [B,1,D] and [B,S,D] -> [B,S].

    For steps whose scores need a gradient; the hidden layer [B,S,D] is not stored. The sum in tanh
    is symmetric, so the keys stand as queries over a single key: a row that sees one key has that
    key's score as its log-sum-exp. Keys from lengths int64 [B] on get -inf.
    """
    q, k = keys.unsqueeze(1), query.unsqueeze(1)  # [B,1,S,D], [B,1,1,D]
    _, lse = attention(
        q,
        k,
        k[..., :0],
        kind="additive",
        weight=score_weight,
        mask_mod=None if lengths is None else lambda b, h, t, s: t < lengths[b],
        return_lse=True,
    )
    return lse.squeeze(1)


def softmax_of_scores(scores: Tensor) -> Tensor:
    """[B,S] -> [B,S]; a score of -inf gives 0, also where an element has no others."""
    hidden = scores.isneginf()
    return scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1) * ~hidden
