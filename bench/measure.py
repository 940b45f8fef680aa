"""Verifies a case, then times its contestants in turns, so that all meet the same machine."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import contestants
import memory
import torch
from contestants import Unavailable
from figures import Verdict, judge
from machine import Roofs, torch_threads
from table import Case, plain

import heed

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
MIN_SAMPLES = 5
SAMPLE_SECONDS = 0.005  # a sample is as many calls as fill it, or one


@dataclass
class Measurement:
    case: Case
    threads: int
    flops: float
    plain_flops: float
    bytes: int  # of inputs and outputs
    kv_bytes: int
    difference: float = 0.0  # to the formula, of the worst contestant
    samples: dict[str, list[float]] = field(default_factory=dict)  # seconds a call
    memory: int | None = None
    note: str = ""

    @property
    def best(self) -> dict[str, float]:
        return {name: min(times) for name, times in self.samples.items()}

    @property
    def median(self) -> dict[str, float]:
        return {name: statistics.median(times) for name, times in self.samples.items()}

    def verdicts(self, roofs: Roofs) -> list[Verdict]:
        if not self.samples and self.memory is None:
            return []
        applies = self.case.judged_with in (None, heed.isa())
        with torch_threads(self.threads):
            return judge(self.case.figures, self, roofs, applies)


def measure(case: Case, budget: float, clock: str = "wall") -> Measurement:
    """With the case's own threads, for `budget` seconds beside verification and compiling."""
    with torch_threads(case.threads):
        if clock == "cpu" and torch.get_num_threads() != 1:
            return described(case, note="skipped: the cpu clock adds up all threads' time")
        if any(figure.name == "memory" for figure in case.figures):
            result = described(case)
            result.memory = memory.beyond_inputs_and_outputs(case)
            return result
        return _timed(case, budget, clock)


def described(case: Case, note: str = "") -> Measurement:
    return Measurement(
        case=case,
        threads=torch.get_num_threads(),
        flops=useful_flops(case),
        plain_flops=useful_flops(plain(case)),
        bytes=bytes_of(case),
        kv_bytes=2 * case.B * (case.Hkv or case.H) * case.S * case.D * _size(case),
        note=note,
    )


def _timed(case: Case, budget: float, clock: str) -> Measurement:
    result = described(case)
    problem = contestants.make(case)
    entrants = contestants.ours(problem)
    try:
        if (torchs := contestants.rival(problem)) is not None:
            entrants["torch"] = torchs
    except Unavailable as reason:
        result.note = str(reason)
    result.difference = contestants.verify(case.name, entrants, case.dtype)
    runs = {name: contestant.run for name, contestant in entrants.items()}
    result.samples = interleaved(runs, budget, clock)
    return result


def interleaved(
    runs: dict[str, Callable[[], object]], budget: float, clock: str = "wall"
) -> dict[str, list[float]]:
    """Seconds a call of each, sampled in turns for `budget` seconds, at least five samples each."""
    calls = {name: _calls(run, clock) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    for turn in count(1):
        for name, run in runs.items():
            samples[name].append(_seconds(run, calls[name], clock))
        if turn >= MIN_SAMPLES and time.perf_counter() - start >= budget:
            break
    return samples


def _calls(run: Callable[[], object], clock: str) -> int:
    run()  # memory and caches as they will be
    return max(1, int(SAMPLE_SECONDS / max(_seconds(run, 1, clock), 1e-9)))


def _seconds(run: Callable[[], object], calls: int, clock: str) -> float:
    now = CLOCKS[clock]
    start = now()
    for _ in range(calls):
        run()
    return (now() - start) / calls


def visible_pairs(case: Case) -> int:
    """Of one head, all elements together."""
    spread = torch.linspace(case.S / 4, case.S, case.B).long().tolist()
    keys = spread if case.lengths else [case.S] * case.B
    return sum(sum(_seen(case, n)) for n in keys)


def _seen(case: Case, keys: int) -> Iterator[int]:
    """Keys that each query sees."""
    for t in range(case.T):
        end = min(t + 1, keys) if case.causal else keys
        first = max(0, t + 1 - case.window) if case.window else 0
        yield max(0, end - first)


def useful_flops(case: Case) -> float:
    """Of the visible pairs: 4 D each for dot; 6 D for additive scores, tanh counted as one.

    A score's own operations and statistics count nothing; a backward counts 2.5 forwards.
    """
    score = 2 * case.D if case.kind == "dot" else 4 * case.D  # add, tanh, multiply, add
    forward = case.H * visible_pairs(case) * (score + 2 * case.D)
    return forward * (3.5 if case.backward else 1.0)


def bytes_of(case: Case) -> int:
    """Of q, k, v and out, once; with backward, of out's and the inputs' gradients too."""
    queries = case.B * case.H * case.T * case.D
    keys = case.B * (case.Hkv or case.H) * case.S * case.D
    return (2 * queries + 2 * keys) * _size(case) * (2 if case.backward else 1)


def _size(case: Case) -> int:
    return contestants.DTYPES[case.dtype].itemsize
