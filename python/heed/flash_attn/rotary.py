"""Rotary position embedding (Su et al. 2021) as flash-attn applies it to a cache's new tokens."""

import torch
from torch import Tensor


def rotated(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, interleaved: bool) -> Tensor:
    """x [B,T,H,D] with the first R numbers of each head turned by the angles of its position.

    cos and sin are [P,R/2], positions int64 [B,T] or [B,1]. `interleaved` turns numbers 2i and
    2i + 1 together, otherwise i and i + R/2. Computed in float32, or float64 for float64.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    turned, rest = x.tensor_split([2 * cos.shape[-1]], dim=-1)
    pairs = (-1, 2) if interleaved else (2, -1)
    one, two = turned.to(exact).unflatten(-1, pairs).unbind(-1 if interleaved else -2)
    c, s = (table[positions].unsqueeze(2).to(exact) for table in (cos, sin))  # [B,T,1,R/2]
    both = (one * c - two * s, one * s + two * c)
    turned = torch.stack(both, dim=-1 if interleaved else -2).flatten(-2)
    return torch.cat([turned.to(x.dtype), rest], dim=-1)
