"""Stand-ins for the numbers that a score_mod or mask_mod is called with, and the instructions they
write down. What torch's functions do to them is in trace_functions.py.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from heed.errors import ProgramError

_TYPES = {"bool": bool, "int": int, "float": float}  # each is promoted to those after it

UNKNOWN = (
    "not an operation of score programs; write it with arithmetic, comparisons, & | ~, "
    "torch.where, abs, exp, log, tanh, sigmoid, sqrt, floor, minimum, maximum or pow"
)
_UNKNOWN_VALUE = "its value isn't known while tracing"
_SINGLE = "score, b, h, t and s are single numbers"
_REFUSED = {
    "__bool__": (
        "if, and, or, not, in, min, max",
        f"{_UNKNOWN_VALUE}; write torch.where(condition, a, b) for a choice, & | ~ for logic, "
        "torch.minimum or torch.maximum",
    ),
    "__index__": (
        "range or an index of a list or numpy array",
        f"{_UNKNOWN_VALUE}; index a torch tensor instead",
    ),
    "__int__": ("int()", f"{_UNKNOWN_VALUE}; write x.int()"),
    "__float__": ("float() or math", f"{_UNKNOWN_VALUE}; write x.float() or torch.exp(x)"),
    "__array__": ("numpy", f"{_UNKNOWN_VALUE}; use torch's functions"),
    "__iter__": ("iteration", _SINGLE),
    "__len__": ("len()", _SINGLE),
    "__setitem__": ("x[...] =", _SINGLE),
    "__matmul__": ("@", _SINGLE),
    "__rmatmul__": ("@", _SINGLE),
    "item": ("item()", f"{_UNKNOWN_VALUE}; use the number as it is"),
    "tolist": ("tolist()", f"{_UNKNOWN_VALUE}; use the number as it is"),
    "numpy": ("numpy()", f"{_UNKNOWN_VALUE}; use torch's functions"),
    "detach": ("detach()", "a program is differentiated whole; detach what it captures instead"),
}


def refuse(operation: str, problem: str, line: str | None = None) -> NoReturn:
    raise ProgramError(
        f"[program] {line_of_the_mod() if line is None else line}{operation}: {problem}"
    )


_SKIPPED = (os.path.dirname(__file__) + os.sep, os.path.dirname(torch.__file__) + os.sep)


def line_of_the_mod() -> str:
    """'file:line: ' of the innermost caller that is neither Heed nor torch."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}: "


def kind_of(dtype: torch.dtype) -> str:
    if dtype.is_complex:
        refuse(str(dtype), "score programs have no complex numbers")
    return "bool" if dtype == torch.bool else "float" if dtype.is_floating_point else "int"


def _a(type: str) -> str:
    return f"an {type}" if type == "int" else f"a {type}"


def _used_whole(shape: Sequence[int]) -> str:
    sizes = ",".join(map(str, shape))
    example = ", ".join("bhts"[-len(shape) :]) if len(shape) <= 4 else "..."
    return f"a captured tensor of shape [{sizes}] is used whole; index it, as in x[{example}]"


if TYPE_CHECKING:

    class _Operators:
        """Python's operators, for type checkers: trace_functions.py gives them to Proxy."""

        def _unary(self) -> "Proxy": ...
        def _binary(self, other: Any) -> "Proxy": ...

        __neg__ = __abs__ = __invert__ = _unary
        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = _binary
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rpow__ = _binary
        __and__ = __or__ = __xor__ = __lt__ = __le__ = __gt__ = __ge__ = _binary
        __eq__ = __ne__ = _binary  # type: ignore[assignment]
else:
    _Operators = object


class Proxy(_Operators):
    """A number that isn't known yet: `node` is an instruction's number, or the text of a leaf or
    constant; `kind` is "float", "int" or "bool"; `value` is a constant's."""

    __slots__ = ("recorder", "node", "kind", "value")
    __hash__ = object.__hash__  # operators are added by trace_functions.py, == among them

    def __init__(self, recorder: "Recorder", node: int | str, kind: str, value: Any = None) -> None:
        self.recorder, self.node, self.kind, self.value = recorder, node, kind, value

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})

    def __array_ufunc__(self, ufunc, method, *inputs, **named):
        function = FUNCTIONS.get(ufunc.__name__)
        if function is None or method != "__call__":
            refuse(f"numpy.{ufunc.__name__}", UNKNOWN)
        return function(self.recorder, f"numpy.{ufunc.__name__}", *inputs)

    def __repr__(self) -> str:
        return f"<{self.kind} not known while tracing>"

    def __getitem__(self, index: Any) -> "Proxy":
        if index is not None and index is not Ellipsis and index != ():
            refuse("x[...]", f"{_SINGLE}; index a captured tensor")
        return self

    def assign(self, result: "Proxy") -> "Proxy":
        """An in-place operation: all who hold this number see the new one."""
        order = list(_TYPES)
        if order.index(result.kind) > order.index(self.kind):
            refuse("in place", f"{_a(result.kind)} can't be stored in {_a(self.kind)}")
        result = self.recorder.cast(result, self.kind)
        self.node, self.value = result.node, result.value
        return self

    # What a 0-dimensional tensor says about itself.
    shape = torch.Size([])
    ndim = 0
    device = torch.device("cpu")
    requires_grad = False

    @property
    def dtype(self) -> torch.dtype:
        return {"float": self.recorder.dtype, "int": torch.int64, "bool": torch.bool}[self.kind]

    def dim(self) -> int:
        return 0

    def numel(self) -> int:
        return 1

    def size(self) -> torch.Size:
        return self.shape

    def is_floating_point(self) -> bool:
        return self.kind == "float"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and hasattr(Tensor, name):
            refuse(f"Tensor.{name}", UNKNOWN)
        raise AttributeError(f"a number of a score program has no attribute {name!r}")


class Indexed:
    """A captured tensor with an index at some dimensions (`at`) and none yet at others (None): what
    bias[h] is before its [t]."""

    __slots__ = ("recorder", "tensor", "at")

    def __init__(self, recorder: "Recorder", tensor: Tensor, at: list[Proxy | None]) -> None:
        self.recorder, self.tensor, self.at = recorder, tensor, at

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})

    @property
    def shape(self) -> torch.Size:
        return torch.Size(n for n, at in zip(self.tensor.shape, self.at, strict=True) if at is None)

    def __getitem__(self, index: Any) -> "Proxy | Indexed":
        return indexed(self, index)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and hasattr(Tensor, name):
            refuse(f"Tensor.{name}", _used_whole(self.shape))
        raise AttributeError(f"an indexed tensor has no attribute {name!r}")


class Row:
    """Several numbers that aren't known yet, as points[t] of a captured [T,3]: on the way to one."""

    __slots__ = ("recorder", "numbers", "line")
    longest = 16  # each is written out

    def __init__(self, recorder: "Recorder", numbers: list[Proxy]) -> None:
        self.recorder, self.numbers, self.line = recorder, numbers, line_of_the_mod()

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})

    @property
    def shape(self) -> torch.Size:
        return torch.Size([len(self.numbers)])

    def __getitem__(self, index: int) -> Proxy:
        if not isinstance(index, int):
            refuse("x[...]", "expected an integer that is known now")
        return self.numbers[index]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and hasattr(Tensor, name):
            refuse(f"Tensor.{name}", _used_whole(self.shape))
        raise AttributeError(f"a row of numbers has no attribute {name!r}")


def row_of(recorder: "Recorder", x: Any) -> Row | None:
    """x as a Row, if it is one or a short vector; None if it is one number or too many."""
    if isinstance(x, Row):
        return x
    if not isinstance(x, (Tensor, Indexed)) or len(x.shape) != 1 or x.shape[0] > Row.longest:
        return None
    return Row(recorder, [recorder.lift(x[i]) for i in range(x.shape[0])])


def _refusing(operation: str, problem: str) -> Callable:
    def method(self, *arguments, **named):
        refuse(operation, problem)

    return method


for _name, _why in _REFUSED.items():
    setattr(Proxy, _name, _refusing(*_why))
for _name in ("__bool__", "__iter__", "__len__", "__setitem__", "__matmul__"):
    for _several in (Indexed, Row):
        _why = (_REFUSED[_name][0], "index the captured tensor fully first")
        setattr(_several, _name, _refusing(*_why))


def indexed(base: Indexed, index: Any) -> Proxy | Indexed:
    """base[index], with torch's meaning: numbers not known yet are kept, all else is done now."""
    tensor, at, recorder = base.tensor, list(base.at), base.recorder
    items = index if isinstance(index, tuple) else (index,)
    given = sum(item is not None and item is not Ellipsis for item in items)
    left_out = len(base.shape) - given
    if left_out < 0:
        refuse("x[...]", f"{given} indices for a tensor of {len(base.shape)} dimensions")
    dim = 0
    for item in items:
        if item is Ellipsis:
            while left_out:
                left_out -= at[dim] is None
                dim += 1
            continue
        while dim < len(at) and at[dim] is not None:
            dim += 1
        if item is None:
            tensor = tensor.unsqueeze(dim)
            at.insert(dim, None)
        elif isinstance(item, slice):
            if find_traced((item.start, item.stop, item.step)) is not None:
                refuse("x[a:b]", f"{_UNKNOWN_VALUE}; add an offset to the index instead")
            tensor = tensor[(slice(None),) * dim + (item,)]
        else:
            at[dim] = recorder.index(item, tensor.shape[dim])
        dim += 1
    known = [item for item in at if item is not None]
    if len(known) < len(at):
        return Indexed(recorder, tensor, at)
    return recorder.lookup(tensor, known)


class Recorder:
    """The instructions that were written so far and the tensors they capture."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype  # of the score
        self.instructions: list[tuple] = []  # (operation, *nodes); (TABLE, table, *nodes)
        self.known: dict[tuple, int] = {}
        self.tables: list[Tensor] = []
        self.captured: dict[int, int] = {}  # id of a tensor -> its place in tables
        self.born: dict[int, Tensor] = {}  # 0-dimensional tensors that the mod itself made
        self.repeatable = True  # whether other tensors of the same sizes would give the same

    def add(self, type: str, *instruction: Any) -> Proxy:
        """The result of an instruction; the same one twice is written once."""
        node = self.known.get(instruction)
        if node is None:
            node = self.known[instruction] = len(self.instructions)
            self.instructions.append(instruction)
        return Proxy(self, node, type)

    def constant(self, value: bool | int | float) -> Proxy:
        if isinstance(value, bool):
            return Proxy(self, "true" if value else "false", "bool", value)
        if isinstance(value, int):
            return Proxy(self, str(int(value)), "int", value)
        return Proxy(self, repr(float(value)), "float", value)

    def cast(self, x: Proxy, type: str) -> Proxy:
        if x.kind == type:
            return x
        if x.value is not None and abs(x.value) < 2**53:  # else an infinity or a NaN
            return self.constant(_TYPES[type](x.value))
        return self.add(type, type, x.node)

    def promoted(self, *numbers: Proxy) -> tuple[str, list[Proxy]]:
        """The type that numbers have together, and they in it."""
        order = list(_TYPES)
        type = order[max(order.index(x.kind) for x in numbers)]
        return type, [self.cast(x, type) for x in numbers]

    def lookup(self, tensor: Tensor, at: Sequence[Proxy]) -> Proxy:
        if id(tensor) not in self.captured:
            self.captured[id(tensor)] = len(self.tables)
            self.tables.append(tensor)
        table = self.captured[id(tensor)]
        return self.add(kind_of(tensor.dtype), TABLE, table, *(index.node for index in at))

    def lift(self, x: Any, operation: str = "arithmetic") -> Proxy:
        """Whatever stands for one number, as a number of the program."""
        if isinstance(x, Proxy):
            return x
        if isinstance(x, (int, float)):
            return self.constant(x)
        if isinstance(x, (Tensor, Indexed, Row)):
            if not isinstance(x, Tensor) or x.dim() > 0:
                refuse(operation, _used_whole(x.shape), getattr(x, "line", None))
            if not x.requires_grad:
                self.repeatable = False
                # An infinity is worth knowing: where(c, score, -inf) is a mask.
                if id(x) in self.born or bool(torch.isinf(x)):
                    return self.constant(x.item())
            return self.lookup(x, ())
        if isinstance(x, torch.SymInt):
            return self.constant(int(x))
        if getattr(x, "ndim", None) == 0 and hasattr(x, "item"):  # numpy's numbers
            return self.lift(x.item(), operation)
        refuse(operation, f"expected a number, got {type(x).__name__}")

    def index(self, x: Any, size: int) -> Proxy:
        """x as an index of a dimension of that size."""
        if isinstance(x, (list, tuple)) or getattr(x, "ndim", 0) > 0:
            refuse("x[...]", "expected one number as index, got several")
        x = self.lift(x, "x[...]")
        if x.kind != "int":
            refuse("x[...]", f"expected an integer as index, got {_a(x.kind)}; write .int()")
        if x.value is None:
            return x
        if not -size <= x.value < size:
            refuse("x[...]", f"index {x.value} is out of bounds for a dimension of size {size}")
        return self.constant(x.value % size)


TABLE = "table"
FUNCTIONS: dict[str, Callable] = {}  # by torch's name: trace_functions.py


def find_traced(arguments: Iterable) -> Proxy | Indexed | Row | None:
    """The first stand-in among arguments; tuples and lists are looked into, one level deep."""
    for x in arguments:
        if isinstance(x, _STAND_INS):
            return x
        if isinstance(x, (tuple, list)):
            for item in x:
                if isinstance(item, _STAND_INS):
                    return item
    return None


_STAND_INS = (Proxy, Indexed, Row)


def dispatch(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A function or method of torch that has stand-ins among its arguments."""
    name = func.__name__
    traced = find_traced((*args, *kwargs.values()))
    assert traced is not None  # torch calls this because of it
    recorder = traced.recorder
    if name == "__getitem__":
        base, index = args
        if isinstance(base, Tensor):
            base = Indexed(recorder, base, [None] * base.dim())
        return base[index]
    spoken = _spoken(func)
    if name == "__setitem__" or kwargs.get("out") is not None:
        refuse(spoken, "a program can't write into a captured tensor")
    function = FUNCTIONS.get(name)
    if function is not None:
        return function(recorder, spoken, *args, **kwargs)
    function = FUNCTIONS.get(name[:-1]) if name.endswith("_") else None
    if function is None:
        refuse(spoken, UNKNOWN)
    if not isinstance(args[0], Proxy):
        refuse(spoken, "a program can't write into a captured tensor")
    return args[0].assign(function(recorder, spoken, *args, **kwargs))


def _spoken(func: Callable) -> str:
    """How a function is called where it was called: torch.exp, Tensor.exp."""
    owner = getattr(func, "__objclass__", None)
    if owner is not None:
        return f"Tensor.{func.__name__}"
    module = getattr(func, "__module__", None) or "torch"
    return f"{'torch' if module.startswith('torch._') else module}.{func.__name__}"
