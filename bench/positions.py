#!/usr/bin/env python3
"""The modules of positions against their formulas in plain torch.

Prints a row of Markdown for each module and length: a forward and backward in float32 from q, k and
v on, the best of samples taken in turns. On one thread in process time, else in wall-clock time.
"""

import argparse
import math
from collections.abc import Callable

import measure
import torch
from torch import Tensor, nn

import heed
from heed.attention import MaskMod
from heed.nn.alibi import Alibi
from heed.nn.attention_positions import AttentionHeads, AttentionPositions
from heed.nn.relative_positions import RelativePositions
from heed.nn.rotary_positions import RotaryPositions
from heed.nn.sinusoidal_positions import wave_angles
from heed.nn.t5_bias import T5Bias
from heed.nn.transformer_xl_positions import TransformerXLPositions


def module_of(
    positions: AttentionPositions, q: Tensor, k: Tensor, v: Tensor, is_causal: bool
) -> Tensor:
    """[B,H,T,D] and [B,H,T,Dv] -> [B,H,T,Dv], as MultiHeadAttention goes about it."""
    q, k = positions.rotate(q), positions.rotate(k)
    heads = AttentionHeads(q, k, None, 1 / math.sqrt(q.shape[-1]))
    score_mod = positions.score_mod(heads)

    def attend(part: MaskMod | None, values: Tensor) -> tuple[Tensor, Tensor]:
        return heed.attention(
            heads.q,
            heads.k,
            values,
            score_mod=score_mod,
            mask_mod=part,
            causal="top_left" if is_causal else None,
            scale=heads.scale,
            return_lse=True,
        )

    return positions.mix(heads, v, attend)


def formula_of(
    positions: AttentionPositions, q: Tensor, k: Tensor, v: Tensor, is_causal: bool
) -> Tensor:
    """The same with the scores [B,H,T,T] stored."""
    scores = SCORES[type(positions)](positions, q / math.sqrt(q.shape[-1]), k)
    if is_causal:
        scores = scores.masked_fill(ahead(q.shape[2]) > 0, -torch.inf)
    weights = scores.softmax(-1)
    if getattr(positions, "value_table", None) is None:
        return weights @ v
    return weights @ v + shaw_values(positions, weights)


def ahead(T: int) -> Tensor:
    """s - t [T,T]."""
    return torch.arange(T) - torch.arange(T).unsqueeze(-1)


# The scores [B,H,T,T] of each: q is scaled.


def alibi(positions: Alibi, q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT - positions.slopes.float().view(-1, 1, 1) * ahead(q.shape[2]).abs()


def t5(positions: T5Bias, q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT + positions.bias[positions.buckets_of(ahead(q.shape[2]))].permute(2, 0, 1)


def rotary(positions: RotaryPositions, q: Tensor, k: Tensor) -> Tensor:
    T, D = q.shape[2:]
    angles = torch.arange(T).unsqueeze(-1) * 10000 ** (-torch.arange(0, D, 2) / D)
    sin, cos = angles.sin(), angles.cos()

    def rotate(x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    return rotate(q) @ rotate(k).mT


def distance_rows(positions: RelativePositions, T: int) -> Tensor:
    far = positions.max_distance
    return ahead(T).clamp(-far, far) + far


def shaw(positions: RelativePositions, q: Tensor, k: Tensor) -> Tensor:
    rows = distance_rows(positions, q.shape[2]).expand(*q.shape[:3], -1)
    return q @ k.mT + (q @ positions.key_table.mT).gather(-1, rows)


def shaw_values(positions: RelativePositions, weights: Tensor) -> Tensor:
    """The weights of each distance, times its vector."""
    shares = weights.new_zeros(*weights.shape[:3], len(positions.value_table))
    rows = distance_rows(positions, weights.shape[2]).expand_as(weights)
    return shares.scatter_add(-1, rows, weights) @ positions.value_table


def transformer_xl(positions: TransformerXLPositions, q: Tensor, k: Tensor) -> Tensor:
    T, D = q.shape[2:]
    angles = wave_angles(torch.arange(T - 1, -T, -1), positions.embed_size, positions.base)
    waves = torch.cat((angles.sin(), angles.cos()), -1).float()  # [2T-1,E]
    r = positions.projection(waves).unflatten(-1, (-1, D)).transpose(0, 1)  # [H,2T-1,D]
    u, w = positions.content_bias.unsqueeze(1), positions.position_bias.unsqueeze(1)
    scale = 1 / math.sqrt(D)
    products = (q + w * scale) @ r.mT  # [B,H,T,2T-1], column s - t + T - 1
    # In rows of one less, column s of row t, T - 1 on.
    shifted = products.flatten(-2)[..., T - 1 : T - 1 + T * (2 * T - 2)]
    return (q + u * scale) @ k.mT + shifted.unflatten(-1, (T, 2 * T - 2))[..., :T]


SCORES: dict[type, Callable[..., Tensor]] = {
    Alibi: alibi,
    T5Bias: t5,
    RotaryPositions: rotary,
    RelativePositions: shaw,
    TransformerXLPositions: transformer_xl,
}

CASES: dict[str, Callable[[int, int], AttentionPositions]] = {  # of heads and their size
    "alibi": lambda H, D: Alibi(H),
    "t5": lambda H, D: T5Bias(H),
    "rotary": lambda H, D: RotaryPositions(D),
    "shaw, keys": lambda H, D: RelativePositions(D, values=False),
    "shaw": lambda H, D: RelativePositions(D),
    "transformer-xl": lambda H, D: TransformerXLPositions(H * D, H),
}


def gradients(
    name: str, arguments: argparse.Namespace, length: int
) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """A forward and backward of the formula's and of the module's."""
    torch.manual_seed(0)
    H, D = arguments.heads, arguments.head_size
    positions = CASES[name](H, D)
    for parameter in positions.parameters():
        nn.init.normal_(parameter, std=D**-0.5)  # as training leaves it: not at its start
    heads = torch.randn(3, arguments.batch, H, length, D)
    leaves = [*(x.requires_grad_() for x in heads.unbind()), *positions.parameters()]

    def both(run: Callable[..., Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        def gradients() -> tuple[Tensor, ...]:
            out = run(positions, *leaves[:3], arguments.causal)
            return torch.autograd.grad(out.square().sum(), leaves)

        return gradients

    return {"formula": both(formula_of), "module": both(module_of)}


def verify(found: dict[str, Callable[[], tuple[Tensor, ...]]]) -> None:
    for actual, expected in zip(found["module"](), found["formula"](), strict=True):
        close = 1e-3 * expected.abs().max().item() + 1e-5
        torch.testing.assert_close(actual, expected, rtol=0, atol=close)


def row(name: str, arguments: argparse.Namespace, length: int) -> str:
    verify(gradients(name, arguments, min(length, 200)))
    clock = "cpu" if arguments.threads == 1 else "wall"
    samples = measure.interleaved(gradients(name, arguments, length), arguments.budget, clock)
    best = {which: 1e3 * min(seconds) for which, seconds in samples.items()}
    ratio = best["formula"] / best["module"]
    return f"| {name} | {length} | {best['formula']:.2f} | {best['module']:.2f} | {ratio:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}; all without any")
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 64, 128, 256, 1024])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--head-size", type=int, default=64)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each row")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"B = {arguments.batch}, H = {arguments.heads}, D = Dv = {arguments.head_size}, "
        f"{'causal, ' if arguments.causal else ''}float32, threads: {arguments.threads}, "
        f"kernel set {heed.isa()}\n"
    )
    print("| positions | T = S | formula, ms | module, ms | ratio |")
    print("|---|---|---|---|---|")
    for name in arguments.names or CASES:
        for length in arguments.lengths:
            print(row(name, arguments, length), flush=True)


if __name__ == "__main__":
    main()
