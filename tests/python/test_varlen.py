"""heed.varlen_attention against heed.attention on each sequence by itself."""

import formula
import pytest
import torch
from torch.autograd import grad, gradcheck

import heed

LENGTHS_Q, LENGTHS_K = (5, 0, 17, 1, 33), (9, 4, 17, 0, 20)


def offsets(lengths, dtype=torch.int32):
    return torch.tensor([0, *lengths]).cumsum(0).to(dtype)


def packed(lengths_q=LENGTHS_Q, lengths_k=LENGTHS_K, H=4, Hkv=2, D=8, Dv=6, dtype=torch.float32):
    T, S = sum(lengths_q), sum(lengths_k)
    q, k, v = torch.randn(T, H, D), torch.randn(S, Hkv, D), torch.randn(S, Hkv, Dv)
    return [x.to(dtype) for x in (q, k, v)]


def one_by_one(attention, q, k, v, cu_seqlens_q, cu_seqlens_k, options_of=lambda b: {}):
    """(out [sum T,H,Dv], lse [H,sum T]) from a call for each sequence."""
    outs, lses = [], []
    for b in range(len(cu_seqlens_q) - 1):
        rows_q = slice(cu_seqlens_q[b], cu_seqlens_q[b + 1])
        rows_k = slice(cu_seqlens_k[b], cu_seqlens_k[b + 1])
        own = (x[rows].transpose(0, 1)[None] for x, rows in ((q, rows_q), (k, rows_k), (v, rows_k)))
        out, lse = attention(*own, **options_of(b))[:2]
        outs.append(out[0].transpose(0, 1))
        lses.append(lse[0])
    return torch.cat(outs), torch.cat(lses, dim=1)


OPTIONS = [
    {},
    {"causal": "top_left"},
    {"causal": "bottom_right"},
    {"window": (4, 2)},
    {"causal": "bottom_right", "window": (6, -1)},
    {"scale": 0.2, "causal": "top_left", "window": (3, 3)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_is_attention_on_each_sequence(options, dtype):
    q, k, v = (x.requires_grad_() for x in packed(dtype=dtype))
    cu_q, cu_k = offsets(LENGTHS_Q), offsets(LENGTHS_K)
    out, lse = heed.varlen_attention(q, k, v, cu_q, cu_k, return_lse=True, **options)
    assert out.shape == (56, 4, 6) and out.dtype == dtype
    assert lse.shape == (4, 56) and lse.dtype == torch.float32
    expected_out, expected_lse = one_by_one(
        heed.attention, q, k, v, cu_q, cu_k, lambda b: options | {"return_lse": True}
    )
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
    torch.testing.assert_close(out, expected_out, **tolerance)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(out)
    ours = grad((out * weights).sum(), (q, k, v))
    for own, right in zip(ours, grad((expected_out * weights).sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(own, right, **tolerance)


def test_sinks_and_programs_count_within_a_sequence():
    q, k, v = packed(dtype=torch.float64)
    cu_q, cu_k = offsets(LENGTHS_Q, torch.int64), offsets(LENGTHS_K, torch.int64)
    sinks = torch.randn(4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)

    def mods(b):
        return {
            "score_mod": lambda score, _, h, t, s: score + bias[b, h] * (t - s),
            "mask_mod": lambda _, h, t, s: (s + b) % 4 != t % 4,
            "sinks": sinks,
        }

    out, lse = heed.varlen_attention(
        q,
        k,
        v,
        cu_q,
        cu_k,
        sinks=sinks,
        score_mod=lambda score, b, h, t, s: score + bias[b, h] * (t - s),
        mask_mod=lambda b, h, t, s: (s + b) % 4 != t % 4,
        return_lse=True,
    )
    expected_out, expected_lse = one_by_one(formula.attention, q, k, v, cu_q, cu_k, mods)
    torch.testing.assert_close(out, expected_out)
    torch.testing.assert_close(lse, expected_lse)
    ours = grad(out.sin().sum() + lse.sum(), (sinks, bias))
    for own, right in zip(
        ours, grad(expected_out.sin().sum() + expected_lse.sum(), (sinks, bias)), strict=True
    ):
        torch.testing.assert_close(own, right)


def test_gradcheck_in_double():
    leaves = [x.requires_grad_() for x in packed((2, 3), (3, 1), 2, 1, 3, 2, torch.float64)]
    sinks = torch.randn(2, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def f(q, k, v, sinks, slope):
        return heed.varlen_attention(
            q,
            k,
            v,
            offsets((2, 3)),
            offsets((3, 1)),
            causal="bottom_right",
            sinks=sinks,
            score_mod=lambda score, b, h, t, s: score - slope[h] * (t - s),
            return_lse=True,
        )

    assert gradcheck(f, (*leaves, sinks, slope))


def test_dropout_draws_by_place_within_the_sequence():
    q, k, v = packed((30, 40), (30, 40))
    cu = offsets((30, 40))
    out = heed.varlen_attention(q, k, v, cu, cu, dropout_p=0.5, seed=3)
    expected = heed.attention(
        *(x[:30].transpose(0, 1)[None] for x in (q, k, v)), dropout_p=0.5, seed=3
    )
    torch.testing.assert_close(out[:30], expected[0].transpose(0, 1))
    assert torch.equal(out, heed.varlen_attention(q, k, v, cu, cu, dropout_p=0.5, seed=3))
    assert not torch.equal(out, heed.varlen_attention(q, k, v, cu, cu, dropout_p=0.5, seed=4))


def test_nan_of_one_sequence_stays_there():
    q, k, v = packed((4, 6), (5, 7))
    cu_q, cu_k = offsets((4, 6)), offsets((5, 7))
    clean = heed.varlen_attention(q, k, v, cu_q, cu_k)
    k[5:], v[5:] = torch.nan, torch.nan
    poisoned = heed.varlen_attention(q, k, v, cu_q, cu_k)
    assert torch.equal(poisoned[:4], clean[:4]) and poisoned[4:].isnan().all()


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
def test_nothing_at_all(lengths):
    q, k, v = packed(lengths, lengths)
    out, lse = heed.varlen_attention(q, k, v, offsets(lengths), offsets(lengths), return_lse=True)
    assert out.shape == (0, 4, 6) and lse.shape == (4, 0)


Q, K, V = packed((2, 3), (4, 1))
CU_Q, CU_K = offsets((2, 3)), offsets((4, 1))
WRONG = [
    ((Q[None], K, V, CU_Q, CU_K), "q: expected [sum T,H,D], got [1,5,4,8]"),
    ((Q, K[..., :7], V, CU_Q, CU_K), "k: expected [sum S,Hkv,D] = [5,2,8], got [5,2,7]"),
    ((Q, K, V[:4], CU_Q, CU_K), "v: expected [sum S,Hkv,Dv] = [5,2,6], got [4,2,6]"),
    ((Q, K, V, CU_Q.float(), CU_K), "cu_seqlens_q: expected dtype int32 or int64, got float32"),
    ((Q, K, V, CU_Q, CU_K[:2]), "cu_seqlens_k: expected [B+1] = [3], got [2]"),
    ((Q, K, V, CU_Q + 1, CU_K), "cu_seqlens_q: expected offsets that rise from 0 to 5, got 1 at 0"),
    (
        (Q, K, V, CU_Q, torch.tensor([0, 6, 5])),
        "cu_seqlens_k: expected offsets that rise from 0 to 5, got 5 at 2",
    ),
    (
        (Q, K, V, CU_Q, torch.tensor([0, 4, 4])),
        "cu_seqlens_k: expected offsets that rise from 0 to 5, got 4 at 2",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[message for _, message in WRONG])
def test_message(arguments, message):
    with pytest.raises(RuntimeError) as error:
        heed.varlen_attention(*arguments)
    assert str(error.value) == f"[varlen_attention] {message}"


def test_refused_programs_raise_program_error():
    bias = torch.zeros(3)
    with pytest.raises(heed.ProgramError, match=r"^\[\w+\] program: [^\n]+$"):
        heed.varlen_attention(
            Q, K, V, CU_Q, CU_K, score_mod=lambda score, b, h, t, s: score + bias[s]
        )
