"""How a case of FlexAttention is judged: outputs and gradients against the formula in float64, by the
criterion of PyTorch's own suite."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "python"))

import formula  # noqa: E402


@dataclass(frozen=True)
class Sizes:
    """Of a case; Bkv and Hkv are k's and v's."""

    B: int = 2
    H: int = 4
    T: int = 128
    S: int = 128
    D: int = 16
    Dv: int = 16
    Bkv: int = 2
    Hkv: int = 4


@dataclass(frozen=True)
class Mod:
    """A score_mod or mask_mod, or both, over sizes and tensors that it learns."""

    name: str
    mods: Callable[..., Any]  # (sizes, *learnt) -> score_mod, or a dict of mods
    learnt: tuple[Callable[[Sizes], Tensor], ...] = ()
    sizes: Sizes = field(default_factory=Sizes)

    def __str__(self) -> str:
        return self.name

    def of(self, sizes: Sizes, learnt: list[Tensor]) -> dict[str, Callable]:
        mods = self.mods(sizes, *learnt)
        return mods if isinstance(mods, dict) else {"score_mod": mods}


class _Scores(torch.autograd.Function):
    """scale q k', in float32 at least; its gradient goes back through q's dtype."""

    @staticmethod
    def forward(ctx, q, k, scale):
        ctx.save_for_backward(q, k)
        ctx.scale = scale
        work = torch.promote_types(q.dtype, torch.float32)
        return q.to(work) @ k.to(work).mT * scale

    @staticmethod
    def backward(ctx, gradient):
        q, k = ctx.saved_tensors
        gradient = (gradient * ctx.scale).to(q.dtype)
        return gradient @ k, gradient.mT @ q, None


class _Attended(torch.autograd.Function):
    """(out, lse) of scores, -inf where masked; weights are rounded to v's dtype."""

    @staticmethod
    def forward(ctx, score, v):
        lse = score.logsumexp(dim=-1)
        lse = lse.masked_fill((score == -torch.inf).all(dim=-1), -torch.inf)
        weights = (score - lse.unsqueeze(-1)).exp()
        weights = weights.masked_fill(lse.unsqueeze(-1) == -torch.inf, 0)
        out = weights.to(v.dtype) @ v
        ctx.save_for_backward(weights, v, out)
        return out, lse

    @staticmethod
    def backward(ctx, d_out, d_lse):
        weights, v, out = ctx.saved_tensors
        work = weights.dtype
        d_weights = d_out.to(work) @ v.to(work).mT
        mean = (out.to(work) * d_out.to(work)).sum(dim=-1, keepdim=True)
        d_score = weights * (d_weights - mean + d_lse.unsqueeze(-1))
        return d_score, weights.to(v.dtype).mT @ d_out


def plain(q: Tensor, k: Tensor, v: Tensor, **mods: Callable) -> tuple[Tensor, Tensor]:
    """(out, lse) with every score stored and rounded where eager FlexAttention rounds."""
    k, v = (x.expand(q.shape[0], -1, -1, -1) for x in (k, v))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    score = _Scores.apply(q, k, q.shape[-1] ** -0.5)
    sizes = dict(zip("BHTS", score.shape, strict=True))
    default = torch.get_default_dtype()
    torch.set_default_dtype(score.dtype)  # that of an integer times 0.5
    try:
        if "score_mod" in mods:
            score = formula.everywhere(mods["score_mod"], score, **sizes)
        if "mask_mod" in mods:
            score = score.masked_fill(~formula.everywhere(mods["mask_mod"], **sizes), -torch.inf)
    finally:
        torch.set_default_dtype(default)
    return _Attended.apply(score, v)


def inputs(sizes: Sizes, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """q, k, v and the gradients of out and lse."""
    random = torch.Generator().manual_seed(seed)
    n = sizes
    shapes = [(n.B, n.H, n.T, n.D), (n.Bkv, n.Hkv, n.S, n.D), (n.Bkv, n.Hkv, n.S, n.Dv)]
    shapes += [(n.B, n.H, n.T, n.Dv), (n.B, n.H, n.T)]
    return [torch.randn(shape, generator=random).to(dtype) for shape in shapes]


def results(
    attend: Callable[..., tuple[Tensor, Tensor]],
    tensors: list[Tensor],
    learnt: list[Tensor],
    wanted: int = 3,
) -> dict[str, Tensor]:
    """attend(q, k, v, learnt) -> (out, lse): these and the gradients of `wanted` of q, k and v, and
    of what is learnt."""
    q, k, v, d_out, d_lse = tensors
    leaves = [x.clone().requires_grad_(i < wanted) for i, x in enumerate((q, k, v))]
    learnt = [x.clone().requires_grad_() for x in learnt]
    out, lse = attend(*leaves, learnt)
    seeing = lse.detach().isfinite()
    loss = (out * d_out).sum() + (lse.where(seeing, 0) * d_lse).sum()
    sources = [*leaves[:wanted], *learnt]
    gradients = torch.autograd.grad(loss, sources)
    names = [*("dq", "dk", "dv")[:wanted], *(f"d learnt {i}" for i in range(len(learnt)))]
    return {"out": out.detach(), "lse": lse.detach(), **dict(zip(names, gradients, strict=True))}


def check(
    flex: Callable[..., tuple[Tensor, Tensor]],
    mod: Mod,
    sizes: Sizes,
    dtype: torch.dtype,
    factor: float = 1.0,
    wanted: int = 3,
) -> None:
    """flex(q, k, v, **mods) -> (out, lse) against float64: the mean error of each result is at most
    1.1 times that of eager torch in the same dtype, in float32 10 times, of what is learnt 1.35
    squared times; all times `factor`."""
    tensors = inputs(sizes, dtype)
    torch.manual_seed(1)
    learnt = [make(sizes).to(dtype) for make in mod.learnt]

    def by(attend: Callable, dtype: torch.dtype) -> dict[str, Tensor]:
        def call(q: Tensor, k: Tensor, v: Tensor, learnt: list[Tensor]) -> tuple[Tensor, Tensor]:
            return attend(q, k, v, **mod.of(sizes, learnt))

        each = ([x.to(dtype) for x in tensors], [x.to(dtype) for x in learnt])
        return results(call, *each, wanted=wanted)

    ours, eager, exact = by(flex, dtype), by(plain, dtype), by(plain, torch.float64)
    for name, of_float64 in exact.items():
        half = 1.35**2 if "learnt" in name else 1.1
        times = factor * (10 if ours[name].dtype == torch.float32 else half)
        assert_no_worse(name, ours[name], eager[name], of_float64, times)


def assert_no_worse(what: str, ours: Tensor, eager: Tensor, exact: Tensor, times: float) -> None:
    assert ours.dtype == eager.dtype, f"{what}: {ours.dtype}, not {eager.dtype}"
    assert ours.shape == exact.shape, f"{what}: shape {list(ours.shape)}, not {list(exact.shape)}"
    finite = exact.isfinite()
    assert torch.equal(ours.double()[~finite], exact[~finite]), f"{what}: infinities differ"
    if not finite.any():
        return
    own, theirs = ((x.double() - exact)[finite].abs().mean().item() for x in (ours, eager))
    # Where eager happens to be exact, a tenth of a rounding remains allowed.
    floor = 0.1 * torch.finfo(ours.dtype).eps * exact[finite].abs().mean().item()
    assert own <= times * theirs + floor, f"{what}: mean error {own:.3g}, eager's {theirs:.3g}"
