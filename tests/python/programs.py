"""Score programs that people write, as mods over tensors that they capture."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    B: int
    H: int
    T: int
    S: int


@dataclass(frozen=True)
class Program:
    name: str
    tables: Callable[[Sizes], list[Tensor]]  # what it captures and learns
    mods: Callable[..., dict]  # (sizes, *tables) -> keyword arguments of heed.attention

    def __str__(self) -> str:
        return self.name

    def options(self, sizes: Sizes, tables: list[Tensor]) -> dict:
        options = self.mods(sizes, *tables)
        return options if isinstance(options, dict) else {"score_mod": options}


PROGRAMS: list[Program] = []


def program(*tables: Callable[[Sizes], Tensor]) -> Callable:
    """mods(sizes, *tables) gives a score_mod, or a dict of arguments; a table is made of sizes."""

    def register(mods: Callable) -> Callable:
        PROGRAMS.append(Program(mods.__name__, lambda n: [table(n) for table in tables], mods))
        return mods

    return register


def per_head(n: Sizes) -> Tensor:
    return torch.rand(n.H) + 0.5


def by_distance(n: Sizes) -> Tensor:  # t - s from 1 - S to T - 1
    return torch.randn(n.H, n.T + n.S - 1)


@program(per_head)
def alibi(n, slope):  # Press et al. 2022, slopes learnt
    return {
        "score_mod": lambda score, b, h, t, s: score - slope[h] * (t - s).abs(),
        "mask_mod": lambda b, h, t, s: s <= t,
    }


@program()
def alibi_formula(n):
    return lambda score, b, h, t, s: score + torch.exp2(-((h + 1) * 8.0 / n.H)) * (s - t)


@program(by_distance)
def relative_bias(n, bias):
    return lambda score, b, h, t, s: score + bias[h, t - s + n.S - 1]


@program(lambda n: torch.randn(8, n.H))
def t5_buckets(n, bias):  # Raffel et al. 2020: 4 exact distances, 4 of growing width
    def score_mod(score, b, h, t, s):
        distance = (t - s).clamp(min=0)
        far = torch.log(distance.clamp(min=1).float() / 4) / math.log(128 / 4) * 4
        bucket = torch.where(distance < 4, distance, torch.clamp(4 + far.to(torch.long), 4, 7))
        return score + bias[bucket, h]

    return score_mod


@program()
def soft_cap(n):  # Gemma 2
    return lambda score, b, h, t, s: 3.0 * torch.tanh(score / 3.0)


@program()
def prefix_lm(n):
    prefix = torch.arange(n.B) % n.S + 1
    return {"mask_mod": lambda b, h, t, s: (s < prefix[b]) | (s <= t)}


@program()
def documents(n):
    doc = torch.arange(max(n.T, n.S)).expand(n.B, -1) // 3
    return {"mask_mod": lambda b, h, t, s: (doc[b, t] == doc[b, s]) & (s <= t)}


@program()
def natten_2d(n):  # Hassani et al. 2023: a 3 x 3 neighbourhood on a grid 3 wide
    def mask_mod(b, h, t, s):
        row, column = (t // 3).clamp(1, n.S // 3 - 1), (t % 3).clamp(1, 1)
        return ((row - s // 3).abs() <= 1) & ((column - s % 3).abs() <= 1)

    return {"mask_mod": mask_mod}


@program()
def sliding_window(n):  # Beltagy et al. 2020
    return {"mask_mod": lambda b, h, t, s: (t - s <= 2) & (s - t <= 1)}


@program()
def dilated(n):
    return {"mask_mod": lambda b, h, t, s: ((t - s) % 2 == 0) & (t >= s)}


@program(lambda n: torch.randn(n.B, n.H, n.T, n.T + n.S - 1), lambda n: torch.randn(n.B, n.H, n.S))
def transformer_xl(n, positions, content):  # Dai et al. 2019: q r[t - s] and u k[s], made outside
    def score_mod(score, b, h, t, s):
        return (score + positions[b, h, t, t - s + n.S - 1] + content[b, h, s]) * 0.5

    return score_mod


@program(lambda n: torch.randn(max(n.T, n.S), max(n.T, n.S)))
def symmetric_bias(n, bias):
    return lambda score, b, h, t, s: score + bias[t, s] + bias[s, t]


@program(per_head, lambda n: torch.tensor(0.7))
def learned_temperature(n, temperature, offset):
    return lambda score, b, h, t, s: score / temperature[h] + offset * (s % 2)


@program(lambda n: torch.randn(n.H, n.T, n.S))
def location_only(n, logits):
    return {"kind": "none", "score_mod": lambda score, b, h, t, s: score + logits[h][t][s]}


@program()
def key_padding(n):
    length = n.S - torch.arange(n.B) % n.S
    return {"mask_mod": lambda b, h, t, s: s < length[b]}


@program()
def causal_by_infinity(n):
    return lambda score, b, h, t, s: torch.where(s <= t, score, -float("inf"))


@program()
def masked_fill_by_tensor(n):
    never = torch.tensor(-math.inf)
    return lambda score, b, h, t, s: score.masked_fill((t < s) | (s % 3 == 1), never)


@program()
def lowest_number(n):
    def score_mod(score, b, h, t, s):
        return torch.where((s < t) | (s % 4 == 0), score, torch.finfo(score.dtype).min / 2)

    return score_mod


@program(lambda n: torch.rand(n.B, n.H, n.T) * n.S, per_head)
def predictive_window(n, centre, width):  # Luong et al. 2015, local-p
    def score_mod(score, b, h, t, s):
        return score - (s - centre[b, h, t]) ** 2 / (2 * width[h] ** 2)

    return score_mod


class Halved(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(score, mask):
        return torch.where(mask, score * 0.5, score)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[1])
        ctx.mark_non_differentiable(inputs[1])

    @staticmethod
    def backward(ctx, gradient):
        (mask,) = ctx.saved_tensors
        return torch.where(mask, gradient * 0.5, gradient), None


@program()
def autograd_function(n):
    return lambda score, b, h, t, s: Halved.apply(score, s < t)


@program()
def activations(n):
    def score_mod(score, b, h, t, s):
        return F.silu(score) + F.softplus(score) - 0.5 * F.gelu(score, approximate="tanh")

    return score_mod


@program(per_head)
def gated_heads(n, gate):
    return lambda score, b, h, t, s: score * gate.sigmoid()[h]


@program(lambda n: torch.randn(n.T + 3))
def indirect_bias(n, bias):
    offset = torch.arange(n.T).flip(0) + 2
    return lambda score, b, h, t, s: score + bias[offset[t]] * (s + 1)


@program(lambda n: torch.randn(n.T, n.S))
def flipped_bias(n, bias):
    return lambda score, b, h, t, s: score + bias[n.T - 1 - t, s] - bias[t, -1 - s]


@program(lambda n: torch.randn(n.H, 5))
def clamped_window_bias(n, bias):
    return lambda score, b, h, t, s: score + bias[h, torch.clamp(t - s, -2, 2) + 2]


@program(per_head)
def global_tokens(n, bonus):
    return lambda score, b, h, t, s: torch.where((s < 2) | (t < 1), score + bonus[h], score)


@program(lambda n: torch.randn(n.B, max(n.T, n.S), 3))
def distance_of_points(n, points):
    def score_mod(score, b, h, t, s):
        return score - ((points[b, t] - points[b, s]).square().sum(dim=-1) + 0.1).sqrt()

    return score_mod


@program()
def trigonometry(n):
    return lambda score, b, h, t, s: torch.sin(4 * score).cos() + torch.tan(b / 3.0) * score


@program(lambda n: torch.rand(n.B, n.H, n.S), lambda n: torch.rand(n.B, n.H, n.T))
def kernel_regression(n, kk, qq):  # Nadaraya-Watson: |q - k|^2 / 2 by its parts
    return lambda score, b, h, t, s: score - kk[b, h, s] / 2 - qq[b, h, t] / 2


@program(lambda n: torch.randn(n.H, 4), lambda n: torch.randn(n.T, n.S))
def graph_bias(n, spatial, edge):  # Ying et al. 2021 (Graphormer)
    steps = (torch.arange(n.T)[:, None] * 3 + torch.arange(n.S)) % 4
    return lambda score, b, h, t, s: score + spatial[h, steps[t, s]] + edge[t, s]


@program()
def arithmetic(n):
    shift, scale = torch.tensor(2), 3

    def score_mod(score, b, h, t, s):
        odd = t // (1 + s) + (t + shift) % 3 - divmod(7, scale)[1]
        return 1 - score * 2 + odd / 4 + 2.0**-h + score**2 - 1 / (s + 1) + round(1.5)

    return score_mod


@program()
def in_place(n):
    def score_mod(score, b, h, t, s):
        kept = score.clone()
        same = kept
        kept *= 2
        kept += t
        return same - s.float()

    return score_mod


@program()
def block_diagonal_of_some(n):
    def mask_mod(b, h, t, s):
        return torch.where(b % 2 == 0, t // 4 == s // 4, ~(s == t) | (h == 0))

    return {"mask_mod": mask_mod}


@program(lambda n: torch.randn(n.B, n.H, n.T), lambda n: torch.randn(2, n.S))
def multiplied_by_tables(n, rows, columns):
    return lambda score, b, h, t, s: score * rows[b][h, t] + columns[..., 1:][0, s // 2] * score


@program()
def roundings(n):
    def score_mod(score, b, h, t, s):
        x = t * 0.37 - s * 0.81
        steps = torch.floor(x) + x.ceil() * 2 + torch.trunc(x) + torch.round(x) + torch.sign(x)
        return score + 0.1 * steps + torch.div(t - s, 2, rounding_mode="trunc")

    return score_mod
