"""heed.trace_program: what each construct of a mod is written as, and what it refuses."""

import math
import time

import numpy
import pytest
import torch
import torch.nn.functional as F

import heed

SLOPE = torch.rand(4)
BIAS = torch.randn(4, 9, requires_grad=True)
RANK3 = torch.randn(2, 4, 9)
DOC = torch.zeros(2, 9, dtype=torch.int64)
SEEN = torch.ones(9, dtype=torch.bool)
POINTS = torch.randn(9, 3)
NUMBER = torch.tensor(0.5)
COUNT = torch.tensor(3)
NEVER = torch.tensor(-math.inf)


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, score, factor):
        ctx.save_for_backward(score, factor)
        ctx.mark_non_differentiable(factor)
        return score * factor

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def score_text(mod):
    """The program of a score_mod on one line, tables' declarations left out."""
    program = heed.trace_program(mod)
    lines = program.text.strip().split("\n")
    assert program.text.endswith("\n") and lines[-1].startswith("score = ")
    return "; ".join(line for line in lines if not line.startswith("table"))


TEXTS = [
    # Operators, reflected ones too; > and >= are turned round.
    (lambda x, b, h, t, s: x + 1, "x0 = dot + 1; score = x0"),
    (lambda x, b, h, t, s: 1.5 - x, "x0 = 1.5 - dot; score = x0"),
    (lambda x, b, h, t, s: x * -2.0, "x0 = dot * (-2.0); score = x0"),
    (lambda x, b, h, t, s: 1 / x, "x0 = 1 / dot; score = x0"),
    (lambda x, b, h, t, s: x + t // 3 % 2, "x0 = t // 3; x1 = x0 % 2; x2 = dot + x1; score = x2"),
    (lambda x, b, h, t, s: -x, "x0 = -dot; score = x0"),
    (lambda x, b, h, t, s: abs(x), "x0 = abs(dot); score = x0"),
    (lambda x, b, h, t, s: +x * 2, "x0 = dot * 2; score = x0"),
    (lambda x, b, h, t, s: x**2, "x0 = dot * dot; score = x0"),
    (lambda x, b, h, t, s: x**0.5, "x0 = sqrt(dot); score = x0"),
    (lambda x, b, h, t, s: x**1.5, "x0 = pow(dot, 1.5); score = x0"),
    (lambda x, b, h, t, s: x + 2**h, "x0 = pow(2, h); x1 = int(x0); x2 = dot + x1; score = x2"),
    (lambda x, b, h, t, s: x * (t > s), "x0 = s < t; x1 = int(x0); x2 = dot * x1; score = x2"),
    (lambda x, b, h, t, s: x * (t >= 2), "x0 = 2 <= t; x1 = int(x0); x2 = dot * x1; score = x2"),
    (lambda x, b, h, t, s: t * 2, "x0 = t * 2; x1 = float(x0); score = x1"),
    (lambda x, b, h, t, s: (t - s) * (t - s), "x0 = t - s; x1 = x0 * x0; x2 = float(x1); score = x2"),
    # Constants as they are.
    (lambda x, b, h, t, s: 2, "score = 2.0"),
    (lambda x, b, h, t, s: math.inf, "score = inf"),
    (lambda x, b, h, t, s: x + 1e-9, "x0 = dot + 1e-09; score = x0"),
    (lambda x, b, h, t, s: x + 1e22, "x0 = dot + 1e+22; score = x0"),
    (lambda x, b, h, t, s: x + numpy.float32(0.5), "x0 = dot + 0.5; score = x0"),
    (lambda x, b, h, t, s: numpy.float64(0.5) * x, "x0 = 0.5 * dot; score = x0"),
    (lambda x, b, h, t, s: x + torch.tensor(2.0) * 3, "x0 = dot + 6.0; score = x0"),
    (lambda x, b, h, t, s: x + x.new_ones(()), "x0 = dot + 1.0; score = x0"),
    (lambda x, b, h, t, s: x + torch.full_like(x, 7), "x0 = dot + 7.0; score = x0"),
    (lambda x, b, h, t, s: x + torch.finfo(x.dtype).eps, "x0 = dot + 1.1920928955078125e-07; score = x0"),
    # Captured tensors: every form of index.
    (lambda x, b, h, t, s: SLOPE[h], "x0 = table0[h]; score = x0"),
    (lambda x, b, h, t, s: BIAS[h, t - s], "x0 = t - s; x1 = table0[h, x0]; score = x1"),
    (lambda x, b, h, t, s: BIAS[h][t], "x0 = table0[h, t]; score = x0"),
    (lambda x, b, h, t, s: BIAS[h, :][t], "x0 = table0[h, t]; score = x0"),
    (lambda x, b, h, t, s: BIAS[..., t][h], "x0 = table0[h, t]; score = x0"),
    (lambda x, b, h, t, s: BIAS[None, h, t][0], "x0 = table0[0, h, t]; score = x0"),
    (lambda x, b, h, t, s: RANK3[b][h, t], "x0 = table0[b, h, t]; score = x0"),
    (lambda x, b, h, t, s: RANK3[1][h, t], "x0 = table0[h, t]; score = x0"),
    (lambda x, b, h, t, s: RANK3[1, h, -1], "x0 = table0[1, h, 8]; score = x0"),
    (lambda x, b, h, t, s: BIAS.T[t, h], "x0 = table0[t, h]; score = x0"),
    (lambda x, b, h, t, s: BIAS[h, DOC[b, t]], "x0 = table0[b, t]; x1 = table1[h, x0]; score = x1"),
    (lambda x, b, h, t, s: BIAS[COUNT, t], "x0 = table0[]; x1 = table1[x0, t]; score = x1"),
    (lambda x, b, h, t, s: F.embedding(t, BIAS.T)[h], "x0 = table0[t, h]; score = x0"),
    (lambda x, b, h, t, s: x * NUMBER, "x0 = table0[]; x1 = dot * x0; score = x1"),
    (lambda x, b, h, t, s: NUMBER - x, "x0 = table0[]; x1 = x0 - dot; score = x1"),
    (lambda x, b, h, t, s: torch.add(COUNT, x), "x0 = table0[]; x1 = x0 + dot; score = x1"),
    (lambda x, b, h, t, s: BIAS[h, t] + BIAS[h, s], "x0 = table0[h, t]; x1 = table0[h, s]; x2 = x0 + x1; score = x2"),
    (
        lambda x, b, h, t, s: (POINTS[t] - POINTS[s]).abs().sum(-1),
        "x0 = table0[t, 0]; x1 = table0[t, 1]; x2 = table0[t, 2]; x3 = table0[s, 0]; "
        "x4 = table0[s, 1]; x5 = table0[s, 2]; x6 = x0 - x3; x7 = x1 - x4; x8 = x2 - x5; "
        "x9 = abs(x6); x10 = abs(x7); x11 = abs(x8); x12 = x9 + x10; x13 = x12 + x11; score = x13",
    ),
    # torch's functions.
    (lambda x, b, h, t, s: torch.exp(x), "x0 = exp(dot); score = x0"),
    (lambda x, b, h, t, s: x.log(), "x0 = log(dot); score = x0"),
    (lambda x, b, h, t, s: torch.tanh(t), "x0 = float(t); x1 = tanh(x0); score = x1"),
    (lambda x, b, h, t, s: F.silu(x), "x0 = sigmoid(dot); x1 = dot * x0; score = x1"),
    (lambda x, b, h, t, s: torch.rsqrt(x), "x0 = sqrt(dot); x1 = 1.0 / x0; score = x1"),
    (lambda x, b, h, t, s: torch.log1p(x), "x0 = 1.0 + dot; x1 = log(x0); score = x1"),
    (lambda x, b, h, t, s: torch.expm1(x), "x0 = exp(dot); x1 = x0 - 1.0; score = x1"),
    (lambda x, b, h, t, s: torch.clamp(x, -1, max=t), "x0 = max(dot, -1.0); x1 = float(t); x2 = min(x0, x1); score = x2"),
    (lambda x, b, h, t, s: F.relu(x), "x0 = max(dot, 0.0); score = x0"),
    (lambda x, b, h, t, s: torch.minimum(x, NUMBER), "x0 = table0[]; x1 = min(dot, x0); score = x1"),
    (lambda x, b, h, t, s: torch.max(t, s), "x0 = max(t, s); x1 = float(x0); score = x1"),
    (lambda x, b, h, t, s: x.floor() + t.floor(), "x0 = floor(dot); x1 = x0 + t; score = x1"),
    (lambda x, b, h, t, s: torch.ceil(x), "x0 = -dot; x1 = floor(x0); x2 = -x1; score = x2"),
    (lambda x, b, h, t, s: torch.sub(x, t, alpha=2), "x0 = t * 2; x1 = dot - x0; score = x1"),
    (lambda x, b, h, t, s: torch.where(s <= t, x, 0), "x0 = s <= t; x1 = where(x0, dot, 0.0); score = x1"),
    (lambda x, b, h, t, s: torch.where(SEEN[s], x, NEVER), "x0 = table0[s]; x1 = where(x0, dot, -inf); score = x1"),
    (lambda x, b, h, t, s: x.masked_fill(s < t, 0), "x0 = s < t; x1 = where(x0, 0.0, dot); score = x1"),
    (lambda x, b, h, t, s: x.to(torch.float16).float().view(()).cpu() * 2, "x0 = dot * 2; score = x0"),
    (lambda x, b, h, t, s: x.int() + t.to(x.dtype), "x0 = int(dot); x1 = float(t); x2 = x0 + x1; score = x2"),
    (lambda x, b, h, t, s: x.sum() + x.mean(dim=-1), "x0 = dot + dot; score = x0"),
    (lambda x, b, h, t, s: Scaled.apply(x, NUMBER), "x0 = table0[]; x1 = dot * x0; score = x1"),
    # Logic.
    (lambda x, b, h, t, s: x * ((s < t) & ~(t == 2)), "x0 = s < t; x1 = t == 2; x2 = ~x1; x3 = x0 & x2; x4 = int(x3); x5 = dot * x4; score = x5"),
    (lambda x, b, h, t, s: x * torch.logical_or(s, t < 1), "x0 = t < 1; x1 = bool(s); x2 = x1 | x0; x3 = int(x2); x4 = dot * x3; score = x4"),
    (lambda x, b, h, t, s: x * ((s < t) ^ (t < 1)), "x0 = s < t; x1 = t < 1; x2 = int(x0); x3 = int(x1); x4 = x2 != x3; x5 = int(x4); x6 = dot * x5; score = x6"),
    (lambda x, b, h, t, s: (s < t) * (t < 1) + (s == t), "x0 = s < t; x1 = t < 1; x2 = x0 & x1; x3 = s == t; x4 = x2 | x3; x5 = float(x4); score = x5"),
    (lambda x, b, h, t, s: x * (t & 3), "x0 = t % 4; x1 = dot * x0; score = x1"),
    (lambda x, b, h, t, s: x * (6 & t), "x0 = t // 2; x1 = x0 % 4; x2 = x1 * 2; x3 = dot * x2; score = x3"),
    (lambda x, b, h, t, s: x * (t & ~7), "x0 = t % 8; x1 = t - x0; x2 = dot * x1; score = x2"),
    (lambda x, b, h, t, s: x + (s >> 2) * (s << h), "x0 = s // 4; x1 = pow(2, h); x2 = int(x1); x3 = s * x2; x4 = x0 * x3; x5 = dot + x4; score = x5"),
    # What the result doesn't need is not there.
    (lambda x, b, h, t, s: (x.exp() + SLOPE[h], x + 1)[1], "x0 = dot + 1; score = x0"),
]  # fmt: skip


@pytest.mark.parametrize(("mod", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_text(mod, text):
    assert score_text(mod) == text


def test_in_place_operations_change_what_others_hold():
    def mod(score, b, h, t, s):
        same = score
        score += 1
        score.mul_(2)
        return same

    assert score_text(mod) == "x0 = dot + 1; x1 = x0 * 2; score = x1"


def test_tables_are_declared_and_numbered_by_first_use():
    def mod(score, b, h, t, s):
        unused = RANK3[b, h, s]
        later = BIAS[h, s]
        return torch.where(SEEN[s], score + NUMBER * DOC[b, t], later), unused

    program = heed.trace_program(lambda *x: mod(*x)[0])
    declared = [line for line in program.text.split("\n") if line.startswith("table")]
    assert declared == [
        "table0: float[2]",
        "table1: bool[1]",
        "table2: int[2]",
        "table3: float[0]",
    ]
    used = [line for line in program.text.split("\n") if " = table" in line]
    assert used == [
        "x0 = table0[h, s]",
        "x1 = table1[s]",
        "x2 = table2[b, t]",
        "x3 = table3[]",
    ]
    for table, tensor in zip(program.tables, (BIAS, SEEN, DOC, NUMBER), strict=True):
        assert table is tensor


def test_score_and_mask_share_one_program():
    program = heed.trace_program(
        lambda score, b, h, t, s: score - SLOPE[h] * (t - s),
        lambda b, h, t, s: (DOC[b, t] == DOC[b, s]) & (t - s >= 0),
    )
    assert program.text == (
        "table0: float[1]\ntable1: int[2]\n"
        "x0 = table0[h]\nx1 = t - s\nx2 = x0 * x1\nx3 = dot - x2\n"
        "x4 = table1[b, t]\nx5 = table1[b, s]\nx6 = x4 == x5\nx7 = 0 <= x1\nx8 = x6 & x7\n"
        "score = x3\nmask = x8\n"
    )
    assert str(program) == program.text


@pytest.mark.parametrize(
    ("score_mod", "mask_mod"),
    [
        (None, None),
        (lambda score, b, h, t, s: score, None),
        (lambda score, b, h, t, s: score.float(), lambda b, h, t, s: True),
        (None, lambda b, h, t, s: None),
    ],
)
def test_nothing_to_do_is_no_program(score_mod, mask_mod):
    program = heed.trace_program(score_mod, mask_mod)
    assert program.text == "" and program.tables == [] and str(program) == "score = dot\n"


def test_mask_of_a_number_is_whether_it_is_not_zero():
    assert heed.trace_program(None, lambda b, h, t, s: t % 2).text.endswith(
        "x1 = bool(x0)\nmask = x1\n"
    )
    assert heed.trace_program(None, lambda b, h, t, s: False).text == "mask = false\n"
    assert heed.trace_program(None, lambda b, h, t, s: SEEN[0]).text.endswith("mask = x0\n")


def test_masks_combined_by_torchs_own_helpers():
    from torch.nn.attention.flex_attention import and_masks, noop_mask

    both = and_masks(lambda b, h, t, s: s <= t, lambda b, h, t, s: t - s < 5)
    assert "x0 = s <= t\nx1 = true & x0\n" in heed.trace_program(None, both).text
    assert heed.trace_program(None, noop_mask).text == ""


def test_a_value_does_not_change_the_structure():
    def text(value):
        number = torch.tensor(value)
        return heed.trace_program(lambda score, b, h, t, s: score * number).text

    assert text(0.25) == text(17.0)


def test_operations_on_captured_tensors_happen_at_once_and_keep_their_gradient():
    program = heed.trace_program(lambda score, b, h, t, s: score + BIAS.sigmoid()[h, t])
    (table,) = program.tables
    assert table.requires_grad and torch.equal(table, BIAS.sigmoid())
    (gradient,) = torch.autograd.grad(table.sum(), BIAS)
    assert gradient.shape == BIAS.shape


def test_dtype_of_the_score_is_what_the_mod_sees():
    seen = []
    heed.trace_program(
        lambda x, b, h, t, s: seen.append((x.dtype, t.dtype)) or x, dtype=torch.float16
    )
    assert seen == [(torch.float16, torch.int64)]


def test_modules_partials_and_methods_are_mods():
    class Mod(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(4))

        def forward(self, score, b, h, t, s):
            return score * self.scale[h]

    mod = Mod()
    assert heed.trace_program(mod).tables == [mod.scale]
    assert score_text(mod.forward) == "x0 = table0[h]; x1 = dot * x0; score = x1"


def test_functions_of_torch_work_as_before_afterwards():
    heed.trace_program(lambda score, b, h, t, s: Scaled.apply(score, NUMBER))
    x = torch.randn(3, requires_grad=True)
    Scaled.apply(x, NUMBER).sum().backward()
    assert torch.equal(x.grad, torch.ones(3))
    assert "trace" not in torch.autograd.Function.apply.__func__.__module__


def test_an_error_in_the_mod_itself_comes_through():
    with pytest.raises(KeyError, match="missing"):
        heed.trace_program(lambda score, b, h, t, s: {}["missing"])
    assert "trace" not in torch.autograd.Function.apply.__func__.__module__


def test_a_program_may_be_traced_while_another_is():
    def mod(score, b, h, t, s):
        inner = heed.trace_program(lambda score, b, h, t, s: score * 2).text
        return score + len(inner)

    assert score_text(mod) == "x0 = dot + 24; score = x0"


REFUSED = [
    (lambda x, b, h, t, s: x if x > 0 else -x, "if, and, or, not, in, min, max: its value isn't known while tracing; write torch.where"),
    (lambda x, b, h, t, s: 0 <= t < s, "if, and, or, not, in, min, max: "),
    (lambda x, b, h, t, s: max(t, s), "if, and, or, not, in, min, max: "),
    (lambda x, b, h, t, s: float(x), "float() or math: its value isn't known while tracing; write x.float()"),
    (lambda x, b, h, t, s: math.exp(x), "float() or math: "),
    (lambda x, b, h, t, s: int(t), "int(): its value isn't known while tracing; write x.int()"),
    (lambda x, b, h, t, s: sum(range(t)), "range or an index of a list or numpy array: "),
    (lambda x, b, h, t, s: [1.0, 2.0][h], "range or an index of a list or numpy array: "),
    (lambda x, b, h, t, s: x.item(), "item(): its value isn't known while tracing; use the number as it is"),
    (lambda x, b, h, t, s: x.tolist(), "tolist(): "),
    (lambda x, b, h, t, s: [y for y in x], "iteration: score, b, h, t and s are single numbers"),
    (lambda x, b, h, t, s: len(x), "len(): "),
    (lambda x, b, h, t, s: x[0], "x[...]: score, b, h, t and s are single numbers; index a captured tensor"),
    (lambda x, b, h, t, s: x @ x, "@: score, b, h, t and s are single numbers"),
    (lambda x, b, h, t, s: x.detach(), "detach(): a program is differentiated whole; detach what it captures"),
    (lambda x, b, h, t, s: x + BIAS, "+: a captured tensor of shape [4,9] is used whole; index it, as in x[t, s]"),
    (lambda x, b, h, t, s: torch.exp(x + SLOPE), "is used whole; index it, as in x[s]"),
    (lambda x, b, h, t, s: x + RANK3[b], "+: a captured tensor of shape [4,9] is used whole"),
    (lambda x, b, h, t, s: x + POINTS[t], "score_mod's result: a captured tensor of shape [3] is used whole"),
    (lambda x, b, h, t, s: RANK3[b].sum(), "sum: a captured tensor of shape [4,9] is used whole"),
    (lambda x, b, h, t, s: BIAS[h, t, s], "x[...]: 3 indices for a tensor of 2 dimensions"),
    (lambda x, b, h, t, s: BIAS[h, 9], "x[...]: index 9 is out of bounds for a dimension of size 9"),
    (lambda x, b, h, t, s: SLOPE[x], "x[...]: expected an integer as index, got a float; write .int()"),
    (lambda x, b, h, t, s: SLOPE[t < s], "x[...]: expected an integer as index, got a bool; write .int()"),
    (lambda x, b, h, t, s: BIAS[h, torch.arange(3)], "x[...]: expected one number as index, got several"),
    (lambda x, b, h, t, s: SLOPE.__setitem__(h, x), "Tensor.__setitem__: a program can't write into a captured tensor"),
    (lambda x, b, h, t, s: NUMBER.mul_(x), "Tensor.mul_: a program can't write into a captured tensor"),
    (lambda x, b, h, t, s: t.add_(0.5), "in place: a float can't be stored in an int"),
    (lambda x, b, h, t, s: torch.erf(x), "torch.erf: not an operation of score programs; write it with"),
    (lambda x, b, h, t, s: x.erf(), "Tensor.erf: not an operation of score programs; write it with"),
    (lambda x, b, h, t, s: F.softmax(x, dim=-1), "torch.nn.functional.softmax: not an operation"),
    (lambda x, b, h, t, s: torch.stack([x, x]), "torch.stack: not an operation"),
    (lambda x, b, h, t, s: numpy.cbrt(x), "numpy.cbrt: not an operation"),
    (lambda x, b, h, t, s: F.gelu(x), "gelu: erf is not an operation of score programs; write approximate='tanh'"),
    (lambda x, b, h, t, s: t & x, "&: a float has no bits here; write .int()"),
    (lambda x, b, h, t, s: x >> 1, ">>: a float has no bits here; write .int()"),
    (lambda x, b, h, t, s: x + "1", "+: expected a number, got str"),
    (lambda x, b, h, t, s: x.new_ones((3,)), "view: a single number has no shape [3]"),
    (lambda x, b, h, t, s: x.view(torch.int32), "view: a number's bits can't be read as another type"),
    (lambda x, b, h, t, s: x.to(torch.complex64), "torch.complex64: score programs have no complex numbers"),
    (lambda x, b, h, t, s: x.clamp(lowest=0), "clamp: "),
    (lambda x, b, h, t, s: None, "score_mod: expected it to return the new score, got None"),
    (lambda x, b, h, t, s: (x, x), "score_mod's result: expected a number, got tuple"),
]  # fmt: skip


@pytest.mark.parametrize(("mod", "problem"), REFUSED, ids=[problem for _, problem in REFUSED])
def test_refusal_names_operation_and_line(mod, problem):
    with pytest.raises(heed.ProgramError) as error:
        heed.trace_program(mod)
    message = str(error.value)
    assert "\n" not in message and problem in message
    code = mod.__code__
    if "score_mod" not in problem or "[3]" in problem:
        assert message.startswith(f"[program] {code.co_filename}:{code.co_firstlineno}: ")
    else:
        assert message.startswith("[program] ")
    assert issubclass(heed.ProgramError, RuntimeError)


def test_refusal_names_the_line_inside_a_longer_mod():
    def mod(score, b, h, t, s):
        near = t - s < 3
        score = score * 2
        if near:
            score = score + 1
        return score

    line = mod.__code__.co_firstlineno + 3
    with pytest.raises(heed.ProgramError, match=rf"test_trace\.py:{line}: if, and"):
        heed.trace_program(mod)


def test_refusal_in_a_function_that_the_mod_calls_names_that_line():
    def helper(x):
        return torch.erf(x)

    line = helper.__code__.co_firstlineno + 1
    with pytest.raises(heed.ProgramError, match=rf"test_trace\.py:{line}: torch\.erf"):
        heed.trace_program(lambda score, b, h, t, s: helper(score))


def test_tracing_is_quick():
    def mod(score, b, h, t, s):
        return torch.where(s <= t, score + BIAS[h, t - s] * NUMBER, -math.inf)

    def seconds():
        start = time.perf_counter()
        heed.trace_program(mod)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(50)) < 500e-6  # 100e-6 on an idle core


# A program that was traced before is not traced again, if that can't be seen.


def traced_again(monkeypatch, mod, again):
    """Whether `again` runs, rather than being known from `mod`."""
    heed.trace_program(mod)
    runs = []
    record = heed.trace._record
    monkeypatch.setattr(heed.trace, "_record", lambda *a: runs.append(1) or record(*a))
    program = heed.trace_program(again)
    monkeypatch.undo()
    expected = record(heed.traced.Recorder(torch.float32), again, None)
    assert program.text == expected.text
    for table, right in zip(program.tables, expected.tables, strict=True):
        assert table is right or torch.equal(table, right)
    return bool(runs)


def far(score, distance):
    return score - abs(distance)


def biased(bias, other, factor):
    return lambda x, b, h, t, s: far(x * factor, t - s) + other[h] * bias[h, t] + other[b]


def test_a_program_of_the_same_kind_is_known(monkeypatch):
    known = biased(torch.randn(4, 9), torch.randn(4), 2.0)
    assert not traced_again(monkeypatch, known, biased(torch.randn(4, 9), torch.randn(4), 2.0))
    assert not traced_again(monkeypatch, known, biased(BIAS, torch.randn(4), 2.0))


def test_a_program_of_another_kind_is_traced(monkeypatch):
    known = biased(BIAS, torch.randn(4), 2.0)
    one = torch.randn(9, 9)
    for again in (
        biased(BIAS, torch.randn(4), 3.0),
        biased(BIAS, torch.randn(4), -0.0),
        biased(BIAS, torch.randn(4), 0.0),
        biased(BIAS, torch.randn(4), 2),
        biased(BIAS, torch.randn(5), 2.0),
        biased(BIAS, torch.arange(4), 2.0),
        biased(one, one[0], 2.0),
        lambda x, b, h, t, s: x - 1,
    ):
        assert traced_again(monkeypatch, known, again)
    assert heed.trace_program(None, lambda b, h, t, s: s <= t).text != known


def test_one_table_is_not_two_of_its_kind(monkeypatch):
    def both(one, other):
        return lambda x, b, h, t, s: x + one[h] * other[t]

    one, other = torch.randn(9), torch.randn(9)
    assert traced_again(monkeypatch, both(one, one), both(one, other))


class Settings:
    factor = 2.0


def test_what_may_change_is_traced_again(monkeypatch):
    settings, numbers, values = Settings(), [2.0], torch.randn(4, 2)
    number_at = numbers.__getitem__
    for mod in (
        lambda x, b, h, t, s: x * settings.factor,
        lambda x, b, h, t, s: x * numbers[0],
        lambda x, b, h, t, s: x * number_at(0),
        lambda x, b, h, t, s: x * NUMBER,  # stands for its value
        lambda x, b, h, t, s: x * NEVER,
        lambda x, b, h, t, s: x * values.exp()[h, 0],  # a table that the mod makes
        lambda x, b, h, t, s: x * values[0][h],
        lambda x, b, h, t, s: x * values[h].sum(),
        lambda x, b, h, t, s: x * values.sum().item(),
        lambda x, b, h, t, s: x * len(numbers),
        lambda x, b, h, t, s: sum([x for _ in numbers]),
    ):
        assert traced_again(monkeypatch, mod, mod)


def test_a_global_that_was_replaced_is_noticed(monkeypatch):
    def mod(x, b, h, t, s):
        return far(x, t) * SLOPE[h]

    assert "dot - " in heed.trace_program(mod).text
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "far", lambda score, distance: score + distance)
        assert "dot + " in heed.trace_program(mod).text
    monkeypatch.setitem(globals(), "SLOPE", torch.rand(4, dtype=torch.float64))
    assert heed.trace_program(mod).tables[0] is SLOPE
    monkeypatch.setitem(globals(), "SLOPE", torch.arange(4))
    assert heed.trace_program(mod).text.startswith("table0: int")


def test_a_global_that_a_function_inside_reads_is_noticed(monkeypatch):
    def mod(x, b, h, t, s):
        return (lambda score: far(score, t))(x)

    assert "dot - " in heed.trace_program(mod).text
    monkeypatch.setitem(globals(), "far", lambda score, distance: score + distance)
    assert "dot + " in heed.trace_program(mod).text


def test_a_known_program_gives_gradients_to_what_it_captures_now():
    q = torch.randn(1, 4, 9, 8)
    for _ in range(2):
        bias, other = torch.randn(4, 9, requires_grad=True), torch.randn(4, requires_grad=True)
        heed.attention(q, q, q, score_mod=biased(bias, other, 1.0)).sum().backward()
        assert bias.grad is not None and other.grad is not None


def test_known_programs_are_forgotten_before_they_are_too_many(monkeypatch):
    monkeypatch.setattr(heed.trace_memo, "_LONGEST", 3)
    monkeypatch.setattr(heed.trace_memo, "_known", {})
    for n in range(7):
        heed.trace_program(lambda x, b, h, t, s, n=n: x + n)
    assert len(heed.trace_memo._known) == 1
