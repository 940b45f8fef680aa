"""A module beside its formula: rows of Markdown with both times, and what memory both take."""

import subprocess
import sys
from collections.abc import Callable, Sequence

import measure

Runs = dict[str, Callable[[], object]]  # "formula" and "module"


def head(names: Sequence[str], memory: bool) -> str:
    cells = [*names, "formula, ms", "module, ms", "ratio"]
    cells += ["formula, MiB", "module, MiB"] if memory else []
    return f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}"


def row(names: Sequence[str], runs: Runs, budget: float, peak: Sequence[str] | None) -> str:
    """Times of one thread, the best of samples taken in turns for `budget` seconds. `peak` is a
    command that prints the bytes of either: a process of its own, whose peak nothing else raised.
    """
    samples = measure.interleaved(runs, budget, clock="cpu")
    formula, module = (1e3 * min(samples[which]) for which in ("formula", "module"))
    cells = [*names, f"{formula:.2f}", f"{module:.2f}", f"{formula / module:.2f}"]
    for which in ("formula", "module") if peak else ():
        found = subprocess.check_output([sys.executable, *peak, which])
        cells.append(f"{int(found) / 2**20:.1f}")
    return f"| {' | '.join(cells)} |"
