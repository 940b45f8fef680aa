"""The node tests of the package onnx for Attention, FlexAttention and LinearAttention.

They are made in memory, as onnx makes them for every backend, with its tolerances. A result in half
precision may be one unit in the last place off: the expected one has been rounded at every step.
"""

import importlib
import operator
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import torch
from suite import Case, Suite
from torch import Tensor

ONE_ULP = "to 1 ulp"  # what a case that passes only thanks to that says


@cache
def node_tests() -> list[Any]:
    from onnx.backend.test.case import node

    # Each test's twin, spelled out in smaller operators, takes longest to make and is none of ours.
    with patch.object(node, "function_testcase_helper", lambda *_, **__: ([], 0)):
        for module in ("attention", "flexattention", "linear_attention"):
            importlib.import_module(f"onnx.backend.test.case.node.{module}")
    return list(node._NodeTestCases)


def cases(operator_name: str) -> Iterator[Case]:
    for test in node_tests():
        if test.model.graph.node[0].op_type == operator_name:
            yield Case(test.name, partial(run, test))


def run(test: Any) -> str | None:
    import heed.onnx

    (node,) = test.model.graph.node
    function = getattr(heed.onnx, snake_case(node.op_type))
    versions = {opset.domain: opset.version for opset in test.model.opset_import}
    inputs, expected = test.data_sets[0]
    found = function(
        **named_inputs(node, inputs),
        **attributes(node),
        opset=versions[node.domain],
        num_outputs=len(node.output),
    )
    assert len(found) == len(node.output)
    pairs = zip(present(node.output, found), map(tensor, expected), strict=True)
    remarks = [compare(*pair, test.rtol, test.atol) for pair in pairs]
    return next(filter(None, remarks), None)


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def named_inputs(node: Any, inputs: list[Any]) -> dict[str, Tensor]:
    import onnx

    schema = onnx.defs.get_schema(node.op_type, domain=node.domain)
    names = [schema.inputs[i].name.lower() for i, name in enumerate(node.input) if name]
    return dict(zip(names, map(tensor, inputs), strict=True))


def present(names: list[str], values: tuple) -> list:
    """Those that the node names; it leaves out the others."""
    return [value for name, value in zip(names, values, strict=True) if name]


def tensor(array: Any) -> Tensor:
    if array.dtype.name == "bfloat16":  # numpy has none of its own
        return torch.from_numpy(array.view("int16").copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def compare(found: Tensor, expected: Tensor, rtol: float, atol: float) -> str | None:
    assert found.dtype == expected.dtype, f"expected {expected.dtype}, got {found.dtype}"
    assert found.shape == expected.shape, f"expected {expected.shape}, got {found.shape}"
    if torch.allclose(found.double(), expected.double(), rtol, atol, equal_nan=True):
        return None
    is_half = found.dtype in (torch.float16, torch.bfloat16)
    if is_half and (places(found) - places(expected)).abs().max() <= 1:
        return ONE_ULP
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
    raise AssertionError("differs")


def places(x: Tensor) -> Tensor:
    """Of halves, their places in the order of all halves."""
    bits = x.contiguous().view(torch.int16).int()
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)


def attributes(node: Any) -> dict[str, Any]:
    """A subgraph as the function of one pair that it is, all else as it stands there."""
    import onnx

    values = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.GraphProto):
            value = mod_of(value)
        values[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return values


# A subgraph maps scores [B,H,T,S] to as many. Of operators that act on each score alone, its value
# at one place needs but the score there, and the place where it asks for shape and range.


class Shape:
    """The sizes of the scores, not looked at."""


class Size(int):
    """One of them: of this axis."""


class Range(int):
    """0, 1, ... along this axis, not yet laid out along it."""


def mod_of(graph: Any) -> Callable:
    import onnx

    constants = {x.name: onnx.numpy_helper.to_array(x).tolist() for x in graph.initializer}

    def mod(x: Any, b: Any, h: Any, t: Any, s: Any) -> Any:
        values = constants | {graph.input[0].name: x}
        for node in graph.node:
            arguments = [values[name] for name in node.input]
            values[node.output[0]] = result_of(node, arguments, (b, h, t, s))
        return values[graph.output[0].name]

    return mod


def result_of(node: Any, arguments: list[Any], place: tuple) -> Any:
    if node.op_type in POINTWISE:
        return POINTWISE[node.op_type](*arguments)
    match node.op_type, arguments:
        case "Shape", [_]:
            return Shape()
        case "Gather", [Shape(), int(axis)]:
            return Size(axis)
        case "Range", [0, Size() as size, 1]:
            return Range(size)
        case "Reshape", [Range() as axis, [*shape]] if shape[axis - 4] == -1:
            return place[axis]
        case "Cast", [x]:
            return x.float()  # the scores here are float32
    raise NotImplementedError(f"{node.op_type} in a subgraph")


POINTWISE: dict[str, Callable] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.truediv,
    "GreaterOrEqual": operator.ge,
    "Tanh": torch.tanh,
    "Where": torch.where,
}

SUITES = [
    Suite("ONNX Attention", partial(cases, "Attention"), "onnxruntime 1.31.1: 73", ("onnx",)),
    Suite(
        "ONNX FlexAttention", partial(cases, "FlexAttention"), "onnxruntime 1.31.1: 0", ("onnx",)
    ),
    Suite(
        "ONNX LinearAttention",
        partial(cases, "LinearAttention"),
        "onnxruntime 1.31.1: 0",
        ("onnx",),
    ),
]
