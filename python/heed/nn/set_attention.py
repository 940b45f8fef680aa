"""Attention over sets: blocks of the Set Transformer (Lee et al. 2019)."""

import torch
from torch import Tensor, nn

from heed.nn._heads import (
    Output,
    attend_heads,
    check_embed_size,
    check_rows,
    output_and_weights,
)


class MultiheadAttentionBlock(nn.Module):
    """MAB(X, Y) = N(A + relu(A W)), A = N(X' + attention(X', Y' , Y')), N layer norm.

    X' = W_q X as in the paper's program, so that X and Y may have other widths than E; products of
    a head's rows are scaled by 1 / sqrt(E), whatever the number of heads. Lee et al. 2019, "Set
    Transformer: A Framework for Attention-based Permutation-Invariant Neural Networks".

    Args:
        embed_size: E, a multiple of heads.
        heads: H.
        query_size, key_size: widths of X and Y; 0: E.
        layer_norm: whether N normalises; otherwise it does nothing.
        dropout: probability with which a weight is dropped while training.
    """

    def __init__(
        self,
        embed_size: int,
        heads: int,
        *,
        query_size: int = 0,
        key_size: int = 0,
        layer_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_embed_size("MultiheadAttentionBlock", embed_size, heads)
        self.heads = heads
        self.query_size, self.key_size = query_size or embed_size, key_size or embed_size
        self.dropout = dropout
        self.query_projection = nn.Linear(self.query_size, embed_size)
        self.key_projection = nn.Linear(self.key_size, embed_size)
        self.value_projection = nn.Linear(self.key_size, embed_size)
        self.feed_forward = nn.Linear(embed_size, embed_size)
        self.attention_norm = nn.LayerNorm(embed_size) if layer_norm else None
        self.output_norm = nn.LayerNorm(embed_size) if layer_norm else None

    def reset_parameters(self) -> None:
        for module in self.children():
            module.reset_parameters()  # type: ignore[operator]

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """x [B,T,query_size], y [B,S,key_size], lengths int64 [B] of y.

        Returns output [B,T,E], with return_weights (output, weights [B,H,T,S]).
        """
        check_rows("MultiheadAttentionBlock", "x", x, "[B,T,query_size]", self.query_size)
        check_rows("MultiheadAttentionBlock", "y", y, "[B,S,key_size]", self.key_size)
        query = self.query_projection(x)
        result = attend_heads(
            query,
            self.key_projection(y),
            self.value_projection(y),
            self.heads,
            return_weights,
            scale=query.shape[-1] ** -0.5,
            kv_lengths=lengths,
            dropout_p=self.dropout if self.training else 0.0,
        )
        mixed, weights = output_and_weights(result)
        attended = _norm(self.attention_norm, query + mixed)
        output = _norm(self.output_norm, attended + torch.relu(self.feed_forward(attended)))
        return output if weights is None else (output, weights)

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


class SetAttentionBlock(nn.Module):
    """SAB(X) = MAB(X, X): every element of a set sees every other; T x T pairs."""

    def __init__(
        self,
        embed_size: int,
        heads: int,
        *,
        input_size: int = 0,
        layer_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.block = MultiheadAttentionBlock(
            embed_size,
            heads,
            query_size=input_size,
            key_size=input_size,
            layer_norm=layer_norm,
            dropout=dropout,
        )

    def reset_parameters(self) -> None:
        self.block.reset_parameters()

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, *, return_weights: bool = False
    ) -> Output:
        """x [B,T,input_size], lengths int64 [B] -> [B,T,E], weights [B,H,T,T]."""
        return self.block(x, x, lengths, return_weights=return_weights)


class InducedSetAttentionBlock(nn.Module):
    """ISAB(X) = MAB(X, MAB(I, X)) with learnt points I: 2 T * points pairs in place of T x T."""

    def __init__(
        self,
        embed_size: int,
        heads: int,
        points: int,
        *,
        input_size: int = 0,
        layer_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if points < 1:
            raise ValueError(
                f"[InducedSetAttentionBlock] points: expected at least 1, got {points}"
            )
        self.points = nn.Parameter(torch.empty(points, embed_size))
        self.gather = MultiheadAttentionBlock(
            embed_size, heads, key_size=input_size, layer_norm=layer_norm, dropout=dropout
        )
        self.spread = MultiheadAttentionBlock(
            embed_size, heads, query_size=input_size, layer_norm=layer_norm, dropout=dropout
        )
        nn.init.xavier_uniform_(self.points)

    def reset_parameters(self) -> None:
        """The points as Xavier has it, as in the paper's program."""
        nn.init.xavier_uniform_(self.points)
        self.gather.reset_parameters()
        self.spread.reset_parameters()

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, *, return_weights: bool = False
    ) -> Output:
        """x [B,T,input_size], lengths int64 [B] -> [B,T,E], weights [B,H,T,points] of the second."""
        gathered = self.gather(self.points.expand(x.shape[0], -1, -1), x, lengths)  # [B,points,E]
        return self.spread(x, gathered, return_weights=return_weights)


class PoolingByMultiheadAttention(nn.Module):
    """PMA(Z) = MAB(seeds, relu(Z W)): a set becomes as many vectors as there are learnt seeds."""

    def __init__(
        self,
        embed_size: int,
        heads: int,
        seeds: int = 1,
        *,
        layer_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if seeds < 1:
            raise ValueError(
                f"[PoolingByMultiheadAttention] seeds: expected at least 1, got {seeds}"
            )
        self.seeds = nn.Parameter(torch.empty(seeds, embed_size))
        self.feed_forward = nn.Linear(embed_size, embed_size)
        self.block = MultiheadAttentionBlock(
            embed_size, heads, layer_norm=layer_norm, dropout=dropout
        )
        nn.init.xavier_uniform_(self.seeds)

    def reset_parameters(self) -> None:
        """The seeds as Xavier has it, as in the paper's program."""
        nn.init.xavier_uniform_(self.seeds)
        self.feed_forward.reset_parameters()
        self.block.reset_parameters()

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, *, return_weights: bool = False
    ) -> Output:
        """x [B,S,E], lengths int64 [B] -> [B,seeds,E], weights [B,H,seeds,S]."""
        seeds = self.seeds.expand(x.shape[0], -1, -1)
        y = torch.relu(self.feed_forward(x))
        return self.block(seeds, y, lengths, return_weights=return_weights)


def _norm(norm: nn.LayerNorm | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)
