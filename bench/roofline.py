#!/usr/bin/env python3
"""Draws each case under the machine's roofs: operations a second by operations a byte.

A case stands at its useful operations over the bytes of its inputs and outputs; the roofs are the
measured FMA peak and the measured read bandwidth.
"""

import argparse
import json
from dataclasses import dataclass, fields
from pathlib import Path

import machine
import report
import svg
import table
import torch
from measure import measure

COLOURS = {"fp32": svg.BLUE, "bf16": svg.ORANGE, "fp16": svg.GREEN}
DOT_GAP = 13  # between dots of equal intensity, which stand side by side


@dataclass(frozen=True)
class Spot:
    """A case in the picture; its number is its place in the list."""

    name: str
    dtype: str
    intensity: float  # useful operations a byte
    ours: float  # GF/s
    torchs: float | None


def cases(threads: int) -> list[table.Case]:
    """Those that race against torch, with as many threads as the roofs are measured with."""
    return [c for c in table.CASES if c.rival is not None and c.threads in (None, threads)]


def spots(results: list[dict], names: set[str]) -> list[Spot]:
    found = [
        Spot(
            result["case"],
            result["dtype"],
            result["useful_flops"] / result["bytes"],
            result["heed"]["gflops"],
            result["torch"]["gflops"] if "torch" in result else None,
        )
        for result in results
        if result["case"] in names and "heed" in result
    ]
    return sorted(found, key=lambda spot: (spot.intensity, spot.ours))


def roofs_of(about: machine.Circumstances) -> dict[str, float]:
    """GF/s of each flat roof, by the text at it."""
    flat = {f"FMA peak {about.fma_peak_gflops:.0f} GF/s": about.fma_peak_gflops}
    if about.bf16_peak_gflops:
        flat[f"bf16 peak {about.bf16_peak_gflops:.0f} GF/s"] = about.bf16_peak_gflops
    return flat


def roof(intensity: float, about: machine.Circumstances, dtype: str = "fp32") -> float:
    """GF/s that the machine allows at most."""
    bf16 = about.bf16_peak_gflops if dtype == "bf16" else None
    return min(bf16 or about.fma_peak_gflops, intensity * about.read_gbytes)


def picture(points: list[Spot], about: machine.Circumstances) -> str:
    rates = [rate for spot in points for rate in (spot.ours, spot.torchs) if rate]
    highest = max(roofs_of(about).values())
    x_range = (min(spot.intensity for spot in points) / 2, max(s.intensity for s in points) * 4)
    panel = svg.Chart.at(70, 50, 700, 500, x_range, (min(rates) / 2, 2 * max(highest, *rates)))
    parts = panel.frame(
        "Attention under the roofs of the machine",
        "useful operations a byte of inputs and outputs",
        "GF/s",
        svg.ticks(panel.x.doublings(), lambda n: f"{n:g}" if n >= 1 else f"1/{1 / n:g}"),
        svg.ticks(panel.y.decades(), lambda n: f"{n:g}"),
    )
    parts += roof_lines(panel, about)
    parts += dots(panel, points)
    parts += legend(points, about)
    return svg.document(1150, 660, "Attention under the roofs of the machine", parts)


def roof_lines(panel: svg.Chart, about: machine.Circumstances) -> list[str]:
    parts = []
    low, high = panel.x.low, panel.x.high
    for label, peak in roofs_of(about).items():
        knee = peak / about.read_gbytes
        start = max(low, panel.y.low / about.read_gbytes)
        corners = [(start, start * about.read_gbytes), (knee, peak), (high, peak)]
        if knee <= start:
            corners = [(low, peak), (high, peak)]
        parts.append(svg.line([panel.place(corner) for corner in corners], svg.INK, stroke_width=2))
        x, y = panel.place((high, peak))
        parts.append(svg.text(x - 4, y - 6, label, text_anchor="end"))
    knee = min(roofs_of(about).values()) / about.read_gbytes
    x, y = panel.place((knee / 4, knee / 4 * about.read_gbytes))
    label = f"reads {about.read_gbytes:.1f} GB/s"
    return [*parts, svg.text(x - 8, y - 4, label, text_anchor="end")]


def dots(panel: svg.Chart, points: list[Spot]) -> list[str]:
    """Ours filled and numbered, torch's hollow below or above it."""
    parts = []
    across = svg.spread([panel.x(spot.intensity) for spot in points], DOT_GAP)
    for number, (spot, x) in enumerate(zip(points, across, strict=True), 1):
        colour, y = colour_of(spot), panel.y(spot.ours)
        if spot.torchs:
            parts.append(svg.line([(x, y), (x, panel.y(spot.torchs))], colour))
            parts.append(svg.dot((x, panel.y(spot.torchs)), colour, hollow=True))
        parts.append(svg.dot((x, y), colour))
        parts.append(svg.text(x, y - 7, str(number), text_anchor="middle", font_size=9))
    return parts


def colour_of(spot: Spot) -> str:
    return svg.PURPLE if spot.name.startswith("additive") else COLOURS[spot.dtype]


def legend(points: list[Spot], about: machine.Circumstances) -> list[str]:
    x, y = 800.0, 60.0
    parts = []
    for number, spot in enumerate(points, 1):
        parts.append(svg.text(x + 18, y, str(number), text_anchor="end"))
        parts.append(svg.text(x + 26, y, spot.name, fill=colour_of(spot)))
        y += 17
    parts += [svg.dot((x + 13, y + 12), svg.GREY), svg.text(x + 26, y + 16, "heed")]
    parts += [svg.dot((x + 83, y + 12), svg.GREY, hollow=True), svg.text(x + 96, y + 16, "torch")]
    return [*parts, svg.text(70, 640, f"{about.sentence()}, {about.date}.")]


def markdown(points: list[Spot], about: machine.Circumstances) -> str:
    lines = [
        "# Attention under the roofs of the machine",
        "",
        "```sh",
        about.command,
        "```",
        "",
        f"{about.date}. {about.sentence()}. Measured on this run: {about.limits()}.",
        "",
        "A case stands at its useful operations over the bytes of its inputs and outputs. The roof is what the "
        "machine allows there: the FMA peak (of bf16 products where it has them), or the operations that its "
        "read bandwidth can feed; inputs so small that caches hold them may stand above that.",
        "",
        "| | Case | operations a byte | roof, GF/s | heed, GF/s | share of the roof | torch, GF/s |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for number, spot in enumerate(points, 1):
        top = roof(spot.intensity, about, spot.dtype)
        theirs = f"{spot.torchs:.1f}" if spot.torchs else ""
        lines.append(
            f"| {number} | {spot.name} | {spot.intensity:.3g} | {top:.0f} | {spot.ours:.1f} "
            f"| {spot.ours / top:.0%} | {theirs} |"
        )
    return "\n".join(lines) + "\n"


def measured(arguments: argparse.Namespace) -> tuple[machine.Circumstances, list[dict]]:
    """By running the cases here, or as `attention.py --json` wrote them."""
    if arguments.results:
        content = json.loads(arguments.results.read_text())
        known = {field.name for field in fields(machine.Circumstances)}
        about = machine.Circumstances(**{k: v for k, v in content.items() if k in known})
        about.command += f"\n{machine.command()}"
        return about, content["results"]
    about, roofs = machine.circumstances(), machine.Roofs()
    results = []
    for case in cases(arguments.threads):
        roofs.fma()
        roofs.measure_again()
        result = measure(case, 0.3 if arguments.quick else 3.0)
        print(report.row(result, result.verdicts(roofs)), flush=True)
        results.append(result)
    about.finish(roofs)
    return about, report.as_json(about, results, roofs)["results"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the picture here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a page here")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="what attention.py --json wrote; no timing"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time a case")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    about, results = measured(arguments)
    points = spots(results, {case.name for case in cases(about.threads)})
    if not points:
        raise SystemExit("no case of the table is among the results")
    if arguments.markdown:
        report.write(arguments.markdown, markdown(points, about))
    if arguments.svg:
        report.write(arguments.svg, picture(points, about))


if __name__ == "__main__":
    main()
