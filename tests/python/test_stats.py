"""heed.attention_stats against the same statistics of the stored matrix."""

import formula
import pytest
import torch
from comparing import assert_no_worse

import heed

WANT = ("entropy", "max", "top:5", "column_sums", "diagonal:-1", "diagonal:3", "blocks:8")


def inputs(kind="dot", B=2, H=4, Hkv=2, T=21, S=35, D=8, dtype=torch.float32):
    q, k, v = torch.randn(B, H, T, D), torch.randn(B, Hkv, S, D), torch.randn(B, Hkv, S, D + 1)
    options = {"kind": kind}
    if kind == "additive":
        options["weight"] = torch.randn(H, D).to(dtype)
    return [x.to(dtype) for x in (q, k, v)], options


DOC = torch.arange(35) // 6
SLOPE = torch.rand(4)
OPTIONS = {
    "plain": {},
    "top_left": {"causal": "top_left"},
    "bottom_right_window": {"causal": "bottom_right", "window": (9, 0)},
    "lengths": {"kv_lengths": torch.tensor([35, 3]), "causal": "bottom_right"},
    "no_keys": {"kv_lengths": torch.tensor([0, 35])},
    "sinks": {"sinks": torch.tensor([0.3, -1.0, 2.0, 0.0])},
    "top_k": {"top_k": 3},
    "documents": {"mask_mod": lambda b, h, t, s: DOC[t] == DOC[s]},
    "alibi": {"score_mod": lambda score, b, h, t, s: score - SLOPE[h] * (t - s).abs()},
    "none": {
        "kind": "none",
        "score_mod": lambda score, b, h, t, s: (-SLOPE[h] * (t - s).abs()).to(score.dtype),
    },
    "additive": {"kind": "additive", "causal": "top_left"},
    "cosine": {"kind": "cosine", "scale": 4.0},
}


def compare(found, near, exact):
    assert found.keys() == exact.keys()
    for name, right in exact.items():
        if name != "top":
            assert_no_worse(found[name], near[name], right, name, roundings=16)
            continue
        keys, weights = found["top"]
        assert keys.dtype == torch.int64
        assert_no_worse(weights, near["top"][1], right[1], "top")
        assert torch.equal(keys == -1, right[0] == -1)
        assert (keys == right[0]).double().mean() > 0.95  # near ties may change places


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("T", [1, 21])
def test_are_the_matrix_own(name, T):
    (q, k, v), options = inputs(OPTIONS[name].get("kind", "dot"), T=T)
    options |= OPTIONS[name]
    row_weights = torch.rand(2, 4, T)
    found = heed.attention_stats(q, k, v, want=WANT, row_weights=row_weights, **options)
    near = formula.statistics(q, k, v, want=WANT, row_weights=row_weights, **options)
    doubles = {n: x.double() if n in ("weight", "sinks") else x for n, x in options.items()}
    exact = formula.statistics(
        *(x.double() for x in (q, k, v)), want=WANT, row_weights=row_weights.double(), **doubles
    )
    compare(found, near, exact)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_in_other_dtypes(dtype):
    (q, k, v), _ = inputs(dtype=dtype)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    row_weights = torch.rand(2, 4, 21, dtype=real)
    found = heed.attention_stats(q, k, v, want=WANT, row_weights=row_weights, causal="top_left")
    exact = formula.statistics(
        *(x.double() for x in (q, k, v)),
        want=WANT,
        row_weights=row_weights.double(),
        causal="top_left",
    )
    assert found["out"].dtype == dtype
    for name in ("lse", "entropy", "max", "column_sums", "diagonal:3", "blocks"):
        assert found[name].dtype == real
        torch.testing.assert_close(found[name].double(), exact[name], rtol=1e-2, atol=1e-2)
    if dtype == torch.float64:
        torch.testing.assert_close(found, exact)


def test_equal_weights_come_by_rising_key():
    q, k = torch.zeros(1, 1, 2, 4), torch.randn(1, 1, 6, 4)
    keys, weights = heed.attention_stats(q, k, k, want=["top:4"])["top"]
    assert keys.tolist() == [[[[0, 1, 2, 3]] * 2]]
    torch.testing.assert_close(weights, torch.full((1, 1, 2, 4), 1 / 6))


def test_more_than_there_are_keys():
    q = torch.randn(1, 1, 3, 4)
    keys, weights = heed.attention_stats(q, q, q, want=["top:5"], causal="top_left")["top"]
    assert (keys[0, 0] == -1).sum(-1).tolist() == [4, 3, 2]
    assert (weights[keys == -1] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 1, 3))


def test_output_is_attentions():
    (q, k, v), _ = inputs()
    found = heed.attention_stats(q, k, v, causal="top_left")
    out, lse = heed.attention(q, k, v, causal="top_left", return_lse=True)
    torch.testing.assert_close(found["out"], out)
    torch.testing.assert_close(found["lse"], lse)
    assert not found["out"].requires_grad


def test_statistics_are_taken_before_dropout_and_the_output_after():
    (q, k, v), _ = inputs()
    found = heed.attention_stats(q, k, v, dropout_p=0.5, seed=1)
    plain = heed.attention_stats(q, k, v)
    out = heed.attention(q, k, v, dropout_p=0.5, seed=1)
    torch.testing.assert_close(found["out"], out)
    for name in ("entropy", "max", "column_sums", "diagonal:-1", "blocks"):
        torch.testing.assert_close(found[name], plain[name])


def test_names():
    (q, k, v), _ = inputs()
    found = heed.attention_stats(q, k, v)
    names = ["out", "lse", "entropy", "max", "top", "column_sums", "diagonal:-1", "blocks"]
    assert list(found) == names
    assert found["top:8"] is found["top"] and found["blocks:64"] is found["blocks"]
    assert found["blocks"].shape == (2, 4, 1, 1)
    with pytest.raises(KeyError):
        found["diagonal:2"]


def test_diagonals_far_outside_are_zero():
    (q, k, v), _ = inputs()
    for d in (35, -21, 1000, -1000):
        assert (heed.attention_stats(q, k, v, want=[f"diagonal:{d}"])[f"diagonal:{d}"] == 0).all()


def test_same_bits_for_any_thread_count():
    (q, k, v), _ = inputs(T=130, S=170)

    def everything(threads):
        torch.set_num_threads(threads)
        return heed.attention_stats(q, k, v, want=WANT, causal="bottom_right")

    one = everything(1)
    for threads in (2, 3):
        for name, own in everything(threads).items():
            if name == "top":
                assert all(map(torch.equal, own, one[name]))
            else:
                assert torch.equal(own, one[name]), f"{name}, {threads} threads"


@pytest.mark.parametrize("size", ["B", "T", "S"])
def test_empty_sizes(size):
    (q, k, v), _ = inputs(**{size: 0})
    found = heed.attention_stats(q, k, v, want=("entropy", "max", "top:2", "column_sums"))
    B, H, T = q.shape[:3]
    assert found["entropy"].shape == (B, H, T) and found["top"][0].shape == (B, H, T, 2)
    if size == "S":
        assert (found["entropy"] == 0).all() and (found["max"] == -torch.inf).all()
        assert (found["top"][0] == -1).all()
    if size == "T":
        assert (found["column_sums"] == 0).all()


@pytest.mark.parametrize(
    ("want", "message"),
    [
        (
            ["mean"],
            "want: expected 'entropy', 'max', 'top:n', 'column_sums', 'diagonal:d' or 'blocks:n', "
            "got 'mean'",
        ),
        (
            ["top:0"],
            "want: expected 'entropy', 'max', 'top:n', 'column_sums', 'diagonal:d' or 'blocks:n', "
            "got 'top:0'",
        ),
        (
            ["top:2", "top:3"],
            "want: expected each at most once, except diagonals, got 'top:2' and 'top:3'",
        ),
    ],
)
def test_message(want, message):
    (q, k, v), _ = inputs()
    with pytest.raises(RuntimeError) as error:
        heed.attention_stats(q, k, v, want=want)
    assert str(error.value) == f"[attention_stats] {message}"


def test_row_weights_of_another_shape_are_refused():
    (q, k, v), _ = inputs()
    with pytest.raises(RuntimeError, match=r"row_weights: expected \[B,H,T\] = \[2,4,21\]"):
        heed.attention_stats(q, k, v, row_weights=torch.ones(2, 4, 20))
