"""`heed.onnx.attention`: the operator Attention."""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from heed._library import operators
from heed.onnx.checks import (
    expect,
    expect_heads,
    expect_shape,
    expect_shapes,
    split_heads,
)
from heed.onnx.precision import (
    DTYPES,
    check_precision,
    engine_dtype,
    is_stepwise,
    products,
    scaled,
    softmax,
    sums_of_seen,
)
from heed.program_text import capped_dot, declaration, element

_expect = partial(expect, "attention")
_expect_shape = partial(expect_shape, "attention")


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    opset: int = 25,
    num_outputs: int = 1,
) -> tuple[Tensor, ...]:
    """ONNX Attention: Y = softmax(softcap(scale q k^T) + mask) v.

    P past and S' new keys make S = P + S' keys; a query's place is counted from `offset`, which is
    P, or nonpad_kv_seqlen[b] - T, or 0.

    Args:
        q: queries [B,H,T,D], or packed [B,T,H*D] if k and v are. float32, bfloat16, float16, or
            float64 by the slow reference, on the CPU.
        k: keys [B,Hkv,S',D] or [B,S',Hkv*D], in q's dtype; Hkv divides H.
        v: values [B,Hkv,S',Dv] or [B,S',Hkv*Dv].
        attn_mask: broadcasts to [B,H,T,S]; true where a query sees a key, or numbers that are added
            to the scores, of which -inf hides a key: it is not read. From opset 24 a shorter last
            dimension hides the keys after it.
        past_key, past_value: [B,Hkv,P,D] and [B,Hkv,P,Dv], put before k and v.
        nonpad_kv_seqlen: int64 [B], from opset 24, without a past: how many keys are no padding.
        is_causal: 1: query t sees keys s <= t + offset.
        left_window_size, right_window_size: from opset 25: query t sees keys from
            t + offset - left to t + offset + right; -1 is unbounded.
        q_num_heads, kv_num_heads: H and Hkv; needed where q, k and v are packed.
        qk_matmul_output_mode: what the fourth output is: 0, scale q k^T; 1, that after the soft cap;
            2, that after the mask; 3, the softmax.
        scale: None: 1/sqrt(D).
        softcap: c > 0: each score x becomes c tanh(x / c), before the mask.
        softmax_precision: TensorProto's number of a float type; 11, float64, makes the whole
            computation one in float64. No other type lowers the precision, which is float32, with
            one exception: a bfloat16 q with up to 16 keys, if this is 16 or omitted, has its scores
            and softmax rounded at every step, as the definition reads.
        opset: the version of ONNX's operators, 23 or later.
        num_outputs: 1 to 4.

    Returns:
        The first num_outputs of (Y, present_key [B,Hkv,S,D], present_value [B,Hkv,S,Dv],
        qk_matmul_output [B,H,T,S]). Y is laid out as q, in q's dtype; it is 0 where a query sees no
        key. All are differentiable in q, k, v, attn_mask and the past. Y takes no T x S memory.

    Raises:
        ValueError: an input or attribute that the standard does not allow, or not in this opset.
        RuntimeError: a dtype, device or length that the engine does not take.
    """
    _check_versions(opset, nonpad_kv_seqlen, left_window_size, right_window_size)
    _expect(num_outputs in (1, 2, 3, 4), "num_outputs", "1 to 4", num_outputs)
    mode = qk_matmul_output_mode
    _expect(mode in (0, 1, 2, 3), "qk_matmul_output_mode", "0 to 3", mode)
    _expect(softcap >= 0, "softcap", "0 or more", softcap)
    _expect(scale is None or scale >= 0, "scale", "0 or more", scale)
    check_precision("attention", softmax_precision)

    packed = q.dim() == 3
    q, k, v = _four_dimensions(q, k, v, q_num_heads, kv_num_heads, opset)
    P = _past_length(k, v, past_key, past_value, nonpad_kv_seqlen)
    if past_key is not None and past_value is not None:
        k, v = torch.cat((past_key, k), 2), torch.cat((past_value, v), 2)
    scores = _Scores(
        softcap=float(softcap),
        mask=_checked_mask(attn_mask, q, k, pad=opset >= 24),
        offset=_offset(q, P, nonpad_kv_seqlen),
        left=_reach(left_window_size, q, k),
        right=_reach(0 if is_causal else right_window_size, q, k),
        kv_lengths=nonpad_kv_seqlen,
    )
    y = scores.attend(q, k, v, scale, softmax_precision)
    if packed:
        y = y.transpose(1, 2).flatten(2)  # [B,T,H*Dv]
    outputs = (y, k, v)[:num_outputs]
    if num_outputs < 4:
        return outputs
    return (*outputs, scores.matrix(q, k, scale, mode, softmax_precision))


@dataclass(frozen=True)
class _Scores:
    """What becomes of q k^T, as a program for the engine and as a matrix to hand out."""

    softcap: float
    mask: Tensor | None  # bool or float, 4 dimensions, each 1 or that of [B,H,T,S]
    offset: Tensor | None  # int64 [B], by which query 0 lies behind key 0; None: 0
    left: int  # how far a query sees from its place; -1: to the end
    right: int
    kv_lengths: Tensor | None  # int64 [B]

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float | None, softmax_precision: int | None
    ) -> Tensor:
        """Y [B,H,T,Dv]."""
        precision = q.dtype if softmax_precision is None else DTYPES[softmax_precision]
        if q.dtype == torch.bfloat16 and is_stepwise(precision, k.shape[2]):
            p = self.matrix(q, k, scale, 3, softmax_precision)
            return sums_of_seen(p, v).to(q.dtype)
        text, tables = self.program()
        dtype = engine_dtype(q, v, softmax_precision)
        scaled_q, scaled_k, factor = scaled(q, k, scale)
        y: Tensor = operators.attention(
            scaled_q.to(dtype),
            scaled_k.to(dtype),
            v.to(dtype),
            scale=factor,
            kv_lengths=self.kv_lengths,
            program=text,
            tables=tables,
        )[0]
        return y.to(q.dtype)

    def program(self) -> tuple[str, list[Tensor]]:
        """As text, not as a mod that is traced, so that torch.compile sees one whole graph."""
        tables: list[Tensor] = []
        seen = []
        score = capped_dot(self.softcap) if self.softcap else "dot"
        if self.mask is not None:
            tables.append(self.mask)
            cell, is_bool = element(0, self.mask), self.mask.dtype == torch.bool
            score += "" if is_bool else f" + {cell}"
            seen.append(cell if is_bool else f"-inf < {cell}")
        place = "t"
        if self.offset is not None and (self.left >= 0 or self.right >= 0):
            place = f"(t + table{len(tables)}[b])"
            tables.append(self.offset)
        seen += [f"{place} - s <= {self.left}"] if self.left >= 0 else []
        seen += [f"s - {place} <= {self.right}"] if self.right >= 0 else []
        if not seen and not self.softcap:
            return "", []
        mask = [f"mask = {' & '.join(f'({condition})' for condition in seen)}"] if seen else []
        declared = [declaration(n, table) for n, table in enumerate(tables)]
        return "\n".join([*declared, f"score = {score}", *mask, ""]), tables

    def matrix(
        self, q: Tensor, k: Tensor, scale: float | None, mode: int, softmax_precision: int | None
    ) -> Tensor:
        """qk_matmul_output [B,H,T,S], each step rounded to q's dtype."""
        dtype = q.dtype
        wide = torch.promote_types(dtype, torch.float32)
        q, k, factor = scaled(q, k, scale)
        x = (factor * products(q.to(wide), k.to(wide))).to(dtype)
        if mode == 0:
            return x
        if self.softcap:
            x = self.softcap * (x / self.softcap).tanh()
        if mode == 1:
            return x
        visible = self.visible(q.shape[2], k.shape[2], q.device)
        if self.mask is not None and self.mask.dtype != torch.bool:
            x = (x + self.mask).to(dtype)
        if mode == 2:
            return x.masked_fill(~visible, -torch.inf)
        x = x if softmax_precision is None else x.to(DTYPES[softmax_precision])
        return softmax(x, visible).to(dtype)

    def visible(self, T: int, S: int, device: torch.device) -> Tensor:
        """Which keys a query sees: bool, broadcasts to [B,H,T,S]."""
        t = torch.arange(T, device=device).view(T, 1)
        s = torch.arange(S, device=device)
        place = t if self.offset is None else t + self.offset.view(-1, 1, 1, 1)
        visible = torch.ones((1, 1, T, S), dtype=torch.bool, device=device)
        if self.mask is not None:
            visible = visible & (
                self.mask if self.mask.dtype == torch.bool else self.mask > -torch.inf
            )
        if self.left >= 0:
            visible = visible & (place - s <= self.left)
        if self.right >= 0:
            visible = visible & (s - place <= self.right)
        if self.kv_lengths is not None:
            visible = visible & (s < self.kv_lengths.view(-1, 1, 1, 1))
        return visible


def _check_versions(opset: int, nonpad_kv_seqlen: Tensor | None, left: int, right: int) -> None:
    _expect(opset >= 23, "opset", "23 or later", opset)
    if nonpad_kv_seqlen is not None:
        _expect(opset >= 24, "nonpad_kv_seqlen", "opset 24 or later", opset)
    for name, size in (("left_window_size", left), ("right_window_size", right)):
        _expect(size >= -1, name, "-1 or more", size)
        _expect(opset >= 25 or size == -1, name, "opset 25 or later", opset)


def _four_dimensions(
    q: Tensor, k: Tensor, v: Tensor, H: int | None, Hkv: int | None, opset: int
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v as [B,H,T,D], [B,Hkv,S',D] and [B,Hkv,S',Dv]."""
    _expect(q.dim() in (3, 4), "q", "[B,H,T,D] or [B,T,H*D]", q)
    rank = "4 dimensions, as q has" if q.dim() == 4 else "3 dimensions, as q has"
    _expect(k.dim() == q.dim(), "k", rank, k)
    _expect(v.dim() == q.dim(), "v", rank, v)
    if q.dim() == 3:
        H, Hkv = expect_heads("attention", H, Hkv)
        q = split_heads("attention", q, "q", H)
        k = split_heads("attention", k, "k", Hkv)
        v = split_heads("attention", v, "v", Hkv)
    else:
        for name, heads, x in (("q_num_heads", H, q), ("kv_num_heads", Hkv, k)):
            _expect(heads is None or opset < 25, name, "none, as q has 4 dimensions", heads)
            _expect(heads in (None, x.shape[1]), name, "{}, as in the input", heads, x.shape[1])
    expect_shapes("attention", q, k, v)
    return q, k, v


def _past_length(
    k: Tensor,
    v: Tensor,
    past_key: Tensor | None,
    past_value: Tensor | None,
    nonpad_kv_seqlen: Tensor | None,
) -> int:
    B, Hkv = k.shape[:2]
    _expect_shape(nonpad_kv_seqlen, "nonpad_kv_seqlen", "B", [B])
    if past_key is None or past_value is None:
        given = "past_key" if past_value is None else "past_value"
        _expect(past_key is past_value, given, "past_key and past_value together", "one")
        return 0
    _expect(nonpad_kv_seqlen is None, "nonpad_kv_seqlen", "none, as there is past_key", "one")
    _expect(past_key.dim() == 4, "past_key", "[B,Hkv,P,D]", past_key)
    P = past_key.shape[2]
    _expect_shape(past_key, "past_key", "B,Hkv,P,D", [B, Hkv, P, k.shape[3]])
    _expect_shape(past_value, "past_value", "B,Hkv,P,Dv", [B, Hkv, P, v.shape[3]])
    return P


def _checked_mask(mask: Tensor | None, q: Tensor, k: Tensor, pad: bool) -> Tensor | None:
    """attn_mask with 4 dimensions, as bool or float."""
    if mask is None:
        return None
    sizes = (*q.shape[:3], k.shape[2])  # [B,H,T,S]
    if mask.dtype != torch.bool and not mask.is_floating_point():
        mask = mask.to(q.dtype)
    if pad and mask.dim() > 0 and mask.shape[-1] < sizes[3]:
        hidden = False if mask.dtype == torch.bool else -torch.inf
        mask = F.pad(mask, (0, sizes[3] - mask.shape[-1]), value=hidden)
    shape = (1,) * (4 - mask.dim()) + tuple(mask.shape)
    fits = len(shape) == 4 and all(m in (1, n) for m, n in zip(shape, sizes, strict=True))
    _expect(fits, "attn_mask", "a shape that broadcasts to [{},{},{},{}]", mask, *sizes)
    return mask.view(shape)


def _offset(q: Tensor, P: int, nonpad_kv_seqlen: Tensor | None) -> Tensor | None:
    """int64 [B]: the place of the first query among the keys; None: 0. Not a number in the
    program's text, which would then be another one for every length."""
    if nonpad_kv_seqlen is not None:
        return nonpad_kv_seqlen - q.shape[2]
    return torch.full(q.shape[:1], P, dtype=torch.int64, device=q.device) if P else None


def _reach(window: int, q: Tensor, k: Tensor) -> int:
    """A window's size, or -1 where it reaches past all keys (programs hold no large integers)."""
    return window if window < q.shape[2] + k.shape[2] else -1
