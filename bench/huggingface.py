#!/usr/bin/env python3
"""Times GPT-2 (124M parameters, random weights) in transformers with "heed", "sdpa" and "eager".

One model serves all three: its attention implementation is switched between them. Logits are
compared first; then all work in turns in one process, and generate in turns token by token, with
transformers' own cache. Rows that say so give heed, and only heed, `heed.growing_cache`.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import report
import torch
from measure import CLOCKS
from torch import Tensor, nn

import heed

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

IMPLEMENTATIONS = ("heed", "sdpa", "eager")
HEAD = "| | heed, s | sdpa, s | eager, s | sdpa / heed | eager / heed |\n|---|---:|---:|---:|---:|---:|"


@dataclass(frozen=True)
class Sizes:
    B: int = 2
    T: int = 512
    tokens: int = 256  # generated


Steps = Iterator[None]  # what is timed, one after the other


@dataclass(frozen=True)
class Work:
    name: str
    steps: Callable[[str], Steps]  # by the implementation
    training: bool = False
    dropout: float = 0.0


def works(model: "GPT2LMHeadModel", sizes: Sizes) -> list[Work]:
    B, T, tokens = sizes.B, sizes.T, sizes.tokens
    ids = torch.randint(model.config.vocab_size, (B, T))  # [B,T]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def forward(_: str) -> Steps:
        with torch.no_grad():
            model(ids)
        yield

    def train(_: str) -> Steps:
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield

    seen = (torch.arange(T) >= torch.linspace(0, T / 2, B)[:, None]).long()  # [B,T], padded left

    def generation(count: int, ids: Tensor, seen: Tensor, grows: bool) -> Callable[[str], Steps]:
        def steps(implementation: str) -> Steps:
            yield from generate(model, ids, seen, count, grows and implementation == "heed")

        return steps

    short, long = (ids[:1, :16], seen[:1, :16]), (ids, seen)
    size, after = f"{B} x {T} tokens", f"after {B} x {T // 2} to {T}, padded"
    cached = "; heed with its growing_cache"
    return [
        Work(f"forward, {size}", forward),
        Work(f"training step, {size}", train, training=True),
        Work(f"training step, {size}, dropout 0.1", train, training=True, dropout=0.1),
        *(
            Work(
                f"generation of {count} tokens {place}{cached if grows else ''}",
                generation(count, *texts, grows),
            )
            for count, place, texts in ((tokens, "after 16", short), (tokens // 4, after, long))
            for grows in (False, True)
        ),
    ]


def generate(model: "GPT2LMHeadModel", ids: Tensor, seen: Tensor, count: int, grows: bool) -> Steps:
    """Greedily, with a cache: `model.generate` that stops after each token."""
    from transformers import DynamicCache

    cache = (heed.growing_cache if grows else DynamicCache)(config=model.config)
    for _ in range(count):
        with torch.no_grad():
            logits = model(
                ids, attention_mask=seen, past_key_values=cache, logits_to_keep=1
            ).logits  # [B,1,V]
        ids = logits.argmax(-1)  # [B,1]
        seen = torch.cat([seen, torch.ones_like(ids)], 1)
        yield


def prepare(model: "GPT2LMHeadModel", work: Work, implementation: str) -> None:
    model.set_attn_implementation(implementation)
    model.train(work.training)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = work.dropout


def verify(model: "GPT2LMHeadModel", T: int) -> float:
    """Largest difference of logits to eager's over the largest; raises if one is wrong."""
    logits = {}
    ids = torch.arange(T)[None] % model.config.vocab_size  # [1,T]
    for name in IMPLEMENTATIONS:
        model.eval().set_attn_implementation(name)
        with torch.no_grad():
            logits[name] = model(ids).logits  # [1,T,V]
    right = logits["eager"]
    errors = {
        name: ((found - right).abs().max() / right.abs().max()).item()
        for name, found in logits.items()
    }
    for name, error in errors.items():
        if not error < 1e-4:
            raise SystemExit(f"{name} differs from eager by {error:.2g}, nothing is timed")
    return max(errors.values())


Turn = list[dict[str, float]]  # seconds of each implementation, step by step


def sample(model: "GPT2LMHeadModel", work: Work, turns: int, clock: str) -> list[Turn]:
    """Each turn begins with another implementation."""
    prepare(model, work, "eager")
    next(work.steps("eager"))  # memory as it will be
    found: list[Turn] = []
    for turn in range(turns):
        first = turn % len(IMPLEMENTATIONS)
        order = IMPLEMENTATIONS[first:] + IMPLEMENTATIONS[:first]
        running = {name: work.steps(name) for name in order}
        found.append([])
        while seconds := step(model, work, running, CLOCKS[clock]):
            found[-1].append(seconds)
    return found


def step(
    model: "GPT2LMHeadModel", work: Work, running: dict[str, Steps], now: Callable[[], float]
) -> dict[str, float]:
    """One of each; empty when they are done."""
    seconds = {}
    for name, steps in running.items():
        prepare(model, work, name)
        start = now()
        if next(steps, steps) is not steps:
            seconds[name] = now() - start
    return seconds


def row(work: Work, turns: list[Turn]) -> str:
    """Seconds, the median of turns; ratios, the median of steps."""
    seconds = [
        statistics.median(sum(step[name] for step in turn) for turn in turns)
        for name in IMPLEMENTATIONS
    ]
    ratios = [
        statistics.median(step[name] / step["heed"] for turn in turns for step in turn)
        for name in IMPLEMENTATIONS[1:]
    ]
    cells = [work.name, *(f"{x:.2f}" for x in seconds), *(f"{x:.2f}x" for x in ratios)]
    return f"| {' | '.join(cells)} |"


def section(about: machine.Circumstances, difference: float, rows: list[str], turns: int) -> str:
    return (
        f"```sh\n{about.command}\n```\n\n"
        f"{about.date}. {about.sentence()}, {about.clock} time, load average "
        f"{about.load_average:.1f} before. Medians of {turns} turns, ratios of "
        f"steps, which are tokens in generation; logits "
        f"differ by {difference:.0e} of the largest at most.\n\n" + "\n".join([HEAD, *rows]) + "\n"
    )


def write(page: Path, section: str) -> None:
    """A new page, or one more section of it."""
    title = f"# GPT-2 in transformers\n\n{__doc__.strip()}\n"
    report.write(page, (page.read_text("utf-8") if page.exists() else title) + "\n" + section)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--turns", type=int, default=5, help="samples of each")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: for busy machines")
    parser.add_argument("--tokens", type=int, default=Sizes.tokens, help="generated")
    parser.add_argument("--works", default="", metavar="TEXT", help="only those with TEXT in them")
    parser.add_argument("--tiny", action="store_true", help="a small model, to try the bench")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="add the table to a page")
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads != 1:
        parser.error("--clock cpu adds up all threads' time; it needs --threads 1")
    return arguments


def small_or_gpt2(tiny: bool) -> "GPT2LMHeadModel":
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**({"n_layer": 2, "n_embd": 48} if tiny else {})))


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    heed.register_with_transformers()
    model = small_or_gpt2(arguments.tiny)
    sizes = Sizes(T=32 if arguments.tiny else Sizes.T, tokens=arguments.tokens)
    about = machine.circumstances(arguments.clock)
    difference = verify(model, sizes.T)
    rows: list[str] = []
    print(HEAD)
    for work in works(model, sizes):
        if arguments.works in work.name:
            rows.append(row(work, sample(model, work, arguments.turns, arguments.clock)))
            print(rows[-1], flush=True)
    text = section(about, difference, rows, arguments.turns)
    print("", text, sep="\n")
    if arguments.markdown:
        write(arguments.markdown, text)


if __name__ == "__main__":
    main()
