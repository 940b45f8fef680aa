"""heed.linear_attention against its formula, and as torch wants an operator."""

import math

import pytest
import torch
import torch.nn.functional as F
from comparing import BACKWARD, assert_no_worse
from torch.autograd import gradcheck
from torch.library import opcheck

import heed

FORWARD = torch.ops.heed.linear_attention.default
BACKWARD_OPERATOR = torch.ops.heed.linear_attention_backward.default
FEATURE_MAPS = {"elu": lambda x: F.elu(x) + 1, "relu": F.relu, "exp": torch.exp}
every_map = pytest.mark.parametrize("feature_map", FEATURE_MAPS)
both = pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])


def formula(q, k, v, feature_map, causal):
    """The weights written out, in the inputs' dtype."""
    phi = FEATURE_MAPS[feature_map]
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    weights = phi(q) @ phi(k).transpose(-1, -2)
    if causal:
        weights = weights.tril()
    total = weights.sum(-1, keepdim=True)
    return (weights @ v) / torch.where(total == 0, 1.0, total)


def tensors(B=2, H=4, Hkv=2, T=150, S=150, D=24, Dv=20, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    q, k = torch.randn(B, H, T, D), torch.randn(B, Hkv, S, D)
    # Away from relu's kink: no bound fits the gradients of a row with hardly any weight.
    q, k = q + 0.25 * q.sign(), k + 0.25 * k.sign()
    return q.to(dtype), k.to(dtype), torch.randn(B, Hkv, S, Dv).to(dtype)


def with_gradients(run, inputs, dtype, d_out):
    leaves = [x.to(dtype).requires_grad_() for x in inputs]
    out = run(*leaves)
    return out, *torch.autograd.grad(out, leaves, d_out.to(dtype))


SHAPES = [
    {},
    {"T": 1, "S": 33},
    {"T": 65, "S": 64, "D": 1, "Dv": 1},
    {"T": 200, "S": 70, "D": 17, "Dv": 129},
    {"T": 70, "S": 200, "D": 64, "Dv": 64, "H": 3, "Hkv": 1},
    {"B": 1, "H": 1, "Hkv": 1, "T": 1200, "S": 1200, "D": 64, "Dv": 48},
]


@every_map
@both
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_the_formulas(feature_map, causal, shape):
    inputs = tensors(**shape)
    d_out = torch.randn(*inputs[0].shape[:3], inputs[2].shape[-1])

    def ours(q, k, v):
        return heed.linear_attention(q, k, v, feature_map=feature_map, causal=causal)

    def plain(q, k, v):
        return formula(q, k, v, feature_map, causal)

    found = with_gradients(ours, inputs, torch.float32, d_out)
    near = with_gradients(plain, inputs, torch.float32, d_out)
    exact = with_gradients(plain, inputs, torch.float64, d_out)
    names = ("out", "d_q", "d_k", "d_v")
    for name, own, plain32, plain64 in zip(names, found, near, exact, strict=True):
        assert_no_worse(own, plain32, plain64, name, BACKWARD)


@every_map
@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_worse_than_torchs(feature_map, causal, dtype):
    inputs = tensors(T=90, S=90, dtype=dtype)
    d_out = torch.randn(2, 4, 90, 20).to(dtype)

    def ours(q, k, v):
        return heed.linear_attention(q, k, v, feature_map=feature_map, causal=causal)

    def plain(q, k, v):
        return formula(q, k, v, feature_map, causal)

    found = with_gradients(ours, inputs, dtype, d_out)
    near = with_gradients(plain, inputs, dtype, d_out)
    exact = with_gradients(plain, inputs, torch.float64, d_out)
    for name, own, plain_half, right in zip(
        ["out", "d_q", "d_k", "d_v"], found, near, exact, strict=True
    ):
        assert own.dtype == dtype
        error = (own.double() - right).abs().max().item()
        torchs = (plain_half.double() - right).abs().max().item()
        rounding = torch.finfo(dtype).eps * max(1.0, right.abs().max().item())
        assert error <= 2 * torchs + rounding, name


@every_map
@both
def test_gradcheck_in_double(feature_map, causal):
    inputs = [x.requires_grad_() for x in tensors(2, 4, 2, 5, 4, 3, 2, torch.float64)]
    assert gradcheck(
        lambda *x: heed.linear_attention(*x, feature_map=feature_map, causal=causal), inputs
    )


@every_map
@both
def test_double_precision_is_the_formula(feature_map, causal):
    inputs = tensors(T=30, S=40, dtype=torch.float64)
    out = heed.linear_attention(*inputs, feature_map=feature_map, causal=causal)
    expected = formula(*inputs, feature_map, causal)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@every_map
@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_passes_opcheck(feature_map, causal, dtype):
    options = {"feature_map": feature_map, "causal": causal}
    inputs = tensors(2, 4, 2, 5, 4, 3, 2, dtype)
    out = FORWARD(*inputs, **options)
    opcheck(BACKWARD_OPERATOR, (*inputs, out, torch.randn_like(out)), options)
    opcheck(FORWARD, tuple(x.requires_grad_() for x in inputs), options)


@both
def test_layouts_agree(causal):
    q, k, v = tensors(T=70, S=70)
    want = heed.linear_attention(q, k, v, causal=causal)
    token_major = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    out = heed.linear_attention(*token_major, causal=causal)
    assert torch.equal(out, want) and out.transpose(1, 2).is_contiguous()
    strided = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in (q, k, v)]
    assert torch.equal(heed.linear_attention(*strided, causal=causal), want)
    sliced = [F.pad(x, (1, 2, 3, 1))[:, :, 3:-1, 1:-2] for x in (q, k, v)]
    assert torch.equal(heed.linear_attention(*sliced, causal=causal), want)
    shared = k[:, :1].expand(-1, 2, -1, -1)
    repeated = heed.linear_attention(q, shared.contiguous(), v, causal=causal)
    assert torch.equal(heed.linear_attention(q, shared, v, causal=causal), repeated)


@every_map
@both
def test_threads_change_no_bit(feature_map, causal):
    inputs = tensors(B=1, H=2, Hkv=1, T=1700, S=1700)
    d_out = torch.randn(1, 2, 1700, 20)

    def solve(threads):
        torch.set_num_threads(threads)
        return with_gradients(
            lambda *x: heed.linear_attention(*x, feature_map=feature_map, causal=causal),
            inputs,
            torch.float32,
            d_out,
        )

    one = solve(1)
    for threads in (2, 3):
        assert all(torch.equal(a, b) for a, b in zip(one, solve(threads), strict=True))


@every_map
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_the_future_does_not_reach_the_past(feature_map, poison):
    q, k, v = tensors()
    clean = heed.linear_attention(q, k, v, feature_map=feature_map, causal=True)
    k[:, :, 60], v[:, :, 60] = poison, poison
    out = heed.linear_attention(q, k, v, feature_map=feature_map, causal=True)
    assert torch.equal(out[:, :, :60], clean[:, :, :60])
    assert torch.isnan(out[:, :, 60:]).any(-1).all()


@both
def test_exp_neither_overflows_nor_vanishes(causal):
    q, k, v = (100 * x for x in tensors(T=80, S=80))
    weights = (q.unsqueeze(3) + k.repeat_interleave(2, 1).unsqueeze(2)).double()  # [B,H,T,S,D]
    weights = weights.logsumexp(-1)
    if causal:
        weights = weights.masked_fill(torch.ones(80, 80).triu(1).bool(), -math.inf)
    want = weights.softmax(-1) @ v.repeat_interleave(2, 1).double()
    out = heed.linear_attention(q, k, v, feature_map="exp", causal=causal)
    torch.testing.assert_close(out.double(), want, rtol=1e-3, atol=1e-2)


@both
def test_row_without_weight_is_zero(causal):
    q, k, v = (x.requires_grad_() for x in tensors(T=9, S=9))
    negative = -q.abs()
    out = heed.linear_attention(negative, k, v, feature_map="relu", causal=causal)
    assert (out == 0).all()
    for gradient in torch.autograd.grad(out.sum(), (q, k, v)):
        assert (gradient == 0).all()


@every_map
@both
@pytest.mark.parametrize("empty", ["B", "T", "S"])
def test_empty_sizes(feature_map, causal, empty):
    inputs = [x.requires_grad_() for x in tensors(**{empty: 0})]
    out = heed.linear_attention(*inputs, feature_map=feature_map, causal=causal)
    assert (out == 0).all()
    for x, gradient in zip(inputs, torch.autograd.grad(out.sum(), inputs), strict=True):
        assert gradient.shape == x.shape and (gradient == 0).all()


def test_compiles_and_exports_whole():
    inputs = tensors(T=20, S=20)

    class Module(torch.nn.Module):
        def forward(self, q, k, v):
            return heed.linear_attention(q, k, v, feature_map="exp", causal=True) * 2

    want = Module()(*inputs)
    compiled = torch.compile(Module(), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*inputs), want)
    assert torch.equal(torch.export.export(Module(), inputs).module()(*inputs), want)


Q, K, V = tensors(T=5, S=7, D=8, Dv=6)
WRONG = [
    ((Q[0], K, V), {}, "[linear_attention] q: expected [B,H,T,D], got [4,5,8]"),
    ((Q, K[0], V), {}, "[linear_attention] k: expected [B,Hkv,S,D], got [2,7,8]"),
    ((Q, K, V[0]), {}, "[linear_attention] v: expected [B,Hkv,S,Dv], got [2,7,6]"),
    ((Q, K[..., :7], V), {}, "[linear_attention] k: expected [B,Hkv,S,D] = [2,2,7,8], got [2,2,7,7]"),
    ((Q, K, V[:, :, :6]), {}, "[linear_attention] v: expected [B,Hkv,S,Dv] = [2,2,7,6], got [2,2,6,6]"),
    ((Q[:, :3], K, V), {}, "[linear_attention] k: expected Hkv heads that divide q's H = 3, got Hkv = 2"),
    ((Q.int(), K, V), {}, "[linear_attention] q: expected dtype float32, bfloat16, float16 or float64, got int32"),
    ((Q, K.double(), V), {}, "[linear_attention] k: expected dtype float32, got float64"),
    ((Q, K, V.to("meta")), {}, "[linear_attention] v: expected q's device cpu, got meta"),
    ((Q, K, V), {"feature_map": "tanh"}, "[linear_attention] feature_map: expected 'elu', 'relu' or 'exp', got 'tanh'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "options", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_message(arguments, options, message):
    with pytest.raises(RuntimeError) as error:
        heed.linear_attention(*arguments, **options)
    assert str(error.value).split("\n")[0] == message
