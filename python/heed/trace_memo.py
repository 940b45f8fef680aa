"""Programs that were traced before. A mod with the same code that captures the same numbers, and
tensors of the same types and sizes, says the same again: tracing it costs several short calls.
"""

import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_NUMBERS = (type(None), bool, int, str)  # and float, whose zeros are equal but not the same
_CONSTANT_MODULES = ("torch", "math")
_LONGEST = 1000  # programs; then all are forgotten


@dataclass(frozen=True)
class KnownProgram:
    text: str
    tables: list[int]  # numbers of captured tensors, in the order in which the text names them


class Fingerprint:
    """`key` names all that a trace of mods depends on; None where that can't be told, as of what
    may change and stay the same object. `tensors` are those that they capture.
    """

    def __init__(self, dtype: torch.dtype, *mods: Callable | None) -> None:
        self.tensors: list[Tensor] = []
        self.key: tuple | None = None
        with suppress(_Unknown, ValueError, RecursionError):  # a cell is empty, a mod calls itself
            self.key = (dtype, *map(self._mark, mods))

    def _mark(self, x: Any) -> Any:
        kind = type(x)
        if kind in _NUMBERS:
            return kind, x
        if kind is Tensor or kind is torch.nn.Parameter:
            return self._tensor(x)
        if kind is types.FunctionType:
            return self._function(x)
        if kind is float:
            return x.hex()
        if kind is tuple:
            return kind, *map(self._mark, x)
        if kind is types.ModuleType and x.__name__.split(".")[0] in _CONSTANT_MODULES:
            return x.__name__
        raise _Unknown

    def _tensor(self, x: Tensor) -> tuple:
        for number, known in enumerate(self.tensors):
            if known is x:
                return (number,)
        self.tensors.append(x)
        return x.dtype, x.shape

    def _function(self, function: types.FunctionType) -> tuple:
        code = function.__code__
        if any(type(constant) is types.CodeType for constant in code.co_consts):
            raise _Unknown  # what a function inside reads
        outside = function.__globals__
        read = [outside[name] for name in code.co_names if name in outside]
        read += [cell.cell_contents for cell in function.__closure__ or ()]
        defaults = function.__defaults__, function.__kwdefaults__
        return code, *map(self._mark, (*read, *defaults))


class _Unknown(Exception):
    pass


_known: dict[tuple, KnownProgram] = {}


def recall(fingerprint: Fingerprint) -> tuple[str, list[Tensor]] | None:
    """The text and its tables."""
    if fingerprint.key is None or (program := _known.get(fingerprint.key)) is None:
        return None
    return program.text, [fingerprint.tensors[number] for number in program.tables]


def remember(fingerprint: Fingerprint, text: str, tables: list[Tensor]) -> None:
    """Unless a table was made while tracing: then what it is made of is not in the program."""
    numbers = {id(tensor): number for number, tensor in enumerate(fingerprint.tensors)}
    if fingerprint.key is None or any(id(table) not in numbers for table in tables):
        return
    if len(_known) == _LONGEST:
        _known.clear()
    _known[fingerprint.key] = KnownProgram(text, [numbers[id(table)] for table in tables])
