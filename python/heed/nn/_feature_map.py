"""Feature maps [B,C,rows,columns] as the rows of attention, pixel after pixel of row after row."""

from dataclasses import dataclass

from torch import Tensor


def check_feature_map(name: str, x: Tensor, channels: int) -> None:
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(
            f"[{name}] x: expected [B,C,rows,columns] = [*, {channels}, *, *], got {list(x.shape)}"
        )


def check_reduction(name: str, channels: int, reduction: int) -> None:
    for argument, value in (("channels", channels), ("reduction", reduction)):
        if value < 1:
            raise ValueError(f"[{name}] {argument}: expected at least 1, got {value}")


def rows_of_map(x: Tensor) -> Tensor:
    """[B,C,rows,columns] -> [B,T,C], a view."""
    return x.flatten(2).transpose(1, 2)


def map_of_rows(rows: Tensor, like: Tensor) -> Tensor:
    """[B,T,C] -> [B,C,rows,columns] of the map `like`, a view."""
    return rows.transpose(1, 2).unflatten(2, like.shape[2:])


@dataclass(frozen=True)
class MapGrid:
    """Where queries and keys stand on a map: query t at (t // columns, t % columns), key s at
    stride times (s // key_columns, s % key_columns)."""

    columns: int
    key_columns: int
    stride: int = 1


def place_on_map(place: Tensor, columns: int, stride: int = 1) -> tuple[Tensor, Tensor]:
    """The row and column, in pixels, of a place on a map `columns` wide that has every stride-th."""
    row, column = place // columns, place % columns
    return (row, column) if stride == 1 else (stride * row, stride * column)
