"""The Transformer's encoder: a layer and a stack (Vaswani et al. 2017)."""

from collections.abc import Callable
from typing import Unpack

from torch import Tensor

from heed.nn._heads import Output, output_and_weights
from heed.nn._transformer_layer import (
    SelfAttentionCall,
    SharedOptions,
    TransformerLayer,
    TransformerStack,
)
from heed.nn.attention_positions import AttentionPositions


class TransformerEncoderLayer(TransformerLayer):
    """y = step(x, self_attention), output = step(y, feed_forward).

    Vaswani et al. 2017, "Attention Is All You Need". The arguments are those of TransformerLayer,
    which says what a step is.
    """

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
        **call: Unpack[SelfAttentionCall],
    ) -> Output:
        """x [B,T,E], lengths int64 [B], rows of x that count -> output [B,T,E].

        Args:
            return_weights: also the weights [B,H,T,T].
            call: of MultiHeadAttention: causal, window, key_padding, head_mask, score_mod, mask_mod.

        Returns:
            output, or (output, weights).
        """
        norm = self.self_attention_norm
        rows = self._before(norm, x)
        result = self.self_attention(rows, lengths=lengths, return_weights=return_weights, **call)
        mixed, weights = output_and_weights(result)
        output = self._feed_forward_step(self._after(norm, x, mixed))
        return output if weights is None else (output, weights)


class TransformerEncoder(TransformerStack):
    """TransformerEncoderLayer `layers` times, each with parameters of its own.

    Args:
        layers: L.
        embed_size: E.
        heads: H.
        final_norm: whether a norm follows the last layer; None: where norm_first.
        checkpoint: layers keep nothing for the backward pass but their input and compute the rest
            again (Chen et al. 2016).
        positions: a module of positions that all layers share.
        make_positions: gives each layer its own.
        options: of the layers.
    """

    def __init__(
        self,
        layers: int,
        embed_size: int,
        heads: int,
        *,
        final_norm: bool | None = None,
        checkpoint: bool = False,
        positions: AttentionPositions | None = None,
        make_positions: Callable[[], AttentionPositions] | None = None,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(
            lambda own: TransformerEncoderLayer(embed_size, heads, positions=own, **options),
            layers,
            positions=positions,
            make_positions=make_positions,
            final_norm=final_norm,
            checkpoint=checkpoint,
        )

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
        **call: Unpack[SelfAttentionCall],
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """x [B,T,E], lengths int64 [B] -> output [B,T,E], or (output, weights of each layer)."""
        weights: list[Tensor] = []
        for layer in self.layers:
            result = self._run(layer, x, lengths, return_weights=return_weights, **call)
            x = result[0] if return_weights else result
            if return_weights:
                weights.append(result[1])
        return (self._normed(x), weights) if return_weights else self._normed(x)
