"""Relative positions on maps: Swin's bias (Liu et al. 2021), vectors of rows and columns (Bello
et al. 2019)."""

import torch
from torch import Tensor, nn

from heed.attention import ScoreMod
from heed.nn._feature_map import MapGrid, place_on_map
from heed.nn.attention_positions import AttentionHeads, AttentionPositions, place_of, places_of


class RelativePositions2d(AttentionPositions):
    """score + bias[h, dy, dx] + scale q[t] . (row[dy] + column[dx]); dy and dx are the rows and
    columns from key s to query t, and either term may be left out.

    The bias is that of Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using
    Shifted Windows", the vectors are those of Bello et al. 2019, "Attention Augmented
    Convolutional Networks". The bias is a table of the program. The vectors' products are sums
    over a map's rows and columns, so they join the product of q and k as rows + columns further
    elements: faster than two tables [B,H,T,rows] and [B,H,T,columns], and O(B H T (D + rows +
    columns)) memory either way.

    Args:
        rows, columns: of the largest map.
        heads: H.
        bias: whether there is bias[h, dy, dx].
        head_size: D of the vectors, shared among heads; 0: none.
    """

    def __init__(
        self, rows: int, columns: int, *, heads: int = 1, bias: bool = True, head_size: int = 0
    ) -> None:
        super().__init__()
        if rows < 1 or columns < 1:
            raise ValueError(
                f"[RelativePositions2d] rows, columns: expected at least 1, got {rows}, {columns}"
            )
        if not bias and head_size < 1:
            raise ValueError(
                "[RelativePositions2d] expected a bias, or head_size for vectors, or both"
            )
        self.rows = rows
        self.columns = columns
        self.heads = heads
        self.head_size = head_size
        down, right = 2 * rows - 1, 2 * columns - 1
        self.bias: nn.Parameter | None = None
        self.row_table: nn.Parameter | None = None
        self.column_table: nn.Parameter | None = None
        if bias:
            self.bias = nn.Parameter(torch.empty(heads, down, right))
        if head_size > 0:
            self.row_table = nn.Parameter(torch.empty(down, head_size))
            self.column_table = nn.Parameter(torch.empty(right, head_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal: the bias with deviation 0.02, as Swin's program, the vectors with 1 / sqrt(D), as
        Bello's."""
        if self.bias is not None:
            nn.init.normal_(self.bias, std=0.02)
        for vectors in (self.row_table, self.column_table):
            if vectors is not None:
                nn.init.normal_(vectors, std=self.head_size**-0.5)

    def score_mod(self, heads: AttentionHeads) -> ScoreMod | None:
        """Of tokens that are the pixels of a map `columns` wide, row after row."""
        return self.score_mod_on(MapGrid(self.columns, self.columns), heads)

    def score_mod_on(self, grid: MapGrid, heads: AttentionHeads) -> ScoreMod | None:
        """Of queries and keys on a map of any size up to rows x columns."""
        self._check_size(grid, heads)
        if self.row_table is not None and self.column_table is not None:
            self._widen(grid, heads, self.row_table, self.column_table)
        if self.bias is None:
            return None
        bias, offset, width = self.bias.flatten(1), heads.offset, 2 * self.columns - 1
        middle = (self.rows - 1) * width + self.columns - 1

        columns, key_columns, stride = grid.columns, grid.key_columns, grid.stride

        # One index, made of a number a query and a number a key, is faster than two made a pair.
        def swin(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            row, column = place_on_map(place_of(offset, b, t), columns)
            key_row, key_column = place_on_map(s, key_columns, stride)
            return score + bias[h, row * width + column - (key_row * width + key_column) + middle]

        return swin

    def extra_repr(self) -> str:
        return (
            f"rows={self.rows}, columns={self.columns}, heads={self.heads}, "
            f"bias={self.bias is not None}, head_size={self.head_size}"
        )

    def _check_size(self, grid: MapGrid, heads: AttentionHeads) -> None:
        for name, pixels, columns, stride in (
            ("queries", heads.q.shape[2], grid.columns, 1),
            ("keys", heads.k.shape[2], grid.key_columns, grid.stride),
        ):
            rows = -(-pixels // columns)
            if stride * (rows - 1) >= self.rows or stride * (columns - 1) >= self.columns:
                raise ValueError(
                    f"[RelativePositions2d] {name}: expected a map of at most {self.rows} x "
                    f"{self.columns}, got {rows} x {columns}"
                    + (f" every {stride} pixels" if stride > 1 else "")
                )
        if self.bias is not None and self.heads != heads.q.shape[1]:
            raise ValueError(
                f"[RelativePositions2d] heads: expected {self.heads}, got {heads.q.shape[1]}"
            )

    def _widen(
        self, grid: MapGrid, heads: AttentionHeads, row_table: Tensor, column_table: Tensor
    ) -> None:
        if heads.q.shape[-1] != self.head_size:
            raise ValueError(
                f"[RelativePositions2d] head_size: expected {self.head_size}, "
                f"got {heads.q.shape[-1]}"
            )
        S, columns = heads.k.shape[2], grid.key_columns
        rows, device = -(-S // columns), heads.q.device
        queries = places_of(heads.offset, heads.q.shape[2], device)  # [T] or [B,T]
        keys = places_of(None, S, device)
        by_row = _by_key_place(heads.q @ row_table.mT, queries // grid.columns, rows, grid.stride)
        by_column = _by_key_place(
            heads.q @ column_table.mT, queries % grid.columns, columns, grid.stride
        )
        heads.q = torch.cat((heads.q, by_row, by_column), -1)  # [B,H,T,D + rows + columns]
        places = torch.cat((_one_hot(keys // columns, rows), _one_hot(keys % columns, columns)), -1)
        places = places.to(heads.k.dtype).expand(*heads.k.shape[:2], -1, -1)
        heads.k = torch.cat((heads.k, places), -1)


def _by_key_place(products: Tensor, places: Tensor, count: int, stride: int) -> Tensor:
    """products [B,H,T,2 n - 1] by distance and the queries' places [T] or [B,T] along a side of the
    map -> by the `count` places of keys [B,H,T,count]."""
    keys = stride * torch.arange(count, device=products.device)
    index = (places.unsqueeze(-1) - keys + products.shape[-1] // 2).unsqueeze(-3)
    return products.gather(-1, index.expand(*products.shape[:3], count))


def _one_hot(places: Tensor, count: int) -> Tensor:
    """[S,count], true where key s stands at the place."""
    return places.unsqueeze(-1) == torch.arange(count, device=places.device)
