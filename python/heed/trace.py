"""From a Python score_mod and mask_mod to a score program: its text and the tensors it captures."""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

import heed.trace_functions  # noqa: F401  (teaches the stand-ins torch's functions)
from heed.program_text import declaration
from heed.trace_memo import Fingerprint, recall, remember
from heed.traced import TABLE, Proxy, Recorder, dispatch, find_traced, refuse

Mod = Callable[..., Any]


@dataclass(frozen=True)
class TracedProgram:
    """A score program: `text` in the language of programs, empty where the score stays as it is and
    nothing is masked, and the captured tensors that it names table0, table1, ...
    """

    text: str
    tables: list[Tensor]

    def __str__(self) -> str:
        return self.text or "score = dot\n"


def trace_program(
    score_mod: Mod | None = None,
    mask_mod: Mod | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> TracedProgram:
    """Writes down what score_mod(score, b, h, t, s) and mask_mod(b, h, t, s) compute.

    Each is called once, with stand-ins that behave like 0-dimensional tensors: score of `dtype`,
    and the integers b, h, t, s. Allowed are Python's operators, torch's pointwise functions and
    methods, indexing of captured tensors (`bias[h, t - s + T]`, `doc[t] == doc[s]`) and
    torch.autograd.Function, of which the forward is used and differentiated. A captured
    0-dimensional tensor stands for its value. What happens to captured tensors alone happens now,
    so gradients pass through it. A mod need not be called again where one of the same code captures
    the same numbers and tensors of the same types and sizes.

    Args:
        score_mod: gives the score that the softmax sees; None: the score as it is.
        mask_mod: true where query t sees key s; None: everywhere.
        dtype: the score's, as `score.dtype` shows it.

    Returns:
        The program's text and the tensors it captures, in the order in which the text names them.

    Raises:
        ProgramError: what a program can't say, such as `if score > 0:`; names operation and line.
    """
    # torch.compile would look into every function that tracing calls.
    trace = _outside_of_compiled_code() if "torch._dynamo" in sys.modules else _trace
    return trace(score_mod, mask_mod, dtype)


# A compiled graph breaks here.
trace_program._torchdynamo_disable = True  # type: ignore[attr-defined]


@cache
def _outside_of_compiled_code() -> Callable:
    return torch._dynamo.disable(_trace)


def _trace(score_mod: Mod | None, mask_mod: Mod | None, dtype: torch.dtype) -> TracedProgram:
    fingerprint = Fingerprint(dtype, score_mod, mask_mod)
    if (known := recall(fingerprint)) is not None:
        return TracedProgram(*known)
    recorder = Recorder(dtype)
    program = _record(recorder, score_mod, mask_mod)
    if recorder.repeatable:
        remember(fingerprint, program.text, program.tables)
    return program


def _record(recorder: Recorder, score_mod: Mod | None, mask_mod: Mod | None) -> TracedProgram:
    with _Listening(recorder):
        score = None if score_mod is None else _score(recorder, score_mod)
        mask = None if mask_mod is None else _mask(recorder, mask_mod)
    if score is not None and score.node == "dot":
        score = None
    if score is None and (mask is None or mask.value is True):
        return TracedProgram("", [])
    return _Printer(recorder).program(score, mask)


def _score(recorder: Recorder, mod: Mod) -> Proxy:
    b, h, t, s = (Proxy(recorder, name, "int") for name in "bhts")
    result = mod(Proxy(recorder, "dot", "float"), b, h, t, s)
    if result is None:
        refuse("score_mod", "expected it to return the new score, got None")
    return recorder.cast(recorder.lift(result, "score_mod's result"), "float")


def _mask(recorder: Recorder, mod: Mod) -> Proxy | None:
    result = mod(*(Proxy(recorder, name, "int") for name in "bhts"))
    if result is None:
        return None
    return recorder.cast(recorder.lift(result, "mask_mod's result"), "bool")


class _Listening(TorchFunctionMode):
    """While a mod runs, sees each function of torch that is called."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __enter__(self):
        _watch_functions(+1)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        _watch_functions(-1)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if find_traced(args) is not None or find_traced(kwargs.values()) is not None:
            return dispatch(func, args, kwargs)
        result = func(*args, **kwargs)
        self.recorder.repeatable = False
        if isinstance(result, Tensor) and result.dim() == 0 and self._only_born(args):
            self.recorder.born[id(result)] = result
        return result

    def _only_born(self, args: tuple) -> bool:
        return all(id(x) in self.recorder.born for x in args if isinstance(x, Tensor))


# Function.apply is C++ and wants tensors. While any thread traces, it first looks for stand-ins.

_apply = Function.__dict__["apply"]
_traces = 0
_lock = threading.Lock()


def _watch_functions(change: int) -> None:
    global _traces
    with _lock:
        _traces += change
        if _traces == max(change, 0):  # the first came or the last went
            apply = classmethod(_apply_or_trace) if _traces else _apply
            Function.apply = apply  # type: ignore[assignment, method-assign]


def _apply_or_trace(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
    if find_traced(args) is None:
        return _apply.__get__(None, cls)(*args, **kwargs)
    if cls.setup_context is not Function.setup_context:
        return cls.forward(*args, **kwargs)
    return cls.forward(_Context(), *args, **kwargs)


class _Context:
    """A Function's ctx. What is kept for its own backward goes unused."""

    def save_for_backward(self, *tensors: Any) -> None: ...
    def save_for_forward(self, *tensors: Any) -> None: ...
    def mark_dirty(self, *tensors: Any) -> None: ...
    def mark_non_differentiable(self, *tensors: Any) -> None: ...
    def set_materialize_grads(self, value: bool) -> None: ...


_INFIX = {"+", "-", "*", "/", "//", "%", "<", "<=", "==", "!=", "&", "|"}


class _Printer:
    """Writes the instructions that score and mask need, tables numbered by their first use."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.names: dict[int, str] = {}  # of nodes
        self.tables: dict[int, int] = {}  # the recorder's number -> the text's

    def program(self, score: Proxy | None, mask: Proxy | None) -> TracedProgram:
        wanted = {"score": score, "mask": mask}
        roots = {name: root.node for name, root in wanted.items() if root is not None}
        lines: list[str] = []
        for node in sorted(self.needed(list(roots.values()))):
            lines.append(f"x{len(lines)} = {self.expression(*self.recorder.instructions[node])}")
            self.names[node] = f"x{len(lines) - 1}"
        lines += [f"{name} = {self.name(node)}" for name, node in roots.items()]
        tensors = [self.recorder.tables[table] for table in self.tables]
        declared = [declaration(n, tensor) for n, tensor in enumerate(tensors)]
        return TracedProgram("\n".join([*declared, *lines, ""]), tensors)

    def needed(self, waiting: list[int | str]) -> set[int]:
        found: set[int] = set()
        while waiting:
            node = waiting.pop()
            if isinstance(node, int) and node not in found:
                found.add(node)
                operation, *nodes = self.recorder.instructions[node]
                waiting += nodes[1:] if operation == TABLE else nodes
        return found

    def name(self, node: int | str) -> str:
        return self.names[node] if isinstance(node, int) else node

    def expression(self, operation: str, *nodes: int | str) -> str:
        if operation == TABLE:
            table = self.tables.setdefault(int(nodes[0]), len(self.tables))
            return f"table{table}[{', '.join(map(self.name, nodes[1:]))}]"
        names = [self.name(node) for node in nodes]
        if len(names) == 2 and operation in _INFIX:
            left, right = (f"({name})" if name.startswith("-") else name for name in names)
            return f"{left} {operation} {right}"
        if operation in ("-", "~"):
            return operation + names[0]
        return f"{operation}({', '.join(names)})"
