"""heed.attention against the formula in float64 and against torch, forward and backward."""

import cases
import formula
import pytest
import torch
import torch.nn.functional as F
from comparing import BACKWARD, assert_no_worse
from torch.autograd import grad

import heed

# Every case in float32, half of them in each half precision.
CASES = [
    *((case, torch.float32) for case in cases.ALL),
    *((case, torch.bfloat16) for case in cases.ALL[::2]),
    *((case, torch.float16) for case in cases.ALL[1::2]),
]


def ours(inputs):
    return heed.attention(inputs.q, inputs.k, inputs.v, return_lse=True, **inputs.options)


def plain(inputs):
    return formula.attention(inputs.q, inputs.k, inputs.v, **inputs.options)


@pytest.mark.parametrize(("case", "dtype"), CASES, ids=str)
def test_forward_is_the_formula(case, dtype):
    inputs = cases.make(case, dtype)
    out, lse = ours(inputs)
    near_out, near_lse, _ = plain(inputs)
    exact_out, exact_lse, _ = plain(inputs.to(torch.float64))
    assert out.dtype == dtype and lse.dtype == torch.float32
    assert_no_worse(out, near_out, exact_out, "out")
    assert_no_worse(lse, near_lse, exact_lse, "lse")


@pytest.mark.parametrize(("case", "dtype"), CASES, ids=str)
def test_gradients_are_the_formulas(case, dtype):
    inputs = cases.make(case, dtype)
    d_out = torch.randn(case.B, case.H, case.T, case.Dv).to(dtype)
    d_lse = torch.randn(case.B, case.H, case.T)

    def gradients(run, dtype):
        leaves = inputs.to(dtype, grad=True)
        out, lse = run(leaves)[:2]
        some_key = torch.isfinite(lse)
        loss = (out * d_out.to(dtype)).sum() + (lse * d_lse.to(lse.dtype))[some_key].sum()
        found = grad(loss, leaves.differentiable(), allow_unused=True, materialize_grads=True)
        return dict(zip(("d_q", "d_k", "d_v", "d_more"), found, strict=False))

    found = gradients(ours, dtype)
    near, exact = gradients(plain, dtype), gradients(plain, torch.float64)
    for name, own in found.items():
        assert own.dtype == dtype
        assert_no_worse(own, near[name], exact[name], name, BACKWARD)


@pytest.mark.parametrize("case", cases.MASKS + cases.WINDOWS + cases.EXTRAS + cases.KINDS, ids=str)
def test_double_precision_is_the_formula(case):
    inputs = cases.make(case, torch.float64)
    out, lse = ours(inputs)
    expected_out, expected_lse, _ = plain(inputs)
    torch.testing.assert_close(out, expected_out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", cases.ALL[::2], ids=str)
def test_weights_are_the_softmax(case):
    inputs = cases.make(case)
    weights = heed.attention_weights(inputs.q, inputs.k, **inputs.options)
    _, _, plain32 = plain(inputs)
    _, _, exact = plain(inputs.to(torch.float64))
    assert_no_worse(weights, plain32, exact, "weights")
    masked = ~formula.visible(
        inputs.q, inputs.k, case.causal, inputs.options.get("kv_lengths"), case.window
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


def test_tied_scores_are_all_among_the_top():
    q = torch.zeros(1, 1, 2, 8)
    v = torch.randn(1, 1, 6, 4)
    k = torch.randn(1, 1, 6, 8)
    out = heed.attention(q, k, v, top_k=2)  # all scores are 0
    torch.testing.assert_close(out, v.mean(dim=2, keepdim=True).expand(1, 1, 2, 4))
    q[..., 0], k[..., 0] = 1.0, torch.tensor([3.0, 1.0, 3.0, 0.0, 3.0, 2.0])
    weights = heed.attention_weights(q, k, top_k=2)
    assert torch.equal(weights[0, 0, 0] > 0, torch.tensor([1, 0, 1, 0, 1, 0]).bool())


def test_sinks_take_their_share_and_no_value():
    q, k, v = torch.zeros(1, 2, 3, 4), torch.randn(1, 2, 5, 4), torch.ones(1, 2, 5, 4)
    sinks = torch.tensor([0.0, 1.0]).log()  # as much as no key, and as one
    out, lse = heed.attention(q, k, v, sinks=sinks, return_lse=True)
    torch.testing.assert_close(out[:, 0], v[:, 0, :3])
    torch.testing.assert_close(out[:, 1], v[:, 1, :3] * 5 / 6)
    torch.testing.assert_close(lse[0, :, 0], torch.tensor([5.0, 6.0]).log())


def test_windows_that_meet_make_the_whole_by_their_lse():
    q, k, v = (torch.randn(1, 2, 40, 8) for _ in range(3))
    whole, lse = heed.attention(q, k, v, causal="top_left", return_lse=True)
    near = heed.attention(q, k, v, causal="top_left", window=(7, 0), return_lse=True)
    far = heed.attention(q, k, v, mask_mod=lambda b, h, t, s: s < t - 7, return_lse=True)
    both = torch.logaddexp(near[1], far[1])
    torch.testing.assert_close(both, lse)
    merged = sum(out * (part - both).exp().unsqueeze(-1) for out, part in (near, far))
    torch.testing.assert_close(merged, whole)
