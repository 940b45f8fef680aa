"""A cache for Hugging Face models that appends in place. Imports transformers."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class _Rows:
    """Owns what a layer's keys or values, [B,H,S,D], are the first rows of."""

    def __init__(self) -> None:
        self.room: Tensor | None = None  # [B,H,at least S,D]

    def append(self, rows: Tensor, new: Tensor) -> Tensor:
        """rows [B,H,S,D], new [B,H,T,D] -> [B,H,S+T,D]."""
        S, T = rows.shape[2], new.shape[2]
        if self.room is None or not self._is_in_room(rows) or self.room.shape[2] < S + T:
            # Twice as much each time, so that a row is copied twice at most in the long run.
            self.room = rows.new_empty((*rows.shape[:2], 2 * (S + T), rows.shape[3]))
            self.room[:, :, :S] = rows
        self.room[:, :, S : S + T] = new
        return self.room[:, :, : S + T]

    def _is_in_room(self, rows: Tensor) -> bool:
        """Not so after the cache was reordered, repeated or selected from, which copies it."""
        room = self.room
        return (
            room is not None
            and rows.data_ptr() == room.data_ptr()
            and rows.stride() == room.stride()
            and rows.shape[:2] == room.shape[:2]
            and room.is_inference() == torch.is_inference_mode_enabled()
        )


class GrowingLayer(DynamicLayer):
    """A layer of full attention. Where gradients or a graph are recorded it copies as its base."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._key_rows, self._value_rows = _Rows(), _Rows()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        new = (key_states, value_states)
        is_recorded = torch.compiler.is_compiling() or (
            torch.is_grad_enabled() and any(x.requires_grad for x in new)
        )
        if self.keys is None or self.values is None or self.get_seq_length() == 0 or is_recorded:
            return super().update(key_states, value_states, *args, **kwargs)
        self.keys = self._key_rows.append(self.keys, key_states)
        self.values = self._value_rows.append(self.values, value_states)
        return self.keys, self.values


def make(config: Any) -> DynamicCache:
    cache = DynamicCache(config=config)
    # Layers of other kinds, such as sliding windows, stay as they are.
    cache.layers = [GrowingLayer() if type(x) is DynamicLayer else x for x in cache.layers]
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = GrowingLayer
    return cache
