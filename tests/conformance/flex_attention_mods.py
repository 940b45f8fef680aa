"""The mods of FlexAttention's inventory, each written from what it is said to do."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from flex_attention_checks import Mod, Sizes
from torch import Tensor

CORE: list[Mod] = []  # score_mods that run in every shape and dtype
OTHER: list[Mod] = []  # more score_mods
MASKS: list[Mod] = []
BIASES: list[Mod] = []  # score_mods whose captured tensors learn

NEVER = -math.inf


def mod(group: list[Mod], *learnt: Callable[[Sizes], Tensor], **sizes: int) -> Callable:
    def register(mods: Callable) -> Callable:
        name = mods.__name__.strip("_")
        group.append(Mod(name, mods, learnt, replace(Sizes(), **sizes)))
        return mods

    return register


def drawn(*shape: int) -> Tensor:
    """A captured tensor that learns nothing, the same at each call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def drawn_integers(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(7))


def per_head(n: Sizes) -> Tensor:
    return torch.randn(n.H)


def per_query(n: Sizes) -> Tensor:
    return torch.randn(n.T)


def per_pair(n: Sizes) -> Tensor:
    return torch.randn(n.T, n.S)


# Core.


@mod(CORE)
def identity(n):
    return lambda score, b, h, t, s: score


@mod(CORE)
def times_two(n):
    return lambda score, b, h, t, s: score * 2


@mod(CORE)
def squared(n):
    return lambda score, b, h, t, s: score * score


@mod(CORE)
def causal(n):
    return lambda score, b, h, t, s: torch.where(t >= s, score, NEVER)


@mod(CORE)
def inverse_causal(n):
    return lambda score, b, h, t, s: torch.where(t <= s, score, NEVER)


@mod(CORE)
def relative(n):
    return lambda score, b, h, t, s: score + (t - s)


@mod(CORE)
def relative_causal(n):
    return lambda score, b, h, t, s: torch.where(t >= s, score + (t - s), NEVER)


@mod(CORE)
def alibi(n):
    return lambda score, b, h, t, s: score + (s - t) * torch.exp2(-((h + 1) * 8.0 / n.H))


@mod(CORE)
def windowed(n):  # counted from the end, as in decoding
    return lambda score, b, h, t, s: torch.where(t + n.S - n.T - s < 50, score, NEVER)


@mod(CORE)
def trigonometric(n):
    return lambda score, b, h, t, s: torch.sin(torch.cos(score)) + torch.tan(b)


@mod(CORE)
def trigonometric_twice(n):
    return lambda score, b, h, t, s: torch.cos(score) * torch.sin(score) + torch.tan(b)


@mod(CORE, per_head)
def head_offset(n, offset):
    return lambda score, b, h, t, s: score * offset[h]


# Other score_mods.


@mod(OTHER)
def causal_documents(n):
    document = drawn_integers(0, 4, max(n.T, n.S)).sort().values

    def score_mod(score, b, h, t, s):
        return torch.where((t >= s) & (document[t] == document[s]), score, NEVER)

    return score_mod


@mod(OTHER, lambda n: torch.randn(n.B, n.T))
def bias_indexed_twice(n, bias):
    return lambda score, b, h, t, s: score + bias[b][t]


@mod(OTHER, lambda n: torch.randn(1, n.B, n.H, n.T))
def bias_indexed_in_parts(n, bias):
    return lambda score, b, h, t, s: score + bias[0][b, h][t]


@mod(OTHER, lambda n: torch.randn(3, n.T))
def bias_at_a_captured_scalar(n, bias):
    place = torch.tensor(2)
    return lambda score, b, h, t, s: score + bias[place, t]


@mod(OTHER)
def even_keys(n):
    return lambda score, b, h, t, s: torch.where(s % 2 == 0, score, NEVER)


@mod(OTHER)
def composition(n):
    first, second = relative(n), causal(n)
    return lambda score, b, h, t, s: second(first(score, b, h, t, s), b, h, t, s)


@mod(OTHER, per_head, per_query, lambda n: torch.randn(n.B))
def scales_of_all_places(n, of_head, of_query, of_batch):
    return lambda score, b, h, t, s: score + of_query[t] + of_batch[b] + of_head[h]


@mod(OTHER)
def halves(n):
    second = torch.arange(max(n.T, n.S)) >= n.S // 2
    return lambda score, b, h, t, s: torch.where(second[t] == second[s], score, NEVER)


@mod(OTHER, per_pair)
def bias_of_pairs(n, bias):
    return lambda score, b, h, t, s: score + bias[t, s]


@mod(OTHER, lambda n: torch.randn(n.B, n.T, n.S))
def bias_of_pairs_per_batch(n, bias):
    return lambda score, b, h, t, s: score + bias[b, t, s]


@mod(OTHER, lambda n: torch.randn(n.B, n.H, n.T, n.S))
def bias_of_pairs_per_head(n, bias):
    return lambda score, b, h, t, s: score + bias[b, h, t, s]


@mod(OTHER, lambda n: torch.randn(n.T + n.S))
def relative_table(n, bias):
    return lambda score, b, h, t, s: score + bias[t - s + n.S]


@mod(OTHER, lambda n: torch.randn(n.B, n.H, n.T, 16), lambda n: torch.randn(n.B, n.H, n.T, 8))
def decomposed_relative_position(n, down, right):  # Li et al. 2022 (MViTv2), on a grid of 16 x 8
    down, right = down.view(n.B * n.H, n.T, 16), right.view(n.B * n.H, n.T, 8)

    def score_mod(score, b, h, t, s):
        at = b * n.H + h
        return score + down[at, t, s // 8] + right[at, t, s % 8]

    return score_mod


@mod(OTHER)
def bidirectional_prefix(n):
    length = drawn_integers(1, n.S, n.B)

    def score_mod(score, b, h, t, s):
        inside = (t <= length[b]) & (s <= length[b])
        return torch.where(inside | (t >= s), score, NEVER)

    return score_mod


@mod(OTHER)
def neighbourhood(n):  # columns or rows nearby, by true division as well
    def score_mod(score, b, h, t, s):
        near = ((t / 8 - s / 8).abs() <= 3) | ((t % 8 - s % 8).abs() <= 3)
        return torch.where(near, score, NEVER)

    return score_mod


@mod(OTHER)
def floor_division(n):
    return lambda score, b, h, t, s: score - t // (1 + s)


@mod(OTHER)
def silu(n):
    return lambda score, b, h, t, s: F.silu(score)


@mod(OTHER)
def causal_without_padding(n):
    length = drawn_integers(n.S // 2, n.S, n.B)

    def score_mod(score, b, h, t, s):
        seen = (t >= s) & (s < length[b]) & (t < length[b])
        return torch.where(seen | (t == s), score, NEVER)

    return score_mod


@mod(OTHER)
def captured_integer(n):
    shift = torch.ones((), dtype=torch.int32)
    return lambda score, b, h, t, s: score + shift


@mod(OTHER, lambda n: torch.randn(n.B, 8))
def captured_sum(n, parts):
    return lambda score, b, h, t, s: score + parts[b].sum(dim=-1)


@mod(OTHER, lambda n: torch.randn(n.B, max(n.T, n.S), 3))
def distance_of_points(n, points):
    def score_mod(score, b, h, t, s):
        square = (points[b, t] - points[b, s]).square().sum(dim=-1)
        return score - torch.sqrt(square + 0.01)

    return score_mod


@mod(OTHER, per_query)
def multiplied_by_query(n, bias):
    return lambda score, b, h, t, s: score * bias[t]


@mod(OTHER)
def two_offsets(n):
    of_query, of_key = torch.tensor(3), torch.tensor(17)
    return lambda score, b, h, t, s: torch.where(t + of_query >= s + of_key - 14, score, NEVER)


@mod(OTHER)
def causal_from_jagged_offsets(n):
    offset = torch.tensor([0, 20, 61, max(n.T, n.S)])
    document = torch.repeat_interleave(torch.arange(3), offset.diff())

    def score_mod(score, b, h, t, s):
        of_query, of_key = document[t], document[s]
        later = t - offset[of_query] >= s - offset[of_key]
        return torch.where((of_query == of_key) & later, score, NEVER)

    return score_mod


class Doubled(torch.autograd.Function):
    """2 x where a mask is true; its own backward is the true one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(score, mask):
        return torch.where(mask, score * 2, score)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[1])
        ctx.mark_non_differentiable(inputs[1])

    @staticmethod
    def backward(ctx, gradient):
        (mask,) = ctx.saved_tensors
        return torch.where(mask, gradient * 2, gradient), None


@mod(OTHER)
def autograd_function(n):
    return lambda score, b, h, t, s: Doubled.apply(score, s <= t)


@mod(OTHER)
def closure_over_a_size(n):
    return lambda score, b, h, t, s: score * (b + n.B) / (2 * n.B)


@mod(OTHER, lambda n: torch.randn(n.B * n.H, n.T * n.S))
def bias_viewed_anew(n, bias):
    return lambda score, b, h, t, s: score + bias.view(n.B, n.H, n.T, n.S)[b, h, t, s]


# Masks.


def masking(group: list[Mod], **sizes: int) -> Callable:
    """As `mod`, of a function that gives a mask_mod."""

    def register(masks: Callable) -> Callable:
        def mods(n):
            return {"mask_mod": masks(n)}

        mods.__name__ = masks.__name__
        mod(group, **sizes)(mods)
        return masks

    return register


@masking(MASKS)
def noop(n):
    return lambda b, h, t, s: b.new_ones((), dtype=torch.bool)


@masking(MASKS)
def causal_mask(n):
    return lambda b, h, t, s: t >= s


@masking(MASKS)
def inverse_causal_mask(n):
    return lambda b, h, t, s: t <= s


@masking(MASKS)
def sliding_window(n):
    return lambda b, h, t, s: (t >= s) & (t - s <= 20)


@masking(MASKS)
def either(n):
    from heed.flex_attention import or_masks

    return or_masks(sliding_window(n), lambda b, h, t, s: s < 9, lambda b, h, t, s: h == 1)


@masking(MASKS)
def both(n):
    from torch.nn.attention.flex_attention import and_masks

    return and_masks(causal_mask(n), lambda b, h, t, s: t - s <= 20)


@masking(MASKS)
def nothing_at_all(n):
    from heed.flex_attention import and_masks

    return and_masks(lambda b, h, t, s: t >= s, lambda b, h, t, s: t < s)


@masking(MASKS)
def documents(n):
    document = drawn_integers(0, 5, n.B, max(n.T, n.S)).sort().values
    return lambda b, h, t, s: document[b, t] == document[b, s]


@masking(MASKS)
def documents_at_blocks(n):  # a boundary where a block ends, and one beside it
    document = (torch.arange(max(n.T, n.S)) >= 64).long()
    document += torch.arange(max(n.T, n.S)) >= 65
    return lambda b, h, t, s: document[t] == document[s]


@masking(MASKS)
def first_queries_only(n):
    return lambda b, h, t, s: t < 30


@masking(MASKS, B=1, H=1, T=1023, S=1023, Bkv=1, Hkv=1)
def block_diagonal_1023(n):
    return lambda b, h, t, s: t // 64 == s // 64


@masking(MASKS)
def causal_in_odd_batches(n):
    return lambda b, h, t, s: (b % 2 == 0) | (t >= s)


@masking(MASKS, B=1, H=1, T=32, S=2304, Bkv=1, Hkv=1)
def both_ends(n):
    return lambda b, h, t, s: (s < 256) | (s >= 2048)


@masking(MASKS, T=16)
def causal_from_an_offset(n):
    offset = drawn_integers(0, n.S - n.T, n.B)
    return lambda b, h, t, s: t + offset[b] >= s


@masking(MASKS)
def random_rows(n):
    seeing = drawn_integers(0, 2, n.B, n.H, n.T).bool()
    return lambda b, h, t, s: seeing[b, h, t]


@masking(MASKS)
def random_pairs(n):
    seen = drawn_integers(0, 2, n.T, n.S).bool()
    return lambda b, h, t, s: seen[t, s]


# Biases that learn.


@mod(BIASES, lambda n: torch.randn(n.T + n.S))
def relative_1d(n, bias):
    return lambda score, b, h, t, s: score + bias[t - s + n.S]


@mod(BIASES, per_pair)
def absolute_2d(n, bias):
    return lambda score, b, h, t, s: score + bias[t, s]


@mod(BIASES, lambda n: torch.randn(n.H, n.T, n.S))
def head_specific(n, bias):
    return lambda score, b, h, t, s: score + bias[h, t, s]


@mod(BIASES, lambda n: torch.randn(n.B, n.H, n.T, n.S))
def batch_and_head(n, bias):
    return lambda score, b, h, t, s: score + bias[b, h, t, s]


@mod(BIASES, per_query)
def multiplicative(n, bias):
    return lambda score, b, h, t, s: score * bias[t]


@mod(BIASES, lambda n: torch.randn(17))
def local_window(n, bias):
    return lambda score, b, h, t, s: score + bias[torch.clamp(t - s, -8, 8) + 8]


@mod(BIASES, lambda n: torch.randn(n.S))
def global_tokens(n, bias):
    return lambda score, b, h, t, s: score + bias[s]


@mod(BIASES, lambda n: torch.randn(n.B, n.H, 4, n.T))
def captured_place(n, bias):
    place = torch.tensor(3)
    return lambda score, b, h, t, s: score + bias[b, h, place, t]


@mod(BIASES, per_query)
def indirect(n, bias):
    offset = drawn_integers(0, n.T, n.T)
    return lambda score, b, h, t, s: score + bias[offset[t]]


@mod(BIASES, lambda n: torch.randn(max(n.T, n.S)))
def symmetric(n, bias):
    return lambda score, b, h, t, s: score + bias[t] + bias[s]


@mod(BIASES, per_pair)
def flipped(n, bias):
    return lambda score, b, h, t, s: score + bias[n.T - 1 - t, s] + bias[t, n.S - 1 - s]


@mod(BIASES, per_head)
def head_gate(n, gate):
    return lambda score, b, h, t, s: score * torch.sigmoid(gate[h])


@mod(BIASES, per_query, lambda n: torch.randn(n.S))
def two_biases(n, of_query, of_key):
    return lambda score, b, h, t, s: score + of_query[t] + of_key[s]


@mod(BIASES, per_pair)
def with_a_mask(n, bias):
    return {
        "score_mod": lambda score, b, h, t, s: score + bias[t, s],
        "mask_mod": lambda b, h, t, s: t >= s,
    }
