"""What flash-attn's words for scores and masks (causal, window_size, softcap, alibi_slopes) are in
the operators' options."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from heed.program_text import capped_dot, declaration


@dataclass(frozen=True)
class Rules:
    """The arguments that say which keys a query sees, and with what score."""

    softmax_scale: float | None
    causal: bool
    window_size: tuple[int, int]
    softcap: float
    alibi_slopes: Tensor | None  # [H] or [B,H]

    def window(self) -> tuple[int, int]:
        """Keys left and right of a query's own that it sees, -1 for all."""
        left, right = (max(-1, int(side)) for side in self.window_size)
        return left, 0 if self.causal else right

    def of_sequence(self, b: int) -> "Rules":
        """The rules for batch element b by itself."""
        slopes = self.alibi_slopes
        if slopes is None or slopes.dim() == 1:
            return self
        return replace(self, alibi_slopes=slopes[b : b + 1])

    def options(
        self, square: bool, corner: Callable[[], Tensor], first_key: Tensor | None = None
    ) -> dict[str, Any]:
        """The operators' keywords.

        corner() is S - T of each element, int64 [B]: what stands on the diagonal of query t is key
        t + S - T. `square`: it is known to be 0 everywhere. Keys before first_key, int64 [B], are
        not seen. A program is written only for what the engine has no option for.
        """
        options: dict[str, Any] = {"scale": self.softmax_scale}
        left, right = self.window()
        seen = _Program(corner)
        if right == 0:
            options["causal"] = "bottom_right"
            options["window"] = [left, -1] if left >= 0 else None
        elif (left, right) != (-1, -1) and square:
            options["window"] = [left, right]
        else:
            seen.sees_window(left, right)
        if first_key is not None:
            seen.sees_from(first_key)
        if self.softcap > 0:
            seen.caps(self.softcap)
        if self.alibi_slopes is not None:
            seen.falls_with_distance(self.alibi_slopes)
        return options | seen.options()


class _Program:
    """A score program, written as text: nothing here needs tracing, so compiled graphs stay whole."""

    def __init__(self, corner: Callable[[], Tensor]) -> None:
        self.corner = corner
        self.score = "dot"
        self.conditions: list[str] = []
        self.tables: list[Tensor] = []
        self.distance_text = ""

    def table(self, tensor: Tensor) -> str:
        self.tables.append(tensor)
        return f"table{len(self.tables) - 1}"

    def distance(self) -> str:
        """How far the key lies before the query's diagonal; after it, negative."""
        if not self.distance_text:
            self.distance_text = f"(t - s + {self.table(self.corner())}[b])"
        return self.distance_text

    def sees_window(self, left: int, right: int) -> None:
        if left >= 0:
            self.conditions.append(f"({self.distance()} <= {left})")
        if right >= 0:
            self.conditions.append(f"(0 <= {self.distance()} + {right})")

    def sees_from(self, first_key: Tensor) -> None:
        self.conditions.append(f"({self.table(first_key)}[b] <= s)")

    def caps(self, cap: float) -> None:
        self.score = capped_dot(cap)

    def falls_with_distance(self, slopes: Tensor) -> None:
        slope = f"{self.table(slopes)}[{'h' if slopes.dim() == 1 else 'b, h'}]"
        self.score = f"{self.score} - {slope} * abs({self.distance()})"

    def options(self) -> dict[str, Any]:
        if self.score == "dot" and not self.conditions:
            return {}
        lines = [declaration(n, table) for n, table in enumerate(self.tables)]
        lines.append(f"score = {self.score}")
        if self.conditions:
            lines.append(f"mask = {' & '.join(self.conditions)}")
        return {"program": "\n".join([*lines, ""]), "tables": self.tables}
