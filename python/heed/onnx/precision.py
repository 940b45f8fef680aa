"""In which number type each step of Attention and FlexAttention is made."""

import math
from functools import reduce

import torch
from torch import Tensor

from heed.onnx.checks import expect

# TensorProto's numbers of the types that softmax_precision may name.
DTYPES = {1: torch.float32, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}


def check_precision(op: str, softmax_precision: int | None) -> None:
    known = softmax_precision is None or softmax_precision in DTYPES
    expect(op, known, "softmax_precision", "1, 10, 11 or 16", softmax_precision)


def scaled(q: Tensor, k: Tensor, scale: float | None) -> tuple[Tensor, Tensor, float]:
    """q, k and a factor of which the product is scale <q, k>."""
    if scale is None:
        scale = 1 / math.sqrt(max(q.shape[-1], 1))
    if q.dtype not in (torch.float16, torch.bfloat16):
        return q, k, scale
    # The operators multiply q and k by sqrt(scale), all rounded to their type, before the product.
    # In these types that shows in the result; in wider ones it does not.
    root = torch.full((), math.sqrt(scale), dtype=q.dtype, device=q.device)
    return q * root, k * root, 1.0


def engine_dtype(q: Tensor, v: Tensor, softmax_precision: int | None) -> torch.dtype:
    """What q, k and v are to be for the engine. It adds up and takes the softmax in float32 whatever
    halves it is given: at least the precision that is asked for, unless that is float64."""
    if softmax_precision is not None and DTYPES[softmax_precision] == torch.float64:
        return torch.float64
    return torch.promote_types(q.dtype, v.dtype)


def products(q: Tensor, k: Tensor) -> Tensor:
    """<q[b,h,t], k[b,h/G,s]> as [B,H,T,S], with G = H / Hkv; keys are not copied."""
    B, H, T, D = q.shape
    Hkv, S = k.shape[1:3]
    return (q.reshape(B, Hkv, H // Hkv * T, D) @ k.mT).reshape(B, H, T, S)


def weighted_sums(p: Tensor, v: Tensor) -> Tensor:
    """The sum over s of p[b,h,t,s] v[b,h/G,s], as [B,H,T,Dv], added up in float32 or more."""
    B, H, T, S = p.shape
    Hkv, Dv = v.shape[1], v.shape[3]
    wide = torch.promote_types(p.dtype, torch.float32)
    p = p.reshape(B, Hkv, H // Hkv * T, S).to(wide)
    return (p @ v.to(wide)).reshape(B, H, T, Dv)


def sums_of_seen(p: Tensor, v: Tensor) -> Tensor:
    """The same, of few keys: where a weight is 0 the value is not read, be it NaN."""
    v = v.repeat_interleave(p.shape[1] // v.shape[1], 1)  # [B,H,S,Dv]
    wide = torch.promote_types(p.dtype, torch.float32)
    sums = torch.zeros((*p.shape[:3], v.shape[3]), dtype=wide, device=p.device)
    for weight, value in zip(p.to(wide).unbind(3), v.to(wide).unbind(2), strict=True):
        weight, value = weight.unsqueeze(3), value.unsqueeze(2)  # [B,H,T,1], [B,H,1,Dv]
        sums = sums + torch.where(weight == 0, 0, weight * value)
    return sums


def softmax(scores: Tensor, visible: Tensor) -> Tensor:
    """Softmax over the visible keys in the scores' type; 0, and a gradient of 0, elsewhere."""
    scores = scores.masked_fill(~visible, -math.inf)
    p = _stepwise(scores) if is_stepwise(scores.dtype, scores.shape[-1]) else scores.softmax(-1)
    return p.masked_fill(~visible, 0)  # a row that sees nothing is NaN before


def is_stepwise(dtype: torch.dtype, S: int) -> bool:
    """Whether a softmax is rounded to its type after each step, the running sum after each key.

    In bfloat16, which is meant where softmax_precision is omitted and q is bfloat16, that is 2 ulp
    away from a sum in float32 with half a dozen keys, and no sum at all from some hundreds on: 1
    added to 256 is 256. So short rows are made as the operator's definition reads, for the sake of
    agreement with it, and longer ones as well as we can.
    """
    return dtype == torch.bfloat16 and 0 < S <= 16


def _stepwise(scores: Tensor) -> Tensor:
    weights = (scores - scores.detach().amax(-1, keepdim=True)).exp()
    total = reduce(torch.add, weights.unbind(-1))
    return weights / total.unsqueeze(-1)
