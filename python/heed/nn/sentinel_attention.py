"""Adaptive attention with a sentinel: looking, or knowing already (Lu et al. 2017)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from heed.attention import Options, attention
from heed.nn._heads import check_rows, weights_of


class SentinelOutput(NamedTuple):
    output: Tensor  # [B,T,Dv]
    sentinel_weight: Tensor  # [B,T], beta
    weights: Tensor | None  # [B,T,S] of the keys: 1 - beta together; only if asked for


class VisualSentinel(nn.Module):
    """sentinel[t] = sigmoid(W x[t] + U h[t - 1]) * tanh(m[t]): what an LSTM knows without looking.

    Lu et al. 2017; x is the LSTM's input, h its hidden state, m its memory cell after the step.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_projection = nn.Linear(input_size, hidden_size)
        self.hidden_projection = nn.Linear(hidden_size, hidden_size, bias=False)

    def reset_parameters(self) -> None:
        self.input_projection.reset_parameters()
        self.hidden_projection.reset_parameters()

    def forward(self, input: Tensor, previous_hidden: Tensor, cell: Tensor) -> Tensor:
        """input [B,T,input_size], previous_hidden and cell [B,T,hidden_size] -> [B,T,hidden_size]."""
        gate = torch.sigmoid(self.input_projection(input) + self.hidden_projection(previous_hidden))
        return gate * torch.tanh(cell)


class SentinelAttention(nn.Module):
    """output = beta sentinel + (1 - beta) sum_s softmax_s(score) v[s]

    with score[t,s] = v . tanh(U k[s] + W q[t]) and beta the weight that v . tanh(V sentinel[t] +
    W q[t]) takes in the softmax over keys and sentinel together, so beta =
    sigmoid(sentinel's score - lse). Lu, Xiong, Parikh, Socher 2017, "Knowing When to Look: Adaptive
    Attention via A Visual Sentinel for Image Captioning".

    Args:
        query_size: width of a query (the decoder's hidden state).
        key_size: width of a row of memory.
        value_size: Dv, width of the values and of the sentinel.
        size: D, the width of the hidden layer.
    """

    def __init__(self, query_size: int, key_size: int, value_size: int, size: int) -> None:
        super().__init__()
        self.query_size, self.key_size = query_size, key_size
        self.value_size, self.size = value_size, size
        self.query_projection = nn.Linear(query_size, size, bias=False)
        self.key_projection = nn.Linear(key_size, size, bias=False)
        self.sentinel_projection = nn.Linear(value_size, size, bias=False)
        self.score_weight = nn.Parameter(torch.empty(1, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each as a linear layer of its width: the paper does not say."""
        self.query_projection.reset_parameters()
        self.key_projection.reset_parameters()
        self.sentinel_projection.reset_parameters()
        bound = self.score_weight.shape[1] ** -0.5
        nn.init.uniform_(self.score_weight, -bound, bound)

    def keys(self, memory: Tensor) -> Tensor:
        """memory [B,S,key_size] -> keys [B,S,D] = U memory: once for all queries."""
        check_rows("SentinelAttention", "memory", memory, "[B,S,key_size]", self.key_size)
        return self.key_projection(memory)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        sentinel: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> SentinelOutput:
        """query [B,T,query_size], keys as above, values [B,S,Dv], sentinel [B,T,Dv],
        lengths int64 [B] of keys."""
        check_rows("SentinelAttention", "query", query, "[B,T,query_size]", self.query_size)
        check_rows("SentinelAttention", "sentinel", sentinel, "[B,T,Dv]", self.value_size)
        queries = self.query_projection(query)  # [B,T,D]
        q, k = queries.unsqueeze(1), keys.unsqueeze(1)
        options: Options = {"kind": "additive", "weight": self.score_weight, "kv_lengths": lengths}
        context, lse = attention(q, k, values.unsqueeze(1), return_lse=True, **options)
        hidden = torch.tanh(self.sentinel_projection(sentinel) + queries)  # [B,T,D]
        sentinel_score = hidden @ self.score_weight[0]  # [B,T]
        beta = torch.sigmoid(sentinel_score - lse.squeeze(1).to(query.dtype))
        share = beta.unsqueeze(-1)
        output = share * sentinel + (1 - share) * context.squeeze(1)
        if not return_weights:
            return SentinelOutput(output, beta, None)
        weights = weights_of(q, k, **options).squeeze(1) * (1 - share.detach())
        return SentinelOutput(output, beta, weights)

    def extra_repr(self) -> str:
        return (
            f"query_size={self.query_size}, key_size={self.key_size}, "
            f"value_size={self.value_size}, size={self.size}"
        )
