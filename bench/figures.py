"""What is read off a measurement: ratios, shares of the machine's limits, and whether they reach."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Figure:
    """One number that a case yields, named as in `KINDS`, and the bound it is held to."""

    name: str
    target: float | None = None


@dataclass(frozen=True)
class Unit:
    """How a value is written; a shortfall shows two digits, however small it is."""

    factor: float
    digits: int
    after: str
    gap_after: str

    def value(self, value: float) -> str:
        return f"{value * self.factor:.{self.digits}f}{self.after}"

    def gap(self, gap: float) -> str:
        scaled = abs(gap) * self.factor
        digits = max(0, 1 - math.floor(math.log10(scaled))) if scaled else 0
        return f"{scaled:.{digits}f}{self.gap_after}"


TIMES = Unit(1, 2, "x", "x")
SHARE = Unit(100, 0, " %", " points")
SECONDS = Unit(1, 2, " s", " s")
MILLISECONDS = Unit(1e3, 1, " ms", " ms")
MEBIBYTES = Unit(2.0**-20, 1, " MiB", " MiB")


class Measured(Protocol):
    """What the formulas read: seconds at best, and what was done in them."""

    best: dict[str, float]  # of "heed", "torch" and "plain", those that ran
    flops: float
    plain_flops: float
    kv_bytes: int
    memory: int | None


class Limits(Protocol):
    """The machine's peaks with the threads of the case; None: it has no such thing."""

    def fma(self) -> float | None: ...
    def bf16(self) -> float | None: ...
    def read(self) -> float | None: ...


@dataclass(frozen=True)
class Kind:
    text: str  # after the value
    unit: Unit
    at_least: bool  # a target is the least that reaches; otherwise the most
    formula: Callable[[Measured, Limits], float | None]  # None: can't be said here
    absent: str = ""  # why


def _ratio(m: Measured, limits: Limits) -> float | None:
    return m.best["torch"] / m.best["heed"] if "torch" in m.best else None


def _share(work: float, seconds: float, peak: float | None) -> float | None:
    return work / seconds / peak if peak else None


KINDS = {
    "ratio": Kind("", TIMES, True, _ratio, "nothing to compare with"),
    "fma": Kind(
        "of FMA peak", SHARE, True, lambda m, limits: _share(m.flops, m.best["heed"], limits.fma())
    ),
    "bf16": Kind(
        "of bf16 peak",
        SHARE,
        True,
        lambda m, limits: _share(m.flops, m.best["heed"], limits.bf16()),
        "no bf16 products here",
    ),
    "read": Kind(
        "of read bandwidth",
        SHARE,
        True,
        lambda m, limits: _share(m.kv_bytes, m.best["heed"], limits.read()),
    ),
    "plain_rate": Kind(
        "of plain's GF/s",
        SHARE,
        True,
        lambda m, _: m.flops / m.best["heed"] / (m.plain_flops / m.best["plain"]),
    ),
    "plain_time": Kind("plain's time", TIMES, False, lambda m, _: m.best["heed"] / m.best["plain"]),
    "sweep": Kind(
        "plain's time, the sweep alone",
        TIMES,
        False,
        lambda m, _: (m.best["heed"] - m.best["plain"]) / m.best["plain"],
    ),
    "extra": Kind(
        "more than plain", MILLISECONDS, False, lambda m, _: m.best["heed"] - m.best["plain"]
    ),
    "seconds": Kind("", SECONDS, False, lambda m, _: m.best["heed"]),
    "memory": Kind(
        "beyond inputs and outputs", MEBIBYTES, False, lambda m, _: m.memory, "not measured"
    ),
}


@dataclass(frozen=True)
class Verdict:
    """A figure with its value and, where it has a target, by how much it is missed."""

    figure: Figure
    value: float | None
    applies: bool = True  # whether the target is meant for these kernels

    @property
    def kind(self) -> Kind:
        return KINDS[self.figure.name]

    @property
    def reached(self) -> bool | None:
        """None where there is nothing to judge."""
        if self.figure.target is None or self.value is None or not self.applies:
            return None
        if self.kind.at_least:
            return self.value >= self.figure.target
        return self.value <= self.figure.target

    @property
    def gap(self) -> float:
        """How far the value is on the wrong side of its target; 0 where it is not."""
        return 0.0 if self.reached is not False else abs(self.value - self.figure.target)

    def __str__(self) -> str:
        if self.value is None:
            return self.kind.absent
        text = f"{self.kind.unit.value(self.value)} {self.kind.text}".rstrip()
        if self.figure.target is None:
            return text
        bound = f"{'>=' if self.kind.at_least else '<='} {self.target_text()}"
        if self.reached is None:
            return f"{text} ({bound}: not judged with these kernels)"
        if self.reached:
            return f"{text} ({bound}: reached)"
        return f"{text} ({bound}: missed by {self.kind.unit.gap(self.gap)})"

    def target_text(self) -> str:
        """1.15x, where a value has 1.15x and a target of 1.4 is 1.4x."""
        unit = self.kind.unit
        return f"{self.figure.target * unit.factor:.4g}{unit.after}"


def judge(
    figures: tuple[Figure, ...], measured: Measured, limits: Limits, applies: bool = True
) -> list[Verdict]:
    """Each figure of a case, valued."""
    return [Verdict(f, KINDS[f.name].formula(measured, limits), applies) for f in figures]
