"""Attention written out in torch, with every score stored: the oracle of the tests and benches."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def visible(q: Tensor, k: Tensor, causal: str | None, kv_lengths: Tensor | None) -> Tensor:
    """Which key s a query t may see, bool [B,1,T,S]."""
    B, T, S = q.shape[0], q.shape[2], k.shape[2]
    lengths = torch.full((B,), S) if kv_lengths is None else kv_lengths
    length = lengths.view(B, 1, 1, 1)
    t = torch.arange(T).view(1, 1, T, 1)
    s = torch.arange(S).view(1, 1, 1, S)
    mask = (s < length).expand(B, 1, T, S)
    if causal == "top_left":
        mask = mask & (s <= t)
    if causal == "bottom_right":
        mask = mask & (s <= t + length - T)
    return mask


def scores(q: Tensor, k: Tensor, kind: str, scale: float | None, weight: Tensor | None) -> Tensor:
    """[B,H,T,S], unmasked; k has H heads."""
    if kind == "additive":
        hidden = torch.tanh(q.unsqueeze(3) + k.unsqueeze(2))  # [B,H,T,S,D]
        return (1.0 if scale is None else scale) * torch.einsum("bhtsd,hd->bhts", hidden, weight)
    if kind == "cosine":
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        scale = 1.0 if scale is None else scale
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    return scale * (q @ k.transpose(-2, -1))


def attention(q, k, v, *, kind="dot", causal=None, scale=None, kv_lengths=None, weight=None):
    """(out, lse, weights) in the inputs' dtype; a query that sees no key gives 0 and lse -inf."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    mask = visible(q, k, causal, kv_lengths)
    sees_any = mask.any(dim=-1, keepdim=True)
    # Rows without keys take harmless scores here, so that no NaN enters a gradient.
    score = torch.where(
        mask, scores(q, k, kind, scale, weight), torch.where(sees_any, -math.inf, 0.0)
    )
    weights = torch.softmax(score, dim=-1) * sees_any
    lse = torch.where(sees_any.squeeze(-1), torch.logsumexp(score, dim=-1), -math.inf)
    return weights @ v, lse, weights
