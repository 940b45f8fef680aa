"""PyTorch compares its fused CPU kernel of attention with plain mathematics over a grid of sizes and
types (test_transformers.py); here the same grid, its tolerances, and a drawn grid of masks.

`python tests/conformance/fused_against_math_suite.py` counts what torch passes.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from sdpa_faces import FACES, formula, with_gradients
from suite import Case, Suite
from torch import Tensor
from torch.testing import assert_close

TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# atol and rtol, of outputs and of gradients.
TOLERANCES = {
    torch.float64: ((1e-5, 5e-6), (1e-5, 5e-6)),
    torch.float32: ((1e-5, 5e-6), (1.25e-5, 5.25e-6)),
    torch.bfloat16: ((5e-2, 5e-2), (5e-2, 5e-2)),
    torch.float16: ((1e-2, 1e-2), (1e-1, 1e-1)),
}
DRAWN = 32  # settings with masks


@dataclass(frozen=True)
class Setting:
    dtype: torch.dtype
    B: int
    T: int
    S: int
    H: int
    D: int
    causal: bool
    train: bool
    mask_rank: int = 0  # each size that a mask of this rank can have; 0: no mask
    bool_mask: bool = False

    def __str__(self) -> str:
        sizes = " ".join(f"{name}{getattr(self, name)}" for name in "BTSHD")
        words = [str(self.dtype).removeprefix("torch."), sizes]
        words += ["causal"] if self.causal else []
        if self.mask_rank:
            words.append(f"{'bool' if self.bool_mask else 'float'} masks of rank {self.mask_rank}")
        return ", ".join([*words, "train" if self.train else "forward"])


def grid() -> Iterator[Setting]:
    for dtype, B, T, H, D, causal, train in itertools.product(
        TYPES, (2, 12), (267, 1030), (1, 3), (8, 16), (True, False), (True, False)
    ):
        yield Setting(dtype, B, T, T, H, D, causal, train)


def drawn() -> Iterator[Setting]:
    choose = random.Random(0).choice
    for i in range(DRAWN):
        yield Setting(
            dtype=TYPES[i % len(TYPES)], B=choose((2, 5)), T=choose((11, 75, 267)),
            S=choose((17, 77, 267)), H=choose((1, 3)), D=choose((8, 16)), causal=False,
            train=choose((True, False)), mask_rank=choose((2, 4)), bool_mask=choose((True, False)),
        )  # fmt: skip


def masks(setting: Setting) -> Iterator[Tensor | None]:
    if not setting.mask_rank:
        yield None
        return
    sizes = (setting.B, setting.H, setting.T, setting.S)[4 - setting.mask_rank :]
    for size in itertools.product(*((n, 1) for n in sizes)):
        if setting.bool_mask:
            mask = torch.rand(size) < 0.7
            mask[..., 0] = True  # no row without keys, of which mathematics makes NaN
            yield mask
        else:
            yield torch.randn(size).to(setting.dtype)


def check(attention: Callable[..., Tensor], setting: Setting) -> None:
    """q, k and v are parts of one tensor where they are as long, as a model's projections are."""
    torch.manual_seed(0)
    B, T, S, H, D = setting.B, setting.T, setting.S, setting.H, setting.D
    packed = torch.randn(B, max(T, S), 3 * H * D, dtype=setting.dtype)
    exact_type = torch.float64 if setting.dtype == torch.float64 else torch.float32

    def parts(x: Tensor) -> list[Tensor]:
        heads = (part.unflatten(2, (H, D)).transpose(1, 2) for part in x.chunk(3, dim=2))
        return [part[:, :, :n] for part, n in zip(heads, (T, S, S), strict=True)]  # [B,H,T,D]

    for mask in masks(setting):
        results = []
        for function, dtype in ((attention, setting.dtype), (formula, exact_type)):
            x = packed.to(dtype, copy=True).requires_grad_(setting.train)
            given = mask if mask is None or setting.bool_mask else mask.to(dtype)
            out = function(*parts(x), attn_mask=given, is_causal=setting.causal)
            d_out = torch.ones_like(out)
            results.append(with_gradients(out, [x], d_out) if setting.train else [out])
        compare(results, setting.dtype, "" if mask is None else f" with a mask {list(mask.shape)}")


def compare(results: list[list[Tensor]], dtype: torch.dtype, where: str) -> None:
    for name, bounds, ours, exact in zip(
        ("out", "gradient"), TOLERANCES[dtype], *results, strict=False
    ):
        atol, rtol = bounds
        message = partial("{}{}: {}".format, name, where)
        assert_close(ours, exact.to(dtype), atol=atol, rtol=rtol, msg=message)


def run(setting: Setting) -> None:
    # As PyTorch does it, through its own name; but there float64 stays torch's.
    is_double = setting.dtype == torch.float64
    check(FACES["heed" if is_double else "torch replaced"], setting)


def cases() -> Iterator[Case]:
    for setting in itertools.chain(grid(), drawn()):
        small = setting.B * setting.H * setting.T * setting.S < 2e5
        yield Case(str(setting), partial(run, setting), fast=small and setting.train)


SUITES = [Suite("SDPA fused against math", cases, "torch: 288 (its own)")]

if __name__ == "__main__":
    passed = 0
    for setting in itertools.chain(grid(), drawn()):
        try:
            check(F.scaled_dot_product_attention, setting)
            passed += 1
        except AssertionError as error:
            print(setting, str(error).splitlines()[0])
    print(f"torch passes {passed}")
