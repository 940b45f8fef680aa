"""Attention that knows what it has already covered (See et al. 2017)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from heed.nn._heads import check_rows, within
from heed.nn.additive_attention import additive_scores, softmax_of_scores


class CoverageOutput(NamedTuple):
    output: Tensor  # [B,T,Dv]
    weights: Tensor  # [B,T,S], with a gradient: the next step's score depends on them
    coverage: Tensor  # [B,S], the sum of all weights so far, for the next call
    loss: Tensor  # [B,T], sum_s min(weights[t,s], coverage[t,s])


class CoverageAttention(nn.Module):
    """score[t,s] = v . tanh(W q[t] + U k[s] + w c[t,s]),   c[t,s] = sum_{t' < t} weights[t',s]

    See, Liu, Manning 2017, "Get To The Point: Summarization with Pointer-Generator Networks"; the
    bias is W's. The loss sum_s min(weights[t,s], c[t,s]) punishes looking twice. Each step needs
    the weights of those before it, so a call goes through its T queries one by one.

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
        self.coverage_weight = nn.Parameter(torch.empty(size))
        self.score_weight = nn.Parameter(torch.empty(1, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in [-0.02, 0.02], biases 0, as the paper's program."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -0.02, 0.02)

    def keys(self, memory: Tensor) -> Tensor:
        """memory [B,S,key_size] -> keys [B,S,D] = U memory: once for all queries."""
        check_rows("CoverageAttention", "memory", memory, "[B,S,key_size]", self.key_size)
        return self.key_projection(memory)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        coverage: Tensor | None = None,
    ) -> CoverageOutput:
        """query [B,T,query_size], keys as above, values [B,S,Dv], lengths int64 [B] of keys,
        coverage [B,S] of the steps before (none: 0)."""
        check_rows("CoverageAttention", "query", query, "[B,T,query_size]", self.query_size)
        check_rows("CoverageAttention", "keys", keys, "[B,S,D]", self.size)
        B, S = keys.shape[:2]
        if coverage is None:
            coverage = keys.new_zeros(B, S)
        queries = self.query_projection(query)  # [B,T,D]
        weights, losses = [], []
        for t in range(query.shape[1]):
            covered = torch.addcmul(keys, coverage.unsqueeze(-1), self.coverage_weight)  # [B,S,D]
            scores = additive_scores(queries[:, t : t + 1], covered, self.score_weight, lengths)
            row = softmax_of_scores(scores, lengths).to(keys.dtype)  # [B,S]
            weights.append(row)
            losses.append(torch.minimum(row, coverage).sum(-1))
            coverage = coverage + row
        stacked = torch.stack(weights, 1) if weights else keys.new_zeros(B, 0, S)
        loss = torch.stack(losses, 1) if losses else keys.new_zeros(B, 0)
        return CoverageOutput(stacked @ within(values, lengths), stacked, coverage, loss)

    def extra_repr(self) -> str:
        return f"query_size={self.query_size}, key_size={self.key_size}, size={self.size}"
