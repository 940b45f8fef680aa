#!/usr/bin/env python3
"""Times heed.attention against torch's and against the machine, and says which targets it reaches.

Every contestant is verified first, forward and gradients; then all are timed in turns in one
process, so that they meet the same machine. `table.py` has the cases and their targets.
"""

import argparse
from pathlib import Path

import machine
import report
import table
import torch
from measure import CLOCKS, Measurement, measure


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write a page here")
    parser.add_argument(
        "--threads", type=int, default=1, help="torch's threads, where a case names none"
    )
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
    cases = [case for case in table.CASES if arguments.cases in case.name]
    if arguments.list:
        print("\n".join(case.name for case in cases))
        return
    if not cases:
        raise SystemExit(f"no case has {arguments.cases!r} in its name; --list prints them")
    torch.set_num_threads(arguments.threads)
    run(cases, arguments)


def run(cases: list[table.Case], arguments: argparse.Namespace) -> None:
    about, roofs = machine.circumstances(arguments.clock), machine.Roofs()
    print(f"{about.sentence()}; {roofs.fma() / 1e9:.0f} GF/s at most, {arguments.clock} time")
    print(report.HEADER)
    results: list[Measurement] = []
    for case in cases:
        with machine.torch_threads(case.threads):
            roofs.measure_again()
        results.append(measure(case, 0.3 if arguments.quick else 3.0, arguments.clock))
        print(report.row(results[-1], results[-1].verdicts(roofs)), flush=True)
    about.finish(roofs)
    print("", f"{about.limits()}.", *report.summary(results, roofs), sep="\n")
    if arguments.json:
        report.write_json(arguments.json, report.as_json(about, results, roofs))
    if arguments.markdown:
        report.write(arguments.markdown, report.markdown(about, results, roofs))


if __name__ == "__main__":
    main()
