"""Keys and values of the tokens so far, for decoding step by step (Shazeer 2019)."""

import torch
from torch import Tensor

from heed.growing_rows import append_rows, with_room


class KeyValueCache:
    """Keys [B,Hkv,capacity,D] and values [B,Hkv,capacity,Dv], allocated once, appended in place.

    A step of decoding reads the cache where it lies: `append` writes T rows an element, `keys`
    and `values` are views. Elements may differ in length. The cache holds numbers, not graphs: no
    gradient passes through it. Shazeer 2019, "Fast Transformer Decoding: One Write-Head is All You
    Need".

    Args:
        batch: B.
        kv_heads: Hkv.
        capacity: rows that there is room for.
        key_size: D.
        value_size: Dv; None: D.
        grow: where the room is too little, double it (and copy) rather than raise.
    """

    def __init__(
        self,
        batch: int,
        kv_heads: int,
        capacity: int,
        key_size: int,
        *,
        value_size: int | None = None,
        grow: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        value_size = key_size if value_size is None else value_size
        sizes = {"batch": batch, "kv_heads": kv_heads, "capacity": capacity}
        for name, size in {**sizes, "key_size": key_size, "value_size": value_size}.items():
            if size < 1:
                raise ValueError(f"[KeyValueCache] {name}: expected at least 1, got {size}")
        rows = (batch, kv_heads, capacity)
        self.grow = grow
        self._keys = torch.empty(*rows, key_size, dtype=dtype, device=device)
        self._values = torch.empty(*rows, value_size, dtype=dtype, device=device)
        self._lengths = [0] * batch

    @property
    def capacity(self) -> int:
        return self._keys.shape[2]

    @property
    def length(self) -> int:
        """Rows of the longest element."""
        return max(self._lengths)

    @property
    def lengths(self) -> Tensor:
        """int64 [B], rows of each element."""
        return torch.tensor(self._lengths, device=self._keys.device)

    @property
    def uniform(self) -> bool:
        """Whether all elements have the same length."""
        return min(self._lengths) == self.length

    @property
    def keys(self) -> Tensor:
        """[B,Hkv,length,D], a view; of a shorter element, the rows from its length on mean nothing."""
        return self._keys[:, :, : self.length]

    @property
    def values(self) -> Tensor:
        """[B,Hkv,length,Dv], a view like `keys`."""
        return self._values[:, :, : self.length]

    def append(self, keys: Tensor, values: Tensor, lengths: Tensor | None = None) -> None:
        """keys [B,Hkv,T,D], values [B,Hkv,T,Dv], lengths int64 [B]: how many of the T rows count.

        Raises:
            ValueError: a shape differs, or the rows do not fit and `grow` is off.
        """
        T = keys.shape[2] if keys.dim() == 4 else 0
        for name, new, held in (("keys", keys, self._keys), ("values", values, self._values)):
            expected = [*held.shape[:2], T, held.shape[3]]
            if list(new.shape) != expected:
                raise ValueError(
                    f"[KeyValueCache] {name}: expected [B,Hkv,T,D] = {expected}, "
                    f"got {list(new.shape)}"
                )
        counts = self._counts(lengths, T)
        ends = [start + count for start, count in zip(self._lengths, counts, strict=True)]
        if max(ends) > self.capacity:
            self._make_room(max(ends))
        with torch.no_grad():
            if self.uniform and min(counts) == max(counts):
                if counts[0] < T:
                    keys, values = (x.narrow(2, 0, counts[0]) for x in (keys, values))
                append_rows(self._keys, self._values, keys, values, self.length)
            else:
                for b, (start, count) in enumerate(zip(self._lengths, counts, strict=True)):
                    for held, new in ((self._keys, keys), (self._values, values)):
                        held[b].narrow(1, start, count).copy_(new[b].narrow(1, 0, count))
        self._lengths = ends

    def select(self, elements: Tensor) -> None:
        """Element i becomes what element elements[i] was (int64 [B]): the step of a beam search."""
        if elements.dim() != 1 or len(elements) == 0:
            raise ValueError(
                f"[KeyValueCache] elements: expected [B], B at least 1, got {list(elements.shape)}"
            )
        self._keys = self._keys.index_select(0, elements)
        self._values = self._values.index_select(0, elements)
        self._lengths = [self._lengths[b] for b in elements.tolist()]

    def reset(self) -> None:
        """Forgets all rows; the memory stays."""
        self._lengths = [0] * len(self._lengths)

    def _counts(self, lengths: Tensor | None, T: int) -> list[int]:
        if lengths is None:
            return [T] * len(self._lengths)
        counts = lengths.tolist()
        if lengths.shape != (len(self._lengths),) or not all(0 <= n <= T for n in counts):
            raise ValueError(
                f"[KeyValueCache] lengths: expected [B] = [{len(self._lengths)}] numbers from 0 to "
                f"T = {T}, got {counts}"
            )
        return counts

    def _make_room(self, needed: int) -> None:
        if not self.grow:
            raise ValueError(
                f"[KeyValueCache] append: expected at most capacity = {self.capacity} rows, "
                f"got {needed}"
            )
        capacity = self.capacity
        while capacity < needed:
            capacity *= 2
        self._keys, self._values = (with_room(rows, capacity) for rows in (self.keys, self.values))
