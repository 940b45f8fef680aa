"""torch.ops.heed as torch wants an operator: opcheck, gradcheck, torch.compile, torch.export."""

import cases
import formula
import pytest
import torch
from torch.autograd import grad, gradcheck
from torch.library import opcheck

import heed

ATTENTION = torch.ops.heed.attention.default
DOT_ATTENTION = torch.ops.heed.dot_attention.default
APPEND_ROWS = torch.ops.heed.append_rows.default
BACKWARD = torch.ops.heed.attention_backward.default
VARLEN = torch.ops.heed.varlen_attention.default
STATS = torch.ops.heed.attention_stats.default
WEIGHTS = torch.ops.heed.attention_weights.default

SMALL = {"B": 2, "H": 2, "Hkv": 1, "T": 3, "S": 4, "D": 5, "Dv": 2}
CASES = [
    cases.Case("dot", **SMALL),
    cases.Case("dot_top_left", causal="top_left", **SMALL),
    cases.Case("dot_bottom_right_lengths", causal="bottom_right", lengths=(4, 1), **SMALL),
    cases.Case("dot_no_keys", lengths=(0, 3), **SMALL),
    cases.Case("dot_scale", scale=0.7, **SMALL),
    cases.Case("dot_token_major", layout="token_major", **SMALL),
    cases.Case("dot_strided_rows", layout="strided_rows", **SMALL),
    cases.Case("additive", kind="additive", **SMALL),
    cases.Case("additive_top_left_lengths", kind="additive", causal="top_left", lengths=(2, 4), **SMALL),
    cases.Case("additive_bottom_right", kind="additive", causal="bottom_right", **SMALL),
    cases.Case("window_lengths", window=(1, 1), causal="bottom_right", lengths=(4, 2), **SMALL),
    cases.Case("sinks", sinks=True, lengths=(0, 3), **SMALL),
    cases.Case("additive_sinks", kind="additive", sinks=True, **SMALL),
    cases.Case("top_k", top_k=2, sinks=True, **SMALL),
    cases.Case("none", kind="none", causal="top_left", **SMALL),
]  # fmt: skip


COSINE = cases.Case("cosine", kind="cosine", **SMALL)


SAME_GRAPH = ("dot_no_keys", "dot_scale", "additive_top_left_lengths", "additive_bottom_right")


@pytest.mark.parametrize("case", [*CASES, COSINE], ids=str)
def test_attention_passes_opcheck(case):
    inputs = cases.make(case).to(torch.float32, grad=True)
    opcheck(ATTENTION, (inputs.q, inputs.k, inputs.v), inputs.options)


@pytest.mark.parametrize("options", [{}, {"scale": 0.7}, {"causal": "top_left"}], ids=str)
def test_a_call_of_few_arguments_is_that_of_many(options):
    q, k, v = (torch.randn(2, 4, n, 5, requires_grad=True) for n in (3, 6, 6))
    own, right = DOT_ATTENTION(q, k, v, **options), ATTENTION(q, k, v, **options)[0]
    assert torch.equal(own, right)
    for x, y in zip(
        grad(own.sin().sum(), (q, k, v)), grad(right.sin().sum(), (q, k, v)), strict=True
    ):
        assert torch.equal(x, y)
    opcheck(DOT_ATTENTION, (q, k, v), options)


def test_rows_are_appended_in_place():
    rooms = torch.zeros(2, 3, 8, 4), torch.zeros(2, 3, 8, 5)
    keys, values = torch.randn(2, 2, 3, 4).transpose(1, 2), torch.randn(2, 3, 2, 5)
    views = APPEND_ROWS(*rooms, keys, values, 3)
    for room, new, view in zip(rooms, (keys, values), views, strict=True):
        assert view.data_ptr() == room.data_ptr() and view.shape == (2, 3, 5, room.shape[3])
        assert torch.equal(view[:, :, 3:], new) and not view[:, :, :3].any()
        assert not room[:, :, 5:].any()
    compiled = torch.compile(APPEND_ROWS, fullgraph=True, backend="aot_eager")
    for view, own in zip(
        views, compiled(*(torch.zeros_like(x) for x in rooms), keys, values, 3), strict=True
    ):
        assert torch.equal(own, view)


def test_a_graph_that_kept_the_rows_notices_what_is_appended():
    room, q = torch.randn(1, 2, 8, 4), torch.randn(1, 2, 3, 4, requires_grad=True)
    keys = room[:, :, :3]
    loss = (q * keys).sum()
    APPEND_ROWS(room, torch.zeros_like(room), torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4), 0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    ("T", "length", "learns", "message"),
    [(1, 8, False, "exceeds dimension size"), (1, 0, True, "rows: expected none that requires")],
)
def test_rows_that_can_not_be_appended_change_nothing(T, length, learns, message):
    rooms = torch.zeros(2, 3, 8, 4), torch.zeros(2, 3, 8, 4)
    new = torch.ones(2, 3, T, 4, requires_grad=learns)
    with pytest.raises(RuntimeError, match=message):
        APPEND_ROWS(*rooms, new, new, length)
    assert not rooms[0].any() and not rooms[1].any()


def traced(dtype=torch.float32):
    """Options with a program whose table gets a gradient."""
    bias = torch.randn(2, 7, dtype=dtype, requires_grad=True)
    program = heed.trace_program(lambda score, b, h, t, s: score + bias[h, t - s])
    return {"program": program.text, "tables": program.tables}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_attention_with_a_program_passes_opcheck(dtype):
    inputs = cases.make(CASES[0]).to(dtype, grad=True)
    opcheck(ATTENTION, (inputs.q, inputs.k, inputs.v), traced(dtype))


def test_varlen_passes_opcheck():
    q, k, v = (
        torch.randn(n, heads, 4, requires_grad=True) for n, heads in ((6, 2), (7, 1), (7, 1))
    )
    lengths = torch.tensor([0, 2, 6]), torch.tensor([0, 4, 7])
    opcheck(VARLEN, (q, k, v, *lengths), {"causal": "bottom_right", **traced()})


def test_stats_pass_opcheck():
    inputs = cases.make(CASES[0])
    want = ["entropy", "max", "top:2", "column_sums", "diagonal:-1", "blocks:2"]
    opcheck(STATS, (inputs.q, inputs.k, inputs.v), {"want": want, **inputs.options})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_passes_opcheck(case):
    inputs = cases.make(case)
    out, lse = ATTENTION(inputs.q, inputs.k, inputs.v, **inputs.options)
    for d_lse in (None, torch.randn_like(lse)) if case.name == "dot" else (torch.randn_like(lse),):
        arguments = (inputs.q, inputs.k, inputs.v, out, lse, torch.randn_like(out), d_lse)
        opcheck(BACKWARD, arguments, inputs.options)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_pass_opcheck(case):
    inputs = cases.make(case)
    opcheck(WEIGHTS, (inputs.q, inputs.k), inputs.options)


@pytest.mark.parametrize("case", [*CASES, COSINE], ids=str)
def test_gradcheck_in_double(case):
    inputs = cases.make(case).to(torch.float64, grad=True)

    def f(q, k, v, *more):
        names = [name for name in ("weight", "sinks") if name in inputs.options]
        options = inputs.options | dict(zip(names, more, strict=True))
        out, lse = heed.attention(q, k, v, return_lse=True, **options)
        return out, lse[torch.isfinite(lse)]

    assert gradcheck(f, inputs.differentiable())


def test_gradient_through_lse_alone():
    q, k, v = (torch.randn(1, 2, 4, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    _, lse = heed.attention(q, k, v, return_lse=True)
    _, expected, _ = formula.attention(q, k, v)
    own = torch.autograd.grad(lse.sum(), (q, k))
    for found, right in zip(own, torch.autograd.grad(expected.sum(), (q, k)), strict=True):
        torch.testing.assert_close(found, right)


def test_weights_carry_no_gradient():
    q = torch.randn(1, 1, 3, 4, requires_grad=True)
    assert not heed.attention_weights(q, q).requires_grad


@pytest.mark.parametrize(
    ("case", "dynamic"),
    [
        *((case, True) for case in [*CASES, COSINE] if case.name not in SAME_GRAPH),
        *((case, False) for case in CASES[:2]),
    ],
    ids=str,
)
def test_compiles_whole_with_gradients(case, dynamic):
    torch._dynamo.reset()
    inputs = cases.make(case)

    def step(leaves):
        out, lse = heed.attention(leaves.q, leaves.k, leaves.v, return_lse=True, **leaves.options)
        return (out.sin().sum() + torch.nan_to_num(lse, neginf=0.0).sum(), out, lse)

    def outcome(f):
        leaves = inputs.to(torch.float32, grad=True)
        loss, out, lse = f(leaves)
        gradients = torch.autograd.grad(
            loss, leaves.differentiable(), allow_unused=True, materialize_grads=True
        )
        return [out, lse, *gradients]

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for own, expected in zip(outcome(compiled), outcome(step), strict=True):
        torch.testing.assert_close(own, expected)
        assert own.stride() == expected.stride()


def test_compiled_code_takes_another_length_without_compiling_again():
    torch._dynamo.reset()
    compiled = torch.compile(heed.attention, fullgraph=True, backend="aot_eager", dynamic=True)

    def check(T, S):
        q, k, v = (torch.randn(2, 2, n, 8) for n in (T, S, S))
        torch.testing.assert_close(compiled(q, k, v), heed.attention(q, k, v))

    check(5, 9)
    with torch.compiler.set_stance("fail_on_recompile"):
        check(6, 11)
        check(33, 70)


def test_dropout_compiles_whole():
    torch._dynamo.reset()

    def step(q, seed):
        return heed.attention(q, q, q, dropout_p=0.4, seed=seed)

    q = torch.randn(1, 2, 20, 8)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(q, 3), step(q, 3))
    drawn = [compiled(q, None) for _ in range(2)]
    assert not torch.equal(*drawn)
    torch.manual_seed(1)
    first = compiled(q, None)
    torch.manual_seed(1)
    assert torch.equal(first, compiled(q, None))


def test_a_mod_compiles_around_its_trace():
    torch._dynamo.reset()
    bias = torch.randn(2, 9, requires_grad=True)
    q = torch.randn(1, 2, 5, 8, requires_grad=True)

    def step(q):
        mod = lambda score, b, h, t, s: score * 2 + bias[h, t - s]  # noqa: E731
        return heed.attention(q.sin(), q, q, score_mod=mod).cos()

    compiled = torch.compile(step, backend="aot_eager")
    torch.testing.assert_close(compiled(q), step(q))
    ours = torch.autograd.grad(compiled(q).sum(), (q, bias))
    for own, expected in zip(ours, torch.autograd.grad(step(q).sum(), (q, bias)), strict=True):
        torch.testing.assert_close(own, expected)


class SelfAttention(torch.nn.Module):
    def forward(self, x, lengths):
        return heed.attention(x, x, x, causal="bottom_right", kv_lengths=lengths)


def test_exports_with_a_dynamic_length():
    x, lengths = torch.randn(2, 2, 6, 8), torch.tensor([6, 2])
    T = torch.export.Dim("T", min=2, max=512)
    program = torch.export.export(
        SelfAttention(), (x, lengths), dynamic_shapes={"x": {2: T}, "lengths": None}
    )
    assert any(node.target is ATTENTION for node in program.graph.nodes)
    longer = torch.randn(2, 2, 20, 8)
    for module in (program.module(), program.run_decompositions().module()):
        torch.testing.assert_close(module(longer, lengths), SelfAttention()(longer, lengths))


def test_meta_tensors_give_shapes():
    q, k, v = (
        torch.empty(2, h, n, d, device="meta") for h, n, d in ((4, 5, 8), (2, 7, 8), (2, 7, 3))
    )
    out, lse = heed.attention(q, k, v, return_lse=True)
    assert out.shape == (2, 4, 5, 3) and lse.shape == (2, 4, 5) and out.device.type == "meta"
