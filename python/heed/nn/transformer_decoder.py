"""The Transformer's decoder: a layer, a stack and their cache (Vaswani et al. 2017)."""

import copy
from collections.abc import Callable
from typing import Any, Unpack

from torch import Tensor

from heed.nn._transformer_layer import (
    LayerOptions,
    SelfAttentionCall,
    SharedOptions,
    TransformerLayer,
    TransformerStack,
)
from heed.nn.attention_positions import AttentionPositions
from heed.nn.key_value_cache import KeyValueCache
from heed.nn.multi_head_attention import MultiHeadAttention


class TransformerDecoderLayerCache:
    """Keys and values of one layer: of the rows so far and, once read, of the memory."""

    def __init__(self, self_attention: KeyValueCache) -> None:
        self.self_attention = self_attention
        self.cross_attention: KeyValueCache | None = None

    def select(self, elements: Tensor) -> None:
        self.self_attention.select(elements)
        if self.cross_attention is not None:
            self.cross_attention.select(elements)

    def reset(self) -> None:
        self.self_attention.reset()
        self.cross_attention = None


class TransformerDecoderCache:
    """A TransformerDecoderLayerCache for each layer."""

    def __init__(self, layers: list[TransformerDecoderLayerCache]) -> None:
        self.layers = layers

    @property
    def lengths(self) -> Tensor:
        """int64 [B], the rows of each element so far: the places of the next."""
        return self.layers[0].self_attention.lengths

    def select(self, elements: Tensor) -> None:
        """Element i becomes what element elements[i] was (int64 [B]): the step of a beam search."""
        for layer in self.layers:
            layer.select(elements)

    def reset(self) -> None:
        """Forgets rows and memory."""
        for layer in self.layers:
            layer.reset()


class TransformerDecoderLayer(TransformerLayer):
    """y = step(x, self_attention), z = step(y, cross_attention), output = step(z, feed_forward).

    Vaswani et al. 2017, "Attention Is All You Need"; without cross-attention, Radford et al. 2018,
    "Improving Language Understanding by Generative Pre-Training".

    Args:
        cross_attention: whether there is the step that looks at a memory.
        memory_size: width of the memory's rows; None: E.
        options: of TransformerLayer, which says what a step is. Positions are self-attention's.
    """

    def __init__(
        self,
        embed_size: int,
        heads: int,
        *,
        cross_attention: bool = True,
        memory_size: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(embed_size, heads, **options)
        self.cross_attention: MultiHeadAttention | None = None
        self.cross_attention_norm = None
        if cross_attention:
            own = self.self_attention
            self.cross_attention = MultiHeadAttention(
                embed_size,
                heads,
                kv_heads=own.kv_heads,
                key_size=memory_size,
                value_size=memory_size,
                head_size=own.head_size,
                bias=options.get("bias", True),
                scale=own.scale,
                dropout=own.dropout,
                batch_first=own.batch_first,
            )
            self.cross_attention_norm = copy.deepcopy(self.self_attention_norm)
            self.reset_parameters()

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        lengths: Tensor | None = None,
        memory_lengths: Tensor | None = None,
        *,
        memory_key_padding: Tensor | None = None,
        cache: TransformerDecoderLayerCache | None = None,
        return_weights: bool = False,
        **call: Unpack[SelfAttentionCall],
    ) -> Tensor | tuple[Tensor, Tensor, Tensor | None]:
        """x [B,T,E], memory [B,S,memory_size] -> output [B,T,E].

        Args:
            memory: what cross-attention looks at; may be None once a cache holds it.
            lengths: int64 [B], rows of x that count.
            memory_lengths: int64 [B], rows of memory that count.
            memory_key_padding: bool [B,S], true where a row of memory is padding.
            cache: the rows of x follow those that it holds, and join them.
            return_weights: also the weights of both attentions, [B,H,T,T] (with a cache, all its
                rows) and [B,H,T,S].
            call: of self-attention: causal (here "top_left" unless given), window, key_padding,
                head_mask, score_mod, mask_mod.

        Returns:
            output, or (output, self-attention's weights, cross-attention's).
        """
        call.setdefault("causal", "top_left")
        norm = self.self_attention_norm
        result: Any = self.self_attention(
            self._before(norm, x),
            lengths=lengths,
            cache=None if cache is None else cache.self_attention,
            return_weights=return_weights,
            **call,
        )
        mixed, self_weights = result if return_weights else (result, None)
        x = self._after(norm, x, mixed)
        cross_weights = None
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            norm = self.cross_attention_norm
            held, append = self._memory_of(cache, memory)
            result = self.cross_attention(
                self._before(norm, x),
                memory,
                lengths=memory_lengths if append else None,
                key_padding=memory_key_padding,
                cache=held,
                append=append,
                return_weights=return_weights,
            )
            mixed, cross_weights = result if return_weights else (result, None)
            x = self._after(norm, x, mixed)
        output = self._feed_forward_step(x)
        return (output, self_weights, cross_weights) if self_weights is not None else output

    def make_cache(
        self, batch: int, capacity: int, *, grow: bool = False
    ) -> TransformerDecoderLayerCache:
        """For `capacity` rows of each of `batch` elements; the memory is kept when it is read."""
        return TransformerDecoderLayerCache(
            self.self_attention.make_cache(batch, capacity, grow=grow)
        )

    def _memory_of(
        self, cache: TransformerDecoderLayerCache | None, memory: Tensor | None
    ) -> tuple[KeyValueCache | None, bool]:
        """Cross-attention's cache and whether memory is to enter it."""
        assert self.cross_attention is not None
        if cache is not None and cache.cross_attention is not None:
            return cache.cross_attention, False
        if memory is None:
            raise ValueError(
                "[TransformerDecoderLayer] memory: expected [B,S,memory_size], as no cache holds "
                "it yet, got None"
            )
        if cache is None:
            return None, True
        batch_first = self.cross_attention.batch_first
        B, S = memory.shape[:2] if batch_first else (memory.shape[1], memory.shape[0])
        cache.cross_attention = self.cross_attention.make_cache(B, max(S, 1))
        return cache.cross_attention, True


class TransformerDecoder(TransformerStack):
    """TransformerDecoderLayer `layers` times, each with parameters of its own.

    Args:
        layers: L.
        embed_size: E.
        heads: H.
        cross_attention: whether layers look at a memory.
        memory_size: width of the memory's rows; None: E.
        final_norm: whether a norm follows the last layer; None: where norm_first.
        checkpoint: layers keep nothing for the backward pass but their input and compute the rest
            again (Chen et al. 2016). Not where a cache is given.
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
        cross_attention: bool = True,
        memory_size: int | None = None,
        final_norm: bool | None = None,
        checkpoint: bool = False,
        positions: AttentionPositions | None = None,
        make_positions: Callable[[], AttentionPositions] | None = None,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(
            lambda own: TransformerDecoderLayer(
                embed_size,
                heads,
                cross_attention=cross_attention,
                memory_size=memory_size,
                positions=own,
                **options,
            ),
            layers,
            positions=positions,
            make_positions=make_positions,
            final_norm=final_norm,
            checkpoint=checkpoint,
        )

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        lengths: Tensor | None = None,
        memory_lengths: Tensor | None = None,
        *,
        memory_key_padding: Tensor | None = None,
        cache: TransformerDecoderCache | None = None,
        return_weights: bool = False,
        **call: Unpack[SelfAttentionCall],
    ) -> Tensor | tuple[Tensor, list[Tensor], list[Tensor]]:
        """x [B,T,E], memory [B,S,memory_size] -> output [B,T,E]; arguments as the layer's.

        Returns:
            output, or (output, self-attention's weights of each layer, cross-attention's).
        """
        self_weights: list[Tensor] = []
        cross_weights: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            result = self._run(
                layer,
                x,
                memory,
                lengths,
                memory_lengths,
                memory_key_padding=memory_key_padding,
                cache=None if cache is None else cache.layers[i],
                return_weights=return_weights,
                keep=cache is not None,
                **call,
            )
            x = result[0] if return_weights else result
            if return_weights:
                self_weights.append(result[1])
                cross_weights += [] if result[2] is None else [result[2]]
        x = self._normed(x)
        return (x, self_weights, cross_weights) if return_weights else x

    def make_cache(
        self, batch: int, capacity: int, *, grow: bool = False
    ) -> TransformerDecoderCache:
        """For `capacity` rows of each of `batch` elements; the memory is kept when it is read."""
        return TransformerDecoderCache(
            [
                layer.make_cache(batch, capacity, grow=grow)
                for layer in self.layers
                if isinstance(layer, TransformerDecoderLayer)
            ]
        )
