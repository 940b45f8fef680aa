"""`heed.attention`: softmax attention of every kind in one function."""

from collections.abc import Callable
from typing import Any, Literal, TypedDict, Unpack, overload

from torch import Tensor

from heed._library import operators
from heed.errors import program_errors
from heed.trace import trace_program

Kind = Literal["dot", "additive", "cosine", "none"]
Corner = Literal["top_left", "bottom_right"]
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


# The keywords once more, for type checkers: whether lse is returned decides the result's type.


class PackedOptions(TypedDict, total=False):
    """What `varlen_attention` takes too."""

    score_mod: ScoreMod | None
    mask_mod: MaskMod | None
    causal: Corner | None
    window: tuple[int, int] | None
    scale: float | None
    sinks: Tensor | None
    dropout_p: float
    seed: int | None


class Options(PackedOptions, total=False):
    kind: Kind
    kv_lengths: Tensor | None
    top_k: int | None
    weight: Tensor | None


@overload
def attention(
    q: Tensor, k: Tensor, v: Tensor, *, return_lse: Literal[False] = False, **rest: Unpack[Options]
) -> Tensor: ...
@overload
def attention(
    q: Tensor, k: Tensor, v: Tensor, *, return_lse: Literal[True], **rest: Unpack[Options]
) -> tuple[Tensor, Tensor]: ...
@overload
def attention(
    q: Tensor, k: Tensor, v: Tensor, *, return_lse: bool, **rest: Unpack[Options]
) -> Tensor | tuple[Tensor, Tensor]: ...


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    kind: Kind = "dot",
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
    causal: Corner | None = None,
    window: tuple[int, int] | None = None,
    scale: float | None = None,
    kv_lengths: Tensor | None = None,
    sinks: Tensor | None = None,
    top_k: int | None = None,
    weight: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """out[b,h,t] = sum over s of softmax_s(score[b,h,t,s]) v[b,h/G,s], with G = H / Hkv.

    Args:
        q: queries [B,H,T,D], float32, bfloat16 or float16, on the CPU; float64 runs the slow
            reference. Any strides; rows that are not contiguous are copied.
        k: keys [B,Hkv,S,D] in q's dtype; Hkv divides H.
        v: values [B,Hkv,S,Dv] in q's dtype.
        kind: the score.
            "dot": scale * <q, k> (Luong et al. 2015; Vaswani et al. 2017).
            "additive": scale * sum_d weight[h,d] tanh(q[d] + k[d]) (Bahdanau et al. 2015).
            "cosine": scale * <q/|q|, k/|k|> (Graves et al. 2014).
            "none": 0, for scores that depend on places alone; q and k are never read.
        score_mod: score_mod(score, b, h, t, s) gives the score that the softmax sees. It is traced
            and runs inside the tiles; tensors that it captures get gradients
            (`heed.trace_program` says what it may do). As in FlexAttention (Dong et al. 2024).
        mask_mod: mask_mod(b, h, t, s) is true where query t sees key s.
        causal: which keys query t sees: "top_left", s <= t; "bottom_right",
            s <= t + S - T, where S is the element's own length if kv_lengths is given.
        window: (left, right), both inclusive, -1 unbounded: keys from c - left to c + right, where
            c is t, and t + S - T if causal is "bottom_right" (Beltagy et al. 2020).
        scale: factor of the score; None: 1/sqrt(D) for "dot", 1 otherwise.
        kv_lengths: int64 [B], keys of each element in [0, S]; those after are never read.
        sinks: [H] in q's dtype: one more key a head, with this score and no value
            (Xiao et al. 2024; Agarwal et al. 2025).
        top_k: only the keys whose score is among the row's top_k largest; ties are kept.
        weight: [H,D] in q's dtype, for "additive" only.
        dropout_p: probability, below 1, with which a weight is dropped after the softmax; the
            others are divided by 1 - dropout_p (Srivastava et al. 2014).
        seed: which weights are dropped is a function of it and b, h, t, s; None: drawn from
            torch's default generator.
        return_lse: also return the logarithm of each row's sum of exponentials.

    Returns:
        out [B,H,T,Dv] in q's dtype, token-major in memory where q is; with return_lse
        (out, lse [B,H,T] float32, float64 if q is), natural logarithm, the sink counted. A query
        that sees no key gives 0 and lse -inf, or the sink. Differentiable in q, k, v, weight, sinks
        and what the mods capture, through out and lse; second derivatives and forward mode store
        [B,H,T,S] matrices.

    Raises:
        RuntimeError: an argument has another shape, dtype, device or value than expected.
        ProgramError: score_mod or mask_mod does what a program can't say, or an index can leave
            its tensor.
    """
    options = operator_options(
        q,
        kind=kind,
        score_mod=score_mod,
        mask_mod=mask_mod,
        causal=causal,
        window=window,
        scale=scale,
        kv_lengths=kv_lengths,
        sinks=sinks,
        top_k=top_k,
        weight=weight,
        dropout_p=dropout_p,
        seed=seed,
    )
    return call(_attention if return_lse else attend, q, k, v, **options)


def attention_weights(
    q: Tensor,
    k: Tensor,
    *,
    kind: Kind = "dot",
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
    causal: Corner | None = None,
    window: tuple[int, int] | None = None,
    scale: float | None = None,
    kv_lengths: Tensor | None = None,
    sinks: Tensor | None = None,
    top_k: int | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The matrix softmax_s(score) [B,H,T,S] itself, for looking at; it carries no gradient.

    Arguments and errors are those of `attention`; the dtype is lse's. Masked keys and rows without
    keys get 0; with sinks a row sums to less than 1.
    """
    options = operator_options(
        q,
        kind=kind,
        score_mod=score_mod,
        mask_mod=mask_mod,
        causal=causal,
        window=window,
        scale=scale,
        kv_lengths=kv_lengths,
        sinks=sinks,
        top_k=top_k,
        weight=weight,
    )
    return call(operators.attention_weights.default, q, k, **options)


def operator_options(
    q: Tensor,
    *,
    score_mod: ScoreMod | None,
    mask_mod: MaskMod | None,
    window: tuple[int, int] | None,
    scale: float | None,
    **others: Any,
) -> dict[str, Any]:
    """Keywords of the functions here as those of the operators: the mods as a program."""
    if isinstance(scale, Tensor):
        raise TypeError("[attention] scale: expected a number, got a tensor; multiply q by it")
    others |= {"window": None if window is None else list(window), "scale": scale}
    options = {
        name: value
        for name, value in others.items()
        if value is not None and not (name in _DEFAULTS and value == _DEFAULTS[name])
    }
    if score_mod is None and mask_mod is None:
        return options
    program = trace_program(score_mod, mask_mod, dtype=q.dtype)
    return options | {"program": program.text, "tables": program.tables}


_DEFAULTS = {"kind": "dot", "dropout_p": 0.0}  # beside None; what is left out is called sooner
# Found once: finding an operator takes as long as a short call.
_attention, _dot_attention = operators.attention.default, operators.dot_attention.default
_FEW = {"scale", "causal"}  # what dot_attention takes


def attend(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """out [B,H,T,Dv] by the operator that is called soonest: each argument costs a short call."""
    if options.keys() <= _FEW:
        out: Tensor = _dot_attention(q, k, v, **options)
        return out
    return _attention(q, k, v, **options)[0]


def call(operator: Callable, *tensors: Any, **options: Any) -> Any:
    if not options.get("program"):
        return operator(*tensors, **options)
    with program_errors():
        return operator(*tensors, **options)
