"""What the operators refuse, in one line each."""

import torch
from torch import Tensor


def expect(op: str, holds: bool, what: str, expected: str, got: object, *sizes: object) -> None:
    """Raises ValueError unless it holds; of a tensor the message tells the shape. The sizes replace
    {} in `expected`, and only then: torch.compile takes a size that is printed for a constant."""
    if not holds:
        raise ValueError(
            f"[onnx.{op}] {what}: expected {expected.format(*sizes)}, got {_spoken(got)}"
        )


def _spoken(got: object) -> str:
    if isinstance(got, Tensor):
        got = got.shape
    if isinstance(got, torch.Size):
        return f"[{','.join(map(str, got))}]"
    return repr(got)


def expect_shape(op: str, x: Tensor | None, what: str, letters: str, sizes: list[int]) -> None:
    """That an optional input has this shape, if it is there."""
    if x is not None:
        slots = ",".join("{}" for _ in sizes)
        expect(op, list(x.shape) == sizes, what, f"[{letters}] = [{slots}]", x, *sizes)


def expect_heads(op: str, q_num_heads: int | None, kv_num_heads: int | None) -> tuple[int, int]:
    """Both numbers, of which the second divides the first."""
    if q_num_heads is None or kv_num_heads is None:
        missing = "q_num_heads" if q_num_heads is None else "kv_num_heads"
        raise ValueError(f"[onnx.{op}] {missing}: expected a number of heads, got None")
    expect(op, kv_num_heads > 0, "kv_num_heads", "at least 1", kv_num_heads)
    multiple = q_num_heads > 0 and q_num_heads % kv_num_heads == 0
    expect(
        op, multiple, "q_num_heads", "a multiple of kv_num_heads = {}", q_num_heads, kv_num_heads
    )
    return q_num_heads, kv_num_heads


def split_heads(op: str, x: Tensor, what: str, heads: int) -> Tensor:
    """A packed [B,T,H*D] as [B,H,T,D]."""
    expect(op, x.dim() == 3, what, "[B,T,H*D]", x)
    expect(op, x.shape[2] % heads == 0, what, "a last size that {} heads divide", x, heads)
    B, T, E = x.shape
    return x.view(B, T, heads, E // heads).transpose(1, 2)


def expect_shapes(op: str, q: Tensor, k: Tensor, v: Tensor) -> None:
    """That q [B,H,T,D], k [B,Hkv,S,D] and v [B,Hkv,S,Dv] fit together."""
    B, H, _, D = q.shape
    Hkv, S = k.shape[1:3]
    expect(op, k.dtype == q.dtype, "k", f"q's dtype {q.dtype}", k.dtype)
    expect(op, (k.shape[0], k.shape[3]) == (B, D), "k", "[{},Hkv,S,{}]", k, B, D)
    expect(op, v.shape[:3] == k.shape[:3], "v", "[{},{},{},Dv]", v, B, Hkv, S)
    expect(op, Hkv > 0 and H % Hkv == 0, "k", "Hkv heads that divide q's H = {}", k, H)
