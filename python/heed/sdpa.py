"""`heed.scaled_dot_product_attention`: torch's function of that name, run by the engine."""

import math
from collections.abc import Iterable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from heed.attention import attend


def _mask_programs(text: str) -> dict[str, str]:
    """`text` for each way to index a mask of up to 4 dimensions: "b00s" for [B,1,1,S]."""
    ways = [
        "".join(way)
        for rank in range(5)
        for way in product(*((letter, "0") for letter in "bhts"[4 - rank :]))
    ]
    return {way: text.format(rank=len(way), at=", ".join(way)) for way in ways}


# Written out once: tracing a mod would take longer than a short call.
_BOOL = _mask_programs("table0: bool[{rank}]\nscore = dot\nmask = table0[{at}]\n")
# Pairs at -inf are masked by a table of their own: those are skipped, and no NaN comes from them.
_FLOAT = _mask_programs(
    "table0: float[{rank}]\ntable1: bool[{rank}]\nscore = dot + table0[{at}]\nmask = table1[{at}]\n"
)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Gives softmax(scale * query key^T + attn_mask) value, as torch.nn.functional's function does.

    Leading dimensions are broadcast. A mask is read where it lies: dimensions that it lacks are
    not expanded, and keys that it hides from a block of queries are skipped.

    Args:
        query: [...,H,T,D], at least [T,D]; float32, bfloat16 or float16, on the CPU; float64 runs
            the slow reference. Any strides; rows that are not contiguous are copied.
        key: [...,H,S,D] in query's dtype.
        value: [...,H,S,Dv] in query's dtype.
        attn_mask: broadcastable to [...,H,T,S]. bool: true where a query sees a key. float32 or
            query's dtype: added to the scores, where -inf hides a key; it gets a gradient.
        dropout_p: probability with which a weight is dropped after the softmax, drawn from torch's
            default generator; 0 unless you train.
        is_causal: a query t sees the keys s <= t, both counted from their first, also if T != S.
        scale: factor of the products; None: 1/sqrt(D).
        enable_gqa: key and value may have fewer heads, a divisor of query's.

    Returns:
        [...,H,T,Dv] in query's dtype. A query that sees no key gives 0 and gradients of 0. What is
        stored at a hidden key changes nothing, be it NaN.

    Raises:
        RuntimeError: sizes that don't fit, unequal dtypes, another device than the CPU, attn_mask
            and is_causal together.
        IndexError: enable_gqa without a dimension of heads.
        TypeError: no tensor where one is expected.
    """
    if not (isinstance(query, Tensor) and isinstance(key, Tensor) and isinstance(value, Tensor)):
        raise _not_a_tensor(query=query, key=key, value=value)
    lead, q, k, v = _with_heads(query, key, value, enable_gqa)
    options: dict[str, Any] = {}
    if is_causal:
        options["causal"] = "top_left"
    if attn_mask is not None:
        if is_causal:
            raise _refusal("attn_mask", "None with is_causal", "a tensor; make one mask of both")
        options["program"], options["tables"] = _mask_program(attn_mask, lead, q, k)
    if scale is not None:
        options["scale"] = scale
    if dropout_p == 1:  # the engine divides by 1 - dropout_p
        v = v * 0
    elif dropout_p != 0:
        options["dropout_p"] = dropout_p
    out = attend(q, k, v, **options)
    return out if lead is None else out.reshape(*lead, *out.shape[-2:])


def _refusal(
    argument: str, expected: str, got: Any, error: type[Exception] = RuntimeError
) -> Exception:
    return error(f"[scaled_dot_product_attention] {argument}: expected {expected}, got {got}")


def _not_a_tensor(**arguments: Any) -> Exception:
    name, x = next((name, x) for name, x in arguments.items() if not isinstance(x, Tensor))
    return _refusal(name, "a tensor", type(x).__name__, TypeError)


# The result's dimensions before [T,Dv], where they are not the engine's [B,H].
Lead = tuple[int, ...] | None


def _with_heads(
    query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool
) -> tuple[Lead, Tensor, Tensor, Tensor]:
    """(lead, q [B,H,T,D], k [B,Hkv,S,D], v [B,Hkv,S,Dv])."""
    of_query, of_key, of_value = query.shape, key.shape, value.shape
    if (
        len(of_query) == len(of_key) == len(of_value) == 4
        and of_query[0] == of_key[0] == of_value[0]
        and of_key[1] == of_value[1]
        and (of_key[1] == of_query[1] or enable_gqa)
    ):
        return None, query, key, value
    return _broadcast(query, key, value, enable_gqa)


def _broadcast(
    query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool
) -> tuple[Lead, Tensor, Tensor, Tensor]:
    """`_with_heads` for any ranks and sizes; only several dimensions of batches can cost a copy."""
    least = 3 if enable_gqa else 2
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.dim() < least:
            error = IndexError if enable_gqa else RuntimeError
            raise _refusal(name, f"at least {least} dimensions", list(x.shape), error)
    if enable_gqa and key.shape[-3] != value.shape[-3]:
        H = query.shape[-3]
        key, value = _repeated("key", key, H), _repeated("value", value, H)
    rank = max(query.dim(), key.dim(), value.dim())
    leads = [(1,) * (max(rank, 4) - x.dim()) + tuple(x.shape[:-2]) for x in (query, key, value)]
    batch = [_joint(sizes) for sizes in zip(*(lead[:-1] for lead in leads), strict=True)]
    H, Hkv, of_values = (lead[-1] for lead in leads)
    if not enable_gqa:
        H = _joint((H, Hkv, of_values))
        Hkv = 1 if Hkv == of_values == 1 else H  # one for all is what the engine has
    q, k, v = (
        x.expand(*batch, heads, *x.shape[-2:]).flatten(0, -4)
        for x, heads in ((query, H), (key, Hkv), (value, Hkv))
    )
    lead = (*batch, H)
    return lead[len(lead) - (rank - 2) :], q, k, v


def _joint(sizes: Iterable[int]) -> int:
    joint = 1
    for size in sizes:
        if joint not in (1, size) and size != 1:
            raise _refusal(
                "query, key, value",
                "leading sizes that broadcast (grouped heads need enable_gqa)",
                f"{joint} and {size}",
            )
        joint = joint if size == 1 else size
    return joint


def _repeated(name: str, x: Tensor, H: int) -> Tensor:
    """Each head of [...,Hkv,S,D] as often as query heads share it."""
    Hkv = x.shape[-3]
    if Hkv == 0 or H % Hkv != 0:
        raise _refusal(name, f"heads that divide query's {H}", Hkv)
    return x.repeat_interleave(H // Hkv, dim=-3)


def _mask_program(mask: Tensor, lead: Lead, q: Tensor, k: Tensor) -> tuple[str, list[Tensor]]:
    """A mask as a program and its tables."""
    if not isinstance(mask, Tensor):
        raise _not_a_tensor(attn_mask=mask)
    _check_mask_dtype(mask, q)
    full = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    if mask.dim() > (4 if lead is None else len(lead) + 2):
        raise _does_not_fit(mask, lead, full)
    table = mask if lead is None else _with_one_batch(mask, lead)
    sizes, strides, wants_all = table.shape, table.stride(), table.requires_grad
    way, first = "", 4 - len(sizes)
    for d, size in enumerate(sizes):
        if size not in (1, full[first + d]):
            raise _does_not_fit(mask, lead, full)
        alike = size == 1 or (strides[d] == 0 and not wants_all)
        way += "0" if alike else "bhts"[first + d]
    if table.dtype == torch.bool:
        return _BOOL[way], [table]
    stored = table  # once, or the comparison would write out what is broadcast
    for d, letter in enumerate(way):
        if letter == "0" and sizes[d] > 1:
            stored = stored.narrow(d, 0, 1)
    return _FLOAT[way], [table, stored != -math.inf]


def _check_mask_dtype(mask: Tensor, q: Tensor) -> None:
    if mask.dtype in (torch.bool, torch.float32, q.dtype):
        return
    if not (mask.is_floating_point() and torch.is_autocast_enabled("cpu")):
        raise _refusal("attn_mask", f"dtype bool, float32 or query's {q.dtype}", mask.dtype)


def _with_one_batch(mask: Tensor, lead: tuple[int, ...]) -> Tensor:
    """The mask with at most one dimension before [H,T,S]; others are folded as `_broadcast` does."""
    if mask.dim() <= 3 or len(lead) <= 2:
        return mask
    if any(size != 1 for size in mask.shape[:-3]):
        mask = mask.expand(*lead[:-1], *mask.shape[-3:])
    return mask.flatten(0, -4)


def _does_not_fit(mask: Tensor, lead: Lead, full: tuple[int, ...]) -> Exception:
    full = full if lead is None else (*lead, *full[2:])
    return _refusal("attn_mask", f"sizes that broadcast to {list(full)}", list(mask.shape))
