"""heed.scaled_dot_product_attention against the formula, in all the ways that torch's is called."""

import math

import pytest
import torch
from comparing import BACKWARD, assert_no_worse
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from heed.sdpa import scaled_dot_product_attention

INF = math.inf


def formula(q, k, v, attn_mask=None, is_causal=False, scale=None, enable_gqa=False):
    """The definition in torch; what a query can't see counts as 0, whatever it holds."""
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], dim=-3) for x in (k, v))
    score = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    seen = torch.ones_like(score, dtype=torch.bool)
    if is_causal:
        seen = seen.tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        seen = seen & attn_mask
    elif attn_mask is not None:
        seen, score = seen & (attn_mask != -INF), score + attn_mask
    any_seen = seen.any(-1, keepdim=True)
    score = torch.where(any_seen, score.masked_fill(~seen, -INF), 0.0)
    return (torch.softmax(score, -1) * any_seen) @ v


def leaves(*sizes, dtype=torch.float32):
    return [torch.randn(*size, dtype=dtype).requires_grad_() for size in sizes]


def run(function, tensors, mask, options):
    """Output and gradients, of the mask too where it has one."""
    inputs = [x.detach().requires_grad_() for x in tensors]
    if mask is not None and mask.is_floating_point():
        mask = mask.detach().requires_grad_()
        inputs.append(mask)
    out = function(*inputs[:3], attn_mask=mask, **options)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), inputs)]


def check(tensors, mask=None, dtype=torch.float32, **options):
    def cast(to):
        of_mask = mask
        if mask is not None and mask.is_floating_point():
            of_mask = mask.to(to)
        return [x.detach().to(to) for x in tensors], of_mask

    rounded = [x.detach().to(dtype) for x in tensors]
    tensors = [x.double() for x in rounded]
    mask = mask if mask is None or mask.dtype == torch.bool else mask.to(dtype)
    exact = run(formula, *cast(torch.float64), options)
    ours = run(scaled_dot_product_attention, *cast(dtype), options)
    plain = run(formula, *cast(dtype), options)
    for name, *results in zip(("out", "dq", "dk", "dv", "dmask"), ours, plain, exact, strict=False):
        assert results[0].shape == results[2].shape and results[0].dtype == dtype
        assert_no_worse(*results, name, BACKWARD)


RANKS = {
    "4": ((2, 3, 7, 8), (2, 3, 11, 8), (2, 3, 11, 5)),
    "2": ((7, 8), (11, 8), (11, 5)),
    "3": ((3, 7, 8), (3, 11, 8), (3, 11, 5)),
    "5": ((2, 3, 2, 7, 8), (2, 3, 2, 11, 8), (2, 3, 2, 11, 5)),
    "6": ((2, 1, 3, 2, 7, 8), (1, 2, 1, 2, 11, 8), (2, 2, 3, 1, 11, 5)),
    "query without batch": ((3, 7, 8), (2, 3, 11, 8), (2, 3, 11, 5)),
    "keys without heads": ((2, 3, 7, 8), (11, 8), (11, 5)),
    "one head of keys": ((2, 3, 7, 8), (2, 1, 11, 8), (2, 1, 11, 5)),
    "one head of keys alone": ((2, 3, 7, 8), (1, 1, 11, 8), (2, 3, 11, 5)),
    "one head of queries": ((2, 1, 7, 8), (2, 3, 11, 8), (2, 3, 11, 5)),
    "values have the batch": ((1, 3, 7, 8), (1, 3, 11, 8), (4, 3, 11, 5)),
}


@pytest.mark.parametrize("sizes", RANKS.values(), ids=RANKS)
@pytest.mark.parametrize("is_causal", [False, True])
def test_any_rank_and_broadcast(sizes, is_causal):
    check(leaves(*sizes), is_causal=is_causal)


GROUPED = {
    "4": ((2, 6, 7, 8), (2, 2, 11, 8), (2, 2, 11, 5)),
    "3": ((6, 7, 8), (3, 11, 8), (3, 11, 5)),
    "5": ((2, 2, 6, 7, 8), (2, 2, 1, 11, 8), (2, 2, 1, 11, 5)),
    "more heads of values": ((2, 6, 7, 8), (2, 2, 11, 8), (2, 3, 11, 5)),
    "batch of keys": ((1, 6, 7, 8), (2, 2, 11, 8), (2, 2, 11, 5)),
}


@pytest.mark.parametrize("sizes", GROUPED.values(), ids=GROUPED)
def test_grouped_heads(sizes):
    check(leaves(*sizes), enable_gqa=True)


MASKS = [(), (11,), (1,), (7, 1), (1, 11), (7, 11), (3, 1, 11), (3, 7, 11), (1, 1, 7, 11),
         (2, 1, 1, 11), (2, 1, 7, 11), (2, 3, 7, 1), (1, 3, 1, 11), (2, 3, 7, 11)]  # fmt: skip


@pytest.mark.parametrize("size", MASKS, ids=str)
@pytest.mark.parametrize("kind", ["bool", "float", "infinite"])
def test_mask_of_any_size(size, kind):
    if kind == "bool":
        mask = torch.rand(size) < 0.6
    else:
        mask = torch.randn(size)
        mask = mask.masked_fill(torch.rand(size) < 0.4, -INF) if kind == "infinite" else mask
    check(leaves(*RANKS["4"]), mask)


@pytest.mark.parametrize("rank, size", [("2", (7, 11)), ("2", (11,)), ("3", (3, 1, 11)),
    ("3", (7, 11)), ("5", (2, 3, 2, 7, 11)), ("5", (1, 3, 1, 1, 11)), ("5", (1, 1, 2, 7, 11)),
    ("5", (2, 7, 1)), ("6", (2, 2, 1, 1, 7, 11)), ("one head of keys", (2, 3, 7, 11))])  # fmt: skip
@pytest.mark.parametrize("is_bool", [False, True])
def test_mask_with_any_rank(rank, size, is_bool):
    check(leaves(*RANKS[rank]), torch.rand(size) < 0.6 if is_bool else torch.randn(size))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mask", [None, torch.ones(7, 11).tril(2).bool(), torch.randn(3, 7, 11)])
def test_other_dtypes(dtype, mask):
    check(leaves(*RANKS["4"]), mask, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_float32_mask_beside_other_dtypes(dtype):
    q, k, v = leaves(*RANKS["4"], dtype=dtype)
    mask = torch.randn(7, 11)
    expected = formula(*(x.double() for x in (q, k, v)), mask.double())
    out = scaled_dot_product_attention(q, k, v, mask)
    torch.testing.assert_close(out.double(), expected, atol=2 * torch.finfo(dtype).eps, rtol=0.02)


@pytest.mark.parametrize("scale", [0.3, -0.7, 0.0, 2])
def test_scale(scale):
    check(leaves(*RANKS["4"]), scale=scale)


@pytest.mark.parametrize("B, H, T, S, D, Dv", [(0, 1, 3, 5, 4, 4), (2, 0, 3, 5, 4, 4),
    (2, 1, 0, 5, 4, 4), (2, 1, 3, 0, 4, 4), (2, 1, 3, 5, 4, 0), (2, 1, 0, 0, 4, 0)])  # fmt: skip
@pytest.mark.parametrize("mask", [None, torch.bool, torch.float32])
def test_empty_sizes(B, H, T, S, D, Dv, mask):
    mask = None if mask is None else torch.ones(B, 1, T, S, dtype=mask)
    check(leaves((B, H, T, D), (B, H, S, D), (B, H, S, Dv)), mask)


def test_no_width_gives_the_mean_of_the_values():
    q, k, v = leaves((1, 1, 3, 0), (1, 1, 5, 0), (1, 1, 5, 4))
    out = scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(out, v.mean(2, keepdim=True).expand(1, 1, 3, 4))


# Masked positions.


@pytest.mark.parametrize("is_bool", [True, False])
def test_a_row_without_keys_gives_0_and_finite_gradients(is_bool):
    seen = torch.ones(7, 11, dtype=torch.bool)
    seen[2] = seen[5] = False
    mask = seen if is_bool else torch.where(seen, 0.0, -INF).requires_grad_()
    tensors = leaves(*RANKS["4"])
    out = scaled_dot_product_attention(*tensors, mask)
    out.sum().backward()
    assert (out[:, :, [2, 5]] == 0).all() and (tensors[0].grad[:, :, [2, 5]] == 0).all()
    for x in tensors + ([] if is_bool else [mask]):
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("poison", [math.nan, INF])
@pytest.mark.parametrize("how", ["causal", "bool", "float", "lengths"])
def test_what_is_masked_is_not_read(poison, how):
    T, S = 60, 70  # no query sees the last 10 keys
    seen = torch.ones(T, S, dtype=torch.bool).tril()
    options = {
        "causal": {"is_causal": True},
        "bool": {"attn_mask": seen},
        "float": {"attn_mask": torch.where(seen, 0.0, -INF)},
        "lengths": {"attn_mask": (torch.arange(S) < T).view(1, 1, 1, S)},
    }[how]
    tensors = leaves((1, 2, T, 8), (1, 2, S, 8), (1, 2, S, 8))
    out = scaled_dot_product_attention(*tensors, **options)
    expected = torch.autograd.grad(out.sum(), tensors)
    with torch.no_grad():
        for x in tensors[1:]:
            x[:, :, T:] = poison
    poisoned = scaled_dot_product_attention(*tensors, **options)
    assert torch.equal(poisoned, out)
    for got, right in zip(torch.autograd.grad(poisoned.sum(), tensors), expected, strict=True):
        assert torch.equal(got, right)


def test_a_nan_that_is_seen_shows():
    q, k, v = leaves(*RANKS["4"])
    mask = torch.zeros(7, 11)
    mask[3, 4] = math.nan
    out = scaled_dot_product_attention(q, k, v, mask)
    assert out[:, :, 3].isnan().all() and not out[:, :, :3].isnan().any()


# How a mask arrives at the operator.


class Operator(TorchDispatchMode):
    """What heed::attention is given."""

    tensors: tuple[Tensor, ...] = ()
    tables: list[Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.heed.attention.default:
            self.tensors, self.tables = args[:3], kwargs.get("tables") or []
        return func(*args, **(kwargs or {}))


def test_nothing_is_copied_for_a_broadcast():
    tensors = [torch.randn(size) for size in ((2, 3, 7, 8), (1, 1, 11, 8), (1, 1, 11, 5))]
    with Operator() as operator:
        scaled_dot_product_attention(*tensors)
    for given, x in zip(operator.tensors, tensors, strict=True):
        assert given.data_ptr() == x.data_ptr()
    assert [x.shape[1] for x in operator.tensors] == [3, 1, 1]  # grouped heads


@pytest.mark.parametrize("mask", [
    torch.rand(2, 1, 1, 11) < 0.5,
    (torch.rand(2, 1, 1, 11) < 0.5).expand(2, 3, 7, 11),
    (torch.rand(11) < 0.5).expand(2, 3, 7, 11),
    torch.rand(2, 1, 11, 7).mT < 0.5,
])  # fmt: skip
def test_a_mask_is_not_copied(mask):
    q, k, v = (torch.randn(size) for size in RANKS["4"])
    with Operator() as operator:
        out = scaled_dot_product_attention(q, k, v, mask)
    (table,) = operator.tables
    assert table.data_ptr() == mask.data_ptr()
    torch.testing.assert_close(out, formula(q, k, v, mask))


def test_an_expanded_mask_has_no_copy_of_its_infinities_for_each_head():
    mask = torch.randn(2, 1, 1, 11).masked_fill(torch.rand(2, 1, 1, 11) < 0.5, -INF)
    q, k, v = (torch.randn(size) for size in RANKS["4"])
    with Operator() as operator:
        out = scaled_dot_product_attention(q, k, v, mask.expand(2, 3, 7, 11))
    assert [table.untyped_storage().nbytes() for table in operator.tables] == [2 * 11 * 4, 2 * 11]
    torch.testing.assert_close(out, formula(q, k, v, mask))


def test_an_expanded_mask_gets_the_gradient_of_all_its_places():
    tensors = leaves(*RANKS["4"])
    row = torch.randn(11)
    wide = row.expand(2, 3, 7, 11).requires_grad_()  # itself a leaf
    scaled_dot_product_attention(*tensors, wide).square().sum().backward()
    full = row.expand(2, 3, 7, 11).clone().requires_grad_()
    formula(*tensors, full).square().sum().backward()
    torch.testing.assert_close(wide.grad, full.grad)


# Derivatives.


def test_gradcheck():
    tensors = leaves((2, 3, 3), (2, 4, 3), (2, 4, 2), (3, 4), dtype=torch.float64)
    assert torch.autograd.gradcheck(scaled_dot_product_attention, tensors)


# Dropout.


def test_dropout_keeps_the_expectation_and_follows_the_generator():
    q, k = torch.zeros(2, 4, 32, 8), torch.randn(2, 4, 300, 8)
    v = torch.ones(2, 4, 300, 8)
    torch.manual_seed(3)
    out = scaled_dot_product_attention(q, k, v, dropout_p=0.3)
    assert out.std() > 0.01
    assert out.mean() == pytest.approx(1, abs=0.01)
    torch.manual_seed(3)
    assert torch.equal(scaled_dot_product_attention(q, k, v, dropout_p=0.3), out)


def test_all_dropped_gives_0():
    tensors = leaves(*RANKS["4"])
    out = scaled_dot_product_attention(*tensors, dropout_p=1.0)
    out.sum().backward()
    assert (out == 0).all() and all((x.grad == 0).all() for x in tensors)


# Errors.

X = torch.randn(1, 4, 3, 8)
ANY = torch.ones(3, 3, dtype=torch.bool)
ERRORS = [
    ((1, X, X), {}, TypeError, "query: expected a tensor, got int"),
    ((X, X, None), {}, TypeError, "value: expected a tensor, got NoneType"),
    ((X, X, X), {"attn_mask": [[1]]}, TypeError, "attn_mask: expected a tensor, got list"),
    ((X, X[0, 0, 0], X), {}, RuntimeError, "key: expected at least 2 dimensions"),
    ((X[0, 0],) * 3, {"enable_gqa": True}, IndexError, "at least 3 dimensions, got .3, 8."),
    ((X, X.double(), X), {}, RuntimeError, "k: expected dtype float32, got float64"),
    ((X.int(),) * 3, {}, RuntimeError, "q: expected dtype float32, .*, got int32"),
    ((X, X.to("meta"), X), {}, RuntimeError, "k: expected q's device cpu, got meta"),
    ((X, X[..., :7], X), {}, RuntimeError, "k: expected .*8., got .*7."),
    ((X, X, X[:, :, :2]), {}, RuntimeError, "v: expected .B,Hkv,S,Dv. = .1,4,3,8., got .1,4,2,8."),
    ((X, X[:, :2], X[:, :2]), {}, RuntimeError, "enable_gqa.*, got 4 and 2"),
    ((X, X[:, :3], X[:, :3]), {"enable_gqa": True}, RuntimeError, "divide q's H = 4, got Hkv = 3"),
    ((X, X[:, :3], X[:, :2]), {"enable_gqa": True}, RuntimeError, "key: .* divide query's 4, got 3"),
    ((X, X, X), {"attn_mask": ANY, "is_causal": True}, RuntimeError, "None with is_causal"),
    ((X, X, X), {"attn_mask": ANY.int()}, RuntimeError, "attn_mask: expected dtype bool, float32"),
    ((X, X, X), {"attn_mask": ANY.double()}, RuntimeError, "attn_mask: expected dtype"),
    ((X, X, X), {"attn_mask": ANY[:, :2]}, RuntimeError, r"to \[1, 4, 3, 3\], got \[3, 2\]"),
    ((X, X, X), {"attn_mask": ANY.expand(2, 1, 3, 3)}, RuntimeError, "sizes that broadcast"),
    ((X, X, X), {"attn_mask": ANY[None, None, None]}, RuntimeError, "sizes that broadcast"),
    ((X[0],) * 3, {"attn_mask": ANY[None, None]}, RuntimeError, r"to \[4, 3, 3\]"),
    ((X, X, X), {"dropout_p": 1.5}, RuntimeError, "dropout_p: expected a probability"),
    ((X, X, X), {"dropout_p": -0.5}, RuntimeError, "dropout_p: expected a probability"),
]  # fmt: skip


@pytest.mark.parametrize("arguments, options, error, message", ERRORS, ids=[e[3] for e in ERRORS])
def test_errors_are_one_line_and_of_torchs_types(arguments, options, error, message):
    with pytest.raises(error, match=message) as caught:
        scaled_dot_product_attention(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_meta_tensors_tell_the_shape():
    q, k, v = (torch.empty(size, device="meta") for size in RANKS["one head of keys"])
    out = scaled_dot_product_attention(q, k, v, torch.empty(7, 11, device="meta"))
    assert out.shape == (2, 3, 7, 5) and out.is_meta


# torch.compile.


def test_compiles_whole_and_once_for_all_lengths():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    @torch.compile(backend=backend, fullgraph=True, dynamic=True)
    def attend(q, k, v, mask):
        return scaled_dot_product_attention(q, k, v, mask)

    torch._dynamo.reset()
    for T in (5, 9, 14):
        q, k, v = (torch.randn(2, 3, T, 8) for _ in range(3))
        mask = torch.rand(2, 1, 1, T) < 0.7
        torch.testing.assert_close(attend(q, k, v, mask), formula(q, k, v, mask))
    assert len(graphs) == 1
    torch._dynamo.reset()
