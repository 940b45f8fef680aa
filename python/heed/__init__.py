"""Heed: attention in one fused engine, for torch tensors on the CPU.

Every function takes and returns torch tensors and is differentiable. Letters in shapes: B batch,
H query heads, Hkv key/value heads (H % Hkv == 0), T queries, S keys, D width of a query and a
key, Dv width of a value.
"""

from heed.attention import attention, attention_weights
from heed.machine import isa, peak_flops, read_bandwidth

__all__ = ["attention", "attention_weights", "isa", "peak_flops", "read_bandwidth"]
