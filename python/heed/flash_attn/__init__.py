"""`heed.flash_attn`: the functions of the flash-attn package (Dao 2023), for tensors on the CPU.

Signatures, layouts [B,T,H,D], the corner that causal and windows count from and what is returned
are that package's. Letters in shapes: B batch, H query heads, Hkv key/value heads (H % Hkv == 0),
T queries, S keys, D head size.
"""

from heed.flash_attn.functions import (
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
)
from heed.flash_attn.kvcache import flash_attn_with_kvcache

__all__ = [
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
]
