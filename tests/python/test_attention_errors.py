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
        (Q.bfloat16(), K, V),
        {},
        "[attention] q: expected dtype float32 or float64 (half precision isn't there yet), "
        "got bfloat16",
    ),
    ((Q, K.double(), V), {}, "[attention] k: expected dtype float32, got float64"),
    ((Q.double(), K.double(), V), {}, "[attention] v: expected dtype float64, got float32"),
    ((Q, K.to("meta"), V), {}, "[attention] k: expected q's device cpu, got meta"),
    ((Q, K, V), {"kind": "sum"}, "[attention] kind: expected 'dot', 'additive' or 'cosine', got 'sum'"),
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
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "options", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_message(arguments, options, message):
    with pytest.raises(RuntimeError) as error:
        heed.attention(*arguments, **options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score_mod", lambda score, b, h, t, s: score),
        ("mask_mod", lambda b, h, t, s: t >= s),
        ("window", (4, 0)),
        ("sinks", torch.zeros(4)),
        ("top_k", 3),
        ("dropout_p", 0.1),
        ("seed", 1),
        ("kind", "none"),
    ],
)
def test_what_is_not_available_is_refused_by_name(name, value):
    with pytest.raises(NotImplementedError, match=rf"^\[attention\] {name}\b.* not available$"):
        heed.attention(*tensors(), **{name: value})


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
