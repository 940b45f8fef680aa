"""Tokens into vectors and, with the same matrix, vectors into logits (Press & Wolf 2017)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heed.nn._transformer_layer import Initialization
from heed.nn.feed_forward import check_dropout


class TokenEmbedding(nn.Module):
    """x[b,t] = dropout(positions(weight[tokens[b,t]])), logits = output weight^T.

    Press & Wolf 2017, "Using the Output Embedding to Improve Language Models"; Vaswani et al. 2017,
    who multiply the rows by sqrt(E) on their way in.

    Args:
        vocabulary_size: V.
        embed_size: E.
        scaled: whether rows are multiplied by sqrt(E).
        padding_index: a token whose row starts as 0 and gets no gradient from where it is read.
        positions: SinusoidalPositions, LearnedPositions or any module of (x [B,T,E], offset [B]).
        dropout: probability with which an element of the result is dropped while training.
        initialization: "glorot": normal with deviation 1 / sqrt(E), so that logits start with
            deviation 1 (Vaswani et al. 2017); "gpt2": 0.02 (Radford et al. 2019).
    """

    def __init__(
        self,
        vocabulary_size: int,
        embed_size: int,
        *,
        scaled: bool = False,
        padding_index: int | None = None,
        positions: nn.Module | None = None,
        dropout: float = 0.0,
        initialization: Initialization = "glorot",
    ) -> None:
        super().__init__()
        if padding_index is not None and not 0 <= padding_index < vocabulary_size:
            raise ValueError(
                f"[TokenEmbedding] padding_index: expected in [0, {vocabulary_size}), "
                f"got {padding_index}"
            )
        check_dropout("TokenEmbedding", "dropout", dropout)
        self.scaled = scaled
        self.padding_index = padding_index
        self.dropout = dropout
        self.initialization = initialization
        self.weight = nn.Parameter(torch.empty(vocabulary_size, embed_size))
        self.positions = positions
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `initialization` says; positions keep theirs."""
        gpt2 = self.initialization == "gpt2"
        nn.init.normal_(self.weight, std=0.02 if gpt2 else self.weight.shape[1] ** -0.5)
        if self.padding_index is not None:
            with torch.no_grad():
                self.weight[self.padding_index].zero_()

    def forward(self, tokens: Tensor, offset: Tensor | None = None) -> Tensor:
        """tokens int64 [B,T], offset int64 [B], the place of each element's first (None: 0) ->
        [B,T,E]."""
        x = F.embedding(tokens, self.weight, self.padding_index)
        if self.scaled:
            x = x * math.sqrt(self.weight.shape[1])
        if self.positions is not None:
            x = self.positions(x, offset)
        return F.dropout(x, self.dropout, self.training) if self.dropout > 0 else x

    def logits(self, output: Tensor) -> Tensor:
        """output [...,E] -> [...,V]."""
        return F.linear(output, self.weight)

    def extra_repr(self) -> str:
        V, E = self.weight.shape
        return f"vocabulary_size={V}, embed_size={E}, scaled={self.scaled}"
