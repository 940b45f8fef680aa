"""`flash_attn_with_kvcache`: decoding with a cache of keys and values that grows in place."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heed._library import operators
from heed.flash_attn.checks import (
    check_integers,
    check_keys,
    check_query,
    check_shape,
    check_slopes,
    fail,
)
from heed.flash_attn.pages import check_pages, places, sequence_of_pages
from heed.flash_attn.probabilities import flash_lse
from heed.flash_attn.rotary import rotated
from heed.flash_attn.rules import Rules

OP = "flash_attn_with_kvcache"


@torch.no_grad()
def flash_attn_with_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    rotary_cos: Tensor | None = None,
    rotary_sin: Tensor | None = None,
    cache_seqlens: int | Tensor | None = None,
    cache_batch_idx: Tensor | None = None,
    cache_leftpad: Tensor | None = None,
    block_table: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    alibi_slopes: Tensor | None = None,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
) -> Any:  # a tensor, or two with return_softmax_lse
    """Attention of new queries to a cache, after the new keys were written into it.

    The cache is read where it lies; only pages are copied, those in use, one sequence at a time.

    Args:
        q: queries [B,T,H,D], dtypes as in `flash_attn_func`.
        k_cache: keys [Bc,S,Hkv,D], Bc = B without cache_batch_idx; with block_table pages
            [N,P,Hkv,D] of P keys each, any P.
        v_cache: values, the same with Dv.
        k, v: new keys [B,n,Hkv,D] and values [B,n,Hkv,Dv], written into the caches at
            cache_seqlens, ..., cache_seqlens + n - 1.
        rotary_cos, rotary_sin: [P,R/2], R at most D, P at least the cache's length: the first R
            numbers of each new key are turned by the angles at its place (Su et al. 2021), and
            those of query t at cache_seqlens + t if causal or a window is set, at cache_seqlens
            otherwise. Only with k and v.
        cache_seqlens: keys in the cache before this call, a number or int32 or int64 [B]; None:
            all S.
        cache_batch_idx: int32 or int64 [B], the cache's row of each query; None: its own.
        cache_leftpad: int32 or int64 [B]: the first key of each sequence; those before are not
            seen.
        block_table: int32 or int64 [B,M], as in `flash_attn_varlen_func`.
        softmax_scale, causal, window_size, softcap, alibi_slopes: as in `flash_attn_func`; S is
            the number of each sequence's keys with the new ones, those before cache_leftpad not
            counted.
        rotary_interleaved: numbers 2i and 2i + 1 are turned together; otherwise i and i + R/2.
        num_splits: accepted; the engine divides the work itself.
        return_softmax_lse: also return lse.

    Returns:
        out [B,T,H,Dv] in q's dtype, or (out, lse float32 [B,H,T], +inf where a query sees no key).
        No gradients.

    Raises:
        RuntimeError: an argument has another shape, dtype, device or value than expected.
    """
    B, T = _check_query_and_cache(q, k_cache, v_cache, cache_batch_idx, block_table)
    rules = Rules(softmax_scale, causal, window_size, softcap, alibi_slopes)
    check_slopes(OP, alibi_slopes, B, q.shape[2])
    cache = _Cache(k_cache, v_cache, cache_batch_idx, block_table)
    lengths = _per_sequence("cache_seqlens", cache_seqlens, B)
    first_key = _per_sequence("cache_leftpad", cache_leftpad, B)
    if not (k is v is rotary_cos is rotary_sin is None):
        k, v, lengths = _check_new(q, cache, k, v, lengths)
        angles = _check_angles(q, cache, rotary_cos, rotary_sin)
        _check_room(cache, lengths, k.shape[1])
        if angles is not None:
            q, k = _turned(q, k, angles, lengths, rules.window() != (-1, -1), rotary_interleaved)
        cache.append(k, v, lengths)
        lengths = lengths + k.shape[1]
    elif lengths is not None:
        _check_room(cache, lengths, 0)
    out, lse = _attend(q, cache, lengths, first_key, rules)
    return (out, flash_lse(lse)) if return_softmax_lse else out


@dataclass(frozen=True)
class _Cache:
    """Keys and values, one sequence a row or in pages."""

    k: Tensor  # [Bc,S,Hkv,D] or pages [N,P,Hkv,D]
    v: Tensor
    rows: Tensor | None  # [B]
    block_table: Tensor | None  # [B,M]

    @property
    def capacity(self) -> int:
        pages = 1 if self.block_table is None else self.block_table.shape[1]
        return pages * self.k.shape[1]

    def append(self, k: Tensor, v: Tensor, lengths: Tensor) -> None:
        """Writes k [B,n,Hkv,D] and v behind the first `lengths` keys of their sequences."""
        B, n = k.shape[:2]
        positions = lengths[:, None] + torch.arange(n)  # [B,n]
        if self.block_table is None:
            rows = torch.arange(B) if self.rows is None else self.rows.long()
            at = rows[:, None].expand(B, n), positions
        else:
            at = places(self.block_table.long(), positions, self.k.shape[1])
            check_pages(OP, at[0], self.k.shape[0])
        self.k[at] = k
        self.v[at] = v

    def sequence(self, b: int, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Keys and values [1,last - first,Hkv,D] of query row b; views unless they lie in pages."""
        if self.block_table is not None:
            table = self.block_table[b]
            k, v = (sequence_of_pages(OP, x, table, last) for x in (self.k, self.v))
        else:
            row = b if self.rows is None else int(self.rows[b])
            k, v = self.k[row, :last], self.v[row, :last]
        return k[None, first:], v[None, first:]


def _attend(
    q: Tensor, cache: _Cache, lengths: Tensor | None, first_key: Tensor | None, rules: Rules
) -> tuple[Tensor, Tensor]:
    """(out [B,T,H,Dv], lse [B,H,T])."""
    if cache.rows is None and cache.block_table is None:
        return _attend_at_once(q, cache.k, cache.v, lengths, first_key, rules)
    B = q.shape[0]
    lasts = [cache.capacity] * B if lengths is None else lengths.tolist()
    firsts = [0] * B if first_key is None else first_key.tolist()
    results = []
    for b, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        k, v = cache.sequence(b, min(first, last), last)
        results.append(_attend_at_once(q[b : b + 1], k, v, None, None, rules.of_sequence(b)))
    if B == 0:
        return _attend_at_once(q, cache.k[:0], cache.v[:0], None, None, rules)
    outs, lses = zip(*results, strict=True)
    return torch.cat(outs), torch.cat(lses)


def _attend_at_once(
    q: Tensor,  # [B,T,H,D]
    k: Tensor,  # [B,S,Hkv,D]
    v: Tensor,  # [B,S,Hkv,Dv]
    lengths: Tensor | None,  # [B]
    first_key: Tensor | None,  # [B]
    rules: Rules,
) -> tuple[Tensor, Tensor]:
    B, T = q.shape[:2]
    S = k.shape[1]

    def corner() -> Tensor:
        return (torch.full((B,), S) if lengths is None else lengths) - T

    options = rules.options(lengths is None and S == T, corner, first_key)
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    out, lse = operators.attention(*heads_first, kv_lengths=lengths, **options)
    return out.transpose(1, 2), lse


def _check_query_and_cache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    cache_batch_idx: Tensor | None,
    block_table: Tensor | None,
) -> tuple[int, int]:
    """(B, T)."""
    check_query(OP, "q", q, "B,T,H,D")
    B, T = q.shape[:2]
    letters = "Bc,S" if block_table is None else "N,P"
    own_rows = block_table is None and cache_batch_idx is None
    sizes = [B if own_rows else None, None]
    check_keys(OP, ("k_cache", "v_cache"), (k_cache, v_cache), q, letters, sizes)
    if cache_batch_idx is not None:
        if block_table is not None:
            fail(OP, "cache_batch_idx", "None with a block_table", "a tensor")
        check_integers(OP, "cache_batch_idx", cache_batch_idx, "B", [B])
        _check_range("cache_batch_idx", cache_batch_idx, 0, k_cache.shape[0] - 1)
    if block_table is not None:
        check_integers(OP, "block_table", block_table, "B,M", [B, None])
    return B, T


def _check_new(
    q: Tensor, cache: _Cache, k: Tensor | None, v: Tensor | None, lengths: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """New keys and values that fit the cache, and where they go."""
    if k is None or v is None:
        if k is v:
            fail(OP, "k and v", "new keys and values with rotary_cos", "None")
        fail(OP, "k and v", "both or neither", "one of them")
    if lengths is None:
        fail(OP, "cache_seqlens", "a number or [B] with k and v", "None")
    check_keys(OP, ("k", "v"), (k, v), q, "B,n", [q.shape[0], None])
    for name, x, old in (("k", k, cache.k), ("v", v, cache.v)):
        check_shape(OP, name, x, "B,n,Hkv,D", [*k.shape[:2], *old.shape[2:]])
    return k, v, lengths


def _check_angles(
    q: Tensor, cache: _Cache, cos: Tensor | None, sin: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    if cos is None or sin is None:
        if cos is not sin:
            fail(OP, "rotary_cos and rotary_sin", "both or neither", "one of them")
        return None
    for name, table in (("rotary_cos", cos), ("rotary_sin", sin)):
        check_shape(OP, name, table, "P,R/2", [None, cos.shape[-1]])
        if 2 * table.shape[1] > q.shape[3]:
            fail(OP, name, f"R at most D = {q.shape[3]}", f"R = {2 * table.shape[1]}")
        if table.shape[0] < cache.capacity:
            fail(OP, name, f"P at least the cache's {cache.capacity} keys", table.shape[0])
    return cos, sin


def _turned(
    q: Tensor,
    k: Tensor,
    angles: tuple[Tensor, Tensor],
    lengths: Tensor,
    moves: bool,
    interleaved: bool,
) -> tuple[Tensor, Tensor]:
    """New queries and keys by the angles of their places; queries that don't move share one."""
    T, n = q.shape[1] if moves else 1, k.shape[1]
    _check_range("cache_seqlens", lengths, 0, angles[0].shape[0] - T, " (rows of rotary_cos)")
    steps = torch.arange(max(T, n))
    places_q, places_k = (lengths[:, None] + steps[:count] for count in (T, n))
    return rotated(q, *angles, places_q, interleaved), rotated(k, *angles, places_k, interleaved)


def _per_sequence(name: str, numbers: int | Tensor | None, B: int) -> Tensor | None:
    """int64 [B]."""
    if numbers is None:
        return None
    if not isinstance(numbers, Tensor):
        return torch.full((B,), numbers, dtype=torch.int64)
    check_integers(OP, name, numbers, "B", [B])
    return numbers.long()


def _check_room(cache: _Cache, lengths: Tensor, n: int) -> None:
    room = "the cache has" if cache.block_table is None else "block_table's pages have"
    why = f" ({room} {cache.capacity} places, {n} for new keys)"
    _check_range("cache_seqlens", lengths, 0, cache.capacity - n, why)


def _check_range(name: str, numbers: Tensor, least: int, most: int, why: str = "") -> None:
    if torch.compiler.is_compiling() or numbers.is_meta:
        return  # what numbers are isn't known; the engine and torch's indexing check again
    for number in numbers.tolist():
        if not least <= number <= most:
            fail(OP, name, f"numbers in [{least}, {most}]{why}", number)
