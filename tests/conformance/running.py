"""Runs suites in several processes, each suite cut into parts."""

import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import islice

from suites import SUITES

PARTS = 8  # of a suite: its cases in turn, so that each part has some of the slow ones


@dataclass
class Outcome:
    passed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)  # (case, reason)
    concessions: Counter[str] = field(default_factory=Counter)  # with which some passed
    seconds: float = 0.0  # of all processes together

    @property
    def cases(self) -> int:
        return self.passed + len(self.failures)

    def add(self, part: "Outcome") -> None:
        self.passed += part.passed
        self.failures += part.failures
        self.concessions += part.concessions
        self.seconds += part.seconds


def run_part(suite: int, part: int) -> Outcome:
    """Every PARTS-th case of SUITES[suite], from `part` on."""
    start = time.monotonic()
    outcome = Outcome()
    for case in islice(SUITES[suite].cases(), part, None, PARTS):
        try:
            concession = case.run()
            outcome.passed += 1
            outcome.concessions.update([concession] if concession else [])
        except Exception as error:  # noqa: BLE001, a case may fail in any way
            reason = str(error).strip().splitlines() or [""]
            outcome.failures.append((case.name, f"{type(error).__name__}: {reason[0]}"))
    outcome.seconds = time.monotonic() - start
    return outcome


def run(suites: list[int], jobs: int) -> dict[int, Outcome]:
    """Suites by their numbers, in `jobs` processes of one thread each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    outcomes = {suite: Outcome() for suite in suites}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        work = {pool.submit(run_part, s, part): s for s in suites for part in range(PARTS)}
        for done, future in enumerate(as_completed(work), start=1):
            outcomes[work[future]].add(future.result())
            cases = sum(outcome.cases for outcome in outcomes.values())
            failed = sum(len(outcome.failures) for outcome in outcomes.values())
            progress(f"{100 * done // len(work)} %: {cases} cases, {failed} failed")
    progress("")
    return outcomes


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)
