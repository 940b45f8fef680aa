"""A cache for Hugging Face models that appends in place. Imports transformers."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from heed.growing_rows import append_rows, with_room


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
        self._views = append_rows(*rooms, key_states, value_states, length)
        self.keys, self.values = self._views
        return self._views

    def _rooms_for(self, keys: Tensor, values: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Rooms of `end` rows at least that begin with keys and values."""
        rooms = self._rooms
        if rooms is None or rooms[0].shape[2] < end or not self._are_in(rooms, keys, values):
            # Twice as much each time, so that a row is copied twice at most in the long run.
            rooms = self._rooms = with_room(keys, 2 * end), with_room(values, 2 * end)
        return rooms

    def _are_in(self, rooms: tuple[Tensor, Tensor], keys: Tensor, values: Tensor) -> bool:
        """Not so after the cache was reordered, repeated or selected from, which copies it."""
        if rooms[0].is_inference() != torch.is_inference_mode_enabled():
            return False
        if self._views is not None and keys is self._views[0] and values is self._views[1]:
            return True
        return all(
            rows.data_ptr() == room.data_ptr()
            and rows.stride() == room.stride()
            and rows.shape[:2] == room.shape[:2]
            for rows, room in zip((keys, values), rooms, strict=True)
        )


def make(config: Any) -> DynamicCache:
    cache = DynamicCache(config=config)
    # Layers of other kinds, such as sliding windows, stay as they are.
    cache.layers = [GrowingLayer() if type(x) is DynamicLayer else x for x in cache.layers]
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = GrowingLayer
    return cache
