"""Runs other people's test suites on Heed and prints one table.

python tests/conformance [SUITE...] [--json] [--failures]
"""

import argparse
import importlib.util
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from suite import Suite  # noqa: E402
from suites import SUITES  # noqa: E402


@dataclass
class Outcome:
    suite: Suite
    passed: int
    failures: list[tuple[str, str]]  # (case, reason)
    concessions: Counter[str]  # with which some of the passed ones did
    seconds: float

    @property
    def cases(self) -> int:
        return self.passed + len(self.failures)


def run(suite: Suite) -> Outcome:
    """Every case of a suite, with its progress on standard error."""
    start = time.monotonic()
    outcome = Outcome(suite, 0, [], Counter(), 0.0)
    for case in suite.cases():
        try:
            concession = case.run()
            outcome.passed += 1
            outcome.concessions.update([concession] if concession else [])
        except Exception as error:  # noqa: BLE001, a case may fail in any way
            reason = str(error).strip().splitlines() or [""]
            outcome.failures.append((case.name, f"{type(error).__name__}: {reason[0]}"))
        progress(f"{suite.name}: {outcome.passed}/{outcome.cases} {case.name}")
    outcome.seconds = time.monotonic() - start
    progress("")
    return outcome


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)


def missing(suite: Suite) -> list[str]:
    return [name for name in suite.needs if importlib.util.find_spec(name) is None]


def table(outcomes: list[Outcome]) -> str:
    lines = ["| Suite | Cases | Passed | Others | Seconds |", "|---|---:|---:|---|---:|"]
    for o in outcomes:
        conceded = ", ".join(f"{n} {word}" for word, n in o.concessions.items())
        passed = f"{o.passed} ({conceded})" if conceded else str(o.passed)
        lines.append(
            f"| {o.suite.name} | {o.cases} | {passed} | {o.suite.rivals} | {o.seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/conformance", description=__doc__)
    parser.add_argument("suite", nargs="*", help="words of names; all suites without any")
    parser.add_argument("--json", action="store_true", help="the table for machines")
    parser.add_argument("--list", action="store_true", help="only name the suites")
    arguments = parser.parse_args()
    words = [word.lower() for word in arguments.suite]
    chosen = [s for s in SUITES if not words or any(w in s.name.lower() for w in words)]
    if not chosen:
        names = ", ".join(s.name for s in SUITES)
        print(f"no suite has {' or '.join(arguments.suite)} in its name; there are: {names}")
        return 2
    if arguments.list:
        print("\n".join(s.name for s in chosen))
        return 0

    outcomes = []
    for suite in chosen:
        if absent := missing(suite):
            print(f"skipped: {suite.name} needs {', '.join(absent)}", file=sys.stderr)
            continue
        outcomes.append(run(suite))
    if arguments.json:
        rows = [
            {
                "suite": o.suite.name,
                "cases": o.cases,
                "passed": o.passed,
                "concessions": o.concessions,
                "failures": o.failures,
            }
            for o in outcomes
        ]
        print(json.dumps(rows, indent=1))
    else:
        print(table(outcomes))
        for outcome in outcomes:
            for case, reason in outcome.failures:
                print(f"failed: {outcome.suite.name}: {case}: {reason}")
    return int(any(o.failures for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
