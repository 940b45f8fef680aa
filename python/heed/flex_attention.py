"""`heed.flex_attention`, a drop-in for torch.nn.attention.flex_attention that also trains on the CPU,
and the masks that go with it.
"""

import inspect
import math
import operator
from collections.abc import Callable
from functools import reduce
from itertools import islice, product
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from heed._library import operators
from heed.attention import MaskMod, ScoreMod, attention_weights, call, operator_options
from heed.stats import attention_stats


class AuxRequest(NamedTuple):
    """What `flex_attention` shall return beside its output."""

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """What an `AuxRequest` asked for, None otherwise: both [B,H,T], float32 (float64 if q is)."""

    lse: Tensor | None = None
    max_scores: Tensor | None = None


def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: dict[str, Any] | None = None,
    *,
    return_aux: Any = None,
) -> Tensor | tuple[Tensor, Tensor] | tuple[Tensor, AuxOutput]:
    """Attention with a score and a mask of one's own, as torch's flex_attention (Dong et al. 2024).

    Nothing is compiled and no T x S matrix is stored; query, key, value and whatever score_mod
    captures get gradients.

    Args:
        query: [B,H,T,D], float32, bfloat16, float16, or float64 (the slow reference), on the CPU.
        key: [B,Hkv,S,D] in query's dtype; of batch size 1 it serves every batch element of a query
            for which block_mask was made.
        value: [B,Hkv,S,Dv] likewise.
        score_mod: score_mod(score, b, h, q_idx, kv_idx) gives the score that the softmax sees; it
            is traced (`heed.trace_program` says what it may do).
        block_mask: of `create_block_mask`, or torch's own BlockMask; made for T and S.
        scale: factor of the product of query and key; None: 1/sqrt(D).
        enable_gqa: Hkv may be a divisor of H.
        return_lse: also return the natural logarithm of each row's sum of exponentials.
        kernel_options: accepted and ignored; they are for torch's kernels.
        return_aux: an `AuxRequest`, this module's or torch's.

    Returns:
        out [B,H,T,Dv] in query's dtype, its dimensions in memory in query's order; with return_lse
        (out, lse [B,H,T]); with return_aux (out, AuxOutput). lse is float32 (float64 if query is)
        and differentiable, max_scores is not. A query that sees no key gives 0, and -inf for both.

    Raises:
        ValueError: dtypes, devices, head counts, head sizes or batch sizes don't fit together, or
            block_mask was made for other lengths.
        NotImplementedError: a tensor is nested or has not four dimensions.
        RuntimeError: the rest: other shapes, a slice of a mask without a mask_mod of its own.
        ProgramError: score_mod or mask_mod does what a program can't say.
    """
    if return_lse and return_aux is not None:
        raise ValueError("[flex_attention] return_lse and return_aux: expected one of them")
    _check_tensors(query, key, value)
    _check_heads(query, key, enable_gqa)
    _check_block_mask(block_mask, query, key)
    key, value = _in_batches_of(query, key), _in_batches_of(query, value)
    options = operator_options(
        query,
        score_mod=score_mod,
        mask_mod=None if block_mask is None else _rule(block_mask),
        window=None,
        scale=scale,
    )
    out, lse = call(operators.attention, query, key, value, **options)
    out = _in_order_of(query, out)
    if return_aux is None:
        return (out, lse) if return_lse else out
    max_scores = _max_scores(query, key, value, options) if return_aux.max_scores else None
    return out, AuxOutput(lse if return_aux.lse else None, max_scores)


def _max_scores(query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        _, _, max_scores = call(
            operators.attention_stats,
            query,
            key,
            value,
            want=["max"],
            row_weights=None,
            **options,
        )
    return max_scores


def _in_batches_of(query: Tensor, x: Tensor) -> Tensor:
    return x.expand(query.shape[0], -1, -1, -1) if x.shape[0] == 1 else x


def _in_order_of(query: Tensor, out: Tensor) -> Tensor:
    """out with B, H and T in memory in the order of query's; Dv stays innermost."""
    order = [*sorted(range(3), key=query.stride, reverse=True), 3]
    back = [order.index(dim) for dim in range(4)]
    return out.permute(order).contiguous().permute(back)


def _check_tensors(query: Tensor, key: Tensor, value: Tensor) -> None:
    tensors = (query, key, value)
    if any(x.is_nested for x in tensors):
        raise NotImplementedError(_refusal("query, key, value", "dense tensors", "a nested one"))
    for what in ("device", "dtype"):
        each = [str(getattr(x, what)) for x in tensors]
        if len(set(each)) > 1:
            raise ValueError(_refusal("query, key, value", f"one {what}", ", ".join(each)))
    ranks = [x.dim() for x in tensors]
    if ranks != [4, 4, 4]:
        error = ValueError if min(ranks) < 2 else NotImplementedError
        raise error(_refusal("query, key, value", "4 dimensions each", str(ranks)))
    if query.shape[-1] != key.shape[-1]:
        found = f"{query.shape[-1]} and {key.shape[-1]}"
        raise ValueError(_refusal("query, key", "one head size D", found))
    if query.device.type not in ("cpu", "meta"):
        raise ValueError(_refusal("query", "a tensor on the CPU", f"one on {query.device}"))


def _check_heads(query: Tensor, key: Tensor, enable_gqa: bool) -> None:
    H, Hkv = query.shape[1], key.shape[1]
    found = f"H = {H} and Hkv = {Hkv}"
    if not enable_gqa and Hkv != H:
        found += "; enable_gqa=True lets heads share keys"
        raise ValueError(_refusal("key", "as many heads as query", found))
    if enable_gqa and (Hkv == 0 or H % Hkv != 0):
        raise ValueError(_refusal("key", "a number of heads that divides query's", found))


_ENDLESS = 1 << 30  # torch's block size for "one block, however long"


def _check_block_mask(mask: Any, query: Tensor, key: Tensor) -> None:
    B, Bkv = query.shape[0], key.shape[0]
    if mask is None:
        if Bkv != B:
            raise ValueError(_refusal("key", f"batch size {B}, or a block_mask of it", str(Bkv)))
        return
    if not hasattr(mask, "mask_mod") or not hasattr(mask, "seq_lengths"):
        raise TypeError(_refusal("block_mask", "a BlockMask", type(mask).__name__))
    if Bkv != B:
        if mask.shape[0] != B:
            found = f"{Bkv}, and {mask.shape[0]} of block_mask"
            raise ValueError(_refusal("key", f"batch size {B}", found))
        if Bkv != 1:
            raise RuntimeError(_refusal("key", f"batch size 1 or {B}", str(Bkv)))
    lengths, made_for = (query.shape[2], key.shape[2]), tuple(mask.seq_lengths)
    if lengths != made_for and tuple(mask.BLOCK_SIZE) != (_ENDLESS, _ENDLESS):
        found = f"one of {made_for}; make it anew, or cut it with block_mask._adjust{lengths}"
        raise ValueError(_refusal("block_mask", f"a mask of lengths (T, S) = {lengths}", found))


def _refusal(what: str, expected: str, found: str) -> str:
    return f"[flex_attention] {what}: expected {expected}, got {found}"


class _Blocks(NamedTuple):
    """Which blocks of BLOCK_SIZE hold a visible pair, and in which of those mask_mod isn't asked:
    bool, [B,H,blocks of T,blocks of S]."""

    seen: Tensor
    full: Tensor

    def within(self, *index: Any) -> "_Blocks":
        return _Blocks(self.seen[index], self.full[index])


class BlockMask:
    """Which keys each query sees: a rule, `mask_mod(b, h, q_idx, kv_idx)`, and what it is for.

    The engine finds out itself what it can skip, so that no block is looked at until someone asks
    for the attributes and methods below that speak of blocks. A mask of `from_kv_blocks`, or a
    slice, keeps its blocks: outside of them nothing is visible, in full ones everything.

    Attributes:
        mask_mod: the rule; may be replaced.
        seq_lengths: (T, S).
        BLOCK_SIZE: (queries, keys) of a block, in the order of seq_lengths.
    """

    def __init__(
        self,
        mask_mod: MaskMod,
        shape: tuple[int, int, int, int],
        BLOCK_SIZE: tuple[int, int] = (128, 128),
        blocks: _Blocks | None = None,
    ) -> None:
        self.mask_mod = mask_mod
        self.seq_lengths = shape[2:]
        self.BLOCK_SIZE = BLOCK_SIZE
        self._batch_and_heads = shape[:2]
        self._given = blocks
        self._found: tuple[MaskMod, _Blocks] | None = None

    @classmethod
    def from_kv_blocks(
        cls,
        kv_num_blocks: Tensor,
        kv_indices: Tensor,
        full_kv_num_blocks: Tensor | None = None,
        full_kv_indices: Tensor | None = None,
        BLOCK_SIZE: int | tuple[int, int] = 128,
        mask_mod: MaskMod | None = None,
        seq_lengths: tuple[int, int] | None = None,
        compute_q_blocks: bool = True,
    ) -> "BlockMask":
        """A mask by its blocks, as torch's: of each row of blocks, how many blocks of keys there are
        and which, first those in which mask_mod decides, then those that are visible whole.

        Args:
            kv_num_blocks: int [B,H,blocks of T].
            kv_indices: int [B,H,blocks of T,blocks of S].
            full_kv_num_blocks, full_kv_indices: the same of full blocks.
            BLOCK_SIZE: of queries and keys.
            mask_mod: None: everything in a block is visible.
            seq_lengths: (T, S); None: that of whole blocks.
            compute_q_blocks: ignored.

        Raises:
            RuntimeError: kv_indices has fewer than two dimensions.
            AssertionError: only one of the full ones is given.
        """
        if kv_indices.dim() < 2:
            raise RuntimeError(
                _refusal("kv_indices", "two dimensions or more", str(kv_indices.dim()))
            )
        if (full_kv_num_blocks is None) != (full_kv_indices is None):
            found = "one of them"
            raise AssertionError(_refusal("full_kv_num_blocks, full_kv_indices", "both", found))
        size = _pair(BLOCK_SIZE)
        seen, full = _dense(kv_num_blocks, kv_indices), None
        if full_kv_num_blocks is not None and full_kv_indices is not None:
            full = _dense(full_kv_num_blocks, full_kv_indices)
        blocks = (
            _Blocks(seen, torch.zeros_like(seen)) if full is None else _Blocks(seen | full, full)
        )
        B, H, rows, columns = blocks.seen.shape
        lengths = (rows * size[0], columns * size[1]) if seq_lengths is None else seq_lengths
        return cls(noop_mask if mask_mod is None else mask_mod, (B, H, *lengths), size, blocks)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, T, S), B and H 1 where the rule is the same for all."""
        return (*self._batch_and_heads, *self.seq_lengths)

    @property
    def kv_num_blocks(self) -> Tensor:
        """int32 [B,H,blocks of T]: blocks of keys that mask_mod cuts, in each row of blocks."""
        return _count(self._blocks().seen & ~self._blocks().full)

    @property
    def kv_indices(self) -> Tensor:
        """int32 [B,H,blocks of T,blocks of S]: which those are, before all others."""
        return _order(self._blocks().seen & ~self._blocks().full)

    @property
    def full_kv_num_blocks(self) -> Tensor:
        """As kv_num_blocks, of blocks that are visible whole."""
        return _count(self._blocks().full)

    @property
    def full_kv_indices(self) -> Tensor:
        return _order(self._blocks().full)

    def numel(self) -> int:
        """B H T S."""
        return math.prod(self.shape)

    def sparsity(self) -> float:
        """Per cent of the pairs that lie in no visible block, as torch counts them."""
        pairs = int(self._blocks().seen.sum()) * math.prod(self.BLOCK_SIZE)
        return 100 * (1 - pairs / self.numel())

    def to_dense(self) -> Tensor:
        """int32 [B,H,blocks of T,blocks of S]: 1 where a block has a visible pair."""
        return self._blocks().seen.int()

    def to_string(self, grid_size: int | tuple[int, int] = (20, 20), limit: int = 4) -> str:
        """A drawing for each (b, h), the first `limit` of them: full, partly seen and skipped.

        grid_size: rows and columns at most; -1 for a character pair for every block.
        """
        shades = self._blocks().seen.float()
        B, H, *blocks = shades.shape
        at_most = blocks if grid_size == -1 else _pair(grid_size)
        step = [max(1, math.ceil(n / most)) for n, most in zip(blocks, at_most, strict=True)]
        parts = []
        for b, h in islice(product(range(B), range(H)), limit):
            means = F.avg_pool2d(shades[None, b, h], step, ceil_mode=True)[0]
            rows = ["".join(" █░"[1 if x == 1 else 2 * (x > 0)] * 2 for x in row) for row in means]
            parts.append("\n".join([f"({b}, {h})", *rows, ""]))
        if limit < B * H:
            parts.append("...\nmore with BlockMask.to_string(limit=N)")
        return "\n".join(parts)

    def to(self, device: Any) -> "BlockMask":
        """Itself: it is not on a device."""
        return self

    def __str__(self) -> str:
        return (
            f"BlockMask(shape={self.shape}, sparsity={self.sparsity():.2f}%,\n{self.to_string()})"
        )

    def __repr__(self) -> str:
        name = getattr(self.mask_mod, "__name__", repr(self.mask_mod))
        return f"BlockMask(shape={self.shape}, BLOCK_SIZE={self.BLOCK_SIZE}, mask_mod={name})"

    def __getitem__(self, index: Any) -> "BlockMask":
        """Some batch elements, heads and rows of blocks, an integer being a slice of one.

        As with torch's the indices that a rule is called with count from the slice's start, so that
        it must be given one that knows: `part.mask_mod = ...`, and `part.seq_lengths`.
        """
        index = index if isinstance(index, tuple) else (index,)
        blocks = self._blocks()
        places = [
            slice(i % n, i % n + 1) if isinstance(i, int) else i
            for i, n in zip(index, blocks.seen.shape, strict=False)
        ]
        blocks = blocks.within(*places)
        shape = (*blocks.seen.shape[:2], *self.seq_lengths)
        return BlockMask(_rule_of_a_slice, shape, self.BLOCK_SIZE, blocks)

    def _adjust(self, new_q_len: int, new_kv_len: int) -> "BlockMask":
        """The same rule for other lengths; given blocks are cut."""
        blocks = self._given
        if blocks is not None:
            rows = -(-new_q_len // self.BLOCK_SIZE[0])
            columns = -(-new_kv_len // self.BLOCK_SIZE[1])
            blocks = blocks.within(..., slice(rows), slice(columns))
        shape = (*self._batch_and_heads, new_q_len, new_kv_len)
        return BlockMask(self.mask_mod, shape, self.BLOCK_SIZE, blocks)

    def _blocks(self) -> _Blocks:
        if self._given is not None:
            return self._given
        if self._found is None or self._found[0] is not self.mask_mod:
            seen, hidden = _seen_and_hidden(self.mask_mod, self.shape, self.BLOCK_SIZE)
            full = ~hidden  # as with torch's, no block is that reaches beyond the lengths
            full[:, :, self.seq_lengths[0] // self.BLOCK_SIZE[0] :] = False
            full[..., self.seq_lengths[1] // self.BLOCK_SIZE[1] :] = False
            self._found = (self.mask_mod, _Blocks(seen, full))
        return self._found[1]


def create_block_mask(
    mask_mod: MaskMod,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: Any = "cpu",
    BLOCK_SIZE: int | tuple[int, int] = 128,
    _compile: bool = False,
    separate_full_blocks: bool = True,
    compute_dq_write_order: bool = False,
    dq_kv_order: bool = True,
) -> BlockMask:
    """A mask for `flex_attention`. It costs nothing: the rule is kept, not evaluated.

    Args:
        mask_mod: mask_mod(b, h, q_idx, kv_idx) is true where the query sees the key.
        B, H: batch elements and heads that it tells apart; None where it doesn't.
        Q_LEN, KV_LEN: T and S.
        BLOCK_SIZE: of queries and keys, any sizes; it only matters for what is shown.

    device, _compile, separate_full_blocks, compute_dq_write_order and dq_kv_order say where and how
    torch's kernels keep blocks; they are accepted and ignored.

    Raises:
        AssertionError: mask_mod can't be called with four arguments.
    """
    if not _takes_four(mask_mod):
        found = getattr(mask_mod, "__name__", repr(mask_mod))
        expected = "a function of (b, h, q_idx, kv_idx)"
        raise AssertionError(f"[create_block_mask] mask_mod: expected {expected}, got {found}")
    shape = (1 if B is None else B, 1 if H is None else H, Q_LEN, KV_LEN)
    return BlockMask(mask_mod, shape, _pair(BLOCK_SIZE))


create_block_mask._torchdynamo_disable = True  # type: ignore[attr-defined]  # no tensors in it


def create_mask(
    mod_fn: Callable[..., Any],
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: Any = "cpu",
) -> Tensor:
    """bool [B,H,T,S]: where a mask_mod is true, or a score_mod doesn't make a score of 0 -inf.

    For looking at; attention needs no such matrix. Arguments are those of `create_block_mask`.
    """
    mask_mod = mod_fn if _takes_four(mod_fn) else _mask_of_scores(mod_fn)
    nothing = torch.zeros(1).expand(1 if B is None else B, 1 if H is None else H, Q_LEN, 1)
    keys = torch.zeros(1).expand(nothing.shape[0], 1, KV_LEN, 1)
    return attention_weights(nothing, keys, kind="none", mask_mod=mask_mod) > 0


def noop_mask(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    """A mask_mod that hides nothing."""
    return b.new_ones((), dtype=torch.bool)


def and_masks(*mask_mods: MaskMod) -> MaskMod:
    """The mask_mod of what all of mask_mods let through.

    Raises:
        RuntimeError: one of them isn't callable.
    """
    return _joined(operator.and_, True, mask_mods)


def or_masks(*mask_mods: MaskMod) -> MaskMod:
    """The mask_mod of what any of mask_mods lets through.

    Raises:
        RuntimeError: one of them isn't callable.
    """
    return _joined(operator.or_, False, mask_mods)


def _joined(join: Callable, start: bool, mask_mods: tuple[MaskMod, ...]) -> MaskMod:
    if not all(callable(mod) for mod in mask_mods):
        raise RuntimeError(_refusal("and_masks, or_masks", "functions", str(mask_mods)))

    def joined(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        first = b.new_full((), start, dtype=torch.bool)
        return reduce(join, (mod(b, h, q_idx, kv_idx) for mod in mask_mods), first)

    return joined


def _takes_four(mod: Callable[..., Any]) -> bool:
    try:
        inspect.signature(mod).bind(0, 0, 0, 0)
    except TypeError:
        return False
    except ValueError:  # a function of C has no signature
        return callable(mod)
    return True


def _mask_of_scores(score_mod: ScoreMod) -> MaskMod:
    return lambda b, h, t, s: (
        score_mod(b.new_zeros((), dtype=torch.float32), b, h, t, s) != -math.inf
    )


def _rule_of_a_slice(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    raise RuntimeError(
        "[flex_attention] block_mask: a slice has no rule; set its mask_mod to the whole mask's, "
        "moved by where the slice starts"
    )


# From blocks to rules and back.

# The rule of masks that have blocks, and the mask_mod that it is made of.
_RULES: WeakKeyDictionary[Any, tuple[MaskMod, MaskMod]] = WeakKeyDictionary()


def _rule(mask: Any) -> MaskMod:
    """What a mask lets through, as a mask_mod; of torch's masks, and those with given blocks, kept."""
    if isinstance(mask, BlockMask) and mask._given is None:
        return mask.mask_mod
    known = _RULES.get(mask)
    if known is None or known[0] is not mask.mask_mod:
        known = _RULES[mask] = (mask.mask_mod, _rule_of_blocks(mask))
    return known[1]


_rule._torchdynamo_disable = True  # type: ignore[attr-defined]  # runs the engine to compare blocks


def _rule_of_blocks(mask: Any) -> MaskMod:
    """mask_mod alone where it says all that the blocks do, as in masks made from one: the engine
    finds bands in it. Otherwise mask_mod and the blocks, looked up."""
    mask_mod, size = mask.mask_mod, _pair(mask.BLOCK_SIZE)
    blocks = mask._blocks() if isinstance(mask, BlockMask) else _blocks_of_torch(mask)
    if size == (_ENDLESS, _ENDLESS):
        return mask_mod
    B, H = blocks.seen.shape[:2]
    seen, hidden = _seen_and_hidden(mask_mod, (B, H, *mask.seq_lengths), size)
    same = seen.shape == blocks.seen.shape
    if same and not (seen & ~blocks.seen).any() and not (hidden & blocks.full).any():
        return mask_mod

    def rule(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        at: Any = (b if B > 1 else 0, h if H > 1 else 0, t // size[0], s // size[1])
        return torch.logical_and(
            blocks.seen[at], torch.logical_or(blocks.full[at], mask_mod(b, h, t, s))
        )

    return rule


def _blocks_of_torch(mask: Any) -> _Blocks:
    if mask.kv_num_blocks.device.type != "cpu":
        found = f"one on {mask.kv_num_blocks.device}"
        raise RuntimeError(_refusal("block_mask", "a mask on query's device, the CPU", found))
    of_torch = (mask.full_kv_num_blocks, mask.full_kv_indices, mask.BLOCK_SIZE)
    return BlockMask.from_kv_blocks(mask.kv_num_blocks, mask.kv_indices, *of_torch)._blocks()


def _seen_and_hidden(
    mask_mod: MaskMod, shape: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Which blocks have a pair that mask_mod shows, and one that it hides [B,H,rows,columns]."""

    def hides(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return torch.logical_not(noop_mask(b, h, t, s) & mask_mod(b, h, t, s))

    n = math.gcd(*size)
    shown, hidden = (_any_in_squares(mod, shape, n) for mod in (mask_mod, hides))
    return _in_blocks(shown, n, size), _in_blocks(hidden, n, size)


def _any_in_squares(mask_mod: MaskMod, shape: tuple[int, int, int, int], n: int) -> Tensor:
    """Whether mask_mod is true anywhere in each square of n x n, by the means of the weights that a
    score of 0 gives. No matrix is stored, and what is skipped in attention is skipped here."""
    B, H, T, S = shape
    q, k = torch.zeros(1).expand(B, H, T, 1), torch.zeros(1).expand(B, 1, S, 1)
    want = f"blocks:{n}"
    means = attention_stats(q, k, k, want=[want], kind="none", mask_mod=mask_mod)[want]
    assert isinstance(means, Tensor)
    return means > 0


def _in_blocks(squares: Tensor, n: int, size: tuple[int, int]) -> Tensor:
    """From squares of n x n to blocks of `size`, whose sides are multiples of n."""
    down, right = size[0] // n, size[1] // n
    rows, columns = squares.shape[2:]
    beyond = (0, -columns % right, 0, -rows % down)
    return (
        F.pad(squares, beyond)
        .unflatten(3, (-1, right))
        .unflatten(2, (-1, down))
        .any(dim=5)
        .any(dim=3)
    )


def _dense(number: Tensor, indices: Tensor) -> Tensor:
    """bool [B,H,rows,columns] of which blocks there are, from torch's ordered lists of them."""
    *batch, rows, columns = indices.shape
    listed = torch.arange(columns) < number.unsqueeze(-1)
    places = torch.where(listed, indices.long(), columns)  # a column more takes the rest
    table = torch.zeros(*batch, rows, columns + 1, dtype=torch.bool).scatter_(-1, places, True)
    return table[..., :columns].reshape(*[1] * (2 - len(batch)), *batch, rows, columns)


def _count(blocks: Tensor) -> Tensor:
    return blocks.sum(dim=-1, dtype=torch.int32)


def _order(blocks: Tensor) -> Tensor:
    return blocks.int().argsort(dim=-1, descending=True, stable=True).int()


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
