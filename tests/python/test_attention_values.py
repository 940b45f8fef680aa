"""heed.attention against the formula in float64 and against torch, forward and backward."""

import cases
import formula
import pytest
import torch
import torch.nn.functional as F
from comparing import BACKWARD, assert_no_worse
from torch.autograd import grad

import heed


def ours(inputs):
    return heed.attention(inputs.q, inputs.k, inputs.v, return_lse=True, **inputs.options)


def plain(inputs):
    return formula.attention(inputs.q, inputs.k, inputs.v, **inputs.options)


@pytest.mark.parametrize("case", cases.ALL, ids=str)
def test_forward_is_the_formula(case):
    inputs = cases.make(case)
    out, lse = ours(inputs)
    out32, lse32, _ = plain(inputs)
    out64, lse64, _ = plain(inputs.to(torch.float64))
    assert out.dtype == torch.float32 and lse.dtype == torch.float32
    assert_no_worse(out, out32, out64, "out")
    assert_no_worse(lse, lse32, lse64, "lse")


@pytest.mark.parametrize("case", cases.ALL, ids=str)
def test_gradients_are_the_formulas(case):
    inputs = cases.make(case)
    d_out = torch.randn(case.B, case.H, case.T, case.Dv)
    d_lse = torch.randn(case.B, case.H, case.T)

    def gradients(run, dtype):
        leaves = inputs.to(dtype, grad=True)
        out, lse = run(leaves)[:2]
        some_key = torch.isfinite(lse)
        loss = (out * d_out.to(dtype)).sum() + (lse[some_key] * d_lse[some_key].to(dtype)).sum()
        return grad(loss, leaves.differentiable())

    names = ("d_q", "d_k", "d_v", "d_weight")
    found = gradients(ours, torch.float32)
    plain32, plain64 = gradients(plain, torch.float32), gradients(plain, torch.float64)
    for name, own, near, exact in zip(names, found, plain32, plain64, strict=False):
        assert_no_worse(own, near, exact, name, BACKWARD)


@pytest.mark.parametrize("case", cases.MASKS + cases.KINDS, ids=str)
def test_double_precision_is_the_formula(case):
    inputs = cases.make(case, torch.float64)
    out, lse = ours(inputs)
    expected_out, expected_lse, _ = plain(inputs)
    torch.testing.assert_close(out, expected_out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", cases.MASKS + cases.KINDS + cases.LAYOUTS, ids=str)
def test_weights_are_the_softmax(case):
    inputs = cases.make(case)
    weights = heed.attention_weights(inputs.q, inputs.k, **inputs.options)
    _, _, plain32 = plain(inputs)
    _, _, exact = plain(inputs.to(torch.float64))
    assert_no_worse(weights, plain32, exact, "weights")
    masked = ~formula.visible(
        inputs.q, inputs.k, case.causal, inputs.options.get("kv_lengths")
    ).expand_as(weights)
    assert (weights[masked] == 0).all()


@pytest.mark.parametrize("causal", [None, "top_left"])
@pytest.mark.parametrize(("H", "Hkv"), [(4, 4), (4, 2)])
def test_agrees_with_torch(causal, H, Hkv):
    q = torch.randn(2, H, 65, 32, requires_grad=True)
    k, v = (torch.randn(2, Hkv, 65, 32, requires_grad=True) for _ in range(2))
    d_out = torch.randn(2, H, 65, 32)
    out = heed.attention(q, k, v, causal=causal)
    expected = F.scaled_dot_product_attention(
        q, k, v, is_causal=causal is not None, enable_gqa=Hkv != H
    )
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    for own, theirs in zip(
        grad(out, (q, k, v), d_out), grad(expected, (q, k, v), d_out), strict=True
    ):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("magnitude", [1e-20, 1.0, 30.0, 1e4, 1e15])
def test_huge_and_tiny_scores_stay_finite(magnitude):
    q, k, v = (torch.randn(1, 2, 40, 16) for _ in range(3))
    out, lse = heed.attention(q * magnitude, k, v, return_lse=True)
    expected, expected_lse, _ = formula.attention(q.double() * magnitude, k.double(), v.double())
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-5, atol=1e-5)
    # A score's rounding is relative to its size, and the softmax turns it into a relative error.
    tolerance = 1e-5 * max(1.0, min(magnitude, 1e3))
    if magnitude <= 1e4:
        torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    assert torch.isfinite(out).all()
