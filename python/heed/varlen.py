"""`heed.varlen_attention`: sequences of unequal length, packed one after the other."""

from typing import Literal, Unpack, overload

from torch import Tensor

from heed._library import operators
from heed.attention import Corner, MaskMod, PackedOptions, ScoreMod, call, operator_options


@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    *,
    return_lse: Literal[False] = False,
    **rest: Unpack[PackedOptions],
) -> Tensor: ...
@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    *,
    return_lse: Literal[True],
    **rest: Unpack[PackedOptions],
) -> tuple[Tensor, Tensor]: ...
@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    *,
    return_lse: bool,
    **rest: Unpack[PackedOptions],
) -> Tensor | tuple[Tensor, Tensor]: ...


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    *,
    causal: Corner | None = None,
    window: tuple[int, int] | None = None,
    scale: float | None = None,
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
    sinks: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention within each of B sequences that lie one after the other, nothing padded.

    Sequence b has the queries q[cu_seqlens_q[b] : cu_seqlens_q[b + 1]] and the keys and values
    [cu_seqlens_k[b] : cu_seqlens_k[b + 1]] of k and v, and sees no other's.

    Args:
        q: queries [sum T,H,D], float32, bfloat16 or float16, on the CPU; float64 runs the slow
            reference.
        k: keys [sum S,Hkv,D] in q's dtype; Hkv divides H.
        v: values [sum S,Hkv,Dv] in q's dtype.
        cu_seqlens_q: int32 or int64 [B + 1], rising from 0 to sum T.
        cu_seqlens_k: the same for keys, from 0 to sum S.
        causal, window: as in `attention`, with each sequence's own T and S.
        score_mod, mask_mod: as in `attention`; b is the sequence, t and s count within it.
        scale, sinks, dropout_p, seed: as in `attention`; dropout draws by b, h, t, s as well.
        return_lse: also return the logarithm of each row's sum of exponentials.

    Returns:
        out [sum T,H,Dv] in q's dtype; with return_lse (out, lse [H,sum T]). As in `attention`
        otherwise, gradients included.

    Raises:
        RuntimeError: an argument has another shape, dtype, device or value than expected.
        ProgramError: as in `attention`.
    """
    options = operator_options(
        q,
        score_mod=score_mod,
        mask_mod=mask_mod,
        causal=causal,
        window=window,
        scale=scale,
        sinks=sinks,
        dropout_p=dropout_p,
        seed=seed,
    )
    out, lse = call(operators.varlen_attention, q, k, v, cu_seqlens_q, cu_seqlens_k, **options)
    return (out, lse) if return_lse else out
