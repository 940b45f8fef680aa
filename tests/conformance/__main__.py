"""Runs other people's test suites on Heed and prints one table.

python tests/conformance [SUITE...] [--jobs N] [--json] [--list]
"""

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from running import Outcome, run  # noqa: E402
from suite import Suite  # noqa: E402
from suites import SUITES  # noqa: E402


def missing(suite: Suite) -> list[str]:
    return [name for name in suite.needs if importlib.util.find_spec(name) is None]


def table(outcomes: dict[int, Outcome]) -> str:
    lines = ["| Suite | Cases | Passed | Others | Seconds |", "|---|---:|---:|---|---:|"]
    for number, o in outcomes.items():
        suite = SUITES[number]
        conceded = ", ".join(f"{n} {word}" for word, n in o.concessions.items())
        passed = f"{o.passed} ({conceded})" if conceded else str(o.passed)
        lines.append(f"| {suite.name} | {o.cases} | {passed} | {suite.rivals} | {o.seconds:.0f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/conformance", description=__doc__)
    parser.add_argument("suite", nargs="*", help="words of names; all suites without any")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (all cores)")
    parser.add_argument("--json", action="store_true", help="the table for machines")
    parser.add_argument("--list", action="store_true", help="only name the suites")
    arguments = parser.parse_args()
    words = [word.lower() for word in arguments.suite]
    names = [suite.name for suite in SUITES]
    chosen = [n for n, x in enumerate(names) if not words or any(w in x.lower() for w in words)]
    if not chosen:
        print(
            f"no suite has {' or '.join(arguments.suite)} in its name; there are: {', '.join(names)}"
        )
        return 2
    if arguments.list:
        print("\n".join(names[n] for n in chosen))
        return 0

    for number in list(chosen):
        if absent := missing(SUITES[number]):
            print(f"skipped: {names[number]} needs {', '.join(absent)}", file=sys.stderr)
            chosen.remove(number)
    outcomes = run(chosen, max(arguments.jobs, 1))
    if arguments.json:
        rows = [
            {
                "suite": names[number],
                "cases": o.cases,
                "passed": o.passed,
                "concessions": o.concessions,
                "failures": o.failures,
            }
            for number, o in outcomes.items()
        ]
        print(json.dumps(rows, indent=1))
    else:
        print(table(outcomes))
        for number, o in outcomes.items():
            for case, reason in o.failures:
                print(f"failed: {names[number]}: {case}: {reason}")
    return int(any(o.failures for o in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
