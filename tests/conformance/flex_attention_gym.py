"""Mods of attention-gym and of FlashAttention's CuTe tests, each written from what it is said to do."""

import math

import torch
import torch.nn.functional as F
from flex_attention_checks import Mod
from flex_attention_mods import NEVER, drawn, drawn_integers, masking, mod, per_head, per_query

GYM: list[Mod] = []


# attention-gym: scores.


@mod(GYM)
def soft_cap(n):
    return lambda score, b, h, t, s: 2 * torch.tanh(score / 2)


class Tanh(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.tanh(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * (1 - y * y)


@mod(GYM)
def soft_cap_by_a_function(n):
    return lambda score, b, h, t, s: 2 * Tanh.apply(score / 2)


@mod(GYM)
def relu_instead_of_softmax(n):
    return lambda score, b, h, t, s: torch.log(F.relu(score) + 1)


@mod(GYM)
def gelu_instead_of_softmax(n):
    return lambda score, b, h, t, s: torch.log(F.gelu(score, approximate="tanh") + 1)


@mod(GYM)
def sandwich(n):  # Chi et al. 2023
    frequency = 10000 ** (-torch.arange(0, 64, 2) / 64)
    distance = torch.arange(1 - n.S, n.T)
    bias = torch.cos(distance[:, None] * frequency).sum(dim=-1)
    ratio = n.H / (8 * torch.arange(1, n.H + 1))
    return lambda score, b, h, t, s: score + bias[t - s + n.S - 1] * ratio[h]


@mod(GYM, lambda n: torch.randn(n.H, 7))
def graphormer_distances(n, bias):  # Ying et al. 2021
    distances = drawn_integers(0, 7, n.B, n.T, n.S).int()
    return lambda score, b, h, t, s: score + bias[h, distances[b, t, s]]


@mod(GYM, lambda n: torch.randn(n.H, 3, 5))
def graphormer_edges(n, bias):  # the mean over a path of at most three edges of five types
    edges = drawn_integers(0, 5, n.B, n.T, n.S, 3).int()
    length = drawn_integers(0, 4, n.B, n.T, n.S).int()

    def score_mod(score, b, h, t, s):
        long = length[b, t, s]
        total = 0.0
        for step in range(3):
            total = total + torch.where(long > step, bias[h, step, edges[b, t, s, step]], 0.0)
        return score + total / torch.clamp(long, min=1)

    return score_mod


@mod(GYM, lambda n: torch.randn(n.B, n.H, n.T, 8), lambda n: torch.randn(n.B, 1, n.S, 8))
def latent_attention_positions(n, q_rope, k_rope):  # DeepSeek-AI 2024 (MLA)
    def score_mod(score, b, h, t, s):
        return score + 0.3 * torch.dot(q_rope[b, h, t], k_rope[b, h // n.H, s])

    return score_mod


# attention-gym: masks.


@masking(GYM)
def batches_in_a_row(n):
    return lambda b, h, t, s: (t // 40 == s // 40) & (t % 40 >= s % 40)


@masking(GYM)
def block_diffusion(n):  # Arriola et al. 2025: noised tokens, then clean ones
    half, block = n.T // 2, 16

    def mask_mod(b, h, t, s):
        noised_t, noised_s = t < half, s < half
        block_t, block_s = t % half // block, s % half // block
        own = (block_t == block_s) & (noised_t == noised_s)
        before = (block_t > block_s) & noised_t & ~noised_s
        return own | before | ((block_t >= block_s) & ~noised_t & ~noised_s)

    return mask_mod


@masking(GYM)
def dilated_window(n):
    return lambda b, h, t, s: (t >= s) & (t - s < 40) & ((t - s) % 3 == 0)


@masking(GYM)
def global_and_window(n):  # Beltagy et al. 2020
    return lambda b, h, t, s: ((t - s).abs() <= 9) | (s < 4) | (t < 4)


@masking(GYM, S=48)
def flamingo(n):  # Alayrac et al. 2022: text sees the image before it; keys are 4 images of 12
    image = torch.arange(n.T) * 5 // n.T  # how many images precede a token
    return lambda b, h, t, s: s // 12 == image[t] - 1


@masking(GYM, T=7, S=40)
def tree(n):  # speculative decoding: keys are a prefix and the draft's nodes
    parents = [-1, 0, 1, 1, 3, 3, 0]
    ancestors = torch.eye(7, dtype=torch.bool)
    for node, parent in enumerate(parents[1:], start=1):
        ancestors[node] |= ancestors[parent]

    def mask_mod(b, h, t, s):
        node = (s - 33).clamp(min=0, max=6)
        return (s < 33) | ((s >= 33) & ancestors[t, node])

    return mask_mod


@masking(GYM, T=96, S=128)
def blocks_after_a_prefix(n):
    prefix, block = 32, 12

    def mask_mod(b, h, t, s):
        place = s - prefix
        own = (t // block == place // block) & (place % block <= t % block)
        return (s < prefix) | ((s >= prefix) & own)

    return mask_mod


def _near(down_t, right_t, down_s, right_s, rows, columns, radius=1):
    """Whether s is in the square around t, which the edges of the image push inwards."""
    down_t = down_t.clamp(radius, rows - 1 - radius)
    right_t = right_t.clamp(radius, columns - 1 - radius)
    return ((down_t - down_s).abs() <= radius) & ((right_t - right_s).abs() <= radius)


@masking(GYM)
def natten(n):  # Hassani et al. 2023, on 8 x 16
    return lambda b, h, t, s: _near(t // 16, t % 16, s // 16, s % 16, 8, 16)


@masking(GYM)
def natten_tiled(n):  # tiles of 4 x 4 one after the other
    def place(i):
        tile, inside = i // 16, i % 16
        return tile // 4 * 4 + inside // 4, tile % 4 * 4 + inside % 4

    return lambda b, h, t, s: _near(*place(t), *place(s), 8, 16)


@masking(GYM, T=64, S=64)
def natten_in_morton_order(n):
    def every_other_bit(code):
        code = code & 0x55555555
        code = (code | (code >> 1)) & 0x33333333
        return (code | (code >> 2)) & 0x0F0F0F0F

    def place(code):
        return every_other_bit(code >> 1), every_other_bit(code)

    return lambda b, h, t, s: _near(*place(t), *place(s), 8, 8)


@masking(GYM)
def prefix_lm(n):
    return lambda b, h, t, s: (s < 30) | (t >= s)


@masking(GYM)
def shared_prefix(n):  # two prompts, each with two answers that see it but not each other
    offsets = torch.tensor([0, 20, 35, 50, 90, 110, 128])
    prompt = torch.tensor([0, 0, 0, 3, 3, 3])
    document = torch.repeat_interleave(torch.arange(6), offsets.diff())

    def mask_mod(b, h, t, s):
        own = document[t]
        before = prompt[own]
        of_prompt = (s >= offsets[before]) & (s < offsets[before + 1])
        return ((s >= offsets[own]) & (t >= s)) | ((own != before) & of_prompt)

    return mask_mod


def _tile_window(place_t, place_s, tiles, kernel):
    """Sliding tile attention (Zhang et al. 2025): along each axis, tiles of the kernel around t's."""
    seen = True
    for at_t, at_s, size, width in zip(place_t, place_s, tiles, kernel, strict=True):
        left, right = width // 2, width // 2 + width % 2 - 1
        centre = at_t.clamp(left, size - 1 - right)
        seen = (at_s >= centre - left) & (at_s <= centre + right) & seen
    return seen


@masking(GYM)
def sliding_tiles_2d(n):  # 8 x 14 pixels in tiles of 2 x 2, then 16 tokens of text
    image = 112

    def place(i):
        return i // 4 // 7, i // 4 % 7

    def mask_mod(b, h, t, s):
        pixels = _tile_window(place(t), place(s), (4, 7), (3, 2)) & (t < image) & (s < image)
        return pixels | ((t < image) & (s >= image)) | (t >= image)

    return mask_mod


@masking(GYM)
def sliding_tiles_3d(n):  # 4 x 4 x 8 in tiles of 2 x 2 x 2
    def place(i):
        tile = i // 8
        return tile // 8, tile % 8 // 4, tile % 4

    return lambda b, h, t, s: _tile_window(place(t), place(s), (2, 2, 4), (1, 2, 3))


@masking(GYM)
def video_spatial(n):  # Xi et al. 2025 (Sparse VideoGen): 8 of text, 8 frames of 15
    return lambda b, h, t, s: (t < 8) | (s < 8 + 15) | ((t - s).abs() < 28)


@masking(GYM)
def video_temporal(n):
    return lambda b, h, t, s: (t < 8) | (s < 8) | (((t - 8) % 15 - (s - 8) % 15).abs() < 3)


@masking(GYM)
def video_tiles(n):  # video sparse attention: the tiles of keys that each tile of queries chose
    chosen = drawn(n.B, n.H, 8, 8).topk(3).indices
    table = torch.zeros(n.B, n.H, 8, 8, dtype=torch.bool).scatter_(-1, chosen, True)
    return lambda b, h, t, s: table[b, h, t // 16, s // 16]


# CuTe.


@mod(GYM, per_head, per_query)
def two_buffers(n, of_head, of_query):
    return lambda score, b, h, t, s: score + of_head[h] + of_query[t]


@mod(GYM, lambda n: torch.randn(n.B))
def batch_bias(n, bias):
    return lambda score, b, h, t, s: score + bias[b]


@mod(GYM)
def distance(n):
    return lambda score, b, h, t, s: score - 2 * torch.abs(t - s)


@mod(GYM)
def alibi_both_ways(n):
    return lambda score, b, h, t, s: score - 2 ** (-8 * (h + 1) / 8) * torch.abs(t - s)


@masking(GYM)
def causal_within_tiles(n):
    return lambda b, h, t, s: t % 32 >= s % 32


@masking(GYM)
def threshold_per_key(n):
    least = drawn_integers(0, 128, n.S)
    return lambda b, h, t, s: s >= least[s]


@masking(GYM, T=40)
def window_from_the_end(n):
    return lambda b, h, t, s: (s >= t + n.S - n.T - 20) & (s <= t + n.S - n.T + 5)


@mod(GYM, lambda n: torch.randn(200))
def packed_documents(n, bias):  # a bias per token of sequences that lie one after the other
    start = torch.tensor([0, 72, 200])

    def score_mod(score, b, h, t, s):
        last = start[b + 1] - start[b] - 1
        place = start[b] + torch.clamp(s, max=last)
        near = torch.abs(t - s).float() * 0.1
        return score + near + bias[place.clamp(0, 199)]  # which it never leaves, but who can tell

    return score_mod


@mod(GYM, lambda n: torch.randn(max(n.T, n.S)))
def stress_arithmetic(n, bias):
    def score_mod(score, b, h, t, s):
        distance = t - s
        return score + distance * distance * 0.0001 + bias[t] * ((b + 1) * (h + 1) * 0.001)

    return score_mod


@mod(GYM, lambda n: torch.randn(n.S))
def stress_conditions(n, bias):
    def score_mod(score, b, h, t, s):
        return torch.where((t >= s) & (torch.abs(t - s) <= 50), score + bias[s], NEVER)

    return score_mod


@mod(
    GYM,
    lambda n: torch.randn(n.B),
    per_head,
    per_query,
    lambda n: torch.randn(n.S),
    lambda n: torch.randn(101),
)
def stress_five_buffers(n, of_batch, of_head, of_query, of_key, of_distance):
    def score_mod(score, b, h, t, s):
        near = t - s + 50
        near = torch.where(near < 0, 0, near)
        near = torch.where(near > 100, 100, near)
        biases = of_batch[b] + of_query[t] + of_key[s] + of_distance[near] * 0.1
        return score * of_head[h] + biases

    return score_mod


@mod(GYM, lambda n: torch.randn(n.S))
def stress_xor(n, bias):
    return lambda score, b, h, t, s: score + ((t ^ s) & 0xFF) * 0.001 + bias[s] * 0.1


@mod(GYM)
def key_number(n):
    return lambda score, b, h, t, s: score + s * (1 / math.e)
