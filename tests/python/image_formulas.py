"""Attention on feature maps in plain torch, with every weight stored: for tests and benchmarks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from heed.nn.cbam import Cbam
from heed.nn.non_local_attention import NonLocalAttention
from heed.nn.relative_positions_2d import RelativePositions2d
from heed.nn.squeeze_excitation import SqueezeExcitation


def squeeze_excitation(module: SqueezeExcitation, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the channels' weights."""
    pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
    weights = torch.sigmoid(module.expand(F.relu(module.reduce(pooled))))
    return x * weights[..., None, None], weights


def cbam(module: Cbam, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The output, the channels' weights and the pixels'."""

    def mlp(pooled: Tensor) -> Tensor:
        return module.expand(F.relu(module.reduce(pooled.flatten(1))))

    of_channels = mlp(F.avg_pool2d(x, x.shape[2:])) + mlp(F.max_pool2d(x, x.shape[2:]))
    of_channels = torch.sigmoid(of_channels)
    refined = x * of_channels[..., None, None]
    both = torch.stack((refined.mean(1), refined.max(1).values), 1)
    of_pixels = torch.sigmoid(module.spatial(both))
    return refined * of_pixels, of_channels, of_pixels.squeeze(1)


def sides(rows: int, columns: int, pool: int) -> tuple[Tensor, Tensor]:
    """Rows from each key's row to each query's, and the same of columns: [rows,key rows]."""
    return tuple(  # type: ignore[return-value]
        torch.arange(n).view(-1, 1) - torch.arange(0, n, pool) for n in (rows, columns)
    )


def position_term(
    positions: RelativePositions2d, q: Tensor, rows: int, columns: int, pool: int, scale: float
) -> Tensor:
    """What positions add to the scores of q [B,H,T,D], [B,H,T,S] or [H,T,S]."""
    down, right = sides(rows, columns, pool)
    down, right = down + positions.rows - 1, right + positions.columns - 1
    term = torch.zeros(())
    if positions.bias is not None:
        # [H,rows,columns,key rows,key columns]
        term = positions.bias[:, down[:, None, :, None], right[None, :, None, :]]
    if positions.row_table is not None and positions.column_table is not None:
        map_of_q = scale * q.unflatten(2, (rows, columns))  # [B,H,rows,columns,D]
        by_row = torch.einsum("bhyxd,ykd->bhyxk", map_of_q, positions.row_table[down])
        by_column = torch.einsum("bhyxd,xkd->bhyxk", map_of_q, positions.column_table[right])
        term = term + by_row.unsqueeze(-1) + by_column.unsqueeze(-2)
    return term.flatten(-2).flatten(-3, -2)


def non_local(module: NonLocalAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the weights [B,H,T,S]."""
    rows, columns = x.shape[2:]

    def project(name: str, pool: int = 1) -> Tensor:
        layer = module.get_submodule(f"{name}_projection")
        y = F.conv2d(x, layer.weight[..., None, None], layer.bias)  # type: ignore[index, arg-type]
        if pool > 1:
            y = F.max_pool2d(y, pool, ceil_mode=True)
        return y.flatten(2).unflatten(1, (module.heads, -1)).mT  # [B,H,T,D]

    q, k, v = project("query"), project("key", module.pool), project("value", module.pool)
    if module.score == "dot":
        weights = q @ k.mT / k.shape[2]
    else:
        scores = q @ k.mT if module.scale == 1 else module.scale * (q @ k.mT)
        if module.positions is not None:
            scores = scores + position_term(
                module.positions, q, rows, columns, module.pool, module.scale
            )
        if module.radius >= 0:
            down, right = (
                side.abs() <= module.radius for side in sides(rows, columns, module.pool)
            )
            near = (down[:, None, :, None] & right[None, :, None, :]).flatten(2).flatten(0, 1)
            scores = scores.masked_fill(~near, -1e30)
        weights = scores.softmax(-1)
    y = (weights @ v).transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:])
    layer = module.output_projection
    return x + module.gamma * F.conv2d(y, layer.weight[..., None, None], layer.bias), weights
