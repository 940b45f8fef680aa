"""What a bench says: rows on a screen, a dated Markdown page, JSON."""

import json
from dataclasses import asdict
from pathlib import Path

from figures import Verdict
from machine import Circumstances, Roofs
from measure import Measurement

HEADER = (
    f"{'':<42}{'heed ms':>10}{'median':>10}{'torch ms':>10}{'median':>10}{'GF/s':>7}{'torch':>7}  "
)
LIMIT_COLUMN = 40  # where the second figure begins


def row(result: Measurement, verdicts: list[Verdict]) -> str:
    """One line; a note on a second."""
    cells = "".join(
        f"{_ms(times, name):>10}"
        for name in ("heed", "torch")
        for times in (result.best, result.median)
    )
    rates = "".join(f"{_rate(result, name):>7}" for name in ("heed", "torch"))
    ratio, rest = split(verdicts)
    texts = f"{ratio:<{LIMIT_COLUMN}}{rest}".rstrip()
    line = f"{result.case.name:<42}{cells}{rates}  {texts}".rstrip()
    return line + (f"\n    {result.note}" if result.note else "")


def split(verdicts: list[Verdict]) -> tuple[str, str]:
    """Against torch, and against what the machine or the plain kernel can do."""
    ratio = [str(v) for v in verdicts if v.figure.name == "ratio"]
    rest = [str(v) for v in verdicts if v.figure.name != "ratio"]
    return ", ".join(ratio), ", ".join(rest)


def summary(results: list[Measurement], roofs: Roofs) -> list[str]:
    """How many targets are reached, and each that is missed."""
    verdicts = [(result.case.name, v) for result in results for v in result.verdicts(roofs)]
    targets = [(name, v) for name, v in verdicts if v.figure.target is not None]
    judged = [(name, v) for name, v in targets if v.reached is not None]
    missed = [(name, v) for name, v in judged if not v.reached]
    lines = [f"Targets reached: {len(judged) - len(missed)} of {len(judged)}"]
    if unsaid := len(targets) - len(judged):
        lines[0] += f"; {unsaid} can't be judged here"
    return [lines[0] + ".", *(f"Missed: {name}: {v}" for name, v in missed)]


def markdown(about: Circumstances, results: list[Measurement], roofs: Roofs) -> str:
    """A page for docs/results/."""
    lines = [
        "# Attention against torch and against the machine",
        "",
        "```sh",
        about.command,
        "```",
        "",
        f"{about.date}. {about.sentence()}. Measured on this run: {about.limits()}.",
        "",
        "Every contestant is checked against the formula first, forward and gradients; then all run in "
        "turns in one process. Times are the best, then the median. GF/s counts useful operations only: "
        "those of visible pairs, a backward as 2.5 forwards, a score's own operations and statistics as "
        "nothing. torch runs its scaled_dot_product_attention, for score programs and windows "
        "FlexAttention (compiled beforehand), for additive scores the formula in eager torch. Figures "
        "are of best times.",
        "",
        summary(results, roofs)[0],
        "",
        *_table(results, roofs),
    ]
    notes = [f"- {result.case.name}: {result.note}" for result in results if result.note]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _table(results: list[Measurement], roofs: Roofs) -> list[str]:
    head = "| Case | heed, ms | torch, ms | GF/s | torch | against torch | against the limit |"
    lines = [head, "|---|---:|---:|---:|---:|---|---|"]
    for result in results:
        times = [
            f"{_ms(result.best, name)} / {_ms(result.median, name)}" if name in result.best else ""
            for name in ("heed", "torch")
        ]
        rates = [_rate(result, name) for name in ("heed", "torch")]
        cells = [result.case.name, *times, *rates, *split(result.verdicts(roofs))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _ms(times: dict[str, float], name: str) -> str:
    return f"{times[name] * 1e3:.3f}" if name in times else ""


def _rate(result: Measurement, name: str) -> str:
    return f"{result.flops / result.best[name] / 1e9:.1f}" if name in result.best else ""


def as_json(about: Circumstances, results: list[Measurement], roofs: Roofs) -> dict:
    return about.fields() | {"results": [_fields(result, roofs) for result in results]}


def _fields(result: Measurement, roofs: Roofs) -> dict:
    best, median = result.best, result.median
    found = {
        "case": result.case.name,
        "dtype": result.case.dtype,
        "rival": result.case.rival,
        "threads": result.threads,
        "useful_flops": result.flops,
        "bytes": result.bytes,
        "difference": result.difference,
        "note": result.note,
        "figures": [_judged(verdict) for verdict in result.verdicts(roofs)],
    }
    for name in best:
        found[name] = {
            "best_s": best[name],
            "median_s": median[name],
            "samples": len(result.samples[name]),
        }
        if name != "plain":
            found[name]["gflops"] = result.flops / best[name] / 1e9
    if "torch" in best:
        found["ratio_best"] = best["torch"] / best["heed"]
        found["ratio_median"] = median["torch"] / median["heed"]
    return found


def _judged(verdict: Verdict) -> dict:
    gap = None if verdict.reached is None else verdict.gap
    found = asdict(verdict.figure) | {"value": verdict.value, "reached": verdict.reached}
    return found | {"missed_by": gap, "text": str(verdict)}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict) -> None:
    write(path, json.dumps(content, indent=1) + "\n")
