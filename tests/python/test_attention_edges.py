"""heed.attention where definitions matter: no keys, NaN, empty sizes, layouts, threads."""

import math
from concurrent.futures import ThreadPoolExecutor

import cases
import pytest
import torch
from torch.autograd import grad

import heed

KINDS = ("dot", "additive", "cosine", "none")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def random_inputs(B=2, H=2, Hkv=2, T=5, S=7, D=8, Dv=8, kind="dot", **options):
    case = cases.Case("", B=B, H=H, Hkv=Hkv, T=T, S=S, D=D, Dv=Dv, kind=kind, **options)
    return cases.make(case)


def run(inputs):
    return heed.attention(inputs.q, inputs.k, inputs.v, return_lse=True, **inputs.options)


def gradients(inputs, d_lse=True):
    leaves = inputs.to(inputs.q.dtype, grad=True)
    out, lse = run(leaves)
    torch.manual_seed(7)
    loss = (out * torch.randn_like(out)).sum()
    if d_lse:
        loss = loss + lse[torch.isfinite(lse)].sum()
    return grad(loss, leaves.differentiable(), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("kind", KINDS)
def test_row_without_keys_is_zero(kind):
    inputs = random_inputs(kind=kind, lengths=(0, 7))
    out, lse = run(inputs)
    assert (out[0] == 0).all() and (lse[0] == -math.inf).all()
    assert torch.isfinite(out[1]).all() and torch.isfinite(lse[1]).all()
    d_q, d_k, d_v, *d_weight = gradients(inputs)
    assert (d_q[0] == 0).all() and (d_k[0] == 0).all() and (d_v[0] == 0).all()
    assert all(torch.isfinite(g).all() for g in (d_q, d_k, d_v, *d_weight))


@pytest.mark.parametrize("kind", KINDS)
def test_bottom_right_with_more_queries_than_keys_leaves_first_rows_empty(kind):
    inputs = random_inputs(kind=kind, T=6, S=4, causal="bottom_right")
    out, lse = run(inputs)
    assert (out[:, :, :2] == 0).all() and (lse[:, :, :2] == -math.inf).all()
    assert torch.isfinite(lse[:, :, 2:]).all()
    assert (gradients(inputs)[0][:, :, :2] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("T", [1, 60])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masked_nan_leaks_nowhere(kind, poison, T, dtype):
    inputs = random_inputs(kind=kind, T=T, S=130, lengths=(3, 101), sinks=True).to(dtype)
    clean_out, clean_lse = run(inputs)
    clean_gradients = gradients(inputs)
    for b, length in enumerate((3, 101)):
        inputs.k[b, :, length:] = poison
        inputs.v[b, :, length:] = poison
    out, lse = run(inputs)
    assert torch.equal(out, clean_out) and torch.equal(lse, clean_lse)
    for own, clean in zip(gradients(inputs), clean_gradients, strict=True):
        assert torch.equal(own, clean)


@pytest.mark.parametrize("kind", ("dot", "additive", "cosine"))
def test_nan_outside_the_window_leaks_nowhere(kind):
    inputs = random_inputs(kind=kind, T=100, S=100, window=(9, 4))
    clean, _ = run(inputs)
    inputs.k[:, :, 60] = math.nan
    inputs.v[:, :, 60] = math.nan
    out, _ = run(inputs)
    assert torch.equal(out[:, :, :56], clean[:, :, :56])
    assert torch.equal(out[:, :, 70:], clean[:, :, 70:])
    assert torch.isnan(out[:, :, 56:70]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_the_future_does_not_reach_the_past(kind):
    inputs = random_inputs(kind=kind, T=100, S=100, causal="top_left")
    clean, _ = run(inputs)
    inputs.k[:, :, 60] = math.nan
    inputs.v[:, :, 60] = math.nan
    out, _ = run(inputs)
    assert torch.equal(out[:, :, :60], clean[:, :, :60])
    assert torch.isnan(out[:, :, 60:]).all()


@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_nan_at_an_attended_key_propagates(where):
    inputs = random_inputs(T=20, S=20)
    getattr(inputs, where)[0, 0, 4, 2] = math.nan
    out, _ = run(inputs)
    hit = out[0, 0, 4] if where == "q" else out[0, 0] if where == "k" else out[0, 0, :, 2]
    assert torch.isnan(hit).all()
    assert torch.isfinite(out[1]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["B", "T", "S", "Dv"])
def test_empty_sizes_are_allowed(kind, size):
    inputs = random_inputs(kind=kind, **{size: 0})
    out, lse = run(inputs)
    B, H, T, _ = inputs.q.shape
    assert out.shape == (B, H, T, inputs.v.shape[3]) and lse.shape == (B, H, T)
    if size == "S":
        assert (out == 0).all() and (lse == -math.inf).all()
    for own, leaf in zip(gradients(inputs), inputs.differentiable(), strict=True):
        assert own.shape == leaf.shape and torch.isfinite(own).all()
    weights = heed.attention_weights(inputs.q, inputs.k, **inputs.options)
    assert weights.shape == (B, H, T, inputs.k.shape[2])


def test_zero_width_queries_attend_evenly():
    inputs = random_inputs(D=0)
    out, _ = run(inputs)
    torch.testing.assert_close(out, inputs.v.mean(dim=2, keepdim=True).expand_as(out))


def test_output_follows_a_token_major_query():
    q, k, v = (torch.randn(2, n, 3, 8).transpose(1, 2).requires_grad_() for n in (5, 7, 7))
    out = heed.attention(q, k, v)
    assert out.transpose(1, 2).is_contiguous()
    for own in grad(out.sum(), (q, k, v)):
        assert own.transpose(1, 2).is_contiguous()
    assert heed.attention(q.contiguous(), k, v).is_contiguous()


def test_token_major_inputs_are_not_copied():
    q = torch.randn(2, 64, 4, 32).transpose(1, 2)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        heed.attention(q, q, q)
    names = {event.name for event in profile.events()}
    assert not names & {"aten::copy_", "aten::clone", "aten::contiguous"}, names


@pytest.mark.parametrize(
    "case",
    [
        cases.Case("causal", B=3, H=3, Hkv=3, T=200, S=200, causal="top_left"),
        cases.Case("one_head", B=1, H=1, Hkv=1, T=300, S=260),
        cases.Case("grouped_lengths", B=3, H=4, Hkv=2, T=70, S=200, lengths=(200, 3, 150)),
        cases.Case("additive", B=4, H=2, Hkv=1, T=30, S=50, D=32, kind="additive"),
        cases.Case("additive_step", B=8, H=1, Hkv=1, T=1, S=20, D=32, kind="additive"),
        cases.Case("step", B=1, H=4, Hkv=2, T=1, S=900, sinks=True),
        cases.Case("window_top_k", T=90, S=200, window=(40, 30), top_k=5, sinks=True),
    ],
    ids=str,
)
def test_same_bits_for_any_thread_count(case):
    inputs = cases.make(case)

    def everything(threads):
        torch.set_num_threads(threads)
        return [*run(inputs), *gradients(inputs)]

    one = everything(1)
    for threads in (1, 2, 3, 5):
        for own, expected in zip(everything(threads), one, strict=True):
            assert torch.equal(own, expected), f"{threads} threads"


@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_for_any_batch_neighbours(kind):
    together = random_inputs(B=3, T=50, S=70, kind=kind, lengths=(70, 5, 33))
    out, lse = run(together)
    for b, length in enumerate((70, 5, 33)):
        one = slice(b, b + 1)
        options = together.options | {"kv_lengths": torch.tensor([length])}
        alone = cases.Inputs(together.q[one], together.k[one], together.v[one], options)
        own_out, own_lse = run(alone)
        assert torch.equal(own_out, out[one]) and torch.equal(own_lse, lse[one])


def test_callers_on_several_threads_get_the_same_bits():
    inputs = random_inputs(T=50, S=60)
    expected, _ = run(inputs)
    with ThreadPoolExecutor(4) as pool:
        for out, _ in pool.map(lambda _: run(inputs), range(16)):
            assert torch.equal(out, expected)


def test_no_query_head_gives_keys_and_values_zero_gradients():
    q = torch.randn(1, 0, 9, 8, requires_grad=True)
    k, v = (torch.randn(1, 2, 9, 8, requires_grad=True) for _ in range(2))
    heed.attention(q, k, v).sum().backward()
    assert k.grad.count_nonzero() == 0
    assert v.grad.count_nonzero() == 0
