"""What Python's operators and torch's functions come to in the language of score programs, also as
methods of the stand-ins.
"""

import math
import re
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from heed.traced import FUNCTIONS, Indexed, Proxy, Recorder, Row, indexed, kind_of, refuse, row_of


def _function(*names: str, numbers: int = 1) -> Callable:
    """Registers a function under torch's names; its first `numbers` arguments arrive as Proxy, those
    of a row one after the other."""

    def register(function: Callable) -> Callable:
        def call(recorder: Recorder, spoken: str, *args: Any, **named: Any) -> Any:
            if "input" in named:
                args = (named.pop("input"), *args)
            named.pop("out", None)
            if any(isinstance(x, (Indexed, Row)) for x in args):
                return _each(call, recorder, spoken, args, named)
            lifted = [recorder.lift(x, spoken) for x in args[:numbers]]
            try:
                return function(*lifted, *args[numbers:], **named)
            except TypeError as error:  # an argument that is not known here
                refuse(spoken, str(error))

        for name in names:
            FUNCTIONS[name] = call
        return function

    return register


def _each(call: Callable, recorder: Recorder, spoken: str, args: tuple, named: dict) -> Any:
    rows = [row_of(recorder, x) for x in args]
    lengths = {len(row.numbers) for row in rows if row is not None}
    if len(lengths) != 1:
        for x in args:
            recorder.lift(x, spoken)  # refuses the one that is too long
        refuse(spoken, f"rows of different lengths: {sorted(lengths)}")
    one_each = (
        [x if row is None else row.numbers[i] for x, row in zip(args, rows, strict=True)]
        for i in range(lengths.pop())
    )
    return Row(recorder, [call(recorder, spoken, *each, **named) for each in one_each])


# Arithmetic. Booleans count as 0 and 1; an integer and a float give a float.


def _infix(operator: str, x: Proxy, y: Proxy) -> Proxy:
    recorder = x.recorder
    if x.kind == "bool":
        x = recorder.cast(x, "int")
    if y.kind == "bool":
        y = recorder.cast(y, "int")
    is_float = operator == "/" or "float" in (x.kind, y.kind)
    return recorder.add("float" if is_float else "int", operator, x.node, y.node)


@_function("add", numbers=2)
def _add(x: Proxy, y: Proxy, *, alpha: Any = 1) -> Proxy:
    if x.kind == y.kind == "bool":
        return _or(x, y)
    return _infix("+", x, y if alpha == 1 else y * alpha)


@_function("sub", "subtract", numbers=2)
def _sub(x: Proxy, y: Proxy, *, alpha: Any = 1) -> Proxy:
    return _infix("-", x, y if alpha == 1 else y * alpha)


@_function("mul", "multiply", numbers=2)
def _mul(x: Proxy, y: Proxy) -> Proxy:
    return _and(x, y) if x.kind == y.kind == "bool" else _infix("*", x, y)


@_function("div", "divide", "true_divide", numbers=2)
def _div(x: Proxy, y: Proxy, *, rounding_mode: str | None = None) -> Proxy:
    if rounding_mode == "floor":
        return _infix("//", x, y)
    quotient = _infix("/", x, y)
    if rounding_mode is None:
        return quotient
    return quotient.int() if x.kind == y.kind == "int" else _trunc(quotient)


@_function("floor_divide", numbers=2)
def _floor_divide(x: Proxy, y: Proxy) -> Proxy:
    return _infix("//", x, y)


@_function("remainder", numbers=2)
def _remainder(x: Proxy, y: Proxy) -> Proxy:
    return _infix("%", x, y)


@_function("fmod", numbers=2)
def _fmod(x: Proxy, y: Proxy) -> Proxy:
    size = _infix("%", _abs(x), _abs(y))
    return _where(x < 0, -size, size)


@_function("pow", "float_power", "power", numbers=2)
def _pow(x: Proxy, y: Proxy) -> Proxy:
    # Products and roots are faster than a general power, and right where x is negative.
    match y.value:
        case 1:
            return x
        case 2:
            return x * x
        case 3:
            return x * x * x
        case 0.5:
            return _sqrt(x)
        case -1:
            return 1.0 / x
    power = _infix("pow", x, y)
    if power.kind == "int":  # float in the language, unless the exponent is a constant
        return x.recorder.add("int", "int", power.node)
    return power


@_function("neg", "negative")
def _neg(x: Proxy) -> Proxy:
    x = x.recorder.cast(x, "int") if x.kind == "bool" else x
    if x.value is not None:
        return x.recorder.constant(-x.value)
    return x.recorder.add(x.kind, "-", x.node)


@_function("abs", "absolute")
def _abs(x: Proxy) -> Proxy:
    return x.recorder.add(x.kind, "abs", x.node)


@_function("square")
def _square(x: Proxy) -> Proxy:
    return x * x


@_function("reciprocal")
def _reciprocal(x: Proxy) -> Proxy:
    return 1.0 / x


@_function("lerp", numbers=3)
def _lerp(x: Proxy, y: Proxy, weight: Proxy) -> Proxy:
    return x + weight * (y - x)


# Comparisons and logic.


def _compare(operator: str, x: Proxy, y: Proxy) -> Proxy:
    recorder = x.recorder
    if x.kind == "bool":
        x = recorder.cast(x, "int")
    if y.kind == "bool":
        y = recorder.cast(y, "int")
    return recorder.add("bool", operator, x.node, y.node)


for _names, _operator, _swapped in (
    (("lt", "less"), "<", False),
    (("le", "less_equal"), "<=", False),
    (("gt", "greater"), "<", True),
    (("ge", "greater_equal"), "<=", True),
    (("eq",), "==", False),
    (("ne", "not_equal"), "!=", False),
):

    def _comparison(x, y, operator=_operator, swapped=_swapped):
        return _compare(operator, y, x) if swapped else _compare(operator, x, y)

    _function(*_names, numbers=2)(_comparison)


@_function("logical_and", numbers=2)
def _and(x: Proxy, y: Proxy) -> Proxy:
    return x.recorder.add("bool", "&", x.bool().node, y.bool().node)


@_function("logical_or", numbers=2)
def _or(x: Proxy, y: Proxy) -> Proxy:
    return x.recorder.add("bool", "|", x.bool().node, y.bool().node)


@_function("logical_xor", numbers=2)
def _xor(x: Proxy, y: Proxy) -> Proxy:
    return _compare("!=", x.bool(), y.bool())


@_function("logical_not")
def _not(x: Proxy) -> Proxy:
    return x.recorder.add("bool", "~", x.bool().node)


# Bits of integers, which have 24 of them (and a sign, repeated without end): // shifts, % cuts.

_NO_BITS = "a float has no bits here; write .int()"


def _bitwise(symbol: str, of_booleans: Callable, of_bits: Callable, x: Proxy, y: Proxy) -> Proxy:
    if x.kind == y.kind == "bool":
        return of_booleans(x, y)
    if "float" in (x.kind, y.kind):
        refuse(symbol, _NO_BITS)
    x, y = x.int(), y.int()
    bits = [of_bits(x // 2**n % 2, y // 2**n % 2) * 2**n for n in range(24)]
    return reduce(_add, bits) - of_bits((x < 0).int(), (y < 0).int()) * 2**24


@_function("bitwise_and", numbers=2)
def _bitwise_and(x: Proxy, y: Proxy) -> Proxy:
    if x.kind == y.kind == "int":
        number, mask = (y, x.value) if y.value is None else (x, y.value)
        if mask is not None:
            return _some_bits(number, mask) if mask >= 0 else number - _some_bits(number, ~mask)
    return _bitwise("&", _and, _minimum, x, y)


def _some_bits(x: Proxy, mask: int) -> Proxy:
    """x & mask, the ones of mask run by run."""
    runs = []
    for ones in re.finditer("1+", f"{mask:b}"[::-1]):
        start, length = ones.start(), ones.end() - ones.start()
        run = x // 2**start if start else x
        run = run % 2**length if length < 24 else run
        runs.append(run * 2**start if start else run)
    return reduce(_add, runs) if runs else x.recorder.constant(0)


@_function("bitwise_or", numbers=2)
def _bitwise_or(x: Proxy, y: Proxy) -> Proxy:
    return _bitwise("|", _or, _maximum, x, y)


@_function("bitwise_xor", numbers=2)
def _bitwise_xor(x: Proxy, y: Proxy) -> Proxy:
    return _bitwise("^", _xor, lambda x, y: (x != y).int(), x, y)


@_function("bitwise_not")
def _bitwise_not(x: Proxy) -> Proxy:
    if x.kind == "float":
        refuse("~", _NO_BITS)
    return _not(x) if x.kind == "bool" else -1 - x


@_function("bitwise_left_shift", numbers=2)
def _left_shift(x: Proxy, y: Proxy) -> Proxy:
    return x * _power_of_two("<<", x, y)


@_function("bitwise_right_shift", numbers=2)
def _right_shift(x: Proxy, y: Proxy) -> Proxy:
    return x // _power_of_two(">>", x, y)


def _power_of_two(symbol: str, x: Proxy, y: Proxy) -> Proxy | int:
    if "float" in (x.kind, y.kind):
        refuse(symbol, _NO_BITS)
    return 2**y.value if y.value is not None else 2**y


@_function("isnan")
def _isnan(x: Proxy) -> Proxy:
    return x != x


@_function("isinf")
def _isinf(x: Proxy) -> Proxy:
    return _abs(x) == math.inf


@_function("isfinite")
def _isfinite(x: Proxy) -> Proxy:
    return _abs(x) < math.inf


# Choices.


@_function("where", numbers=3)
def _where(condition: Proxy, x: Proxy, y: Proxy) -> Proxy:
    type, (x, y) = x.recorder.promoted(x, y)
    return x.recorder.add(type, "where", condition.bool().node, x.node, y.node)


@_function("masked_fill")
def _masked_fill(x: Proxy, mask: Any, value: Any) -> Proxy:
    value, mask = x.recorder.lift(value), x.recorder.lift(mask)
    return _where(mask, x.recorder.cast(value, x.kind), x)


def _extreme(operator: str, x: Proxy, y: Proxy) -> Proxy:
    type, (x, y) = x.recorder.promoted(x, y)
    return x.recorder.add(type, operator, x.node, y.node)


@_function("minimum", numbers=2)
def _minimum(x: Proxy, y: Proxy) -> Proxy:
    return _extreme("min", x, y)


@_function("maximum", numbers=2)
def _maximum(x: Proxy, y: Proxy) -> Proxy:
    return _extreme("max", x, y)


@_function("clamp", "clip")
def _clamp(x: Proxy, min: Any = None, max: Any = None) -> Proxy:
    if min is not None:
        x = _maximum(x, x.recorder.lift(min))
    return x if max is None else _minimum(x, x.recorder.lift(max))


@_function("clamp_min", numbers=2)
def _clamp_min(x: Proxy, min: Proxy) -> Proxy:
    return _maximum(x, min)


@_function("clamp_max", numbers=2)
def _clamp_max(x: Proxy, max: Proxy) -> Proxy:
    return _minimum(x, max)


# Roundings.


@_function("floor")
def _floor(x: Proxy) -> Proxy:
    return x.recorder.add("float", "floor", x.node) if x.kind == "float" else x


@_function("ceil")
def _ceil(x: Proxy) -> Proxy:
    return -_floor(-x) if x.kind == "float" else x


@_function("trunc", "fix")
def _trunc(x: Proxy) -> Proxy:
    return _where(x < 0, _ceil(x), _floor(x)) if x.kind == "float" else x


@_function("frac")
def _frac(x: Proxy) -> Proxy:
    return x - _trunc(x)


@_function("round")
def _round(x: Proxy, *, decimals: int = 0) -> Proxy:
    if x.kind != "float":
        return x
    scaled = x * 10.0**decimals if decimals else x
    up = _floor(scaled + 0.5)
    to_even = _where((up - scaled == 0.5) & (up % 2 == 1), up - 1, up)
    return to_even / 10.0**decimals if decimals else to_even


@_function("sign", "sgn")
def _sign(x: Proxy) -> Proxy:
    return x.recorder.cast((x > 0).int() - (x < 0).int(), x.kind)


# Functions of a float.


def _of_float(operation: str, x: Proxy) -> Proxy:
    return x.recorder.add("float", operation, x.float().node)


@_function("exp")
def _exp(x: Proxy) -> Proxy:
    return _of_float("exp", x)


@_function("log")
def _log(x: Proxy) -> Proxy:
    return _of_float("log", x)


@_function("tanh")
def _tanh(x: Proxy) -> Proxy:
    return _of_float("tanh", x)


@_function("sigmoid", "special_expit")
def _sigmoid(x: Proxy) -> Proxy:
    return _of_float("sigmoid", x)


@_function("sqrt")
def _sqrt(x: Proxy) -> Proxy:
    return _of_float("sqrt", x)


@_function("rsqrt")
def _rsqrt(x: Proxy) -> Proxy:
    return 1.0 / _sqrt(x)


@_function("exp2", "special_exp2")
def _exp2(x: Proxy) -> Proxy:
    return _exp(x * math.log(2))


@_function("expm1", "special_expm1")
def _expm1(x: Proxy) -> Proxy:
    return _exp(x) - 1.0


@_function("log2")
def _log2(x: Proxy) -> Proxy:
    return _log(x) / math.log(2)


@_function("log10")
def _log10(x: Proxy) -> Proxy:
    return _log(x) / math.log(10)


@_function("log1p", "special_log1p")
def _log1p(x: Proxy) -> Proxy:
    return _log(1.0 + x)


_SINE = [(-1) ** n / math.factorial(2 * n + 1) for n in range(10)]
_PI = (3.140625, math.pi - 3.140625)  # the first so short that its small multiples are exact


@_function("sin")
def _sin(x: Proxy) -> Proxy:
    half_turns = _floor(x.float() / math.pi + 0.5)
    rest = x - half_turns * _PI[0] - half_turns * _PI[1]  # in [-pi / 2, pi / 2]
    square, sum = rest * rest, _SINE[-1]
    for coefficient in reversed(_SINE[:-1]):
        sum = sum * square + coefficient
    return (1.0 - 2.0 * (half_turns % 2)) * rest * sum


@_function("cos")
def _cos(x: Proxy) -> Proxy:
    return _sin(x + math.pi / 2)


@_function("tan")
def _tan(x: Proxy) -> Proxy:
    return _sin(x) / _cos(x)


@_function("sinh")
def _sinh(x: Proxy) -> Proxy:
    return 0.5 * (_exp(x) - _exp(-x))


@_function("cosh")
def _cosh(x: Proxy) -> Proxy:
    return 0.5 * (_exp(x) + _exp(-x))


# Activations.


@_function("relu")
def _relu(x: Proxy, inplace: bool = False) -> Proxy:
    return _maximum(x, x.recorder.lift(0))


@_function("relu6")
def _relu6(x: Proxy, inplace: bool = False) -> Proxy:
    return _clamp(x, 0, 6)


@_function("hardtanh")
def _hardtanh(x: Proxy, min_val: Any = -1.0, max_val: Any = 1.0, inplace: bool = False) -> Proxy:
    return _clamp(x, min_val, max_val)


@_function("leaky_relu")
def _leaky_relu(x: Proxy, negative_slope: Any = 0.01, inplace: bool = False) -> Proxy:
    return _where(x > 0, x, x * negative_slope)


@_function("elu")
def _elu(x: Proxy, alpha: Any = 1.0, inplace: bool = False) -> Proxy:
    return _where(x > 0, x, alpha * _expm1(_clamp(x, max=0.0)))


@_function("silu")
def _silu(x: Proxy, inplace: bool = False) -> Proxy:
    return x * _sigmoid(x)


@_function("softplus")
def _softplus(x: Proxy, beta: Any = 1.0, threshold: Any = 20.0) -> Proxy:
    z = x * beta
    return _where(z > threshold, x, _log1p(_exp(_clamp(z, max=threshold))) / beta)


@_function("logsigmoid")
def _logsigmoid(x: Proxy) -> Proxy:
    return -_softplus(-x)


@_function("gelu")
def _gelu(x: Proxy, *, approximate: str = "none") -> Proxy:
    if approximate != "tanh":
        refuse("gelu", "erf is not an operation of score programs; write approximate='tanh'")
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1.0 + _tanh(inner))


# Types, shapes and constants.


def _in_dtype(x: Proxy, dtype: torch.dtype) -> Proxy:
    return x.recorder.cast(x, kind_of(dtype))


for _methods, _dtype in (
    (("float", "double", "half", "bfloat16"), torch.float32),
    (("int", "long", "short"), torch.int64),
    (("bool",), torch.bool),
):
    _function(*_methods)(lambda x, dtype=_dtype, **layout: _in_dtype(x, dtype))


@_function("to", "type", "type_as")
def _to(x: Proxy, *args: Any, dtype: torch.dtype | None = None, **layout: Any) -> Proxy:
    for argument in args:
        if isinstance(argument, torch.dtype):
            dtype = argument
        elif isinstance(argument, (Tensor, Proxy)):
            dtype = argument.dtype
    return x if dtype is None else _in_dtype(x, dtype)


@_function("view", "reshape", "expand", "broadcast_to")
def _view(x: Proxy, *sizes: Any) -> Proxy:
    if any(isinstance(size, torch.dtype) for size in sizes):
        refuse("view", "a number's bits can't be read as another type")
    if any(size not in (1, -1) for size in _flat(sizes)):
        refuse("view", f"a single number has no shape {_flat(sizes)}")
    return x


@_function("clone", "contiguous", "cpu", "squeeze", "unsqueeze", "flatten", "ravel", "view_as")
def _same(x: Proxy, *args: Any, **named: Any) -> Proxy:
    return x


@_function("expand_as", "reshape_as", "positive", "broadcast_tensors", "requires_grad_")
def _same_too(x: Proxy, *args: Any, **named: Any) -> Proxy:
    return x


def _flat(sizes: Any) -> list:
    return [n for size in sizes for n in (size if isinstance(size, (tuple, list)) else (size,))]


def _filled(x: Proxy, value: Any, dtype: torch.dtype | None) -> Proxy:
    return _in_dtype(x.recorder.lift(value), x.dtype if dtype is None else dtype)


@_function("zeros_like")
def _zeros_like(x: Proxy, *, dtype: torch.dtype | None = None, **layout: Any) -> Proxy:
    return _filled(x, 0, dtype)


@_function("ones_like")
def _ones_like(x: Proxy, *, dtype: torch.dtype | None = None, **layout: Any) -> Proxy:
    return _filled(x, 1, dtype)


@_function("full_like")
def _full_like(
    x: Proxy, fill_value: Any, *, dtype: torch.dtype | None = None, **layout: Any
) -> Proxy:
    return _filled(x, fill_value, dtype)


@_function("new_zeros")
def _new_zeros(x: Proxy, *size: Any, dtype: torch.dtype | None = None, **layout: Any) -> Proxy:
    return _view(_filled(x, 0, dtype), *size)


@_function("new_ones")
def _new_ones(x: Proxy, *size: Any, dtype: torch.dtype | None = None, **layout: Any) -> Proxy:
    return _view(_filled(x, 1, dtype), *size)


@_function("new_full")
def _new_full(
    x: Proxy, size: Any, fill_value: Any, *, dtype: torch.dtype | None = None, **layout: Any
) -> Proxy:
    return _view(_filled(x, fill_value, dtype), size)


@_function("new_tensor")
def _new_tensor(x: Proxy, data: Any, *, dtype: torch.dtype | None = None, **layout: Any) -> Proxy:
    return _filled(x, data, dtype)


@_function("fill")
def _fill(x: Proxy, value: Any) -> Proxy:
    return _filled(x, value, None)


# Reductions: of a row, or of a single number, which is its own.


def _reduction(*names: str) -> Callable:
    def register(function: Callable) -> Callable:
        def call(
            recorder: Recorder, spoken: str, x: Any, *dims: Any, dtype: Any = None, **named: Any
        ) -> Proxy:
            row = row_of(recorder, x)
            result = function([recorder.lift(x, spoken)] if row is None else row.numbers, *dims)
            return result if dtype is None else _in_dtype(result, dtype)

        for name in names:
            FUNCTIONS[name] = call
        return function

    return register


@_reduction("sum")
def _sum(numbers: list[Proxy], *dims: Any) -> Proxy:
    return reduce(_add, numbers)


@_reduction("mean")
def _mean(numbers: list[Proxy], *dims: Any) -> Proxy:
    total = reduce(_add, numbers)
    return total if len(numbers) == 1 else total / len(numbers)


@_reduction("prod")
def _prod(numbers: list[Proxy], *dims: Any) -> Proxy:
    return reduce(_mul, numbers)


@_reduction("norm", "linalg_norm", "linalg_vector_norm")
def _norm(numbers: list[Proxy], order: Any = 2, *dims: Any) -> Proxy:
    if order not in (2, "fro", None):
        refuse("norm", "only the Euclidean norm is known; write another with abs, ** and sum")
    return _sqrt(reduce(_add, [_square(x) for x in numbers]))


@_reduction("amax")
def _amax(numbers: list[Proxy], *dims: Any) -> Proxy:
    return reduce(_maximum, numbers)


@_reduction("amin")
def _amin(numbers: list[Proxy], *dims: Any) -> Proxy:
    return reduce(_minimum, numbers)


@_reduction("any")
def _any(numbers: list[Proxy], *dims: Any) -> Proxy:
    return reduce(_or, [x.bool() for x in numbers])


@_reduction("all")
def _all(numbers: list[Proxy], *dims: Any) -> Proxy:
    return reduce(_and, [x.bool() for x in numbers])


def _dot(recorder: Recorder, spoken: str, x: Any, y: Any) -> Proxy:
    return FUNCTIONS["sum"](recorder, spoken, FUNCTIONS["mul"](recorder, spoken, x, y))


FUNCTIONS["dot"] = _dot


@_function("max")
def _max(x: Proxy, other: Any = None) -> Proxy:
    return x if other is None else _maximum(x, x.recorder.lift(other))


@_function("min")
def _min(x: Proxy, other: Any = None) -> Proxy:
    return x if other is None else _minimum(x, x.recorder.lift(other))


def _embedding(
    recorder: Recorder, spoken: str, input: Any, weight: Tensor, *args: Any, **named: Any
) -> Any:
    return indexed(Indexed(recorder, weight, [None] * weight.dim()), (input,))


FUNCTIONS["embedding"] = _embedding


# Python's operators. torch calls a tensor's by the same names.

_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%"}
_SYMBOLS |= {"pow": "**", "and": "&", "or": "|", "xor": "^", "lshift": "<<", "shift": ">>"}
_SYMBOLS |= {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "neg": "-"}
_OPERATORS = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "pow",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_UNARY = {"neg": "neg", "pos": "positive", "abs": "abs", "invert": "bitwise_not"}


def _reversed(function: Callable) -> Callable:
    return lambda recorder, spoken, x, y: function(recorder, spoken, y, x)


for _name, _torchs in _OPERATORS.items():
    FUNCTIONS[f"__{_name}__"] = FUNCTIONS[_torchs]
    FUNCTIONS[f"__r{_name}__"] = _reversed(FUNCTIONS[_torchs])
for _name in _COMPARISONS:
    FUNCTIONS[f"__{_name}__"] = FUNCTIONS[_name]
for _name, _torchs in _UNARY.items():
    FUNCTIONS[f"__{_name}__"] = FUNCTIONS[_torchs]
FUNCTIONS["rsub"] = FUNCTIONS["__rsub__"]


# The stand-ins' own.


def _method(name: str) -> Callable:
    function = FUNCTIONS[name]
    spoken = _SYMBOLS.get(name.strip("_").removeprefix("r"), name) if name[0] == "_" else name

    def method(self: Proxy | Indexed | Row, *args: Any, **named: Any) -> Any:
        return function(self.recorder, spoken, self, *args, **named)

    return method


def _in_place(name: str) -> Callable:
    method = _method(name)
    return lambda self, *args, **named: self.assign(method(self, *args, **named))


for _name in list(FUNCTIONS):
    _own = _method(_name)
    setattr(Proxy, _name, _own)
    if not _name.startswith("__"):
        setattr(Proxy, f"{_name}_", _in_place(_name))
    setattr(Indexed, _name, _own)
    setattr(Row, _name, _own)
for _name in _OPERATORS:
    setattr(Proxy, f"__i{_name}__", _in_place(f"__{_name}__"))
