"""Every wrong argument gives one line that names it, what was expected and what came."""

import pytest
import torch

import heed


def tensors(B=2, H=4, Hkv=2, T=5, S=7, D=8, Dv=6):
    return torch.randn(B, H, T, D), torch.randn(B, Hkv, S, D), torch.randn(B, Hkv, S, Dv)


Q, K, V = tensors()
WRONG = [
    ((Q[0], K, V), {}, "[attention] q: expected [B,H,T,D], got [4,5,8]"),
    ((Q, K[0], V), {}, "[attention] k: expected [B,Hkv,S,D], got [2,7,8]"),
    ((Q, K, V[0]), {}, "[attention] v: expected [B,Hkv,S,Dv], got [2,7,6]"),
    ((Q, K[..., :7], V), {}, "[attention] k: expected [B,Hkv,S,D] = [2,2,7,8], got [2,2,7,7]"),
    ((Q, K[:1], V), {}, "[attention] k: expected [B,Hkv,S,D] = [2,2,7,8], got [1,2,7,8]"),
    ((Q, K, V[:, :, :6]), {}, "[attention] v: expected [B,Hkv,S,Dv] = [2,2,7,6], got [2,2,6,6]"),
    ((Q, K, V[:, :1]), {}, "[attention] v: expected [B,Hkv,S,Dv] = [2,2,7,6], got [2,1,7,6]"),
    ((Q[:, :3], K, V), {}, "[attention] k: expected Hkv heads that divide q's H = 3, got Hkv = 2"),
    ((Q, K[:, :0], V), {}, "[attention] k: expected Hkv heads that divide q's H = 4, got Hkv = 0"),
    (
        (Q.int(), K, V),
        {},
        "[attention] q: expected dtype float32, bfloat16, float16 or float64, got int32",
    ),
    ((Q, K.double(), V), {}, "[attention] k: expected dtype float32, got float64"),
    ((Q.double(), K.double(), V), {}, "[attention] v: expected dtype float64, got float32"),
    ((Q, K.to("meta"), V), {}, "[attention] k: expected q's device cpu, got meta"),
    ((Q.bfloat16(), K, V), {}, "[attention] k: expected dtype bfloat16, got float32"),
    (
        (Q, K, V),
        {"kind": "sum"},
        "[attention] kind: expected 'dot', 'additive', 'cosine' or 'none', got 'sum'",
    ),
    (
        (Q, K, V),
        {"causal": "left"},
        "[attention] causal: expected None, 'top_left' or 'bottom_right', got 'left'",
    ),
    (
        (Q, K, V),
        {"kind": "additive"},
        "[attention] weight: expected [H,D] for kind 'additive', got None",
    ),
    (
        (Q, K, V),
        {"weight": torch.randn(4, 8)},
        "[attention] weight: expected None unless kind is 'additive', got a tensor",
    ),
    (
        (Q, K, V),
        {"kind": "additive", "weight": torch.randn(2, 8)},
        "[attention] weight: expected [H,D] = [4,8], got [2,8]",
    ),
    (
        (Q, K, V),
        {"kv_lengths": torch.tensor([1, 2, 3])},
        "[attention] kv_lengths: expected [B] = [2], got [3]",
    ),
    (
        (Q, K, V),
        {"kv_lengths": torch.tensor([1, 2], dtype=torch.int32)},
        "[attention] kv_lengths: expected dtype int64, got int32",
    ),
    (
        (Q, K, V),
        {"kv_lengths": torch.tensor([1, 8])},
        "[attention] kv_lengths: expected lengths in [0, S = 7], got 8 at 1",
    ),
    (
        (Q, K, V),
        {"kv_lengths": torch.tensor([-1, 7])},
        "[attention] kv_lengths: expected lengths in [0, S = 7], got -1 at 0",
    ),
    ((Q, K, V), {"window": (1,)}, "[attention] window: expected two integers >= -1, got [1]"),
    ((Q, K, V), {"window": (-2, 0)}, "[attention] window: expected two integers >= -1, got [-2,0]"),
    ((Q, K, V), {"top_k": 0}, "[attention] top_k: expected None or at least 1, got 0"),
    ((Q, K, V), {"sinks": torch.zeros(2)}, "[attention] sinks: expected [H] = [4], got [2]"),
    (
        (Q, K, V),
        {"sinks": torch.zeros(4).double()},
        "[attention] sinks: expected dtype float32, got float64",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "options", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_message(arguments, options, message):
    with pytest.raises(RuntimeError) as error:
        heed.attention(*arguments, **options)
    assert str(error.value) == message


def index_outside(score, b, h, t, s):
    return score + torch.zeros(5)[t + 1]


def huge_integers(score, b, h, t, s):
    return score + (t * 10_000_000) % 7


@pytest.mark.parametrize("score_mod", [index_outside, huge_integers])
@pytest.mark.parametrize(
    "call",
    [
        lambda mod: heed.attention(Q, K, V, score_mod=mod),
        lambda mod: heed.attention_weights(Q, K, score_mod=mod),
        lambda mod: heed.attention_stats(Q, K, V, score_mod=mod),
    ],
)
def test_a_program_that_is_wrong_for_these_sizes(call, score_mod):
    with pytest.raises(heed.ProgramError) as error:
        call(score_mod)
    assert str(error.value).startswith("[attention] program: ")
    assert "\n" not in str(error.value)


def test_a_tensor_is_no_scale():
    with pytest.raises(TypeError, match=r"^\[attention\] scale: expected a number, got a tensor"):
        heed.attention(Q, K, V, scale=torch.tensor(1.0))


@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("out", 3, torch.randn(2, 4, 5, 8), "expected [B,H,T,Dv] = [2,4,5,6], got [2,4,5,8]"),
        ("lse", 4, torch.randn(2, 4, 6), "expected [B,H,T] = [2,4,5], got [2,4,6]"),
        ("d_out", 5, torch.randn(2, 4, 5), "expected [B,H,T,Dv] = [2,4,5,6], got [2,4,5]"),
        ("d_lse", 6, torch.randn(2, 4, 5).double(), "expected dtype float32, got float64"),
    ],
)
def test_backward_checks_what_it_is_given(name, index, value, message):
    out, lse = torch.ops.heed.attention(Q, K, V)
    arguments = [Q, K, V, out, lse, torch.randn_like(out), torch.randn_like(lse)]
    arguments[index] = value
    with pytest.raises(RuntimeError) as error:
        torch.ops.heed.attention_backward(*arguments)
    assert str(error.value) == f"[attention_backward] {name}: {message}"
