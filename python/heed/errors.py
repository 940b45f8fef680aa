"""The package's own errors, and what the operators raise brought to them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_OF_A_PROGRAM = re.compile(r"\[\w+\] program: ")


class ProgramError(RuntimeError):
    """A score_mod or mask_mod that can't become a score program; names the operation and line."""


@contextmanager
def program_errors() -> Iterator[None]:
    """An operator's complaint about its program leaves the block as ProgramError."""
    try:
        yield
    except RuntimeError as error:
        if _OF_A_PROGRAM.match(str(error)):
            raise ProgramError(str(error)) from None
        raise
