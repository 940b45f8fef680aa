#!/usr/bin/env python3
"""Times how the cost of attention grows with the length T and with the window, and draws it.

fp32, B1 H8 D64, forward. Every line is checked against the formula at the shortest length; a line ends
where its next point would take too long.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import contestants
import machine
import report
import svg
import torch
from contestants import Contestant, Problem
from measure import interleaved, useful_flops
from table import Case
from torch import Tensor

import heed

H, D, WINDOW = 8, 64, 256
LENGTHS = [2**n for n in range(9, 17)]
WINDOW_T = 16384  # the length at which the window grows
WINDOWS = [2**n for n in range(6, 15)]

Times = dict[str, dict[int, float]]  # line -> T or window -> seconds


@dataclass(frozen=True)
class Line:
    name: str
    colour: str
    dashed: bool
    doubling: float  # factor of the cost when T doubles
    contestant: Callable[[int], Contestant]


def case_of(T: int, **options) -> Case:
    return Case("", 1, H, T, T, D, **options)


def heed_line(name: str, colour: str, doubling: float, **options) -> Line:
    def contestant(T: int) -> Contestant:
        return contestants.ours(contestants.make(case_of(T, **options)))["heed"]

    return Line(f"heed {name}", colour, False, doubling, contestant)


def torch_line(name: str, colour: str, **options) -> Line:
    def contestant(T: int) -> Contestant:
        problem = contestants.make(case_of(T, **options))
        return Contestant(problem.sdpa, problem.expected)

    return Line(f"SDPA {name}", colour, True, 4, contestant)


def linear(T: int) -> Contestant:
    problem = contestants.make(case_of(T))
    q, k, v = problem.leaves
    return Contestant(
        lambda: (heed.linear_attention(q, k, v, causal=True),), lambda: (linear_formula(problem),)
    )


def linear_formula(problem: Problem) -> Tensor:
    """Katharopoulos et al. 2020, with the matrix."""
    q, k, v = problem.leaves
    features_q, features_k = (torch.nn.functional.elu(x) + 1 for x in (q, k))
    weights = (features_q @ features_k.mT).tril()  # [B,H,T,S]
    return weights / weights.sum(-1, keepdim=True) @ v


LINES = [
    torch_line("plain", svg.ORANGE),
    heed_line("plain", svg.ORANGE, 4),
    torch_line("causal", svg.BLUE, causal=True),
    heed_line("causal", svg.BLUE, 4, causal=True),
    heed_line(f"window {WINDOW}", svg.GREEN, 2, causal=True, window=WINDOW),
    Line("heed linear causal", svg.PURPLE, False, 2, linear),
]


def grow_length(lengths: list[int], longest: float, budget: float) -> Times:
    """Every line's seconds by T, as far as a call is expected to take `longest` seconds at most."""
    times: Times = {line.name: {} for line in LINES}
    for T in lengths:
        going = [line for line in LINES if goes_on(times[line.name], T, line.doubling, longest)]
        if not going:
            break
        entrants = {line.name: line.contestant(T) for line in going}
        if not times[LINES[0].name]:
            contestants.verify(f"T{T}", entrants, "fp32")
        runs = {name: contestant.run for name, contestant in entrants.items()}
        for name, samples in interleaved(runs, budget).items():
            times[name][T] = min(samples)
        print(
            " ".join([f"T {T:>6}", *(cell(times[line.name].get(T)) for line in LINES)]), flush=True
        )
    return times


def goes_on(times: dict[int, float], place: int, doubling: float, longest: float) -> bool:
    """Whether a point there is worth its time: the one before it exists and was not too slow."""
    if not times:
        return True
    last = max(times)
    return last * 2 == place and times[last] * doubling <= longest


def grow_window(T: int, windows: list[int], longest: float, budget: float) -> Times:
    """Ours by window at one length, the whole triangle last."""
    found: dict[int, float] = {}
    for window in windows:
        if window > T or not goes_on(found, window, 2, longest):
            break
        run = contestants.make(case_of(T, causal=True, window=window)).heed
        found[window] = min(interleaved({"heed": run}, budget)["heed"])
        rate = useful_flops(case_of(T, causal=True, window=window)) / found[window] / 1e9
        print(f"window {window:>6} {cell(found[window])} ms {rate:6.1f} GF/s", flush=True)
    return {f"heed causal, T {T}": found}


def cell(seconds: float | None) -> str:
    return f"{seconds * 1e3:>18.3f}" if seconds is not None else f"{'':>18}"


def chart(
    times: Times, styles: dict[str, tuple[str, bool]], left: float, title: str, x: str
) -> list[str]:
    """One panel: lines over doublings, each named at its end."""
    places = [place for line in times.values() for place in line]
    values = [value for line in times.values() for value in line.values()]
    low, high = min(places), max(places)
    panel = svg.Chart.at(
        left, 50, 380, 380, (low, max(high, 2 * low)), (min(values) / 2, max(values) * 2)
    )
    parts = panel.frame(
        title,
        x,
        "time of a call",
        svg.ticks(panel.x.doublings(), lambda n: f"{n / 1024:g}k" if n >= 1024 else f"{n:g}"),
        svg.ticks(panel.y.decades(), lambda s: f"{s:g} s" if s >= 1 else f"{s * 1e3:g} ms"),
    )
    ends = {name: panel.place(max(line.items())) for name, line in times.items()}
    labels = label_places(ends)
    for name, line in times.items():
        colour, dashed = styles[name]
        dashes = {"stroke_dasharray": "5 4"} if dashed else {}
        points = [panel.place(point) for point in sorted(line.items())]
        parts.append(svg.line(points, colour, stroke_width=2, **dashes))
        parts += [svg.dot(point, colour, hollow=dashed) for point in points]
    halo = {"stroke": "white", "stroke_width": 4, "paint_order": "stroke"}  # over lines that go on
    for name, (x, _) in ends.items():
        parts.append(svg.text(x + 9, labels[name] + 4, name, fill=styles[name][0], **halo))
    return parts


def label_places(ends: dict[str, svg.Point]) -> dict[str, float]:
    """Heights at which names beside the ends of lines do not overlap."""
    found: dict[str, float] = {}
    for column in {x for x, _ in ends.values()}:
        heights = {name: y for name, (x, y) in ends.items() if x == column}
        found |= zip(heights, svg.spread(list(heights.values()), 15), strict=True)
    return found


def picture(by_length: Times, by_window: Times, about: machine.Circumstances) -> str:
    styles = {line.name: (line.colour, line.dashed) for line in LINES}
    by_length = {name: line for name, line in by_length.items() if line}
    parts = chart(by_length, styles, 70, "Cost by length", "T = S, keys and queries")
    if any(by_window.values()):
        styles |= {name: (svg.GREEN, False) for name in by_window}
        parts += chart(by_window, styles, 720, "Cost by window", "keys that a query sees")
    parts.append(
        svg.text(70, 500, f"fp32 forward, B1 H{H} D{D}. {about.sentence()}, {about.date}.")
    )
    return svg.document(1280, 515, "How the cost of attention grows", parts)


def markdown(by_length: Times, by_window: Times, about: machine.Circumstances) -> str:
    lines = [
        "# How the cost of attention grows",
        "",
        "```sh",
        about.command,
        "```",
        "",
        f"{about.date}. {about.sentence()}. Measured on this run: {about.limits()}.",
        "",
        f"Milliseconds of a forward call, fp32, B1 H{H} D{D}, T = S, best of at least five in turns; each line "
        "is checked against the formula at the shortest length and ends where its next point would take too "
        "long.",
        "",
        *table("T", by_length),
        "",
        *table("window", by_window),
    ]
    return "\n".join(lines) + "\n"


def table(first: str, times: Times) -> list[str]:
    places = sorted({place for line in times.values() for place in line})
    rows = [
        [str(place), *(cell(line.get(place)).strip() for line in times.values())]
        for place in places
    ]
    head = [first, *times]
    return [f"| {' | '.join(row)} |" for row in [head, ["---:"] * len(head), *rows]]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the picture here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a page here")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument(
        "--up-to", type=int, default=LENGTHS[-1], metavar="T", help="the longest length"
    )
    parser.add_argument("--longest", type=float, default=5.0, metavar="SECONDS", help="of one call")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time a point")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    lengths = [length for length in LENGTHS if length <= arguments.up_to]
    if not lengths:
        raise SystemExit(f"--up-to: expected at least {LENGTHS[0]}, got {arguments.up_to}")
    about, roofs = machine.circumstances(), machine.Roofs()
    print(about.sentence())
    print(" ".join([f"{'ms':<8}", *(f"{line.name:>18}" for line in LINES)]))
    budget = 0.2 if arguments.quick else 2.0
    by_length = grow_length(lengths, arguments.longest, budget)
    by_window = grow_window(min(WINDOW_T, lengths[-1]), WINDOWS, arguments.longest, budget)
    about.finish(roofs)
    if arguments.markdown:
        report.write(arguments.markdown, markdown(by_length, by_window, about))
    if arguments.svg:
        report.write(arguments.svg, picture(by_length, by_window, about))


if __name__ == "__main__":
    main()
