"""Self-attention on feature maps (Wang et al. 2018, non-local; Zhang et al. 2019, SAGAN)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heed.attention import MaskMod, Options, attention
from heed.nn._feature_map import (
    MapGrid,
    check_feature_map,
    map_of_rows,
    place_on_map,
    rows_of_map,
)
from heed.nn._heads import Output, check_heads, heads_of, join_heads, weights_of
from heed.nn.attention_positions import AttentionHeads
from heed.nn.relative_positions_2d import RelativePositions2d


class NonLocalAttention(nn.Module):
    """output = x + gamma W_o y, y[t] = sum_s softmax_s(scale q[t] k[s]) v[s] over all pixels s.

    Wang et al. 2018, "Non-local Neural Networks" (the defaults); Zhang et al. 2019,
    "Self-Attention Generative Adversarial Networks" (key_channels = C / 8, value_channels = C / 2,
    pool = 2). The projections are linear layers over a pixel's channels: convolutions 1 x 1, whose
    weights they take without the last two dimensions. gamma is 0 at first: the module starts as the
    identity. Memory is O(B T (C + D)): no T x S matrix.

    Args:
        channels: C.
        key_channels: of queries and keys, all heads' together; 0: C / 2, at least heads.
        value_channels: of values, likewise.
        heads: H.
        score: "embedded_gaussian", the softmax, or "dot", without one: y[t] = sum_s q[t] k[s] v[s]
            / S, which the products regroup into q[t] (sum_s k[s] v[s]^T) / S where that is less
            work.
        scale: of the products under the softmax.
        pool: keys and values: maxima over squares of pool x pool pixels.
        radius: a query sees keys up to so many rows and columns away; -1: all.
        dropout: probability with which a weight is dropped while training.
        bias: of the four projections.
        positions: joins the scores.
    """

    def __init__(
        self,
        channels: int,
        *,
        key_channels: int = 0,
        value_channels: int = 0,
        heads: int = 1,
        score: Literal["embedded_gaussian", "dot"] = "embedded_gaussian",
        scale: float = 1.0,
        pool: int = 1,
        radius: int = -1,
        dropout: float = 0.0,
        bias: bool = True,
        positions: RelativePositions2d | None = None,
    ) -> None:
        super().__init__()
        check_heads("NonLocalAttention", heads)
        for argument, value in (("channels", channels), ("pool", pool)):
            if value < 1:
                raise ValueError(
                    f"[NonLocalAttention] {argument}: expected at least 1, got {value}"
                )
        half = max(channels // 2 // heads, 1) * heads
        key_channels, value_channels = key_channels or half, value_channels or half
        if key_channels % heads != 0 or value_channels % heads != 0:
            raise ValueError(
                "[NonLocalAttention] key_channels, value_channels: expected multiples of heads = "
                f"{heads}, got {key_channels}, {value_channels}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"[NonLocalAttention] dropout: expected in [0, 1), got {dropout}")
        if score not in ("embedded_gaussian", "dot"):
            raise ValueError(
                f'[NonLocalAttention] score: expected "embedded_gaussian" or "dot", got {score!r}'
            )
        if score == "dot" and (radius >= 0 or positions is not None or dropout > 0):
            raise ValueError(
                '[NonLocalAttention] score: "dot" has no softmax that radius, positions or dropout '
                "could change"
            )
        self.channels = channels
        self.heads = heads
        self.score = score
        self.scale = scale
        self.pool = pool
        self.radius = radius
        self.dropout = dropout
        self.query_projection = nn.Linear(channels, key_channels, bias)
        self.key_projection = nn.Linear(channels, key_channels, bias)
        self.value_projection = nn.Linear(channels, value_channels, bias)
        self.output_projection = nn.Linear(value_channels, channels, bias)
        self.gamma = nn.Parameter(torch.empty(1))
        self.positions = positions
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform, biases 0, gamma 0; positions keep theirs."""
        for projection in (
            self.query_projection,
            self.key_projection,
            self.value_projection,
            self.output_projection,
        ):
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)
        nn.init.zeros_(self.gamma)

    def forward(self, x: Tensor, *, return_weights: bool = False) -> Output:
        """x [B,C,rows,columns] -> output of the same sizes.

        With return_weights (output, weights [B,H,T,S]) of T = rows * columns pixels; S = T, or the
        squares that they are pooled into. No gradient.
        """
        check_feature_map("NonLocalAttention", x, self.channels)
        rows = rows_of_map(x).contiguous()  # [B,T,C], read by three projections
        grid = MapGrid(x.shape[3], -(-x.shape[3] // self.pool), self.pool)
        q = heads_of(self.query_projection(rows), self.heads)
        k = heads_of(self._pooled(self.key_projection(rows), x), self.heads)
        v = heads_of(self._pooled(self.value_projection(rows), x), self.heads)
        if self.score == "dot":
            mixed, weights = _mix_without_softmax(q, k, v), None
            if return_weights:
                weights = q.detach() @ k.detach().mT / k.shape[2]
        else:
            mixed, weights = self._attend(q, k, v, grid, return_weights)
        change = self.output_projection(join_heads(mixed))  # [B,T,C]
        output = torch.addcmul(x, self.gamma, map_of_rows(change, x))
        return output if weights is None else (output, weights)

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, key_channels={self.query_projection.out_features}, "
            f"value_channels={self.value_projection.out_features}, heads={self.heads}, "
            f"score={self.score}, scale={self.scale}, pool={self.pool}, radius={self.radius}, "
            f"dropout={self.dropout}"
        )

    def _pooled(self, rows: Tensor, x: Tensor) -> Tensor:
        """[B,S,*] of the projected pixels [B,T,*]."""
        if self.pool == 1:
            return rows
        return rows_of_map(F.max_pool2d(map_of_rows(rows, x), self.pool, ceil_mode=True))

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, grid: MapGrid, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        heads = AttentionHeads(q, k, None, self.scale)
        options: Options = {
            "scale": self.scale,
            "dropout_p": self.dropout if self.training else 0.0,
        }
        if self.positions is not None:
            options["score_mod"] = self.positions.score_mod_on(grid, heads)
        if self.radius >= 0:
            options["mask_mod"] = self._near(grid)
        mixed = attention(heads.q, heads.k, v, **options)  # [B,H,T,Dv]
        return mixed, weights_of(heads.q, heads.k, **options) if return_weights else None

    def _near(self, grid: MapGrid) -> MaskMod:
        columns, key_columns, stride = grid.columns, grid.key_columns, grid.stride
        radius = self.radius

        def near(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            row, column = place_on_map(t, columns)
            key_row, key_column = place_on_map(s, key_columns, stride)
            down, right = (row - key_row).abs(), (column - key_column).abs()
            return (down <= radius) & (right <= radius)

        return near


def _mix_without_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [B,H,T,D], k [B,H,S,D], v [B,H,S,Dv] -> [B,H,T,Dv].

    Of the two products between, S x T or D x Dv numbers, that which is less work.
    """
    (T, D), (S, Dv) = q.shape[2:], v.shape[2:]
    direct = T * S * (D + Dv) < D * Dv * (T + S)
    return ((q @ k.mT) @ v if direct else q @ (k.mT @ v)) / S
