"""Attention written out in float32 torch, the slow way: what every contestant must agree with.

Scores are formed for a slice of queries at a time, over the keys that a window leaves them, so that
long inputs fit; statistics are read off the stored weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SLICE = 512  # queries at a time

ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Rule:
    """Which keys a query sees, and how its score changes."""

    causal: bool = False
    window: int | None = None
    score_mod: ScoreMod | None = None


@dataclass(frozen=True)
class Slice:
    """Rows from `first_t` on, against keys from `first_s` on."""

    first_t: int
    first_s: int
    scores: Tensor  # [B,H,rows,keys], -inf where masked
    v: Tensor  # [B,H,keys,D]


def slices(q: Tensor, k: Tensor, v: Tensor, rule: Rule) -> Iterator[Slice]:
    B, H, T, D = q.shape
    S = k.shape[2]
    b = torch.arange(B)[:, None, None, None]
    h = torch.arange(H)[:, None, None]
    for first_t in range(0, T, SLICE):
        end_t = min(first_t + SLICE, T)
        first_s = max(0, first_t - rule.window + 1) if rule.window else 0
        end_s = min(end_t, S) if rule.causal else S
        t, s = torch.arange(first_t, end_t)[:, None], torch.arange(first_s, end_s)
        keys = slice(first_s, end_s)
        scores = q[:, :, first_t:end_t] @ k[:, :, keys].mT / D**0.5
        if rule.score_mod is not None:
            scores = rule.score_mod(scores, b, h, t, s)
        if rule.causal:
            scores = scores.masked_fill(s > t, -torch.inf)
        if rule.window:
            scores = scores.masked_fill(t - s >= rule.window, -torch.inf)
        yield Slice(first_t, first_s, scores, v[:, :, keys])


def attention(q: Tensor, k: Tensor, v: Tensor, rule: Rule) -> Tensor:
    """out [B,H,T,D]; differentiable."""
    parts = [torch.softmax(x.scores, dim=-1) @ x.v for x in slices(q, k, v, rule)]
    return torch.cat(parts, dim=2)


def statistics(q: Tensor, k: Tensor, v: Tensor, rule: Rule, want: tuple[str, ...]) -> list[Tensor]:
    """The wanted ones, in their order: entropy, max, column_sums, diagonal:d."""
    found: dict[str, list[Tensor]] = {word: [] for word in want}
    sums = torch.zeros(*q.shape[:2], k.shape[2])
    for x in slices(q, k, v, rule):
        p = torch.softmax(x.scores, dim=-1)
        sums[:, :, x.first_s : x.first_s + p.shape[3]] += p.sum(dim=2)
        for word, parts in found.items():
            if word == "entropy":
                parts.append(torch.special.entr(p).sum(-1))
            elif word == "max":
                parts.append(x.scores.amax(-1))
            elif word.startswith("diagonal:"):
                parts.append(_diagonal(p, x.first_t - x.first_s + int(word.split(":")[1])))
            elif word != "column_sums":
                raise ValueError(f"the oracle does not know {word!r}")
    return [sums if word == "column_sums" else torch.cat(found[word], 2) for word in want]


def _diagonal(p: Tensor, offset: int) -> Tensor:
    """p[..., t, t + offset], 0 outside."""
    s = torch.arange(p.shape[2]) + offset
    inside = (s >= 0) & (s < p.shape[3])
    picked = p.gather(3, s.clamp(0, p.shape[3] - 1).expand(*p.shape[:2], -1)[..., None])
    return picked[..., 0] * inside
