"""Heed: attention in one fused engine, for torch tensors on the CPU.

Every function takes and returns torch tensors and is differentiable. Letters in shapes: B batch,
H query heads, Hkv key/value heads (H % Hkv == 0), T queries, S keys, D width of a query and a
key, Dv width of a value.
"""

from heed.attention import attention, attention_weights
from heed.errors import ProgramError
from heed.linear_attention import linear_attention
from heed.machine import isa, peak_flops, read_bandwidth
from heed.stats import attention_stats
from heed.trace import trace_program
from heed.varlen import varlen_attention

__all__ = [
    "ProgramError",
    "attention",
    "attention_stats",
    "attention_weights",
    "isa",
    "linear_attention",
    "peak_flops",
    "read_bandwidth",
    "trace_program",
    "varlen_attention",
]
