"""Additive (MLP) attention (Bahdanau et al. 2015)."""

import torch
from torch import Tensor, nn

from heed.nn._heads import Output, attend_single_head, check_rows, keys_beyond, within


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

    For steps whose scores need a gradient. The hidden layer of one query is as large as its keys,
    which the engine would keep for the backward pass: kept itself, no tanh is computed again. Keys
    from lengths int64 [B] on get -inf.
    """
    scores = torch.tanh_(within(keys, lengths) + query) @ score_weight[0]
    if lengths is None:
        return scores
    return scores.masked_fill(keys_beyond(lengths, keys.shape[1]), -torch.inf)


def softmax_of_scores(scores: Tensor, lengths: Tensor | None) -> Tensor:
    """[B,S] -> [B,S]; keys from lengths on, whose score is -inf, get 0 where there are no others."""
    if lengths is None:
        return scores.softmax(-1)
    hidden = scores.isneginf()
    return scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1) * ~hidden
