"""`heed.attention`: softmax attention of every kind in one function."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from heed._library import operators

Kind = Literal["dot", "additive", "cosine", "none"]
Corner = Literal["top_left", "bottom_right"]
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


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
        q: queries [B,H,T,D], float32 or float64, on the CPU. Any strides; rows that are not
            contiguous are copied.
        k: keys [B,Hkv,S,D] in q's dtype; Hkv divides H.
        v: values [B,Hkv,S,Dv] in q's dtype.
        kind: the score.
            "dot": scale * <q, k> (Luong et al. 2015; Vaswani et al. 2017).
            "additive": scale * sum_d weight[h,d] tanh(q[d] + k[d]) (Bahdanau et al. 2015).
            "cosine": scale * <q/|q|, k/|k|> (Graves et al. 2014).
        causal: which keys query t sees: "top_left", s <= t; "bottom_right",
            s <= t + S - T, where S is the element's own length if kv_lengths is given.
        scale: factor of the score; None: 1/sqrt(D) for "dot", 1 otherwise.
        kv_lengths: int64 [B], keys of each element in [0, S]; those after are never read.
        weight: [H,D] in q's dtype, for "additive" only.
        return_lse: also return the logarithm of each row's sum of exponentials.

    Returns:
        out [B,H,T,Dv] in q's dtype, token-major in memory where q is; with return_lse
        (out, lse [B,H,T]). A query that sees no key gives 0 and lse -inf. Differentiable once in
        q, k, v and weight, through out and lse.

    Raises:
        RuntimeError: an argument has another shape, dtype, device or value than expected.
        NotImplementedError: score_mod, mask_mod, window, sinks, top_k, dropout_p, seed or
            kind "none" is asked for; these are not available.
    """
    _refuse(
        score_mod=score_mod,
        mask_mod=mask_mod,
        window=window,
        sinks=sinks,
        top_k=top_k,
        dropout_p=dropout_p or None,
        seed=seed,
    )
    q, k, kind, scale = _prepared(q, k, kind, scale)
    out, lse = operators.attention(
        q, k, v, kind=kind, causal=causal, scale=scale, weight=weight, kv_lengths=kv_lengths
    )
    return (out, lse) if return_lse else out


def attention_weights(
    q: Tensor,
    k: Tensor,
    *,
    kind: Kind = "dot",
    causal: Corner | None = None,
    scale: float | None = None,
    kv_lengths: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The matrix softmax_s(score) [B,H,T,S] itself, for looking at; it carries no gradient.

    Arguments and errors are those of `attention`. Masked keys and rows without keys get 0.
    """
    q, k, kind, scale = _prepared(q, k, kind, scale)
    return operators.attention_weights(
        q, k, kind=kind, causal=causal, scale=scale, weight=weight, kv_lengths=kv_lengths
    )


def _refuse(**arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise NotImplementedError(f"[attention] {name} is not available")


def _prepared(
    q: Tensor, k: Tensor, kind: Kind, scale: float | None
) -> tuple[Tensor, Tensor, str, float | None]:
    """Brings a kind to one that the operator knows: cosine is the dot product of unit rows."""
    if isinstance(scale, Tensor):
        raise TypeError("[attention] scale: expected a number, got a tensor; multiply q by it")
    if kind == "none":
        raise NotImplementedError("[attention] kind 'none' is not available")
    if kind == "cosine":
        return (
            F.normalize(q, dim=-1),
            F.normalize(k, dim=-1),
            "dot",
            1.0 if scale is None else scale,
        )
    if kind not in ("dot", "additive"):
        expected = "'dot', 'additive' or 'cosine'"
        raise RuntimeError(f"[attention] kind: expected {expected}, got {kind!r}")
    return q, k, kind, scale
