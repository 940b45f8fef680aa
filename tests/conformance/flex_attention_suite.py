"""PyTorch's FlexAttention suite as an inventory, on the CPU: forward, log-sum-exp and backward."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module

import torch
from flex_attention_checks import Mod, Sizes, check
from flex_attention_gym import GYM
from flex_attention_mods import BIASES, CORE, MASKS, OTHER
from flex_attention_structure import MODULES, STRUCTURE
from suite import Case, Suite
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Flex = Callable[..., tuple[Tensor, Tensor]]


def flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    score_mod: Callable | None = None,
    mask_mod: Callable | None = None,
    *,
    block_size: int | tuple[int, int] = 128,
    torchs: bool = False,
) -> tuple[Tensor, Tensor]:
    """The mask goes in as a BlockMask, heed's or torch's."""
    from heed.flex_attention import flex_attention

    module = import_module(MODULES["torch" if torchs else "heed"])
    B, H, T, S = *q.shape[:3], k.shape[2]
    block_mask = None
    if mask_mod is not None or q.shape[0] != k.shape[0]:
        mask_mod = mask_mod or module.noop_mask
        block_mask = module.create_block_mask(mask_mod, B, H, T, S, "cpu", block_size)
    gqa = q.shape[1] != k.shape[1]
    return flex_attention(q, k, v, score_mod, block_mask, enable_gqa=gqa, return_lse=True)


def paged(q: Tensor, k: Tensor, v: Tensor, score_mod: Callable) -> tuple[Tensor, Tensor]:
    """Keys and values of all batch elements in pages of 16, in any order, of one long cache."""
    B, Hkv, S, _ = k.shape
    page, pages = 16, S // 16
    place = torch.randperm(B * pages, generator=torch.Generator().manual_seed(3))
    of_batch, logical = place // pages, place % pages

    def cache(x: Tensor) -> Tensor:  # [B,Hkv,S,D] -> [1,Hkv,B S,D]
        by_page = x.unflatten(2, (pages, page)).permute(0, 2, 1, 3, 4).flatten(0, 1)
        return by_page[place].transpose(0, 1).flatten(1, 2).unsqueeze(0)

    def physical(score, b, h, t, s):
        in_page = logical[s // page] * page + s % page
        mine = of_batch[s // page] == b
        return torch.where(mine, score_mod(score, b, h, t, in_page), -torch.inf)

    return flex(q, cache(k), cache(v), physical)


def windows_merged(q: Tensor, k: Tensor, v: Tensor, mask_mod: Callable) -> tuple[Tensor, Tensor]:
    """Causal attention out of a window and the rest, put together by their log-sum-exps."""
    near, lse_near = flex(q, k, v, mask_mod=lambda b, h, t, s: (t >= s) & (t - s < 30))
    far, lse_far = flex(q, k, v, mask_mod=lambda b, h, t, s: t - s >= 30)
    lse = torch.logaddexp(lse_near, lse_far)
    share_near, share_far = (torch.exp(x - lse).unsqueeze(-1) for x in (lse_near, lse_far))
    return (near * share_near + far * share_far).to(q.dtype), lse


def cases_of(mods: Iterable[Mod]) -> Iterator[Case]:
    """Each mod in each dtype."""
    for mod in mods:
        for word, dtype in DTYPES.items():
            run = partial(check, flex, mod, mod.sizes, dtype)
            yield Case(f"{mod.name} {word}", run, fast=dtype == torch.float32)


SHAPES: dict[str, Sizes] = {
    "T < S": Sizes(T=64),
    "4 heads to 1": Sizes(Hkv=1),
    "4 heads to 2": Sizes(Hkv=2),
    "3 batches to 1": Sizes(B=3, Bkv=1),
    "4 batches to 1": Sizes(B=4, Bkv=1, T=50),
    "5 batches to 1, 4 heads to 2": Sizes(B=5, Bkv=1, Hkv=2, S=60),
    "wider values": Sizes(Dv=40),
    "narrower values": Sizes(D=32, Dv=8),
    "decoding": Sizes(T=1, S=200, Hkv=2),
    "decoding four": Sizes(T=4, S=200, Hkv=1),
}
BLOCK_SIZES = (128, 256, (128, 256), (256, 128))
ALSO_FAST = ("alibi", "causal")


def other_sizes(mod: Mod) -> None:
    """One mod over shapes that halve and double, as compiled code sees them with dynamic shapes."""
    for B, T in ((2, 96), (4, 48), (8, 24)):
        check(flex, mod, Sizes(B=B, Bkv=B, T=T, S=T), torch.float32)


def score_mods() -> Iterator[Case]:
    yield from cases_of(CORE)
    for mod in CORE:
        fast = mod.name in ALSO_FAST
        for name, sizes in SHAPES.items():
            for word in ("float32", "float16"):
                run = partial(check, flex, mod, sizes, DTYPES[word])
                yield Case(f"{mod.name}, {name}, {word}", run, fast and word == "float32")
        for size in BLOCK_SIZES:
            yield Case(f"{mod.name}, blocks of {size}", partial(in_blocks, mod, size), fast=False)
        yield Case(f"{mod.name}, other sizes", partial(other_sizes, mod), fast)
        in_pages = partial(check, paged, mod, Sizes(T=32), torch.float32)
        yield Case(f"{mod.name}, paged", in_pages, fast)
    yield from cases_of(OTHER)


def in_blocks(mod: Mod, size: int | tuple[int, int]) -> None:
    both = replace(
        mod, mods=lambda n, *learnt: {"score_mod": mod.mods(n, *learnt), "mask_mod": near}
    )
    sizes = Sizes(B=1, Bkv=1, T=300, S=300)
    for torchs in (False, True):
        check(partial(flex, block_size=size, torchs=torchs), both, sizes, torch.float32)


def near(b, h, t, s):
    return (t - s).abs() < 150


def mask_mods() -> Iterator[Case]:
    yield from cases_of(MASKS)
    causal = next(mod for mod in MASKS if mod.name == "causal_mask")
    for mod in MASKS:
        run = partial(check, partial(flex, torchs=True), mod, mod.sizes, torch.float32)
        yield Case(f"{mod.name} in torch's BlockMask", run, fast=mod is causal)
    for word, dtype in DTYPES.items():
        run = partial(check, windows_merged, causal, causal.sizes, dtype)
        yield Case(f"window and its complement merged {word}", run)


def biases() -> Iterator[Case]:
    yield from cases_of(BIASES)
    for mod in BIASES:
        run = partial(check, flex, mod, mod.sizes, torch.float32, wanted=0)
        yield Case(f"{mod.name}, only the bias learns", run)


SUITES = [
    Suite(
        "FlexAttention score_mods",
        score_mods,
        "torch CPU: forward only, no backward, no lse when compiled",
    ),
    Suite("FlexAttention mask_mods", mask_mods, "torch CPU: forward only"),
    Suite("FlexAttention learnable biases", biases, "torch CPU: 0; symmetric 0 anywhere"),
    Suite("FlexAttention structure", lambda: STRUCTURE, "torch CPU: no backward, no max_scores"),
    Suite("FlexAttention gym and CuTe mods", lambda: cases_of(GYM), "torch CPU: forward only"),
]
