"""What a conformance suite is: other people's cases, each of which passes or says why not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """One case of a suite. `run` raises if Heed fails it; its last line is shown. A word that it
    returns says with what concession it passes: those are counted."""

    name: str
    run: Callable[[], str | None]
    fast: bool = True  # runs in `make test` too


@dataclass(frozen=True)
class Suite:
    """Cases under one name, with what others pass of them: a row of the table."""

    name: str
    cases: Callable[[], Iterable[Case]]
    rivals: str = ""  # who passes how many, and where that figure is from
    needs: tuple[str, ...] = field(default=())  # packages; without them the suite is skipped
