"""Loads the C++ operators into `torch.ops.heed`, once."""

from pathlib import Path

import torch

_LIBRARY = Path(__file__).parent / "libheed_ops.so"


def load() -> None:
    if not _LIBRARY.exists():
        raise ImportError(f"heed: {_LIBRARY} is missing; build it with `make build`")
    torch.ops.load_library(str(_LIBRARY))


load()
operators = torch.ops.heed
