"""What runs here and what the machine can do at most."""

import torch

from heed._library import operators


def isa() -> str:
    """The kernel set in use: "v4bf16" (AVX-512 with bfloat16 products), "v4" (AVX-512),
    "v3" (AVX2), "v2" (SSE4.2) or "ref" (scalar).

    The environment variable HEED_ISA forces one that runs here.
    """
    return operators.isa()


def peak_flops(dtype: torch.dtype = torch.float32) -> float:
    """Measured floating-point operations per second of multiply-adds in registers.

    Counts on torch's current threads, with the widest vectors of this processor; takes about
    0.1 s.

    Args:
        dtype: float32, float64 or, where the processor multiplies pairs of them, bfloat16.

    Raises:
        RuntimeError: another dtype, or one that this processor has no products of.
    """
    return operators.peak_flops(dtype)


def read_bandwidth() -> float:
    """Measured bytes per second read from memory on torch's current threads (0.5 GB buffer)."""
    return operators.read_bandwidth()
