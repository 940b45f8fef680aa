#!/usr/bin/env python3
"""A Transformer's encoder layer against torch's own, and what gradient checkpointing saves.

Prints rows of Markdown: forward and backward in training, and the forward alone without gradients,
where torch has a fast path of one fused call beside its modules. Float32, post-norm, ReLU, hidden
units 4 E; the best of samples taken in turns, on one thread in process time. With --memory instead
a training step of a stack of pre-norm layers: how far the peak of the resident memory grew, and its
seconds, each in a process of its own.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import measure
import memory
import torch
from torch import Tensor, nn

import heed
from heed.nn import TransformerEncoder, TransformerEncoderLayer
from heed.nn.state_dicts import from_torch

SIZES = [
    (1, 1, 64, 4),
    (1, 16, 64, 4),
    (8, 32, 64, 4),
    (1, 64, 128, 8),
    (4, 128, 256, 8),
    (1, 512, 512, 8),
    (1, 2048, 256, 8),
]  # B, T, E, H
STACK = (1, 1024, 256, 8)


def layers(E: int, H: int) -> tuple[TransformerEncoderLayer, nn.TransformerEncoderLayer]:
    theirs = nn.TransformerEncoderLayer(E, H, 4 * E, dropout=0.0, batch_first=True)
    ours = TransformerEncoderLayer(E, H)
    ours.load_state_dict(from_torch(theirs.state_dict()))
    return ours, theirs


def gradients(module: nn.Module, x: Tensor, d_y: Tensor) -> list[Tensor]:
    y = module(x)
    return [y, *torch.autograd.grad(y, [x, *module.parameters()], d_y)]


def verify(ours: nn.Module, theirs: nn.Module, x: Tensor, d_y: Tensor) -> None:
    """Raises where results or gradients, by the names of parameters, differ."""
    found = []
    for module, rename in ((ours, dict), (theirs, from_torch)):
        y, d_x, *d_parameters = gradients(module, x, d_y)
        names = [name for name, _ in module.named_parameters()]
        found.append({"y": y, "x": d_x, **rename(zip_of(names, d_parameters))})
    for name, expected in found[1].items():
        close = 1e-3 * expected.abs().max().item() + 1e-5
        torch.testing.assert_close(found[0][name], expected, rtol=0, atol=close, msg=name)


def zip_of(names: list[str], values: list[Tensor]) -> dict[str, Tensor]:
    return dict(zip(names, values, strict=True))


@contextmanager
def fast_path(enabled: bool) -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def rows(B: int, T: int, E: int, H: int, budget: float) -> Iterator[str]:
    ours, theirs = layers(E, H)
    x, d_y = torch.randn(B, T, E, requires_grad=True), torch.randn(B, T, E)
    verify(ours, theirs, x, d_y)
    training = {
        "heed": lambda: gradients(ours, x, d_y),
        "torch": lambda: gradients(theirs, x, d_y),
    }
    yield row((B, T, E, H), "training", measure.interleaved(training, budget, "cpu"))
    ours.eval()
    theirs.eval()

    def inference(module: nn.Module, fast: bool) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.no_grad(), fast_path(fast):
                return module(x)

        return run

    runs = {
        "heed": inference(ours, fast=False),
        "torch": inference(theirs, fast=False),
        "fast path": inference(theirs, fast=True),
    }
    yield row((B, T, E, H), "inference", measure.interleaved(runs, budget, "cpu"))


def row(sizes: tuple[int, ...], work: str, samples: dict[str, list[float]]) -> str:
    best = {name: 1e3 * min(seconds) for name, seconds in samples.items()}
    cells = [*map(str, sizes), work, f"{best['heed']:.3f}"]
    for rival in ("torch", "fast path"):
        if rival in best:
            cells += [f"{best[rival]:.3f}", f"{best[rival] / best['heed']:.2f}"]
        else:
            cells += ["", ""]
    return f"| {' | '.join(cells)} |"


def step_of_a_stack(which: str, depth: int) -> dict[str, float]:
    """Bytes and seconds of a training step, in a process that has done nothing else."""
    B, T, E, H = STACK
    stack: nn.Module
    if which == "torch":
        layer = nn.TransformerEncoderLayer(
            E, H, 4 * E, dropout=0.0, batch_first=True, norm_first=True, activation="gelu"
        )
        stack = nn.TransformerEncoder(layer, depth, nn.LayerNorm(E), enable_nested_tensor=False)
    else:
        stack = TransformerEncoder(
            depth, E, H, norm_first=True, activation="gelu", checkpoint=which == "checkpointed"
        )
    for parameter in stack.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stack(torch.randn(1, 8, E)).sum().backward()  # loads code
    x = torch.randn(B, T, E)
    ctypes.CDLL(None).malloc_trim(0)  # what the small call freed would hide as much
    before = memory._status_bytes("VmRSS")
    start = time.process_time()
    stack(x).square().sum().backward()
    return {"seconds": time.process_time() - start, "bytes": memory._status_bytes("VmHWM") - before}


def in_a_process(which: str, depth: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--step", which, "--depth", str(depth)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=3.0, help="seconds for each row")
    parser.add_argument("--memory", action="store_true", help="of a stack of layers")
    parser.add_argument("--depth", type=int, default=12, help="layers of that stack")
    parser.add_argument("--step", choices=["torch", "heed", "checkpointed"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.step:
        print(json.dumps(step_of_a_stack(arguments.step, arguments.depth)))
        return
    if arguments.memory:
        print(f"{arguments.depth} layers, B, T, E, H = {STACK}, float32, one thread\n")
        print("| stack | MiB | seconds |\n|---|---|---|")
        for which in ("torch", "heed", "checkpointed"):
            found = in_a_process(which, arguments.depth)
            print(
                f"| {which} | {found['bytes'] / 2**20:.0f} | {found['seconds']:.2f} |", flush=True
            )
        return
    print(f"float32, one thread, kernel set {heed.isa()}; times in ms\n")
    print("| B | T | E | H | | heed | torch | ratio | torch's fast path | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for sizes in SIZES:
        for line in rows(*sizes, budget=arguments.budget):
            print(line, flush=True)


if __name__ == "__main__":
    main()
