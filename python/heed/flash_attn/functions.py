"""flash-attn's functions on batches [B,T,H,D] and on packed sequences [sum T,H,D]."""

from typing import Any

import torch
from torch import Tensor

from heed._library import operators
from heed.flash_attn.checks import (
    check_integers,
    check_keys,
    check_query,
    check_shape,
    check_slopes,
)
from heed.flash_attn.pages import packed_pages
from heed.flash_attn.probabilities import (
    batched_weights,
    draw_seed,
    flash_lse,
    packed_weights,
    signed,
)
from heed.flash_attn.rules import Rules

# A tensor, or three with return_attn_probs; not said to type checkers, so that calls need no cast.
Result = Any


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """Exact attention on the layout of the flash-attn package (Dao et al. 2022, Dao 2023).

    Args:
        q: queries [B,T,H,D], float16, bfloat16 or float32, on the CPU; float64 runs the slow
            reference. Any D.
        k: keys [B,S,Hkv,D] in q's dtype; query head h reads head h // (H / Hkv).
        v: values [B,S,Hkv,Dv] in q's dtype.
        dropout_p: probability, below 1, with which a weight is dropped after the softmax.
        softmax_scale: factor of the product; None: 1/sqrt(D).
        causal: query t sees the keys s <= t + S - T, the bottom right corner; with T > S the first
            T - S queries see none.
        window_size: (left, right): query t sees the keys from t + S - T - left to t + S - T + right,
            both inclusive, -1 unbounded (Beltagy et al. 2020). causal makes right 0.
        softcap: above 0, scores become softcap * tanh(score / softcap) (Gemma Team 2024).
        alibi_slopes: [H] or [B,H]: slope * |t + S - T - s| is taken from the score
            (Press et al. 2022). Gets a gradient if it requires one.
        deterministic: accepted; the engine always is.
        return_attn_probs: also return lse and S_dmask.

    Returns:
        out [B,T,H,Dv] in q's dtype, 0 where a query sees no key. With return_attn_probs
        (out, lse, S_dmask): lse float32 [B,H,T], the natural logarithm of the sum of exponentials,
        +inf where a query sees no key; S_dmask [B,H,T,S] in q's dtype without a gradient, the
        softmax divided by its row's largest weight, negative where dropped. Differentiable in
        q, k, v and alibi_slopes, through out and lse.

    Raises:
        RuntimeError: an argument has another shape, dtype, device or value than expected.
    """
    rules = Rules(softmax_scale, causal, window_size, softcap, alibi_slopes)
    return _batched("flash_attn_func", q, k, v, dropout_p, rules, return_attn_probs)


def flash_attn_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """Attention as by `flash_attn_func`, with keys and values in one tensor, kv [B,S,2,Hkv,D].

    Other arguments, results and errors are those of `flash_attn_func`.
    """
    op = "flash_attn_kvpacked_func"
    check_shape(op, "kv", kv, "B,S,2,Hkv,D", [None, None, 2, None, None])
    rules = Rules(softmax_scale, causal, window_size, softcap, alibi_slopes)
    k, v = kv.unbind(2)
    return _batched(op, q, k, v, dropout_p, rules, return_attn_probs)


def flash_attn_qkvpacked_func(
    qkv: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """Attention as by `flash_attn_func`, with q, k and v in one tensor, qkv [B,T,3,H,D].

    Other arguments, results and errors are those of `flash_attn_func`.
    """
    op = "flash_attn_qkvpacked_func"
    check_shape(op, "qkv", qkv, "B,T,3,H,D", [None, None, 3, None, None])
    rules = Rules(softmax_scale, causal, window_size, softcap, alibi_slopes)
    q, k, v = qkv.unbind(2)
    return _batched(op, q, k, v, dropout_p, rules, return_attn_probs)


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
) -> Result:
    """Attention within each of B sequences that lie one after the other.

    Args:
        q: queries [sum T,H,D], dtypes as in `flash_attn_func`.
        k: keys [sum S,Hkv,D]; with block_table pages [N,P,Hkv,D] of P keys each.
        v: values [sum S,Hkv,Dv], or pages [N,P,Hkv,Dv].
        cu_seqlens_q: int32 or int64 [B+1], rising from 0 to sum T.
        cu_seqlens_k: the same for the keys.
        max_seqlen_q, max_seqlen_k: the longest sequences; only the shape of S_dmask depends on
            them.
        block_table: int32 or int64 [B,M]: sequence b's keys lie in the pages block_table[b] in
            order; only pages that are used are read, and they are copied. Any P.
        dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes, deterministic,
            return_attn_probs: as in `flash_attn_func`, with T and S of each sequence.

    Returns:
        out [sum T,H,Dv]; with return_attn_probs (out, lse [H,sum T],
        S_dmask [B,H,max_seqlen_q,max_seqlen_k], 0 beyond a sequence's end).

    Raises:
        RuntimeError: an argument has another shape, dtype, device or value than expected.
    """
    op = "flash_attn_varlen_func"
    rules = Rules(softmax_scale, causal, window_size, softcap, alibi_slopes)
    if block_table is not None:
        check_query(op, "q", q, "sum T,H,D")
        check_keys(op, ("k", "v"), (k, v), q, "N,P", [None, None])
        check_integers(op, "cu_seqlens_k", cu_seqlens_k, "B+1", [None])
        check_integers(op, "block_table", block_table, "B,M", [cu_seqlens_k.shape[0] - 1, None])
        lengths = cu_seqlens_k.diff().tolist()
        k, v = (packed_pages(op, x, block_table, lengths) for x in (k, v))
    offsets, sizes = (cu_seqlens_q, cu_seqlens_k), (max_seqlen_q, max_seqlen_k)
    return _packed(op, q, k, v, offsets, sizes, dropout_p, rules, return_attn_probs)


def flash_attn_varlen_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """Attention as by `flash_attn_varlen_func`, with keys and values in one, kv [sum S,2,Hkv,D].

    Other arguments, results and errors are those of `flash_attn_varlen_func`.
    """
    op = "flash_attn_varlen_kvpacked_func"
    check_shape(op, "kv", kv, "sum S,2,Hkv,D", [None, 2, None, None])
    rules = Rules(softmax_scale, causal, window_size, softcap, alibi_slopes)
    offsets, sizes = (cu_seqlens_q, cu_seqlens_k), (max_seqlen_q, max_seqlen_k)
    k, v = kv.unbind(1)
    return _packed(op, q, k, v, offsets, sizes, dropout_p, rules, return_attn_probs)


def flash_attn_varlen_qkvpacked_func(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """Attention as by `flash_attn_varlen_func`, with q, k and v in one tensor, qkv [sum T,3,H,D].

    cu_seqlens and max_seqlen are those of queries and keys alike. Other arguments, results and
    errors are those of `flash_attn_varlen_func`.
    """
    op = "flash_attn_varlen_qkvpacked_func"
    check_shape(op, "qkv", qkv, "sum T,3,H,D", [None, 3, None, None])
    rules = Rules(softmax_scale, causal, window_size, softcap, alibi_slopes)
    offsets, sizes = (cu_seqlens, cu_seqlens), (max_seqlen, max_seqlen)
    q, k, v = qkv.unbind(1)
    return _packed(op, q, k, v, offsets, sizes, dropout_p, rules, return_attn_probs)


def _batched(
    op: str,
    q: Tensor,  # [B,T,H,D]
    k: Tensor,  # [B,S,Hkv,D]
    v: Tensor,  # [B,S,Hkv,Dv]
    dropout_p: float,
    rules: Rules,
    return_attn_probs: bool,
) -> Result:
    check_query(op, "q", q, "B,T,H,D")
    B, T, H, _ = q.shape
    check_keys(op, ("k", "v"), (k, v), q, "B,S", [B, None])
    check_slopes(op, rules.alibi_slopes, B, H)
    corner = k.shape[1] - T
    seed = draw_seed() if return_attn_probs and dropout_p > 0 else None
    out, lse = operators.attention(
        *(x.transpose(1, 2) for x in (q, k, v)),
        dropout_p=dropout_p,
        drawn_seed=seed,
        **rules.options(corner == 0, lambda: torch.full((B,), corner)),
    )
    out = out.transpose(1, 2)  # [B,T,H,Dv]
    if not return_attn_probs:
        return out
    return out, flash_lse(lse), signed(batched_weights(q, k, rules), dropout_p, seed, q.dtype)


def _packed(
    op: str,
    q: Tensor,  # [sum T,H,D]
    k: Tensor,  # [sum S,Hkv,D]
    v: Tensor,  # [sum S,Hkv,Dv]
    cu_seqlens: tuple[Tensor, Tensor],
    sizes: tuple[int, int],
    dropout_p: float,
    rules: Rules,
    return_attn_probs: bool,
) -> Result:
    check_query(op, "q", q, "sum T,H,D")
    check_keys(op, ("k", "v"), (k, v), q, "sum S", [None])
    check_integers(op, "cu_seqlens_q", cu_seqlens[0], "B+1", [None])
    check_integers(op, "cu_seqlens_k", cu_seqlens[1], "B+1", [cu_seqlens[0].shape[0]])
    check_slopes(op, rules.alibi_slopes, cu_seqlens[0].shape[0] - 1, q.shape[1])
    seed = draw_seed() if return_attn_probs and dropout_p > 0 else None

    def corner() -> Tensor:
        T, S = (offsets.long().diff() for offsets in cu_seqlens)
        return S - T

    options = rules.options(cu_seqlens[0] is cu_seqlens[1], corner)
    out, lse = operators.varlen_attention(
        q, k, v, *cu_seqlens, dropout_p=dropout_p, drawn_seed=seed, **options
    )
    if not return_attn_probs:
        return out
    weights = packed_weights(q, k, cu_seqlens, sizes, rules)
    return out, flash_lse(lse), signed(weights, dropout_p, seed, q.dtype)
