"""Loads the C++ operators into `torch.ops.heed`, once, or says in one line why they can't be used.

`heed/__init__.py` imports this before anything that imports torch.
"""

import sys
import warnings
from pathlib import Path

_LIBRARY = Path(__file__).with_name("libheed_ops.so")

if not _LIBRARY.exists():
    raise ImportError(f"heed: {_LIBRARY} is missing; build it with `make build`")

from heed._build import torch_version, version  # noqa: E402  (they come with the library)

__version__ = version

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError(
        f"heed: needs PyTorch, which {sys.executable} doesn't find; "
        f"pip install torch=={torch_version}"
    ) from None


def check_torch() -> None:
    """The library is C++, so it fits one minor version of torch and one C++ ABI."""
    if torch.__version__.split(".")[:2] != torch_version.split(".")[:2]:
        raise ImportError(
            f"heed: {__version__} was built for PyTorch {torch_version}, and this is "
            f"{torch.__version__} ({torch.__file__}); pip install torch=={torch_version}"
        )
    if not torch.compiled_with_cxx11_abi():
        raise ImportError(
            f"heed: {torch.__file__} was built with the C++ ABI from before C++11 and heed with "
            f"today's; install PyTorch's own wheel, pip install torch=={torch_version}"
        )


def load() -> None:
    check_torch()
    try:
        torch.ops.load_library(str(_LIBRARY))
    except OSError as error:
        reason = error.__cause__ or error
        raise ImportError(
            f"heed: the library doesn't load with PyTorch {torch.__version__}: {reason}; "
            "build heed on this machine, `make wheel`"
        ) from error
    if problem := torch.ops.heed.isa_problem():
        warnings.warn(f"{problem} (kernels in use: {torch.ops.heed.isa()})", stacklevel=2)


load()
operators = torch.ops.heed
