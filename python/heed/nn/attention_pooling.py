"""Pooling by attention: learnt queries ask one sequence (Yang et al. 2016; Lin et al. 2017)."""

import torch
from torch import Tensor, nn

from heed.nn._heads import Output, attend_single_head, check_rows


class AttentionPooling(nn.Module):
    """score[i,s] = <u[i], tanh(W x[s] + b)> with learnt queries u; without hidden layer <u[i], x[s]>.

    One query gives one vector for a whole sequence (Yang et al. 2016, "Hierarchical Attention
    Networks"), several as many views of it (Lin et al. 2017, "A Structured Self-attentive Sentence
    Embedding"). The scores take S * (queries + hidden_size) numbers.

    Args:
        embed_size: E, width of a row.
        queries: number of learnt queries.
        hidden_size: width of the hidden layer; 0: none.
    """

    def __init__(self, embed_size: int, *, queries: int = 1, hidden_size: int = 0) -> None:
        super().__init__()
        if queries < 1:
            raise ValueError(f"[AttentionPooling] queries: expected at least 1, got {queries}")
        width = hidden_size or embed_size
        self.embed_size = embed_size
        self.projection = nn.Linear(embed_size, hidden_size) if hidden_size > 0 else None
        self.query = nn.Parameter(torch.empty(queries, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each as a linear layer of its width: the papers do not say."""
        if self.projection is not None:
            self.projection.reset_parameters()
        bound = self.query.shape[1] ** -0.5
        nn.init.uniform_(self.query, -bound, bound)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, *, return_weights: bool = False
    ) -> Output:
        """x [B,S,E], lengths int64 [B]; an element of length 0 gives 0.

        Returns output [B,queries,E], with return_weights (output, weights [B,queries,S]).
        """
        check_rows("AttentionPooling", "x", x, "[B,S,E]", self.embed_size)
        keys = x if self.projection is None else torch.tanh(self.projection(x))  # [B,S,width]
        queries = self.query.expand(x.shape[0], -1, -1)  # [B,queries,width]
        return attend_single_head(
            queries, keys, x, return_weights=return_weights, scale=1.0, kv_lengths=lengths
        )

    def extra_repr(self) -> str:
        return f"queries={self.query.shape[0]}"
