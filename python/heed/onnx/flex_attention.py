"""`heed.onnx.flex_attention`: the operator FlexAttention."""

from functools import partial

import torch
from torch import Tensor, vmap
from torch.utils.checkpoint import checkpoint

from heed.attention import ScoreMod
from heed.attention import attention as fused_attention
from heed.onnx.checks import expect, expect_shapes
from heed.onnx.precision import (
    check_precision,
    engine_dtype,
    products,
    scaled,
    softmax,
    weighted_sums,
)
from heed.trace import trace_program

_expect = partial(expect, "flex_attention")


def flex_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    prob_mod: ScoreMod | None = None,
    scale: float | None = None,
    score_mod: ScoreMod | None = None,
    softmax_precision: int | None = None,
    opset: int = 1,
    num_outputs: int = 1,
) -> tuple[Tensor]:
    """ONNX FlexAttention: Y = prob_mod(softmax(score_mod(scale q k^T))) v.

    Args:
        q: queries [B,H,T,D], float32, bfloat16, float16, or float64 by the slow reference.
        k: keys [B,Hkv,S,D] in q's dtype; Hkv divides H.
        v: values [B,Hkv,S,Dv] in q's dtype.
        score_mod: score_mod(score, b, h, t, s) gives the score that the softmax sees: the node's
            subgraph for one pair of query and key. What it may do is what `heed.attention` says.
        prob_mod: prob_mod(p, b, h, t, s) gives the factor of v[s] for the weight p. The factors then
            are no softmax: torch makes their sum, a block of queries at a time, and a key of factor
            0 is read.
        scale: None: 1/sqrt(D).
        softmax_precision: TensorProto's number of a float type; 11, float64, makes the whole
            computation one in float64. No other type lowers the precision, which is float32.
        opset: the version of the domain ai.onnx.preview, 1 or later.
        num_outputs: 1.

    Returns:
        (Y [B,H,T,Dv] in q's dtype,), differentiable in q, k, v and what the mods capture. A query
        that sees no key, every score -inf, gives 0.

    Raises:
        ValueError: an input or attribute that the standard does not allow.
        RuntimeError: a shape, dtype or device that the engine does not take.
        ProgramError: a mod does what a program can't say.
    """
    _expect(opset >= 1, "opset", "1 or later", opset)
    _expect(num_outputs == 1, "num_outputs", "1", num_outputs)
    _expect(scale is None or scale >= 0, "scale", "0 or more", scale)
    check_precision("flex_attention", softmax_precision)
    for name, x, letters in (("q", q, "B,H,T,D"), ("k", k, "B,Hkv,S,D"), ("v", v, "B,Hkv,S,Dv")):
        _expect(x.dim() == 4, name, f"[{letters}]", x)
    _expect(v.dtype == q.dtype, "v", f"q's dtype {q.dtype}", v.dtype)
    expect_shapes("flex_attention", q, k, v)

    dtype = engine_dtype(q, v, softmax_precision)
    scaled_q, scaled_k, factor = scaled(q, k, scale)
    inputs = scaled_q.to(dtype), scaled_k.to(dtype), v.to(dtype)
    if prob_mod is None:
        y = fused_attention(*inputs, score_mod=score_mod, scale=factor)
        assert isinstance(y, Tensor)
    else:
        y = _in_blocks(*inputs, factor, score_mod, prob_mod)
    return (y.to(q.dtype),)


_PAIRS = 1 << 20  # of queries and keys in a block: 4 MB in float32


def _in_blocks(
    q: Tensor, k: Tensor, v: Tensor, scale: float, score_mod: ScoreMod | None, prob_mod: ScoreMod
) -> Tensor:
    """The operator as its definition reads; blocks of queries bound its memory, also that of the
    backward, which makes each block again."""
    # Refuses what is refused without prob_mod, too.
    captured = [x for mod in (score_mod, prob_mod) for x in trace_program(mod).tables]
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, *captured))
    wide = torch.promote_types(q.dtype, torch.float32)
    q, k, v = q.to(wide), k.to(wide), v.to(wide)
    B, H, T, _ = q.shape
    rows = max(1, _PAIRS // max(1, B * H * k.shape[2]))
    firsts = range(0, max(T, 1), rows)
    again = len(firsts) > 1 and learns
    block = partial(checkpoint, _block, use_reentrant=False) if again else _block
    return torch.cat(
        [block(q[:, :, i : i + rows], k, v, i, scale, score_mod, prob_mod) for i in firsts], 2
    )


def _block(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    first: int,
    scale: float,
    score_mod: ScoreMod | None,
    prob_mod: ScoreMod,
) -> Tensor:
    """[B,H,rows,Dv] of the queries q [B,H,rows,D], the first of which is query `first`."""
    x = scale * products(q, k)  # [B,H,rows,S]
    if score_mod is not None:
        x = _of_each_pair(score_mod, x, first)
    p = softmax(x, x > -torch.inf)
    return weighted_sums(_of_each_pair(prob_mod, p, first), v)


def _of_each_pair(mod: ScoreMod, x: Tensor, first: int) -> Tensor:
    """mod(x[b,h,t,s], b, h, t, s) for all of x [B,H,rows,S], as single numbers to the mod."""
    if x.numel() == 0:
        return x
    b, h, t, s = (torch.arange(size, device=x.device) for size in x.shape)
    over_s = vmap(mod, (0, None, None, None, 0))
    over_t = vmap(over_s, (0, None, None, 0, None))
    over_h = vmap(over_t, (0, None, 0, None, None))
    return vmap(over_h, (0, 0, None, None, None))(x, b, h, first + t, s).to(x.dtype)
