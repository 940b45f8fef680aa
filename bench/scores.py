#!/usr/bin/env python3
"""The score modules of heed.nn against their formulas in plain torch: time and memory.

Prints a row of Markdown for each: a forward and backward in float32 on one thread, in process time,
best of samples taken in turns; then the memory that it takes beyond inputs and gradients.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import beside
import memory
import torch
from torch import Tensor

import heed
from heed.nn.location_sensitive_attention import LocationSensitiveAttention

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/python"))
from score_modules import CASES, sensitive_formula  # noqa: E402

B, D = 4, 64
STEP = "location-sensitive"  # one step of a decoder
LENGTHS = {name: 512 for name in CASES} | {STEP: 2048}  # T and S, unless others are asked for


def gradients(name: str, length: int) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
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


def verify(name: str) -> None:
    found = gradients(name, 64)
    for actual, expected in zip(found["module"](), found["formula"](), strict=True):
        close = 1e-3 * expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=0, atol=close)


def peak(name: str, length: int, which: str) -> int:
    """Bytes that a call takes beyond what was there and what it returns, in this process."""
    gradients(name, 16)[which]()  # loads code
    return memory.beyond_results(gradients(name, length)[which])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of modules; all without any")
    parser.add_argument("--lengths", type=int, nargs="+", help="T and S; without, the module's own")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds for each row")
    parser.add_argument("--times", action="store_true", help="leave memory out")
    parser.add_argument("--peak", nargs=3, metavar=("NAME", "T", "WHICH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        name, length, which = arguments.peak
        print(peak(name, int(length), which))
        return
    print(f"B = {B}, D = Dv = {D}, float32, one thread, kernel set {heed.isa()}\n")
    print(beside.head(["module", "T = S"], memory=not arguments.times))
    for name in arguments.names or LENGTHS:
        verify(name)
        for length in arguments.lengths or [LENGTHS[name]]:
            peak_of = None if arguments.times else [__file__, "--peak", name, str(length)]
            runs = gradients(name, length)
            print(beside.row([name, str(length)], runs, arguments.budget, peak_of), flush=True)


if __name__ == "__main__":
    main()
