"""The machine: its measured limits, its name, and under what circumstances a bench ran."""

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

import heed

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """torch's threads within; None: as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Roofs:
    """The best peaks seen so far, for torch's current threads.

    A busy moment must not lower a roof, so each can be measured again and only rises.
    """

    _best: dict[tuple[str, int], float] = field(default_factory=dict)

    def fma(self) -> float:
        return self._peak("fma", heed.peak_flops)

    def bf16(self) -> float | None:
        """None where the kernels have no bf16 products, or their peak can't be measured."""
        if heed.isa() != "v4bf16":
            return None
        try:
            return self._peak("bf16", lambda: heed.peak_flops(torch.bfloat16))
        except RuntimeError:
            return None

    def read(self) -> float:
        return self._peak("read", heed.read_bandwidth)

    def measure_again(self) -> None:
        """Those that were asked for, with the current threads."""
        measures: dict[str, Callable[[], float]] = {
            "fma": heed.peak_flops,
            "bf16": lambda: heed.peak_flops(torch.bfloat16),
            "read": heed.read_bandwidth,
        }
        threads = torch.get_num_threads()
        for (name, count), best in self._best.items():
            if count == threads:
                self._best[name, count] = max(best, measures[name]())

    def _peak(self, name: str, measure: Callable[[], float]) -> float:
        key = (name, torch.get_num_threads())
        if key not in self._best:
            self._best[key] = max(measure() for _ in range(3))
        return self._best[key]


@dataclass
class Circumstances:
    date: str
    command: str
    commit: str
    processor: str
    cores: int
    isa: str
    threads: int
    clock: str
    torch: str
    python: str
    load_average: float  # when the bench began
    load_average_after: float = 0.0
    fma_peak_gflops: float = 0.0
    bf16_peak_gflops: float | None = None
    read_gbytes: float = 0.0

    def finish(self, roofs: Roofs) -> None:
        """Fills in what is known at the end."""
        bf16 = roofs.bf16()
        self.load_average_after = os.getloadavg()[0]
        self.fma_peak_gflops = roofs.fma() / 1e9
        self.bf16_peak_gflops = bf16 and bf16 / 1e9
        self.read_gbytes = roofs.read() / 1e9

    def fields(self) -> dict:
        return asdict(self)

    def sentence(self) -> str:
        """Of a machine and a run, for Markdown and the first line on a screen."""
        return (
            f"{self.processor}, {self.cores} cores, kernel set {self.isa}, {self.threads} "
            f"thread{'s' * (self.threads != 1)}, PyTorch {self.torch}, commit {self.commit[:7]}"
            f"{' with changes' * self.commit.endswith('-dirty')}"
        )

    def limits(self) -> str:
        bf16 = f", bf16 peak {self.bf16_peak_gflops:.0f} GF/s" if self.bf16_peak_gflops else ""
        return (
            f"FMA peak {self.fma_peak_gflops:.0f} GF/s{bf16}, "
            f"reads {self.read_gbytes:.1f} GB/s; load average {self.load_average:.1f} before and "
            f"{self.load_average_after:.1f} after"
        )


def circumstances(clock: str = "wall") -> Circumstances:
    return Circumstances(
        date=time.strftime("%Y-%m-%d"),
        command=command(),
        commit=commit(),
        processor=processor_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        isa=heed.isa(),
        threads=torch.get_num_threads(),
        clock=clock,
        torch=torch.__version__,
        python=platform.python_version(),
        load_average=os.getloadavg()[0],
    )


def command() -> str:
    """What was typed, with paths inside the repository as seen from its root."""

    def relative(word: str) -> str:
        path = Path(word).absolute()
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) and "/" in word else word

    return shlex.join([relative(word) for word in (sys.executable, *sys.argv)])


def processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> str:
    def git(*arguments: str) -> str:
        found = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True)
        return found.stdout.strip() if found.returncode == 0 else ""

    name = git("rev-parse", "HEAD") or "unknown"
    return name + ("-dirty" if git("status", "--porcelain") else "")
