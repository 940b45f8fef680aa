"""Parts of score programs as text, for callers that write a program out instead of tracing a mod:
that costs a short call less, and torch.compile sees one whole graph.
"""

from torch import Tensor

from heed.traced import kind_of


def declaration(number: int, table: Tensor) -> str:
    return f"table{number}: {kind_of(table.dtype)}[{table.dim()}]"


def element(number: int, table: Tensor) -> str:
    """The element of the pair b, h, t, s in a table that broadcasts to [B,H,T,S]."""
    letters = "bhts"[4 - table.dim() :]
    places = ("0" if n == 1 else x for x, n in zip(letters, table.shape, strict=True))
    return f"table{number}[{', '.join(places)}]"


def capped_dot(cap: float) -> str:
    """The product under a soft cap (Gemma Team 2024)."""
    return f"{float(cap)!r} * tanh(dot / {float(cap)!r})"
