#!/usr/bin/env python3
"""The score modules of heed.nn against their formulas in plain torch: time and memory.

Prints a row of Markdown for each: a forward and backward in float32 on one thread, in process time,
best of samples taken in turns; then the memory that it takes beyond inputs and gradients.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import beside
import torch
from torch import Tensor

from heed.nn.location_sensitive_attention import LocationSensitiveAttention

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/python"))
from score_modules import CASES, sensitive_formula  # noqa: E402

B, D = 4, 64
STEP = "location-sensitive"  # one step of a decoder
LENGTHS = {name: 512 for name in CASES} | {STEP: 2048}  # T and S, unless others are asked for


def gradients(name: str, length: int) -> beside.Runs:
    """A forward and backward of the formula's and of the module's."""
    torch.manual_seed(0)
    if name == STEP:
        module: torch.nn.Module = LocationSensitiveAttention(D, D, D)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=1.2 / D**0.5)
        sizes = [(B, 1, D), (B, length, D), (B, length, D), (B, 1, length)]
        inputs = [torch.rand(size, requires_grad=True) for size in sizes]
        query, rows, values, previous = inputs
        forwards = {
            "formula": lambda: sensitive_formula(module, *inputs, None)[0],
            "module": lambda: module(query, module.keys(rows), values, previous)[0],
        }
    else:
        case = CASES[name]
        module, inputs = case.module(D), case.inputs(B, length, length, D, D)
        forwards = {
            "formula": lambda: case.formula(module, inputs)[0],
            "module": lambda: case.run(module, inputs),
        }
    leaves = [*inputs, *module.parameters()]

    def both(forward: Callable[[], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: torch.autograd.grad(forward().square().sum(), leaves)

    return {which: both(forward) for which, forward in forwards.items()}


PAGE = beside.Page(
    file=__file__,
    purpose=__doc__.splitlines()[0],
    setting=f"B = {B}, D = Dv = {D}",
    columns=("module", "T = S"),
    names=lambda: list(LENGTHS),
    sizes=lambda name: [LENGTHS[name]],
    runs=gradients,
)

main = PAGE.main

if __name__ == "__main__":
    main()
