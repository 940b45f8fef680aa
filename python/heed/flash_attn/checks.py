"""Checks of flash-attn's arguments: a RuntimeError of one line, as its own are, before the engine
sees the tensors in another layout."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def fail(op: str, name: str, expected: str, got: object) -> NoReturn:
    raise RuntimeError(f"[{op}] {name}: expected {expected}, got {got}")


def check_shape(op: str, name: str, x: Tensor, letters: str, sizes: Sequence[int | None]) -> None:
    """x has these sizes; None stands for any."""
    if x.dim() == len(sizes):
        for expected, size in zip(sizes, x.shape, strict=True):
            if expected is not None and expected != size:
                break
        else:
            return
    pairs = zip(letters.split(","), sizes, strict=True)
    known = ",".join(letter if n is None else str(n) for letter, n in pairs)
    fail(op, name, f"[{letters}]" + (f" = [{known}]" if known != letters else ""), list(x.shape))


def check_query(op: str, name: str, x: Tensor, letters: str) -> None:
    if x.dtype not in DTYPES:
        fail(op, name, "dtype float16, bfloat16, float32 or float64", x.dtype)
    if x.device.type not in ("cpu", "meta"):
        fail(op, name, "a CPU tensor (CUDA's are for flash-attn itself)", x.device)
    check_shape(op, name, x, letters, [None] * (letters.count(",") + 1))


def check_integers(
    op: str, name: str, x: Tensor, letters: str, sizes: Sequence[int | None]
) -> None:
    if x.dtype not in (torch.int32, torch.int64):
        fail(op, name, "dtype int32 or int64", x.dtype)
    check_shape(op, name, x, letters, sizes)


def check_keys(
    op: str,
    names: tuple[str, str],
    keys: tuple[Tensor, Tensor],
    q: Tensor,
    letters: str,
    sizes: Sequence[int | None],
) -> None:
    """Keys [*sizes,Hkv,D] and values [*sizes,Hkv,Dv] for q; `letters` name sizes."""
    (k_name, v_name), (k, v) = names, keys
    for name, x in zip(names, keys, strict=True):
        if x.dtype != q.dtype:
            fail(op, name, f"q's dtype {q.dtype}", x.dtype)
        if x.device != q.device:
            fail(op, name, f"q's device {q.device}", x.device)
    check_shape(op, k_name, k, f"{letters},Hkv,D", [*sizes, None, q.shape[-1]])
    check_shape(op, v_name, v, f"{letters},Hkv,Dv", [*k.shape[:-1], None])
    H, Hkv = q.shape[-2], k.shape[-2]
    if H % Hkv if Hkv else H:
        fail(op, k_name, f"Hkv heads that divide q's H = {H}", f"Hkv = {Hkv}")


def check_slopes(op: str, slopes: Tensor | None, B: int, H: int) -> None:
    if slopes is None:
        return
    if not slopes.is_floating_point():
        fail(op, "alibi_slopes", "a floating-point dtype", slopes.dtype)
    if tuple(slopes.shape) not in ((H,), (B, H)):
        fail(op, "alibi_slopes", f"[H] = [{H}] or [B,H] = [{B},{H}]", list(slopes.shape))
