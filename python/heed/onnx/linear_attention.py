"""`heed.onnx.linear_attention`: the operator LinearAttention, a recurrence made in chunks."""

from functools import partial

import torch
from torch import Tensor

from heed.onnx.checks import expect, expect_heads, expect_shape, split_heads

_expect = partial(expect, "linear_attention")

_RULES = ("linear", "gated", "delta", "gated_delta")


def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    chunk_size: int = 64,
    kv_num_heads: int | None = None,
    q_num_heads: int | None = None,
    scale: float = 0.0,
    update_rule: str | bytes = "gated_delta",
    opset: int = 27,
    num_outputs: int = 2,
) -> tuple[Tensor, ...]:
    """ONNX LinearAttention: a matrix for each head that every token reads and adds to.

    For each token t, with q, k, v, g (decay) and b (beta) of its head:

        state = exp(g) state                       "gated", "gated_delta" (Yang et al. 2024, GLA)
        u     = v, or b (v - state^T k)            "delta", "gated_delta" (Schlag et al. 2021)
        state = state + k u^T                      (Katharopoulos et al. 2020)
        output = scale state^T q

    There is no normaliser. Time and memory grow with T, not T x T: tokens are taken in chunks, of
    which each is a few products of matrices (Yang et al. 2024, "Parallelizing Linear Transformers
    with the Delta Rule").

    Args:
        query: [B,T,H*D], float32, bfloat16 or float16 (or float64). Sums are in float32 (float64).
        key: [B,T,Hkv*D]; Hkv divides H.
        value: [B,T,Hkv*Dv].
        past_state: [B,Hkv,D,Dv]; None: zeros.
        decay: g, logarithms: [B,T,Hkv], or [B,T,Hkv*D] for each row of the state its own.
        beta: [B,T,Hkv] or [B,T,1].
        chunk_size: tokens to a chunk; changes speed and rounding only. At most 64 are taken at once,
            16 where each row has its own decay.
        q_num_heads, kv_num_heads: H and Hkv, always needed.
        scale: 0: 1/sqrt(D).
        update_rule: "linear", "gated", "delta" or "gated_delta". Those with "gated" need decay and
            those with "delta" need beta; the others refuse them.
        opset: the version of ONNX's operators, 27 or later.
        num_outputs: 1 or 2.

    Returns:
        The first num_outputs of (output [B,T,H*Dv] in query's dtype, present_state [B,Hkv,D,Dv] in
        past_state's dtype, query's without one). Differentiable in all inputs.

    Raises:
        ValueError: an input or attribute that the standard does not allow.
    """
    _expect(opset >= 27, "opset", "27 or later", opset)
    _expect(num_outputs in (1, 2), "num_outputs", "1 or 2", num_outputs)
    _expect(chunk_size >= 1, "chunk_size", "1 or more", chunk_size)
    rule = (
        update_rule.decode() if isinstance(update_rule, bytes) else update_rule
    )  # as nodes have it
    _check_rule(rule, decay, beta)
    H, Hkv = expect_heads("linear_attention", q_num_heads, kv_num_heads)
    q = split_heads("linear_attention", query, "query", H)
    k = split_heads("linear_attention", key, "key", Hkv)
    v = split_heads("linear_attention", value, "value", Hkv)
    B, _, T, D = q.shape
    Dv = v.shape[3]
    _check_shapes(k, v, past_state, decay, beta, [B, Hkv, T, D, Dv])

    wide = torch.promote_types(query.dtype, torch.float32)
    q = (scale or max(D, 1) ** -0.5) * q.to(wide)
    if past_state is None:
        state = torch.zeros(B, Hkv, D, Dv, dtype=wide, device=query.device)
    else:
        state = past_state.to(wide)
    out, state = _recurrence(
        q.reshape(B, Hkv, H // Hkv, T, D),
        k.to(wide),
        v.to(wide),
        None if decay is None else split_heads("linear_attention", decay.to(wide), "decay", Hkv),
        None if beta is None else beta.to(wide).mT.unsqueeze(3),  # [B,Hkv or 1,T,1]
        state,
        chunk_size,
    )
    out = out.flatten(1, 2).transpose(1, 2).flatten(2).to(query.dtype)  # [B,T,H*Dv]
    kept = query.dtype if past_state is None else past_state.dtype
    return (out, state.to(kept))[:num_outputs]


def _check_rule(rule: str, decay: Tensor | None, beta: Tensor | None) -> None:
    _expect(rule in _RULES, "update_rule", f"one of {', '.join(_RULES)}", rule)
    for name, x, word in (("decay", decay, "gated"), ("beta", beta, "delta")):
        if word in rule:
            _expect(x is not None, name, f"a tensor, as update_rule is '{rule}'", None)
        elif x is not None:
            _expect(False, name, f"none, as update_rule is '{rule}'", x)


def _check_shapes(
    k: Tensor,
    v: Tensor,
    past_state: Tensor | None,
    decay: Tensor | None,
    beta: Tensor | None,
    sizes: list[int],
) -> None:
    B, Hkv, T, D, Dv = sizes
    check = partial(expect_shape, "linear_attention")
    check(k, "key as heads", "B,Hkv,T,D", [B, Hkv, T, D])
    check(v, "value as heads", "B,Hkv,T,Dv", [B, Hkv, T, Dv])
    check(past_state, "past_state", "B,Hkv,D,Dv", [B, Hkv, D, Dv])
    for name, x, lasts in (("decay", decay, (Hkv, Hkv * D)), ("beta", beta, (Hkv, 1))):
        if x is not None:
            fits = any(x.shape == (B, T, last) for last in lasts)
            _expect(fits, name, "[{0},{1},{2}] or [{0},{1},{3}]", x, B, T, *lasts)


def _recurrence(
    q: Tensor,  # [B,Hkv,G,T,D], scaled
    k: Tensor,  # [B,Hkv,T,D]
    v: Tensor,  # [B,Hkv,T,Dv]
    decay: Tensor | None,  # [B,Hkv,T,D or 1]
    beta: Tensor | None,  # [B,Hkv or 1,T,1]
    state: Tensor,  # [B,Hkv,D,Dv]
    chunk: int,
) -> tuple[Tensor, Tensor]:
    T = q.shape[3]
    if T == 0:
        return q.new_empty((*q.shape[:4], v.shape[3])), state
    if decay is None:
        decay = k.new_zeros((1, 1, T, 1))
    # A chunk takes chunk^2 numbers a head, and D times as many where each row decays by itself.
    chunk = min(chunk, 16 if decay.shape[3] > 1 else 64)
    spans = _spans(min(chunk, T), k)
    # split and not slices, whose backward would each make a gradient of all T tokens.
    inputs = [torch.split(x, chunk, -2) for x in (q, k, v, decay)]
    betas = [None] * len(inputs[0]) if beta is None else torch.split(beta, chunk, -2)
    outputs = []
    for q, k, v, decay, beta in zip(*inputs, betas, strict=True):  # of a chunk
        out, state = _chunk(q, k, v, decay, beta, state, spans)
        outputs.append(out)
    return torch.cat(outputs, 3), state


def _chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    beta: Tensor | None,
    state: Tensor,
    spans: Tensor,
) -> tuple[Tensor, Tensor]:
    """The outputs [B,Hkv,G,C,Dv] of C tokens and the state after them.

    Within the chunk, token i finds the state as it was before, decayed since, plus k[j] u[j]^T of
    each token j up to i, decayed since j. The delta rule's u then solve a triangular system:
    u[i] = beta[i] (v[i] - the state before^T k[i] - sum over j < i of <k[i], decayed k[j]> u[j]).
    """
    until = decay.cumsum(2).exp()  # [B,Hkv,C,X], of the state before the chunk
    between = _between(decay, spans)  # [B,Hkv,C,C,X]
    u = v
    if beta is not None:
        system = beta * _products(k.unsqueeze(2), k, between).squeeze(2)  # its diagonal is not read
        u = torch.linalg.solve_triangular(
            system, beta * (v - (until * k) @ state), upper=False, unitriangular=True
        )
    before = state.unsqueeze(2)
    out = (until.unsqueeze(2) * q) @ before + _products(q, k, between) @ u.unsqueeze(2)
    state = until[:, :, -1].unsqueeze(3) * state + (between[:, :, -1] * k).mT @ u
    return out, state


def _spans(C: int, like: Tensor) -> Tensor:
    """[C,C,C]: at i, j, l whether j < l <= i, as 1 and 0."""
    place = torch.arange(C, device=like.device)
    i, j, l = place.view(C, 1, 1), place.view(C, 1), place
    return ((j < l) & (l <= i)).to(like.dtype)


def _between(decay: Tensor, spans: Tensor) -> Tensor:
    """[B,Hkv,C,C,X]: at i, j exp(decay[j + 1] + ... + decay[i]), 0 for j > i.

    Each sum for itself, not as the difference of two sums from the start: exp of those overflows or
    loses the small in the large where the decay is strong.
    """
    C = decay.shape[2]
    finite = decay.clamp(min=-1000)  # exp of it is 0 as it is of -inf, but 0 * -inf is NaN
    sums = spans[:C, :C, :C].reshape(C * C, C) @ finite
    causal = spans.new_ones((C, C)).tril().unsqueeze(2)
    return sums.exp().view(*sums.shape[:2], C, C, sums.shape[3]) * causal


def _products(x: Tensor, k: Tensor, between: Tensor) -> Tensor:
    """[B,Hkv,G,C,C]: sum over d of x[i,d] k[j,d] between[i,j,d], 0 for j > i."""
    if between.shape[4] == 1:
        return x @ k.unsqueeze(2).mT * between.squeeze(4).unsqueeze(2)
    decayed = between * k.unsqueeze(2)  # [B,Hkv,C,C,D]
    return (x.transpose(2, 3) @ decayed.mT).transpose(2, 3)
