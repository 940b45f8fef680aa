"""Modules beside their formulas: the gradients of both compared, then rows of Markdown with both
times and what memory both take.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import measure
import memory
import torch

import heed

Runs = dict[str, Callable[[], tuple[torch.Tensor, ...]]]  # "formula" and "module"

VERIFIED_AT_MOST = 128  # of a size: the formulas' tensors stay small


@dataclass(frozen=True)
class Page:
    """The page that a bench prints: a row for each name and size, as `runs(name, size)` has it."""

    file: str
    purpose: str
    setting: str  # sizes that all share, "B = 1, D = 64"
    columns: tuple[str, str]  # the head of names and sizes
    names: Callable[[], Sequence[str]]
    sizes: Callable[[str], Sequence[int]]  # of a name, unless others are asked for
    runs: Callable[[str, int], Runs]  # a forward and backward of either
    smallest: int = 4  # size; loads all code, below any peak
    size_option: str = "lengths"
    size_text: Callable[[int], str] = str
    slack: float = 0.0  # of the largest gradient, where some are 0 but for rounding

    def verify(self, name: str, size: int) -> None:
        found = self.runs(name, min(size, VERIFIED_AT_MOST))
        right = found["formula"]()
        largest = max(expected.abs().max().item() for expected in right)
        for actual, expected in zip(found["module"](), right, strict=True):
            close = 1e-3 * expected.abs().max().item() + self.slack * largest
            torch.testing.assert_close(actual, expected, rtol=0, atol=close)

    def peak(self, name: str, size: int, which: str) -> int:
        """Bytes that a call takes beyond what was there and what it returns, in this process."""
        self.runs(name, self.smallest)[which]()
        return memory.beyond_results(self.runs(name, size)[which])

    def main(self) -> None:
        arguments = self._arguments()
        torch.set_num_threads(1)
        if arguments.peak:
            name, size, which = arguments.peak
            print(self.peak(name, int(size), which))
            return
        print(f"{self.setting}, float32, one thread, kernel set {heed.isa()}\n")
        print(_head(self.columns, memory=not arguments.times))
        for name in arguments.names or self.names():
            for size in arguments.sizes or self.sizes(name):
                self.verify(name, size)
                print(self._row(name, size, arguments), flush=True)

    def _arguments(self) -> argparse.Namespace:
        parser = argparse.ArgumentParser(description=self.purpose)
        parser.add_argument("names", nargs="*", help=f"of {', '.join(self.names())}; all without")
        parser.add_argument(
            f"--{self.size_option}", type=int, nargs="+", dest="sizes", help="each name's without"
        )
        parser.add_argument("--budget", type=float, default=2.0, help="seconds for each row")
        parser.add_argument("--times", action="store_true", help="leave memory out")
        parser.add_argument(
            "--peak", nargs=3, metavar=("NAME", "SIZE", "WHICH"), help=argparse.SUPPRESS
        )
        return parser.parse_args()

    def _row(self, name: str, size: int, arguments: argparse.Namespace) -> str:
        """Times of one thread, the best of samples taken in turns; peaks of processes of their own,
        which nothing else raised.
        """
        samples = measure.interleaved(self.runs(name, size), arguments.budget, clock="cpu")
        formula, module = (1e3 * min(samples[which]) for which in ("formula", "module"))
        cells = [name, self.size_text(size)]
        cells += [f"{formula:.2f}", f"{module:.2f}", f"{formula / module:.2f}"]
        for which in () if arguments.times else ("formula", "module"):
            command = [sys.executable, self.file, "--peak", name, str(size), which]
            cells.append(f"{int(subprocess.check_output(command)) / 2**20:.1f}")
        return f"| {' | '.join(cells)} |"


def _head(columns: Sequence[str], memory: bool) -> str:
    cells = [*columns, "formula, ms", "module, ms", "ratio"]
    cells += ["formula, MiB", "module, MiB"] if memory else []
    return f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}"
