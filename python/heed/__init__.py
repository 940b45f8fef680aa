"""Heed: attention in one fused engine, for torch tensors on the CPU.

Every function takes and returns torch tensors and is differentiable. Letters in shapes: B batch,
H query heads, Hkv key/value heads (H % Hkv == 0), T queries, S keys, D width of a query and a
key, Dv width of a value.
"""

from typing import TYPE_CHECKING

from heed._library import __version__  # says in one line what is wrong with torch

# isort: split
from heed import flash_attn, onnx
from heed.attention import attention, attention_weights
from heed.errors import ProgramError
from heed.flex_attention import BlockMask, and_masks, create_block_mask, flex_attention, or_masks
from heed.huggingface import growing_cache, register_with_transformers
from heed.linear_attention import linear_attention
from heed.machine import isa, peak_flops, read_bandwidth
from heed.replace_torch import replace_torch_attention
from heed.sdpa import scaled_dot_product_attention
from heed.stats import attention_stats
from heed.trace import trace_program
from heed.varlen import varlen_attention

__all__ = [
    "BlockMask",
    "ProgramError",
    "__version__",
    "and_masks",
    "attention",
    "attention_stats",
    "attention_weights",
    "create_block_mask",
    "flash_attn",
    "flex_attention",
    "growing_cache",
    "isa",
    "linear_attention",
    "nn",
    "onnx",
    "or_masks",
    "peak_flops",
    "read_bandwidth",
    "register_with_transformers",
    "replace_torch_attention",
    "scaled_dot_product_attention",
    "trace_program",
    "varlen_attention",
]

if TYPE_CHECKING:
    from heed import nn
else:

    def __getattr__(name):
        """heed.nn, on its first use: its modules would make this import half as long again."""
        if name == "nn":
            import heed.nn

            return heed.nn
        raise AttributeError(f"module 'heed' has no attribute {name!r}")
