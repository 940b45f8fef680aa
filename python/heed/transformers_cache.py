"""A cache for Hugging Face models that appends in place. Imports transformers."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from heed._library import operators

_append_rows = operators.append_rows.default  # found once: finding it takes as long as the call


class GrowingLayer(DynamicLayer):
    """A layer of full attention. Where gradients or a graph are recorded it copies as its base."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What keys and values, [B,H,S,D], are the first rows of: [B,H,at least S,D].
        self._rooms: tuple[Tensor, Tensor] | None = None
        self._views: tuple[Tensor, Tensor] | None = None  # keys and values as last appended to

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        new = (key_states, value_states)
        is_recorded = torch.compiler.is_compiling() or (
            torch.is_grad_enabled() and any(x.requires_grad for x in new)
        )
        if self.keys is None or self.values is None or self.get_seq_length() == 0 or is_recorded:
            return super().update(key_states, value_states, *args, **kwargs)
        length = self.keys.shape[2]
        rooms = self._rooms_for(self.keys, self.values, length + key_states.shape[2])
        self._views = _append_rows(*rooms, key_states, value_states, length)
        self.keys, self.values = self._views
        return self._views

    def _rooms_for(self, keys: Tensor, values: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Rooms of `end` rows at least that begin with keys and values."""
        if (
            self._rooms is None
            or self._rooms[0].shape[2] < end
            or not self._are_in_rooms(keys, values)
        ):
            # Twice as much each time, so that a row is copied twice at most in the long run.
            self._rooms = _with_room(keys, 2 * end), _with_room(values, 2 * end)
        return self._rooms

    def _are_in_rooms(self, keys: Tensor, values: Tensor) -> bool:
        """Not so after the cache was reordered, repeated or selected from, which copies it."""
        if (
            self._rooms is None
            or self._rooms[0].is_inference() != torch.is_inference_mode_enabled()
        ):
            return False
        if self._views is not None and keys is self._views[0] and values is self._views[1]:
            return True
        return all(
            rows.data_ptr() == room.data_ptr()
            and rows.stride() == room.stride()
            and rows.shape[:2] == room.shape[:2]
            for rows, room in zip((keys, values), self._rooms, strict=True)
        )


def _with_room(rows: Tensor, capacity: int) -> Tensor:
    """rows [B,H,S,D] -> [B,H,capacity,D] that begins with them."""
    room = rows.new_empty((*rows.shape[:2], capacity, rows.shape[3]))
    room[:, :, : rows.shape[2]] = rows
    return room


def make(config: Any) -> DynamicCache:
    cache = DynamicCache(config=config)
    # Layers of other kinds, such as sliding windows, stay as they are.
    cache.layers = [GrowingLayer() if type(x) is DynamicLayer else x for x in cache.layers]
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = GrowingLayer
    return cache
