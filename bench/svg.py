"""Small functions that write a chart on logarithmic axes as SVG."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

# Told apart by colour-blind readers (Okabe and Ito 2008).
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#aa4499", "#666666"
INK, FAINT = "#222222", "#dddddd"

Point = tuple[float, float]


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """stroke_width=2 becomes stroke-width="2"; content is markup already."""
    written = "".join(
        f" {key.replace('_', '-')}={quoteattr(_short(value))}" for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def text(x: float, y: float, words: str, **attributes: str | float) -> str:
    return element("text", escape(words), x=x, y=y, **({"fill": INK} | attributes))


def line(points: Iterable[Point], colour: str, **attributes: str | float) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", points=path, fill="none", stroke=colour, **attributes)


def dot(at: Point, colour: str, hollow: bool = False) -> str:
    fill = "white" if hollow else colour
    return element("circle", cx=at[0], cy=at[1], r=4, fill=fill, stroke=colour, stroke_width=1.5)


def document(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """Readable on dark pages too: it brings its own white ground."""
    ground = element("rect", width=width, height=height, fill="white")
    body = "\n".join([element("title", escape(title)), ground, *parts])
    return element(
        "svg",
        f"\n{body}\n",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        font_family="sans-serif",
        font_size=12,
    )


@dataclass(frozen=True)
class LogScale:
    """From values in [low, high] to places between start and end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)

    def decades(self) -> list[float]:
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        return [10.0**n for n in range(first, last + 1)]

    def doublings(self, step: int = 1) -> list[float]:
        first, last = math.ceil(math.log2(self.low)), math.floor(math.log2(self.high))
        return [2.0**n for n in range(first, last + 1, step)]


@dataclass(frozen=True)
class Chart:
    """Two logarithmic axes; y grows upwards."""

    x: LogScale
    y: LogScale

    @staticmethod
    def at(left: float, top: float, width: float, height: float, x: Point, y: Point) -> "Chart":
        """x and y: the smallest and the largest value."""
        return Chart(LogScale(*x, left, left + width), LogScale(*y, top + height, top))

    def place(self, point: Point) -> Point:
        return self.x(point[0]), self.y(point[1])

    def frame(
        self,
        title: str,
        x_title: str,
        y_title: str,
        x_ticks: dict[float, str],
        y_ticks: dict[float, str],
    ) -> list[str]:
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        parts = [text(left, top - 14, title, font_weight="bold", font_size=14)]
        for value, label in x_ticks.items():
            x = self.x(value)
            parts.append(line([(x, bottom), (x, top)], FAINT))
            parts.append(text(x, bottom + 16, label, text_anchor="middle"))
        for value, label in y_ticks.items():
            y = self.y(value)
            parts.append(line([(left, y), (right, y)], FAINT))
            parts.append(text(left - 6, y + 4, label, text_anchor="end"))
        parts.append(line([(left, top), (left, bottom), (right, bottom)], INK))
        middle = (left + right) / 2
        parts.append(text(middle, bottom + 36, x_title, text_anchor="middle"))
        x, y = left - 58, (top + bottom) / 2
        turned = f"rotate(-90 {x:.1f} {y:.1f})"
        return [*parts, text(x, y, y_title, text_anchor="middle", transform=turned)]


def spread(places: Sequence[float], gap: float) -> list[float]:
    """The places moved apart to at least `gap`, as little as may be, in the same order of size."""
    order = sorted(range(len(places)), key=places.__getitem__)
    groups: list[list[float]] = []  # [sum of wished starts, members]
    for rank, index in enumerate(order):
        groups.append([places[index] - rank * gap, 1])
        while len(groups) > 1 and _mean(groups[-2]) > _mean(groups[-1]):
            total, members = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + members]
    starts = [_mean(group) for group in groups for _ in range(int(group[1]))]
    found = [0.0] * len(places)
    for rank, index in enumerate(order):
        found[index] = starts[rank] + rank * gap
    return found


def _mean(group: list[float]) -> float:
    return group[0] / group[1]


def _short(value: str | float) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def ticks(values: Iterable[float], label: Callable[[float], str]) -> dict[float, str]:
    return {value: label(value) for value in values}
