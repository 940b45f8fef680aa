#!/usr/bin/env python3
"""Attention on feature maps against its formulas in plain torch: time and memory.

Prints a row of Markdown for each module and map: a forward and backward in float32 on one thread,
in process time, best of samples taken in turns; then the memory that it takes beyond inputs and
gradients. The values are compared first.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import beside
import torch
from torch import Tensor, nn

from heed.nn.cbam import Cbam
from heed.nn.non_local_attention import NonLocalAttention
from heed.nn.relative_positions_2d import RelativePositions2d
from heed.nn.squeeze_excitation import SqueezeExcitation

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/python"))
import image_formulas  # noqa: E402

B, C, H = 2, 128, 4
SIDES = [7, 14, 28, 56]


def swin(side: int) -> NonLocalAttention:
    positions = RelativePositions2d(side, side, heads=H)
    return NonLocalAttention(
        C, key_channels=C, value_channels=C, heads=H, scale=(C / H) ** -0.5, positions=positions
    )


def bello(side: int) -> NonLocalAttention:
    positions = RelativePositions2d(side, side, bias=False, head_size=C // H)
    return NonLocalAttention(
        C, key_channels=C, value_channels=C, heads=H, scale=(C / H) ** -0.5, positions=positions
    )


CASES: dict[str, tuple[Callable[[int], nn.Module], Callable[..., tuple[Tensor, ...]]]] = {
    "squeeze_excitation": (lambda side: SqueezeExcitation(C), image_formulas.squeeze_excitation),
    "cbam": (lambda side: Cbam(C), image_formulas.cbam),
    "non_local": (lambda side: NonLocalAttention(C), image_formulas.non_local),
    "non_local, dot": (
        lambda side: NonLocalAttention(C, score="dot"),
        image_formulas.non_local,
    ),
    "non_local, SAGAN": (
        lambda side: NonLocalAttention(C, key_channels=C // 8, pool=2),
        image_formulas.non_local,
    ),
    "non_local, radius 3": (
        lambda side: NonLocalAttention(C, radius=3),
        image_formulas.non_local,
    ),
    "positions_2d, bias": (swin, image_formulas.non_local),
    "positions_2d, vectors": (bello, image_formulas.non_local),
}


def gradients(name: str, side: int) -> beside.Runs:
    """A forward and backward of the formula's and of the module's."""
    torch.manual_seed(0)
    make, formula = CASES[name]
    module = make(side)
    with torch.no_grad():
        for parameter in module.parameters():  # as training leaves it: gamma and biases are not 0
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    x = torch.randn(B, C, side, side, requires_grad=True)
    leaves = [x, *module.parameters()]

    def both(forward: Callable[[], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: torch.autograd.grad(forward().square().sum(), leaves)

    return {"formula": both(lambda: formula(module, x)[0]), "module": both(lambda: module(x))}


PAGE = beside.Page(
    file=__file__,
    purpose=__doc__.splitlines()[0],
    setting=f"B = {B}, C = {C}, H = {H}",
    columns=("module", "map"),
    names=lambda: list(CASES),
    sizes=lambda name: SIDES,
    runs=gradients,
    size_option="sides",
    size_text=lambda side: f"{side} x {side}",
    slack=1e-5,  # a bias of keys changes no softmax
)

main = PAGE.main

if __name__ == "__main__":
    main()
