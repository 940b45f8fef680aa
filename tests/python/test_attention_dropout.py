"""Dropout in heed.attention: what is dropped, how much, and that the backward drops the same."""

import formula
import pytest
import torch
from comparing import BACKWARD, assert_no_worse
from torch.autograd import grad, gradcheck

import heed


def kept_by(q, k, p, seed, **options):
    """Which weights dropout spares [B,H,T,S]: the values are the unit vectors of the keys."""
    S = k.shape[2]
    unit = torch.eye(S, dtype=q.dtype).expand(*k.shape[:2], S, S)
    dropped = heed.attention(q, k, unit, dropout_p=p, seed=seed, **options)
    weights = heed.attention_weights(q, k, **options).to(q.dtype)
    kept = dropped > 0
    torch.testing.assert_close(dropped, weights * kept / (1 - p))
    return kept


def random_inputs(dtype=torch.float32, B=2, H=2, Hkv=1, T=30, S=50, D=8):
    sizes = ((H, T), (Hkv, S), (Hkv, S))
    return [torch.randn(B, heads, n, D).to(dtype) for heads, n in sizes]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_of_p_is_dropped_independently(p):
    q, k, _ = random_inputs(T=200, S=200, Hkv=2)
    kept = kept_by(q, k, p, seed=3).double()
    n = kept.numel()
    allowed = 5 * (p * (1 - p)) ** 0.5  # five standard deviations of a mean of one
    assert abs(kept.mean() - (1 - p)) < allowed / n**0.5
    for dim in (2, 3):  # no row and no column is special
        assert ((kept.mean(dim=dim) - (1 - p)).abs() < allowed / 200**0.5).all()
    centred = kept - (1 - p)
    neighbours = [
        (centred[..., 1:] * centred[..., :-1]).mean(),
        (centred[:, :, 1:] * centred[:, :, :-1]).mean(),
        (centred[:, 1] * centred[:, 0]).mean(),
        (centred[1] * centred[0]).mean(),
        (centred[..., 16:] * centred[..., :-16]).mean(),
    ]
    for covariance in neighbours:
        assert abs(covariance) < 5 * p * (1 - p) / (n / 2) ** 0.5


def test_the_same_seed_drops_the_same_and_another_does_not():
    q, k, v = random_inputs()
    first = heed.attention(q, k, v, dropout_p=0.3, seed=7)
    assert torch.equal(first, heed.attention(q, k, v, dropout_p=0.3, seed=7))
    assert not torch.equal(first, heed.attention(q, k, v, dropout_p=0.3, seed=8))


def test_without_a_seed_torchs_generator_draws_one():
    q, k, v = random_inputs()
    torch.manual_seed(5)
    first, second = (heed.attention(q, k, v, dropout_p=0.3) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(first, heed.attention(q, k, v, dropout_p=0.3))


def test_without_dropout_the_generator_is_left_alone():
    q, k, v = random_inputs()
    before = torch.get_rng_state()
    heed.attention(q, k, v)
    heed.attention(q, k, v, dropout_p=0.3, seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_dropped_depends_on_the_place_alone():
    q, k, _ = random_inputs(T=70, S=150, B=3, H=4, Hkv=4)
    whole = kept_by(q, k, 0.4, seed=11)
    assert torch.equal(kept_by(q[:, :, :9], k[:, :, :33], 0.4, seed=11), whole[:, :, :9, :33])
    assert torch.equal(kept_by(q[:2, :3], k[:2, :3], 0.4, seed=11), whole[:2, :3])
    assert torch.equal(kept_by(q[:, :, :1], k, 0.4, seed=11), whole[:, :, :1])
    assert torch.equal(kept_by(q.double(), k.double(), 0.4, seed=11), whole)
    for dtype in (torch.bfloat16, torch.float16):
        unit = torch.eye(150, dtype=dtype).expand(3, 4, 150, 150)
        dropped = heed.attention(q.to(dtype), k.to(dtype), unit, dropout_p=0.4, seed=11)
        assert torch.equal(dropped > 0, whole)
    torch.set_num_threads(3)
    assert torch.equal(kept_by(q, k, 0.4, seed=11), whole)


def test_lse_and_weights_are_those_before_dropout():
    q, k, v = random_inputs()
    _, lse = heed.attention(q, k, v, return_lse=True)
    _, dropped_lse = heed.attention(q, k, v, return_lse=True, dropout_p=0.5, seed=1)
    assert torch.equal(lse, dropped_lse)


@pytest.mark.parametrize("kind", ["dot", "additive"])
@pytest.mark.parametrize("T", [1, 30])
def test_the_backward_drops_the_same(kind, T):
    inputs = random_inputs(T=T, Hkv=2)
    options = {"kind": kind, "causal": "bottom_right", "sinks": torch.randn(2)}
    if kind == "additive":
        options["weight"] = torch.randn(2, 8)
    kept = kept_by(*inputs[:2], 0.3, seed=2, **options)
    d_out, d_lse = torch.randn(2, 2, T, 8), torch.randn(2, 2, T)

    def gradients(attention, dtype, **more):
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        own = {n: x.to(dtype) if isinstance(x, torch.Tensor) else x for n, x in options.items()}
        out, lse = attention(*leaves, dropout_p=0.3, **own, **more)[:2]
        return grad((out * d_out.to(dtype)).sum() + (lse * d_lse.to(dtype)).sum(), leaves)

    ours = gradients(heed.attention, torch.float32, seed=2, return_lse=True)
    plain = gradients(formula.attention, torch.float32, keep=kept)
    exact = gradients(formula.attention, torch.float64, keep=kept)
    for name, own, near, right in zip(("d_q", "d_k", "d_v"), ours, plain, exact, strict=True):
        assert_no_worse(own, near, right, name, BACKWARD)


def test_gradcheck_in_double():
    leaves = [x.requires_grad_() for x in random_inputs(torch.float64, T=4, S=5, D=3)]
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def f(q, k, v, bias):
        return heed.attention(
            q,
            k,
            v,
            score_mod=lambda score, b, h, t, s: score + bias[h] * s,
            dropout_p=0.4,
            seed=9,
            return_lse=True,
        )

    assert gradcheck(f, (*leaves, bias))


def test_a_program_and_top_k_with_dropout():
    q, k, v = random_inputs(torch.float64)

    def mask_mod(b, h, t, s):
        return (t + s) % 3 != 0

    kept = kept_by(q, k, 0.3, seed=4, mask_mod=mask_mod, top_k=6)
    out = heed.attention(q, k, v, mask_mod=mask_mod, top_k=6, dropout_p=0.3, seed=4)
    expected, _, _ = formula.attention(
        q, k, v, mask_mod=mask_mod, top_k=6, dropout_p=0.3, keep=kept
    )
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("p", [-0.1, 1.0, 2.0])
def test_a_wrong_probability_is_refused(p):
    q, k, v = random_inputs()
    with pytest.raises(RuntimeError) as error:
        heed.attention(q, k, v, dropout_p=p)
    message = f"[attention] dropout_p: expected a probability in [0, 1), got {p:g}"
    assert str(error.value) == message
