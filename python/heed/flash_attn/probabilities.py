"""S_dmask, which flash-attn returns for tests: the weights, with the dropped ones negative."""

import math

import torch
from torch import Tensor

from heed._library import operators
from heed.flash_attn.rules import Rules

_KEYS_A_COLUMN = 16  # a float holds their sum of powers of two exactly


def draw_seed() -> Tensor:
    """A seed of dropout from torch's default generator, int64 []."""
    return torch.randint(torch.iinfo(torch.int64).max, ())


def kept(B: int, H: int, T: int, S: int, dropout_p: float, seed: Tensor) -> Tensor:
    """Which weights dropout spares, bool [B,H,T,S].

    Dropout depends on the seed and on b, h, t, s alone. So attention to all keys alike, with powers
    of two as values, gives the kept keys as the bits of a sum.
    """
    key = torch.arange(S)
    values = torch.zeros(S, -(-S // _KEYS_A_COLUMN))  # [S,S/16]
    values[key, key // _KEYS_A_COLUMN] = torch.exp2(key % _KEYS_A_COLUMN)
    nothing = torch.zeros(1).expand(B, H, max(T, S), 1)
    sums, _ = operators.attention(
        nothing[:, :, :T],
        nothing[:, :1, :S],
        values.expand(B, 1, *values.shape),
        kind="none",
        dropout_p=dropout_p,
        drawn_seed=seed,
    )  # each weight is 1 / (S (1 - dropout_p))
    words = (sums * (S * (1 - dropout_p))).round().int()  # [B,H,T,S/16]
    bits = words.unsqueeze(-1) >> torch.arange(_KEYS_A_COLUMN, dtype=torch.int32)
    return (bits & 1).bool().flatten(-2)[..., :S]


def signed(weights: Tensor, dropout_p: float, seed: Tensor | None, dtype: torch.dtype) -> Tensor:
    """S_dmask [B,H,T,S] of the weights before dropout: each row's largest is 1 or -1."""
    largest = weights.amax(dim=-1, keepdim=True) if weights.shape[-1] else weights.sum(-1, True)
    weights = weights / largest.clamp(min=torch.finfo(weights.dtype).tiny)
    if seed is not None:
        B, H, T, S = weights.shape
        weights = torch.where(kept(B, H, T, S, dropout_p, seed), weights, -weights)
    return weights.to(dtype)


def batched_weights(q: Tensor, k: Tensor, rules: Rules) -> Tensor:
    """Weights before dropout [B,H,T,S] of q [B,T,H,D] and k [B,S,Hkv,D]."""
    corner = k.shape[1] - q.shape[1]
    options = rules.options(corner == 0, lambda: torch.full((q.shape[0],), corner))
    return operators.attention_weights(q.transpose(1, 2), k.transpose(1, 2), **options)


@torch.no_grad()
def packed_weights(
    q: Tensor, k: Tensor, cu_seqlens: tuple[Tensor, Tensor], sizes: tuple[int, int], rules: Rules
) -> Tensor:
    """The same for sequences one after the other, padded with zeros to sizes: [B,H,max T,max S]."""
    starts_q, starts_k = (offsets.tolist() for offsets in cu_seqlens)
    B = len(starts_q) - 1
    weights = q.new_zeros(B, q.shape[1], *sizes, dtype=torch.promote_types(q.dtype, torch.float32))
    for b in range(B):
        own_q, own_k = q[starts_q[b] : starts_q[b + 1]], k[starts_k[b] : starts_k[b + 1]]
        own = batched_weights(own_q[None], own_k[None], rules.of_sequence(b))
        weights[b, :, : own.shape[2], : own.shape[3]] = own[0]
    return weights


def flash_lse(lse: Tensor) -> Tensor:
    """flash-attn's log-sum-exp of a query without keys is +inf, the engine's -inf."""
    return lse.masked_fill(lse == -math.inf, math.inf)
