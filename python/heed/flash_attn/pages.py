"""Keys that lie in pages: sequence b's in the pages that block_table[b] names, in that order."""

from collections.abc import Sequence

import torch
from torch import Tensor

from heed.flash_attn.checks import fail


def packed_pages(op: str, pages: Tensor, block_table: Tensor, lengths: Sequence[int]) -> Tensor:
    """A copy of each sequence's first keys, one sequence after the other: [sum S,Hkv,D]."""
    sequences = [
        sequence_of_pages(op, pages, table, length)
        for table, length in zip(block_table, lengths, strict=True)
    ]
    return torch.cat([pages.new_empty(0, *pages.shape[2:]), *sequences])


def sequence_of_pages(op: str, pages: Tensor, table: Tensor, length: int) -> Tensor:
    """A copy of one sequence's first keys [length,Hkv,D] from pages [N,P,Hkv,D]; `table` [M]."""
    N, P = pages.shape[:2]
    count = -(-length // max(P, 1))
    if count > table.shape[0] or length > count * P:
        fail(op, "block_table", f"pages of {P} for {length} keys", f"{table.shape[0]} pages")
    used = table[:count]
    check_pages(op, used, N)
    return pages.index_select(0, used).flatten(0, 1)[:length]


def check_pages(op: str, used: Tensor, N: int) -> None:
    wrong = used[(used < 0) | (used >= N)]
    if wrong.numel() > 0:
        fail(op, "block_table", f"pages in [0, {N})", int(wrong[0]))


def places(block_table: Tensor, positions: Tensor, P: int) -> tuple[Tensor, Tensor]:
    """(page, row in the page) of the keys at positions int64 [B,n] of their sequences."""
    return block_table.gather(1, torch.div(positions, P, rounding_mode="floor")), positions % P
