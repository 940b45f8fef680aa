"""Attention written out in torch, with every score stored: the oracle of the tests and benches."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor


def visible(
    q: Tensor,
    k: Tensor,
    causal: str | None,
    kv_lengths: Tensor | None,
    window: tuple[int, int] | None = None,
) -> Tensor:
    """Which key s a query t may see, bool [B,1,T,S]."""
    B, T, S = q.shape[0], q.shape[2], k.shape[2]
    lengths = torch.full((B,), S) if kv_lengths is None else kv_lengths
    length = lengths.view(B, 1, 1, 1)
    t = torch.arange(T).view(1, 1, T, 1)
    s = torch.arange(S).view(1, 1, 1, S)
    diagonal = t + length - T if causal == "bottom_right" else t.expand(B, 1, T, 1)
    mask = (s < length).expand(B, 1, T, S)
    if causal is not None:
        mask = mask & (s <= diagonal)
    left, right = (-1, -1) if window is None else window
    if left >= 0:
        mask = mask & (s >= diagonal - left)
    if right >= 0:
        mask = mask & (s <= diagonal + right)
    return mask


def scores(q: Tensor, k: Tensor, kind: str, scale: float | None, weight: Tensor | None) -> Tensor:
    """[B,H,T,S], unmasked; k has H heads."""
    if kind == "none":
        return q.new_zeros(*q.shape[:3], k.shape[2])
    if kind == "additive":
        hidden = torch.tanh(q.unsqueeze(3) + k.unsqueeze(2))  # [B,H,T,S,D]
        return (1.0 if scale is None else scale) * torch.einsum("bhtsd,hd->bhts", hidden, weight)
    if kind == "cosine":
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        scale = 1.0 if scale is None else scale
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    return scale * (q @ k.transpose(-2, -1))


def everywhere(mod: Callable, *score: Tensor, B: int, H: int, T: int, S: int) -> Tensor:
    """mod(b, h, t, s), or mod(score, b, h, t, s), for all indices: [B,H,T,S]."""

    def numbers(*arguments):
        result, s = mod(*arguments), arguments[-1]
        if score:  # also where the mod's result depends on less than all indices
            return (torch.zeros_like(arguments[0]) + result).to(score[0].dtype)
        return (s >= 0) & result

    if 0 in (B, H, T, S):  # vmap wants at least one
        return score[0] if score else torch.ones(B, H, T, S, dtype=torch.bool)
    each = numbers
    for dim in (3, 2, 1, 0):
        indices = tuple(0 if d == dim else None for d in range(4))
        each = torch.vmap(each, in_dims=(0,) * len(score) + indices)
    return each(*score, *(torch.arange(n) for n in (B, H, T, S)))


@contextmanager
def _as_exact_as(dtype: torch.dtype) -> Iterator[None]:
    """An integer tensor times 0.5 is in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if dtype == torch.float64 else before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def masked_scores(
    q,
    k,
    *,
    kind="dot",
    score_mod=None,
    mask_mod=None,
    causal=None,
    window=None,
    scale=None,
    kv_lengths=None,
    top_k=None,
    weight=None,
):
    """(scores, which of them count), both [B,H,T,S]; k has H heads."""
    score = scores(q, k, kind, scale, weight)
    sizes = dict(zip("BHTS", score.shape, strict=True))
    mask = visible(q, k, causal, kv_lengths, window).expand(score.shape)
    with _as_exact_as(score.dtype):
        if score_mod is not None:
            score = everywhere(score_mod, score, **sizes)
        if mask_mod is not None:
            mask = mask & everywhere(mask_mod, **sizes)
    mask = mask & (score != -math.inf)
    if top_k is not None and sizes["S"] > 0:
        seen = torch.where(mask, score, -math.inf)
        mask = mask & (score >= seen.topk(min(top_k, sizes["S"]), dim=-1).values[..., -1:])
    return score, mask


def attention(q, k, v, *, sinks=None, dropout_p=0.0, keep=None, **options):
    """(out, lse, weights) in the inputs' dtype; a query that sees no key gives 0 and lse -inf.

    keep [B,H,T,S] says which weights dropout spares; `weights` are those before it.
    """
    group = q.shape[1] // max(1, k.shape[1])
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    score, mask = masked_scores(q, k, **options)
    B, H, T, S = score.shape
    score = torch.where(mask, score, -math.inf)
    if sinks is not None:
        score = torch.cat([score, sinks.view(1, H, 1, 1).expand(B, H, T, 1)], dim=-1)
    sees_any = (score != -math.inf).any(dim=-1, keepdim=True)
    # Rows without keys take harmless scores here, so that no NaN enters a gradient.
    score = torch.where(sees_any, score, 0.0)
    weights = (torch.softmax(score, dim=-1) * sees_any)[..., :S]
    lse = torch.where(sees_any.squeeze(-1), torch.logsumexp(score, dim=-1), -math.inf)
    kept = weights if keep is None else weights * keep / (1 - dropout_p)
    return kept @ v, lse, weights


def statistics(q, k, v, *, want, row_weights=None, sinks=None, **options):
    """What heed.attention_stats returns, of the stored matrix."""
    out, lse, p = attention(q, k, v, sinks=sinks, **options)
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    score, mask = masked_scores(q, k, **options)
    T, S = p.shape[2:]
    found = {"out": out, "lse": lse}
    for word in want:
        name, _, number = word.partition(":")
        n = int(number or 0)
        if name == "entropy":
            total = -torch.xlogy(p, p).sum(dim=-1)
            if sinks is not None:
                rest = (sinks.view(1, -1, 1) - lse).exp()
                total = total - torch.xlogy(rest, rest)
            found["entropy"] = total
        elif name == "max":
            seen = F.pad(torch.where(mask, score, -math.inf), (0, 1), value=-math.inf)
            found["max"] = seen.amax(dim=-1)
        elif name == "top":
            weights, keys = torch.where(mask, p, -1.0).sort(dim=-1, descending=True, stable=True)
            weights, keys = (
                F.pad(x, (0, max(0, n - S)), value=-1)[..., :n] for x in (weights, keys)
            )
            found["top"] = (torch.where(weights >= 0, keys, -1), weights.clamp(min=0))
        elif name == "column_sums":
            found["column_sums"] = (p if row_weights is None else p * row_weights[..., None]).sum(2)
        elif name == "diagonal":
            t = torch.arange(T)
            inside = (t + n >= 0) & (t + n < S)
            found[word] = torch.where(inside, p[:, :, t, (t + n).clamp(0, S - 1)], 0.0)
        elif name == "blocks":
            rows, columns = -(-T // n), -(-S // n)
            blocks = [
                p[:, :, i * n : i * n + n, j * n : j * n + n].mean(dim=(2, 3))
                for i in range(rows)
                for j in range(columns)
            ]
            found["blocks"] = torch.stack(blocks, dim=-1).unflatten(-1, (rows, columns))
    return found
