"""The operators under torch's transforms: second derivatives, forward mode, vmap and torch.func,
autocast, compiled code whose sizes change, wrong devices."""

import io
from functools import partial

import cases
import formula
import programs
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.library import opcheck
from torch.testing import assert_close

import heed

OPERATORS = torch.ops.heed
SMALL = {"B": 2, "H": 2, "Hkv": 1, "T": 3, "S": 4, "D": 3, "Dv": 2}
CASES = [
    cases.Case("dot", **SMALL),
    cases.Case("causal_lengths", causal="bottom_right", lengths=(4, 1), **SMALL),
    cases.Case("window_no_keys", window=(1, 0), lengths=(0, 3), scale=0.7, **SMALL),
    cases.Case("additive_sinks", kind="additive", sinks=True, causal="top_left", **SMALL),
    cases.Case("cosine", kind="cosine", lengths=(4, 0), **SMALL),
    cases.Case("top_k_sinks", top_k=2, sinks=True, lengths=(1, 4), **SMALL),
    cases.Case("none_token_major", kind="none", layout="token_major", **SMALL),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
LINEAR = [(name, causal) for name in ("elu", "relu", "exp") for causal in (False, True)]


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def leaves(*shapes):
    return [double(*shape).requires_grad_() for shape in shapes]


def qkv(B=2, H=2, Hkv=1, T=3, S=4, D=3, Dv=2):
    return leaves((B, H, T, D), (B, Hkv, S, D), (B, Hkv, S, Dv))


def with_leaves(inputs):
    """heed.attention as a function of all that gets a gradient."""
    names = [name for name in ("weight", "sinks") if name in inputs.options]

    def f(q, k, v, *more, attention=heed.attention):
        return attention(q, k, v, **inputs.options | dict(zip(names, more, strict=True)))

    return f


def finite(out, lse):
    return out, lse[torch.isfinite(lse)]


def oracle(q, k, v, **options):
    """(out, lse) by the formula."""
    return formula.attention(q, k, v, **options)[:2]


def second(f, at):
    """Gradients of a random sum of the gradients of a nonlinear loss of f's outputs."""
    torch.manual_seed(0)
    loss = sum(x.sin().sum() for x in finite(*f(*at)))
    first = torch.autograd.grad(
        loss, at, create_graph=True, allow_unused=True, materialize_grads=True
    )
    total = sum((x * double(x.shape).to(x.dtype)).sum() for x in first)
    return torch.autograd.grad(total, at, allow_unused=True, materialize_grads=True)


# ---- Second derivatives


@every_case
def test_second_derivatives_by_differences(case):
    inputs = cases.make(case).to(torch.float64, grad=True)
    f = with_leaves(inputs)

    def outputs(*x):
        return finite(*f(*x, attention=lambda *y, **o: heed.attention(*y, return_lse=True, **o)))

    assert gradgradcheck(outputs, inputs.differentiable(), fast_mode=True)


@every_case
def test_second_derivatives_are_the_formulas(case):
    inputs = cases.make(case).to(torch.float64, grad=True)
    f = with_leaves(inputs)
    ours = second(
        lambda *x: f(*x, attention=lambda *y, **o: heed.attention(*y, return_lse=True, **o)),
        inputs.differentiable(),
    )
    right = second(lambda *x: f(*x, attention=oracle), inputs.differentiable())
    for own, expected in zip(ours, right, strict=True):
        assert_close(own, expected)


@pytest.mark.parametrize("program", programs.PROGRAMS, ids=str)
def test_second_derivatives_of_programs_are_the_formulas(program):
    sizes = programs.Sizes(B=2, H=2, T=4, S=6)
    tables = [table.double().requires_grad_() for table in program.tables(sizes)]
    at = [*qkv(Hkv=2, T=4, S=6), *tables]

    def ours(q, k, v, *own):
        return heed.attention(q, k, v, return_lse=True, **program.options(sizes, list(own)))

    def right(q, k, v, *own):
        return oracle(q, k, v, **program.options(sizes, list(own)))

    for own, expected in zip(second(ours, at), second(right, at), strict=True):
        assert_close(own, expected)


def test_what_a_program_does_on_masked_pairs_stays_there():
    slope = double(2).requires_grad_()

    def by_distance(score, b, h, t, s):  # infinite at t - s = -1, NaN above
        return score + slope[h] * torch.log(t - s + 1.0) + slope[h] / (t - s + 1)

    options = {"score_mod": by_distance, "mask_mod": lambda b, h, t, s: s <= t}
    at = [*qkv(Hkv=2), slope]
    found = second(lambda q, k, v, _: heed.attention(q, k, v, return_lse=True, **options), at)
    assert all(torch.isfinite(x).all() for x in found)
    assert gradgradcheck(lambda q, k, v, _: heed.attention(q, k, v, **options), at, fast_mode=True)


@pytest.mark.parametrize("kind", ["dot", "cosine"])
def test_masked_nan_reaches_no_second_derivative(kind):
    q, k, v = qkv(S=5)
    lengths = torch.tensor([2, 5])

    def gradients(fill):
        padded = [x.detach().clone() for x in (k, v)]
        for x in padded:
            x[0, :, 2:] = fill
            x.requires_grad_()

        def f(*x):
            return heed.attention(*x, kind=kind, kv_lengths=lengths, return_lse=True)

        return second(f, (q, *padded))

    for own, expected in zip(gradients(float("nan")), gradients(0.0), strict=True):
        assert torch.equal(own, expected)


def packed():
    return (
        leaves((6, 2, 3), (7, 1, 3), (7, 1, 2)),
        torch.tensor([0, 2, 2, 6]),
        torch.tensor([0, 4, 5, 7]),
    )


def test_second_derivatives_of_packed_sequences_are_those_of_each():
    (q, k, v), cu_q, cu_k = packed()
    bias, sinks = leaves((3, 2), (2,))

    def mod(b, bias):
        return lambda score, _, h, t, s: score + bias[b, h] * (t - s) * score

    def ours(q, k, v, bias, sinks):
        score_mod = lambda score, b, h, t, s: score + bias[b, h] * (t - s) * score  # noqa: E731
        return heed.varlen_attention(
            q, k, v, cu_q, cu_k, causal="bottom_right", sinks=sinks, score_mod=score_mod,
            return_lse=True,
        )  # fmt: skip

    def each(q, k, v, bias, sinks):
        outs, lses = [], []
        for b in range(3):
            own = [
                x[offsets[b] : offsets[b + 1]].transpose(0, 1)[None]
                for x, offsets in ((q, cu_q), (k, cu_k), (v, cu_k))
            ]
            out, lse = oracle(*own, causal="bottom_right", sinks=sinks, score_mod=mod(b, bias))
            outs.append(out[0].transpose(0, 1))
            lses.append(lse[0])
        return torch.cat(outs), torch.cat(lses, dim=1)

    at = [q, k, v, bias, sinks]
    for own, expected in zip(second(ours, at), second(each, at), strict=True):
        assert_close(own, expected)


def test_second_derivatives_with_dropout_by_differences():
    assert gradgradcheck(
        lambda q, k, v: heed.attention(q, k, v, dropout_p=0.4, seed=2), qkv(S=9), fast_mode=True
    )
    (q, k, v), cu_q, cu_k = packed()
    assert gradgradcheck(
        lambda q, k, v: heed.varlen_attention(q, k, v, cu_q, cu_k, dropout_p=0.4, seed=2),
        (q, k, v),
        fast_mode=True,
    )


@pytest.mark.parametrize(("feature_map", "causal"), LINEAR)
def test_second_derivatives_of_linear_attention_by_differences(feature_map, causal):
    def f(q, k, v):
        return heed.linear_attention(q, k, v, feature_map=feature_map, causal=causal)

    assert gradgradcheck(f, qkv(), fast_mode=True)


def test_linear_exponents_of_any_size_have_second_derivatives():
    q, k, v = qkv(H=1)
    big = [x.detach() + 800 for x in (q, k)]

    def near(q, k, v):
        return heed.linear_attention(q, k, v, feature_map="exp"), torch.zeros(1)

    at = [x.requires_grad_() for x in big] + [v]
    for own, expected in zip(second(near, at), second(near, [q, k, v]), strict=True):
        assert_close(own, expected)


def test_third_derivatives():
    def gradient(x):
        out = heed.attention(x, 2 * x, x)
        return torch.autograd.grad(out.sin().sum(), x, create_graph=True)[0]

    assert gradgradcheck(gradient, leaves((1, 1, 3, 2)), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_second_derivatives_in_half_precision(dtype):
    x = torch.randn(1, 2, 6, 8).to(dtype).requires_grad_()

    def f(x):
        return heed.attention(x, x, x, return_lse=True)

    (own,) = second(f, [x])
    (expected,) = second(f, [x.detach().double().requires_grad_()])
    assert own.dtype == dtype
    assert (own - expected).abs().max() < 8 * torch.finfo(dtype).eps * expected.abs().max()


def test_an_input_that_depends_on_another_is_counted_once():
    x = double(1, 2, 4, 3).requires_grad_()
    ours = second(lambda x: heed.attention(x.sin(), x.sin() * x, x, return_lse=True), [x])
    right = second(lambda x: oracle(x.sin(), x.sin() * x, x), [x])
    assert_close(ours, right)


def test_matrices_that_do_not_fit_are_refused_in_a_line():
    x = torch.randn(1, 1, 1 << 20, 1, requires_grad=True)
    (first,) = torch.autograd.grad(
        heed.attention(x, x, x, window=(1, 1)).sum(), x, create_graph=True
    )
    with pytest.raises(
        RuntimeError, match=r"\[attention\] second derivative .* \[B,H,T,S\], got q"
    ):
        first.sum().backward()


# ---- torch.func


def loss(q, k, v, **options):
    return heed.attention(q, k, v, **options).sin().sum()


def plain_loss(q, k, v, **options):
    return oracle(q, k, v, **options)[0].sin().sum()


@pytest.mark.parametrize("options", [{}, {"causal": "top_left"}, {"kind": "cosine"}], ids=str)
def test_gradients_and_hessians_of_functions(options):
    q, k, v = (x.detach() for x in qkv(Hkv=2))
    ours, right = partial(loss, **options), partial(plain_loss, **options)
    assert_close(grad(ours, (0, 1, 2))(q, k, v), grad(right, (0, 1, 2))(q, k, v))
    expected = hessian(right)(q, k, v)
    assert_close(hessian(ours)(q, k, v), expected)
    assert_close(jacrev(jacrev(ours))(q, k, v), expected)
    for jacobian in (jacrev, jacfwd):
        own = jacobian(lambda k: heed.attention(q, k, v, **options))(k)
        assert_close(own, jacobian(lambda k: oracle(q, k, v, **options)[0])(k))


@every_case
def test_forward_mode_is_the_formulas(case):
    inputs = cases.make(case).to(torch.float64)
    f, at = with_leaves(inputs), tuple(inputs.differentiable())
    tangents = tuple(torch.randn_like(x) for x in at)
    _, own = jvp(lambda *x: f(*x), at, tangents)
    _, expected = jvp(lambda *x: f(*x, attention=oracle)[0], at, tangents)
    assert_close(own, expected)


def test_linear_attention_in_functions():
    q, k, v = (x.detach() for x in qkv(Hkv=2))

    def plain(q, k, v):
        weights = (F.elu(q) + 1) @ (F.elu(k) + 1).transpose(2, 3)
        return (weights / weights.sum(-1, keepdim=True) @ v).sin().sum()

    def ours(q, k, v):
        return heed.linear_attention(q, k, v).sin().sum()

    assert_close(hessian(ours)(q, k, v), hessian(plain)(q, k, v))
    own, expected = (jvp(f, (q, k, v), (q, k, v))[1] for f in (ours, plain))
    assert_close(own, expected)


def test_gradients_for_each_sample_of_a_module():
    linear = torch.nn.Linear(4, 12, dtype=torch.float64)
    x = double(3, 5, 4)
    parameters = {name: p.detach() for name, p in linear.named_parameters()}

    def sample_loss(parameters, x):
        q, k, v = functional_call(linear, parameters, x).unflatten(-1, (3, 1, 2, 2)).unbind(-4)
        return heed.attention(*(y.permute(1, 2, 0, 3) for y in (q, k, v))).sin().sum()

    together = vmap(grad(sample_loss), in_dims=(None, 0))(parameters, x)
    for i in range(3):
        assert_close(grad(sample_loss)(parameters, x[i]), {n: y[i] for n, y in together.items()})


# ---- vmap


def one_by_one(f, *tensors, dims):
    count = next(x.shape[d] for x, d in zip(tensors, dims, strict=True) if d is not None)
    each = [
        f(*(x if d is None else x.select(d, i) for x, d in zip(tensors, dims, strict=True)))
        for i in range(count)
    ]
    if isinstance(each[0], torch.Tensor):
        return torch.stack(each)
    return tuple(torch.stack(x) for x in zip(*each, strict=True))


def biased(q, k, v, bias):
    return heed.attention(q, k, v, score_mod=lambda x, b, h, t, s: x + bias[h, t - s] * (b + 1))


def shifted(q, k, v, bias):
    return heed.attention(q, k, v, score_mod=lambda x, b, h, t, s: x + bias[h, t - s])


def with_sinks(q, sinks):
    return heed.attention(q, q, q, sinks=sinks, return_lse=True)


def with_lengths(q, lengths):
    return heed.attention(q, q, q, kv_lengths=lengths, causal="bottom_right", return_lse=True)


def additive(q, weight):
    return heed.attention(q, q, q, kind="additive", weight=weight)


def dropped(q):
    return heed.attention(q, q, q, dropout_p=0.4, seed=3)


def statistics(q, k, v):
    found = heed.attention_stats(q, k, v, want=["entropy", "top:2", "column_sums", "blocks:2"])
    return found["out"], found["entropy"], *found["top"], found["column_sums"], found["blocks"]


def varlen(q):
    offsets = torch.tensor([0, 1, 2])
    return heed.varlen_attention(q, q, q, offsets, offsets, return_lse=True)


N, X, BIAS = 3, double(3, 2, 2, 4, 5), double(3, 2, 7)
MAPPED = {
    "all": (heed.attention, (X, X.sin(), X.cos()), (0, 0, 0)),
    "few_arguments": (OPERATORS.dot_attention.default, (X, X.sin(), X.cos()), (0, 0, 0)),
    "some": (heed.attention, (X, X[0].sin(), X[0].cos()), (0, None, None)),
    "other_dims": (heed.attention, (X.movedim(0, 2), X.movedim(0, -1), X), (2, 4, 0)),
    "program": (shifted, (X, X, X, BIAS[0]), (0, 0, 0, None)),
    "program_of_b": (biased, (X, X, X, BIAS[0]), (0, 0, 0, None)),
    "tables": (shifted, (X[0], X[0], X[0], BIAS), (None, None, None, 0)),
    "sinks": (with_sinks, (X[0], double(3, 2)), (None, 0)),
    "lengths": (with_lengths, (X, torch.tensor([[1, 4], [2, 3], [0, 1]])), (0, 0)),
    "weight": (additive, (X, double(3, 2, 5)), (0, 0)),
    "dropout": (dropped, (X,), (0,)),
    "weights": (heed.attention_weights, (X, X.sin()), (0, 0)),
    "statistics": (statistics, (X, X.sin(), X), (0, 0, 0)),
    "varlen": (varlen, (X[:, 0],), (0,)),
    "linear": (heed.linear_attention, (X, X.sin(), X), (0, 0, 0)),
}


@pytest.mark.parametrize(("f", "tensors", "dims"), MAPPED.values(), ids=MAPPED)
def test_vmap_is_one_after_the_other(f, tensors, dims):
    assert_close(vmap(f, in_dims=dims)(*tensors), one_by_one(f, *tensors, dims=dims))


@pytest.mark.parametrize(
    "name", ["some", "few_arguments", "program", "tables", "sinks", "weight", "varlen", "linear"]
)
def test_vmap_of_gradients_is_one_after_the_other(name):
    f, tensors, dims = MAPPED[name]

    def total(*x):
        out = f(*x)
        return sum(y.sin().sum() for y in (out if isinstance(out, tuple) else (out,)))

    gradients = grad(total, argnums=tuple(range(len(tensors))))
    own = vmap(gradients, in_dims=dims)(*tensors)
    assert_close(own, one_by_one(gradients, *tensors, dims=dims))


def test_vmap_in_vmap():
    own = vmap(vmap(heed.attention, in_dims=(0, None, 0)), in_dims=(0, None, None))
    y = X.expand(2, *X.shape)
    expected = torch.stack(
        [torch.stack([heed.attention(q, X[0], v) for q, v in zip(X, X, strict=True)])] * 2
    )
    assert_close(own(y, X[0], X), expected)


def test_vmap_of_hessians():
    bias = double(3, 2, 7)

    def f(bias, q):
        return biased(q, q, q, bias).sin().sum()

    assert_close(
        vmap(hessian(f))(bias, X), torch.stack([hessian(f)(bias[i], X[i]) for i in range(N)])
    )


def test_many_gradients_at_once():
    q, k, v = qkv()
    out = heed.attention(q, k, v)
    directions = double(5, *out.shape)
    own = torch.autograd.grad(out, (q, k, v), directions, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(out, (q, k, v), d, retain_graph=True) for d in directions]
    assert_close(own, tuple(torch.stack(x) for x in zip(*each, strict=True)))


def test_vmap_has_the_last_word_on_dropout():
    def f(q):
        return heed.attention(q, q, q, dropout_p=0.4)

    same = X[:1].expand(N, -1, -1, -1, -1)
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(f)(same)
    first, other, _ = vmap(f, randomness="same")(same)
    assert torch.equal(first, other)
    first, other, _ = vmap(f, randomness="different")(same)
    assert not torch.equal(first, other)
    first, other, _ = vmap(lambda i: f(X[0]) + i, randomness="different")(torch.zeros(N))
    assert not torch.equal(first, other)


# ---- Autocast


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_a_cast_of_the_inputs(dtype):
    q, k, v = (torch.randn(1, 2, 9, 8, requires_grad=True) for _ in range(3))
    sinks, bias = torch.randn(2, requires_grad=True), torch.randn(2, 17, requires_grad=True)

    def f(q, k, v, sinks):
        mod = lambda score, b, h, t, s: score + bias[h, t - s + 8]  # noqa: E731
        return heed.attention(q, k, v, sinks=sinks, score_mod=mod)

    with torch.autocast("cpu", dtype=dtype):
        out = f(q, k, v, sinks)
    expected = f(*(x.to(dtype) for x in (q, k, v, sinks)))
    assert out.dtype == dtype and torch.equal(out, expected)
    at = (q, k, v, sinks, bias)
    own = torch.autograd.grad(out.float().sin().sum(), at)
    for x, y in zip(own, torch.autograd.grad(expected.float().sin().sum(), at), strict=True):
        assert x.dtype == torch.float32 and torch.equal(x, y)


def test_autocast_reaches_every_function():
    q, offsets = torch.randn(1, 2, 6, 8), torch.tensor([0, 2, 6])
    weight = torch.randn(2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert heed.linear_attention(q, q, q).dtype == torch.bfloat16
        assert heed.attention(q, q, q, kind="additive", weight=weight).dtype == torch.bfloat16
        rows = q[0].transpose(0, 1)
        packed = heed.varlen_attention(rows, rows, rows, offsets, offsets)
        assert packed.dtype == torch.bfloat16
        stats = heed.attention_stats(q, q, q, row_weights=torch.ones(1, 2, 6))
        assert stats["out"].dtype == torch.bfloat16 and stats["lse"].dtype == torch.float32
        own = heed.attention_weights(q, q)
        assert heed.attention(*(q.double() for _ in range(3))).dtype == torch.float64
        mixed = heed.attention(q, q.bfloat16(), q)  # a product under autocast gave the keys
        assert mixed.dtype == torch.bfloat16
    assert torch.equal(own, heed.attention_weights(q.bfloat16(), q.bfloat16()))


# ---- Compiled and exported


class Counting:
    """A backend of torch.compile that counts what it is given."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)


BIAS_BY_DISTANCE = heed.trace_program(
    lambda score, b, h, t, s: score + torch.zeros(2, 41)[h, (t - s).clamp(-20, 20) + 20]
)


def with_program(q, k, v, bias):
    return OPERATORS.attention(q, k, v, program=BIAS_BY_DISTANCE.text, tables=[bias])[0]


def with_cosine(q, k, v):
    return heed.attention(q, k, v, kind="cosine", causal="bottom_right")


def with_window(q, k, v):
    return heed.attention(q, k, v, window=(3, 2), causal="top_left")


def causal_linear(q, k, v):
    return heed.linear_attention(q, k, v, causal=True)


DYNAMIC = {
    "plain": (heed.attention, ()),
    "few_arguments": (OPERATORS.dot_attention.default, ()),
    "window": (with_window, ()),
    "cosine": (with_cosine, ()),
    "program": (with_program, (torch.randn(2, 41),)),
    "linear": (causal_linear, ()),
}


@pytest.mark.parametrize(("f", "more"), DYNAMIC.values(), ids=DYNAMIC)
def test_marked_sizes_change_without_compiling_again(f, more):
    torch._dynamo.reset()
    counting = Counting()
    compiled = torch.compile(f, fullgraph=True, backend=counting)

    def gradients(run, at):
        out = run(*at)
        return out, *torch.autograd.grad(out.sin().sum(), at)

    for B, T, S in ((3, 5, 7), (4, 6, 9), (5, 20, 11), (6, 8, 30)):
        at = [torch.randn(B, 2, n, 16) for n in (T, S, S)]
        for x in at:
            torch._dynamo.mark_dynamic(x, (0, 2))
        at = [x.requires_grad_() for x in (*at, *(x.clone() for x in more))]
        for own, expected in zip(gradients(compiled, at), gradients(f, at), strict=True):
            assert_close(own, expected)
    assert counting.graphs == 1


def test_packed_lengths_change_without_compiling_again():
    torch._dynamo.reset()
    counting = Counting()

    def f(q, offsets):
        return heed.varlen_attention(q, q, q, offsets, offsets, causal="top_left")

    compiled = torch.compile(f, fullgraph=True, backend=counting)
    for lengths in ((3, 4), (5, 6), (9, 2)):
        q = torch.randn(sum(lengths), 2, 8)
        torch._dynamo.mark_dynamic(q, 0)
        offsets = torch.tensor([0, *lengths]).cumsum(0)
        assert_close(compiled(q, offsets), f(q, offsets))
    assert counting.graphs == 1


def test_head_size_may_change_too():
    torch._dynamo.reset()

    def f(q, k, v):
        return heed.attention(q, k, v)

    def check(D):  # the default scale is 1 / sqrt(D)
        q, k, v = (torch.randn(3, 2, n, D) for n in (5, 7, 7))
        assert_close(compiled(q, k, v), f(q, k, v))

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager", dynamic=True)
    check(16)
    with torch.compiler.set_stance("fail_on_recompile"):
        check(24)
        check(40)


def test_transforms_compile_whole():
    torch._dynamo.reset()

    def f(x):
        return vmap(grad(lambda q: heed.attention(q, q, q).sin().sum()))(x)

    x = torch.randn(3, 1, 2, 4, 5)
    assert_close(torch.compile(f, fullgraph=True, backend="aot_eager")(x), f(x))

    def half(q):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return heed.attention(q, q, q)

    compiled = torch.compile(half, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x[0]), half(x[0]))


class WithProgram(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.randn(2, 41))

    def forward(self, q, k, v):
        return with_program(q, k, v, self.bias)


def test_a_program_is_exported_saved_and_loaded():
    module, (B, T, S) = WithProgram(), (torch.export.Dim(x, min=1, max=4096) for x in "BTS")
    example = [torch.randn(3, 2, n, 8) for n in (5, 7, 7)]
    sizes = ({0: B, 2: T}, {0: B, 2: S}, {0: B, 2: S})
    exported = torch.export.export(module, tuple(example), dynamic_shapes=sizes)
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    longer = [torch.randn(1, 2, n, 8) for n in (1, 33, 33)]
    assert_close(torch.export.load(file).module()(*longer), module(*longer))


def test_backward_operators_pass_opcheck():
    q, k, v = (x.detach().requires_grad_() for x in qkv())
    out, lse = OPERATORS.attention(q, k, v)
    d_out, d_lse = torch.randn_like(out), torch.randn_like(lse)
    opcheck(
        OPERATORS.attention_backward.default, (q, k, v, out.detach(), lse.detach(), d_out, d_lse)
    )
    (q, k, v), *offsets = packed()
    out, lse = OPERATORS.varlen_attention(q, k, v, *offsets)
    given = (q, k, v, *offsets, out.detach(), lse.detach(), torch.randn_like(out))
    opcheck(OPERATORS.varlen_attention_backward.default, given)
    q = double(2, 1, 4, 3).requires_grad_()
    out = heed.linear_attention(q, q, q)
    given = (q, q, q, out.detach(), torch.randn_like(out))
    opcheck(OPERATORS.linear_attention_backward.default, given)


def test_sums_of_gradients_by_column_pass_opcheck():
    q, k, v = (x.detach() for x in qkv())
    out, lse = OPERATORS.attention(q, k, v)
    given = (q, k, v, out, lse, torch.randn_like(out), torch.rand_like(lse))
    opcheck(OPERATORS.attention_gradient_column_sums.default, given)


# ---- Wrong devices and layouts

CPU, META = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, device="meta")
WRONG = [
    ((CPU, META, CPU), {}, "k: expected q's device cpu, got meta"),
    ((META, CPU, META), {}, "k: expected q's device meta, got cpu"),
    ((CPU, CPU, CPU.to_sparse()), {}, "v: expected a dense tensor, got Sparse"),
    ((CPU.to_sparse(), CPU, CPU), {}, "q: expected a dense tensor, got Sparse"),
    (
        (CPU, CPU, CPU),
        {"kv_lengths": torch.zeros(1, dtype=torch.int64, device="meta")},
        "kv_lengths: expected q's device cpu, got meta",
    ),
]


@pytest.mark.parametrize(("tensors", "options", "message"), WRONG)
def test_where_a_tensor_is_wrong_is_said_in_a_line(tensors, options, message):
    with pytest.raises(RuntimeError) as error:
        heed.attention(*tensors, **options)
    assert str(error.value) == f"[attention] {message}"
    if not options:
        with pytest.raises(RuntimeError) as error:
            heed.linear_attention(*tensors)
        assert str(error.value) == f"[linear_attention] {message}"
