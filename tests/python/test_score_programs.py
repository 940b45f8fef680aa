"""Score programs inside heed.attention against the same mods on stored scores."""

import formula
import pytest
import torch
from comparing import BACKWARD, assert_no_worse
from programs import PROGRAMS, Program, Sizes
from torch.autograd import grad, gradcheck
from torch.utils.checkpoint import checkpoint

import heed

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap's
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BY_NAME = {program.name: program for program in PROGRAMS}


def made(program: Program, sizes: Sizes, D: int, Hkv: int, dtype: torch.dtype):
    """([q, k, v, *tables], run): run(attention, leaves, **options) calls it with the mods."""
    torch.manual_seed(len(program.name))
    B, H, T, S = sizes.B, sizes.H, sizes.T, sizes.S
    q, k, v = torch.randn(B, H, T, D), torch.randn(B, Hkv, S, D), torch.randn(B, Hkv, S, D + 1)
    leaves = [x.to(dtype) for x in (q, k, v, *program.tables(sizes))]

    def run(attention, leaves, **options):
        own = program.options(sizes, leaves[3:])
        return attention(*leaves[:3], **own, **options)

    return leaves, run


def results(run, attention, leaves, dtype, d_out, d_lse, **options):
    """out, lse and all gradients, computed in dtype."""
    leaves = [x.detach().to(dtype).requires_grad_() for x in leaves]
    out, lse = run(attention, leaves, **options)[:2]
    finite = torch.isfinite(lse)
    loss = (out * d_out.to(out.dtype)).sum() + (lse[finite] * d_lse[finite].to(lse.dtype)).sum()
    gradients = grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return out.detach(), lse.detach(), *gradients


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_values_and_gradients_are_the_formulas(program, dtype):
    sizes = Sizes(B=2, H=2, T=21, S=18)
    leaves, run = made(program, sizes, D=12, Hkv=1, dtype=dtype)
    d_out, d_lse = torch.randn(2, 2, 21, 13), torch.randn(2, 2, 21)
    ours = results(run, heed.attention, leaves, dtype, d_out, d_lse, return_lse=True)
    plain = results(run, formula.attention, leaves, dtype, d_out, d_lse)
    exact = results(run, formula.attention, leaves, torch.float64, d_out, d_lse)
    names = ["out", "lse", "d_q", "d_k", "d_v", *(f"d_table{n}" for n in range(len(leaves) - 3))]
    for name, own, near, right in zip(names, ours, plain, exact, strict=True):
        assert_no_worse(own, near, right, name, BACKWARD)


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_gradcheck_in_double(program):
    sizes = Sizes(B=2, H=2, T=4, S=6)
    leaves, run = made(program, sizes, D=2, Hkv=1, dtype=torch.float64)
    leaves = [x.requires_grad_() for x in leaves]

    def f(*leaves):
        out, lse = run(heed.attention, leaves, return_lse=True)
        return out, lse[torch.isfinite(lse)]

    assert gradcheck(f, leaves)


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_double_precision_is_the_formula(program):
    leaves, run = made(program, Sizes(B=2, H=2, T=7, S=9), D=4, Hkv=2, dtype=torch.float64)
    out, lse = run(heed.attention, leaves, return_lse=True)
    expected_out, expected_lse, _ = run(formula.attention, leaves)
    torch.testing.assert_close(out, expected_out, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_with_every_other_option(program):
    leaves, run = made(program, Sizes(B=2, H=2, T=11, S=14), D=4, Hkv=2, dtype=torch.float64)
    options = {
        "causal": "bottom_right",
        "window": (9, -1),
        "kv_lengths": torch.tensor([14, 10]),
        "sinks": torch.randn(2, dtype=torch.float64),
        "top_k": 4,
    }
    out, lse = run(heed.attention, leaves, return_lse=True, **options)
    expected_out, expected_lse, _ = run(formula.attention, leaves, **options)
    torch.testing.assert_close(out, expected_out, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-10, atol=1e-10)
    single = [x.float() for x in leaves]
    options["sinks"] = options["sinks"].float()
    out32 = run(heed.attention, single, **options)
    torch.testing.assert_close(out32.double(), expected_out, rtol=1e-4, atol=1e-4)


def test_weights_take_programs():
    leaves, run = made(BY_NAME["relative_bias"], Sizes(2, 2, 9, 8), 4, 2, torch.float32)
    own = run(lambda q, k, v, **options: heed.attention_weights(q, k, **options), leaves)
    torch.testing.assert_close(own, run(formula.attention, leaves)[2])


def test_wide_tiles_and_long_rows():
    program = BY_NAME["alibi"]
    leaves, run = made(program, Sizes(B=1, H=2, T=200, S=230), 16, 1, torch.float32)
    out, lse = run(heed.attention, leaves, return_lse=True)
    exact_out, exact_lse, _ = run(formula.attention, [x.double() for x in leaves])
    torch.testing.assert_close(out.double(), exact_out, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-5, atol=1e-5)


def test_a_captured_tensor_is_read_anew_each_time():
    q = torch.randn(1, 1, 4, 8)
    scale = torch.tensor(1.0)
    first = heed.attention(q, q, q, score_mod=lambda score, b, h, t, s: score * scale)
    scale.fill_(2.0)
    second = heed.attention(q, q, q, score_mod=lambda score, b, h, t, s: score * scale)
    torch.testing.assert_close(first, heed.attention(q, q, q))
    torch.testing.assert_close(second, heed.attention(2 * q, q, q))


def test_gradient_reaches_a_table_when_nothing_else_wants_one():
    q, bias = torch.randn(1, 2, 4, 8), torch.randn(2, requires_grad=True)
    out = heed.attention(q, q, q, score_mod=lambda score, b, h, t, s: score + bias[h] * s)
    (own,) = grad(out.square().sum(), bias)
    expected = formula.attention(q, q, q, score_mod=lambda score, b, h, t, s: score + bias[h] * s)
    torch.testing.assert_close(own, grad(expected[0].square().sum(), bias)[0])


def test_gradient_of_a_table_captured_twice_and_through_operations():
    q, bias = torch.randn(1, 2, 4, 8), torch.randn(2, 4, requires_grad=True)

    def score_mod(score, b, h, t, s):
        return score + bias[h, s] * bias[h, t] + bias.exp()[h, s] + bias.T[s][h]

    def gradient(attention):
        out = attention(q, q, q, score_mod=score_mod, return_lse=True)[0]
        return grad(out.square().sum(), bias)[0]

    plain = gradient(lambda *x, return_lse, **options: formula.attention(*x, **options))
    torch.testing.assert_close(gradient(heed.attention), plain)


@pytest.mark.parametrize("name", ["relative_bias", "transformer_xl", "documents"])
def test_checkpointing_repeats_the_same(name):
    leaves, run = made(BY_NAME[name], Sizes(2, 2, 9, 8), 4, 2, torch.float32)
    leaves = [x.requires_grad_() for x in leaves]
    out = run(heed.attention, leaves)
    again = checkpoint(lambda *x: run(heed.attention, x), *leaves, use_reentrant=False)
    assert torch.equal(out, again)
    ours = grad(again.sin().sum(), leaves, allow_unused=True)
    for own, expected in zip(ours, grad(out.sin().sum(), leaves, allow_unused=True), strict=True):
        assert own is None and expected is None or torch.equal(own, expected)


@pytest.mark.parametrize("name", ["relative_bias", "symmetric_bias", "documents", "soft_cap"])
def test_same_bits_for_any_thread_count(name):
    leaves, run = made(BY_NAME[name], Sizes(2, 3, 70, 90), 16, 3, torch.float32)
    d_out, d_lse = torch.randn(2, 3, 70, 17), torch.randn(2, 3, 70)

    def everything(threads):
        torch.set_num_threads(threads)
        return results(run, heed.attention, leaves, torch.float32, d_out, d_lse, return_lse=True)

    one = everything(1)
    for threads in (2, 3, 5):
        for own, expected in zip(everything(threads), one, strict=True):
            assert torch.equal(own, expected), f"{threads} threads"


@pytest.mark.parametrize("name", ["relative_bias", "transformer_xl", "documents", "alibi"])
def test_same_bits_whatever_was_in_memory(name):
    leaves, run = made(BY_NAME[name], Sizes(2, 2, 9, 8), 4, 2, torch.float32)
    expected = run(heed.attention, leaves)
    kept = []
    for repeat in range(400):
        kept.append(torch.full((37 * (repeat % 90) + 1,), [1e9, -1e9, torch.nan][repeat % 3]))
        del kept[: len(kept) - repeat % 20]
        assert torch.equal(run(heed.attention, [x.clone() for x in leaves]), expected)


@pytest.mark.parametrize("name", ["documents", "key_padding", "causal_by_infinity"])
def test_nan_at_keys_that_a_program_masks_leaks_nowhere(name):
    leaves, run = made(BY_NAME[name], Sizes(2, 1, 8, 12), 4, 1, torch.float32)
    d_out, d_lse = torch.randn(2, 1, 8, 5), torch.zeros(2, 1, 8)

    def everything():
        return results(run, heed.attention, leaves, torch.float32, d_out, d_lse, return_lse=True)

    if name == "key_padding":  # lengths 12 and 11
        hidden = (slice(1, 2), slice(None), slice(11, 12))
    else:  # queries end at 7
        hidden = (slice(None), slice(None), slice(8, 12))
    clean = everything()
    leaves[1][hidden] = torch.nan
    leaves[2][hidden] = torch.nan
    for own, expected in zip(everything(), clean, strict=True):
        assert torch.equal(own, expected)


def test_an_index_that_leaves_its_table_is_refused():
    q, bias = torch.randn(1, 1, 5, 8), torch.zeros(4)
    with pytest.raises(heed.ProgramError, match=r"^\[attention\] program: [^\n]*table0[^\n]*$"):
        heed.attention(q, q, q, score_mod=lambda score, b, h, t, s: score + bias[t])


def test_a_negative_index_counts_from_the_end():
    q, bias = torch.randn(1, 2, 5, 8), torch.randn(5)
    out = heed.attention(q, q, q, score_mod=lambda score, b, h, t, s: score + bias[t - s])
    t = torch.arange(5)
    scores = formula.scores(q, q, "dot", None, None) + bias[t[:, None] - t]
    torch.testing.assert_close(out, scores.softmax(-1) @ q)


def test_a_row_that_a_program_empties_is_zero():
    q = torch.randn(1, 1, 4, 8, requires_grad=True)
    out, lse = heed.attention(q, q, q, mask_mod=lambda b, h, t, s: t > 1, return_lse=True)
    assert (out[:, :, :2] == 0).all() and (lse[:, :, :2] == -torch.inf).all()
    assert torch.isfinite(lse[:, :, 2:]).all()
    assert (grad(out.sum(), q)[0][0, 0, :2] != 0).any()  # as keys they are seen


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_of_lowest_numbers_is_an_even_one(dtype):
    q, v = torch.zeros(1, 1, 4, 8, dtype=dtype), torch.randn(1, 1, 4, 8, dtype=dtype)
    lowest = torch.finfo(dtype).min
    out = heed.attention(q, q, v, score_mod=lambda score, b, h, t, s: score * 0 + lowest)
    torch.testing.assert_close(out, v.mean(dim=2, keepdim=True).expand_as(v))


@pytest.mark.parametrize("seen", [True, None])
def test_mask_of_one_value(seen):
    q = torch.randn(1, 1, 4, 8)
    assert torch.equal(
        heed.attention(q, q, q, mask_mod=lambda b, h, t, s: seen), heed.attention(q, q, q)
    )
    assert (heed.attention(q, q, q, mask_mod=lambda b, h, t, s: False) == 0).all()


@pytest.mark.parametrize("size", ["B", "T", "S"])
def test_empty_sizes(size):
    sizes = {"B": 2, "T": 3, "S": 4} | {size: 0}
    q = torch.randn(sizes["B"], 2, sizes["T"], 8)
    k = torch.randn(sizes["B"], 2, sizes["S"], 8)
    bias = torch.randn(2, 9, requires_grad=True)
    out = heed.attention(q, k, k, score_mod=lambda score, b, h, t, s: score + bias[h, t - s + 4])
    assert out.shape == q.shape
    assert (grad(out.sum(), bias)[0] == 0).all()
