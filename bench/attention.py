#!/usr/bin/env python3
"""Times heed.attention against torch's, both checked against each other first.

Each case is verified (forward and gradients), warmed up, and then timed in turns: one run of ours,
one of torch's, in one process, so that both meet the same machine. Useful floating-point operations
are those of visible query-key pairs; a backward counts 2.5 forwards. What torch runs: its
scaled_dot_product_attention; for additive scores, which it lacks, the formula written in torch.
"""

import argparse
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import heed

ROOT = Path(__file__).resolve().parent.parent
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Case:
    name: str
    B: int
    H: int
    T: int
    S: int
    D: int
    kind: str = "dot"
    causal: str | None = None
    lengths: bool = False  # keys per element, spread over [S/4, S]
    backward: bool = False


def _both(name: str, **sizes) -> list[Case]:
    return [Case(name, **sizes), Case(f"{name}, fwd+bwd", **sizes, backward=True)]


CASES = [
    *_both("T2048", B=1, H=8, T=2048, S=2048, D=64),
    *_both("T2048 causal", B=1, H=8, T=2048, S=2048, D=64, causal="top_left"),
    *_both("T512 causal", B=1, H=8, T=512, S=512, D=64, causal="top_left"),
    *_both("B8 H12 T128", B=8, H=12, T=128, S=128, D=64),
    *_both("B8 H12 T128 causal", B=8, H=12, T=128, S=128, D=64, causal="top_left"),
    *_both("B8 T512 lengths", B=8, H=8, T=512, S=512, D=64, lengths=True),
    *_both("additive B64 T30 S50 D256", B=64, H=1, T=30, S=50, D=256, kind="additive"),
    *_both("additive RNN step B64 S20 D512", B=64, H=1, T=1, S=20, D=512, kind="additive"),
]


@dataclass
class Problem:
    """One case's tensors, and the call of each contestant on them."""

    case: Case
    leaves: tuple[Tensor, ...]  # q, k, v and, for additive scores, weight
    lengths: Tensor | None
    mask: Tensor | None  # what torch needs to know the lengths, bool [B,1,1,S]
    d_out: Tensor

    def ours(self) -> Tensor:
        q, k, v, *weight = self.leaves
        return heed.attention(
            q,
            k,
            v,
            kind=self.case.kind,
            causal=self.case.causal,
            kv_lengths=self.lengths,
            weight=weight[0] if weight else None,
        )

    def torchs(self) -> Tensor:
        q, k, v, *weight = self.leaves
        if self.case.kind == "dot":
            causal = self.case.causal is not None
            return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, is_causal=causal)
        hidden = torch.tanh(q.unsqueeze(3) + k.unsqueeze(2))  # [B,H,T,S,D]
        score = torch.matmul(hidden, weight[0][:, None, :, None]).squeeze(-1)
        return torch.softmax(score, dim=-1) @ v

    def run(self, attend: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        """(out,) or, with backward, (out, gradients...)."""
        if not self.case.backward:
            with torch.no_grad():
                return (attend(),)
        out = attend()
        return (out, *torch.autograd.grad(out, self.leaves, self.d_out))


def make(case: Case) -> Problem:
    torch.manual_seed(0)
    q = torch.randn(case.B, case.H, case.T, case.D)
    k, v = (torch.randn(case.B, case.H, case.S, case.D) for _ in range(2))
    leaves = [q, k, v]
    if case.kind == "additive":
        leaves.append(torch.randn(case.H, case.D) / math.sqrt(case.D))
    lengths = mask = None
    if case.lengths:
        lengths = torch.linspace(case.S / 4, case.S, case.B).long()
        mask = (torch.arange(case.S) < lengths[:, None])[:, None, None, :]
    for leaf in leaves:
        leaf.requires_grad_(case.backward)
    return Problem(case, tuple(leaves), lengths, mask, torch.randn_like(q))


def useful_flops(problem: Problem) -> float:
    """Of the visible pairs: 4 D each for dot; 6 D for additive scores, tanh counted as one."""
    case = problem.case
    keys = [case.S] * case.B if problem.lengths is None else problem.lengths.tolist()
    if case.causal:
        pairs = sum(sum(min(t + 1, n) for t in range(case.T)) for n in keys)
    else:
        pairs = sum(case.T * n for n in keys)
    score = 2 * case.D if case.kind == "dot" else 4 * case.D  # add, tanh, multiply, add
    forward = case.H * pairs * (score + 2 * case.D)
    return forward * (3.5 if case.backward else 1.0)


def verify(problem: Problem) -> float:
    """Largest difference to torch relative to the largest value; raises if the two disagree."""
    worst = 0.0
    for own, theirs in zip(problem.run(problem.ours), problem.run(problem.torchs), strict=True):
        error = (own - theirs).abs().max().item() / max(theirs.abs().max().item(), 1e-30)
        worst = max(worst, error)
    if not worst < 1e-4:
        raise SystemExit(f"{problem.case.name}: differs from torch by {worst:.2g}, not timed")
    return worst


def seconds(problem: Problem, attend: Callable[[], Tensor], calls: int, clock: str) -> float:
    now = CLOCKS[clock]
    start = now()
    for _ in range(calls):
        problem.run(attend)
    return (now() - start) / calls


def interleaved(problem: Problem, budget: float, clock: str) -> dict[str, list[float]]:
    """Seconds a call of each, sampled in turns for `budget` seconds, at least five samples each."""
    contestants = {"heed": problem.ours, "torch": problem.torchs}

    def slower() -> float:
        return max(seconds(problem, attend, 1, clock) for attend in contestants.values())

    calls = max(1, int(0.005 / min(slower(), slower())))  # a sample lasts 5 ms or one call
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    start = time.perf_counter()
    while time.perf_counter() - start < budget or len(samples["torch"]) < 5:
        for name, attend in contestants.items():
            samples[name].append(seconds(problem, attend, calls, clock))
    return samples


def measure(case: Case, budget: float, clock: str, peak: float) -> dict:
    problem = make(case)
    error = verify(problem)
    samples = interleaved(problem, budget, clock)
    flops = useful_flops(problem)
    result = {"case": case.name, "useful_flops": flops, "difference": error}
    for name, times in samples.items():
        best = min(times)
        result[name] = {
            "best_s": best,
            "median_s": statistics.median(times),
            "samples": len(times),
            "gflops": flops / best / 1e9,
            "share_of_peak": flops / best / peak,
        }
    result["ratio_best"] = result["torch"]["best_s"] / result["heed"]["best_s"]
    result["ratio_median"] = result["torch"]["median_s"] / result["heed"]["median_s"]
    return result


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


def circumstances(peak: float) -> dict:
    return {
        "commit": commit(),
        "processor": processor_name(),
        "isa": heed.isa(),
        "threads": torch.get_num_threads(),
        "fma_peak_gflops": peak / 1e9,
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": shlex.join([sys.executable, *sys.argv]),
        "date": time.strftime("%Y-%m-%d"),
    }


HEADER = (
    f"{'fp32':<42}{'heed ms':>9}{'median':>9}{'torch ms':>10}{'median':>9}"
    f"{'GF/s':>7}{'torch':>7}{'peak':>6}{'ratio':>8}"
)


def row(result: dict) -> str:
    ours, theirs = result["heed"], result["torch"]
    return (
        f"{result['case']:<42}"
        f"{ours['best_s'] * 1e3:9.3f}{ours['median_s'] * 1e3:9.3f}"
        f"{theirs['best_s'] * 1e3:10.3f}{theirs['median_s'] * 1e3:9.3f}"
        f"{ours['gflops']:7.1f}{theirs['gflops']:7.1f}"
        f"{ours['share_of_peak']:6.0%}{result['ratio_best']:7.2f}x"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: for busy machines, one thread only"
    )
    parser.add_argument(
        "--cases", default="", metavar="TEXT", help="only cases whose name has TEXT"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the time a case")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads != 1:
        parser.error("--clock cpu adds up all threads' time; it needs --threads 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    cases = [case for case in CASES if arguments.cases in case.name]
    if arguments.list:
        print("\n".join(case.name for case in cases))
        return
    if not cases:
        raise SystemExit(f"no case has {arguments.cases!r} in its name; --list prints them")
    torch.set_num_threads(arguments.threads)
    peak = heed.peak_flops()
    about = circumstances(peak) | {"clock": arguments.clock}
    print(
        f"{about['processor']}, kernels {about['isa']}, {about['threads']} thread(s), "
        f"FMA peak {about['fma_peak_gflops']:.0f} GF/s, torch {about['torch']}, {arguments.clock} time"
    )
    print(HEADER)
    results = []
    for case in cases:
        peak = max(peak, heed.peak_flops())  # a busy moment must not lower the roof
        budget = 0.3 if arguments.quick else 3.0
        results.append(measure(case, budget, arguments.clock, peak))
        print(row(results[-1]), flush=True)
    about["fma_peak_gflops"] = peak / 1e9
    if arguments.json:
        text = json.dumps(about | {"results": results}, indent=1) + "\n"
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
