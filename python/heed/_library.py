"""Loads the C++ operators into `torch.ops.heed`, once."""

import warnings
from pathlib import Path

import torch

_LIBRARY = Path(__file__).parent / "libheed_ops.so"


def load() -> None:
    if not _LIBRARY.exists():
        raise ImportError(f"heed: {_LIBRARY} is missing; build it with `make build`")
    torch.ops.load_library(str(_LIBRARY))
    if problem := torch.ops.heed.isa_problem():
        warnings.warn(f"{problem} (kernels in use: {torch.ops.heed.isa()})", stacklevel=2)


load()
operators = torch.ops.heed
