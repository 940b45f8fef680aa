"""heed.onnx against the operators' definitions written out in float64, beyond onnx's own node tests
(tests/conformance): windows and caches in all combinations, gradients, edges and errors."""

import importlib
import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import normalize

import heed
from heed import onnx

INF = math.inf


def inputs(B=2, H=4, Hkv=2, T=5, S=7, D=8, Dv=6, dtype=torch.float32):
    return (
        torch.randn(B, H, T, D, dtype=dtype),
        torch.randn(B, Hkv, S, D, dtype=dtype),
        torch.randn(B, Hkv, S, Dv, dtype=dtype),
    )


def repeated(x, H):
    return x.double().repeat_interleave(H // x.shape[1], 1)


def visible_by_loop(B, T, S, offset, causal=False, left=-1, right=-1, lengths=None):
    """[B,1,T,S] as the standard says it, pair by pair."""
    seen = torch.zeros(B, 1, T, S, dtype=torch.bool)
    for b, t, s in itertools.product(range(B), range(T), range(S)):
        place = t + offset[b]
        seen[b, 0, t, s] = (
            (not causal or s <= place)
            and (left < 0 or place - s <= left)
            and (right < 0 or s - place <= right)
            and (lengths is None or s < lengths[b])
        )
    return seen


def formula(q, k, v, seen, bias=0.0, scale=None, softcap=0.0):
    """The four stages of the scores, and Y, in float64."""
    H = q.shape[1]
    q, k, v = q.double(), repeated(k, H), repeated(v, H)
    raw = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    capped = softcap * torch.tanh(raw / softcap) if softcap else raw
    masked = (capped + bias).masked_fill(~seen, -INF)
    p = masked.softmax(-1).nan_to_num(0)
    return raw, capped, masked, p, p @ v


def close(found, expected, tolerance=2e-6):
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


# Attention.


@pytest.mark.parametrize("cache", ["none", "past", "external"])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("window", [(-1, -1), (2, -1), (-1, 1), (1, 2), (6, 3), (2**40, 2**40)])
def test_each_window_from_each_corner(cache, causal, window):
    q, k, v = inputs()
    B, T, S = 2, 5, 7
    options, lengths, offset = {}, None, [0, 0]
    keys, values = k, v
    if cache == "past":
        options = {"past_key": k[:, :, :4], "past_value": v[:, :, :4]}
        k, v, offset = k[:, :, 4:], v[:, :, 4:], [4, 4]
    if cache == "external":
        lengths = [6, 3]
        options, offset = {"nonpad_kv_seqlen": torch.tensor(lengths)}, [6 - T, 3 - T]
    left, right = window
    seen = visible_by_loop(B, T, S, offset, causal, left, right, lengths)
    found = onnx.attention(
        q,
        k,
        v,
        **options,
        is_causal=causal,
        left_window_size=left,
        right_window_size=right,
        qk_matmul_output_mode=3,
        num_outputs=4,
    )
    *_, p, y = formula(q, keys, values, seen)
    close(found[0], y)
    assert torch.equal(found[1], keys) and torch.equal(found[2], values)
    close(found[3], p)


SHAPES = [(2, 4, 5, 7), (2, 1, 5, 7), (1, 4, 1, 7), (4, 1, 1), (5, 7), (1, 7), (7,)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("is_bool", [True, False])
@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_masks_of_every_rank_and_every_stage_of_the_scores(shape, is_bool, softcap):
    q, k, v = inputs()
    mask = torch.randn(shape)
    hidden = torch.rand(shape) < 0.3
    mask, bias = (~hidden, 0.0) if is_bool else (mask.masked_fill(hidden, -INF), mask.double())
    stages = formula(q, k, v, ~hidden.expand(2, 4, 5, 7), bias, 0.3, softcap)
    options = {"attn_mask": mask, "scale": 0.3, "softcap": softcap, "opset": 23}
    for mode, stage in enumerate(stages[:4]):
        found = onnx.attention(q, k, v, **options, qk_matmul_output_mode=mode, num_outputs=4)
        close(found[3], stage)
        close(found[0], stages[4])


def test_short_mask_hides_the_keys_after_it_from_opset_24():
    q, k, v = inputs()
    mask = torch.randn(5, 4)
    seen = (torch.arange(7) < 4).expand(2, 4, 5, 7)
    bias = torch.nn.functional.pad(mask.double(), (0, 3))
    close(onnx.attention(q, k, v, mask)[0], formula(q, k, v, seen, bias)[4])
    with pytest.raises(ValueError, match=r"attn_mask: expected a shape that broadcasts"):
        onnx.attention(q, k, v, mask, opset=23)


def test_integers_as_mask_are_added():
    q, k, v = inputs()
    mask = torch.randint(-2, 3, (5, 7))
    seen = torch.ones(2, 4, 5, 7, dtype=torch.bool)
    close(onnx.attention(q, k, v, mask)[0], formula(q, k, v, seen, mask.double())[4])


def test_packed_inputs_are_the_same_heads():
    q, k, v = inputs()
    packed = [x.transpose(1, 2).flatten(2) for x in (q, k, v)]
    past = torch.randn(2, 2, 3, 8), torch.randn(2, 2, 3, 6)
    options = {"past_key": past[0], "past_value": past[1], "is_causal": 1, "num_outputs": 4}
    want = onnx.attention(q, k, v, **options)
    found = onnx.attention(*packed, **options, q_num_heads=4, kv_num_heads=2)
    assert torch.equal(found[0], want[0].transpose(1, 2).flatten(2))
    for a, b in zip(found[1:], want[1:], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_keys_are_not_read(dtype):
    q, k, v = (x.to(dtype) for x in inputs())
    mask = torch.zeros(5, 7)
    mask[:, 2] = -INF
    mask[1] = -INF
    clean = onnx.attention(q, k, v, mask, is_causal=1)[0]
    k[:, :, 2], v[:, :, 2] = math.nan, INF
    found, _, _, p = onnx.attention(
        q, k, v, mask, is_causal=1, qk_matmul_output_mode=3, num_outputs=4
    )
    assert torch.equal(found, clean) and found.isfinite().all()
    assert (found[:, :, 1] == 0).all() and (p[:, :, 1] == 0).all() and (p[..., 2] == 0).all()


def test_double_softmax_is_a_double_computation():
    q, k, v = inputs(S=90)
    seen = torch.ones(2, 4, 5, 90, dtype=torch.bool)
    found = onnx.attention(q, k, v, softmax_precision=11)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, formula(q, k, v, seen)[4].float(), rtol=1e-7, atol=1e-9)


def test_value_of_another_type():
    q, k, v = inputs()
    seen = torch.ones(2, 4, 5, 7, dtype=torch.bool)
    y, key, value = onnx.attention(q, k, v.half(), num_outputs=3)
    assert (y.dtype, key.dtype, value.dtype) == (torch.float32, torch.float32, torch.float16)
    close(y, formula(q, k, v.half(), seen)[4])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("S", [7, 40])
def test_halves_are_near_the_formula(dtype, S):
    q, k, v = (x.to(dtype) for x in inputs(S=S))
    seen = visible_by_loop(2, 5, S, [0, 0], causal=True)
    found = onnx.attention(q, k, v, is_causal=1, num_outputs=4)
    raw, *_, y = formula(q, k, v, seen)
    tolerance = 4 * torch.finfo(dtype).eps
    close(found[0], y, tolerance)
    close(found[3], raw, tolerance)
    assert found[0].dtype == found[3].dtype == dtype


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_attention_gradcheck(mode):
    q, k, v = inputs(B=1, H=2, Hkv=1, T=3, S=2, D=2, Dv=2, dtype=torch.float64)
    past = torch.randn(1, 1, 2, 2).double(), torch.randn(1, 1, 2, 2).double()
    mask = torch.randn(3, 4).double()
    hidden = torch.tensor([[0, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1]]).bool()

    def outputs(q, k, v, mask, *past):
        y, *present, scores = onnx.attention(
            q,
            k,
            v,
            mask.masked_fill(hidden, -INF),
            *past,
            softcap=2.0,
            qk_matmul_output_mode=mode,
            num_outputs=4,
        )
        return y, *present, scores.masked_fill(hidden, 0)

    assert gradcheck(outputs, [x.requires_grad_() for x in (q, k, v, mask, *past)])


def test_attention_is_one_graph_also_while_the_past_grows():
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    def step(q, k, v, mask, past_key, past_value):
        cache = {"past_key": past_key, "past_value": past_value}
        return onnx.attention(
            q, k, v, mask, **cache, is_causal=1, softcap=2.0, left_window_size=3, num_outputs=3
        )

    compiled = torch.compile(step, fullgraph=True, backend=backend)
    for P in range(4, 12):
        tensors = (*inputs(T=1, S=1), torch.randn(1, P + 1))
        past = torch.randn(2, 2, P, 8), torch.randn(2, 2, P, 6)
        found, want = compiled(*tensors, *past), step(*tensors, *past)
        assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))
    assert len(graphs) == 2  # of the first length, and of all that follow


@pytest.mark.parametrize("sizes", [{"B": 0}, {"T": 0}, {"S": 0}])
def test_empty_sizes(sizes):
    q, k, v = inputs(**sizes)
    y, *_, p = onnx.attention(
        q, k, v, is_causal=1, left_window_size=2, qk_matmul_output_mode=3, num_outputs=4
    )
    assert y.shape == (*q.shape[:3], 6) and (y == 0).all()
    assert p.shape == (*q.shape[:3], k.shape[2])
    for mods in ({}, {"prob_mod": lambda p, b, h, t, s: p / 2}):
        (y,) = onnx.flex_attention(q, k, v, **mods)
        assert y.shape == (*q.shape[:3], 6) and (y == 0).all()


# FlexAttention.


def test_flex_mods_against_the_formula():
    q, k, v = inputs()
    slope = torch.randn(4)

    def score_mod(x, b, h, t, s):
        return torch.where(s <= t + 1, x + slope[h] * (t - s), -INF)

    t, s = torch.arange(5).view(5, 1), torch.arange(7)
    bias = slope.double().view(4, 1, 1) * (t - s)
    *_, p, y = formula(q, k, v, (s <= t + 1).expand(2, 4, 5, 7), bias)
    close(onnx.flex_attention(q, k, v, score_mod=score_mod)[0], y)

    gate = torch.randn(2, 5)

    def prob_mod(p, b, h, t, s):
        return torch.where(s % 2 == 0, p * gate[b, t], p.square())

    p = torch.where(s % 2 == 0, p * gate.double().view(2, 1, 5, 1), p.square())
    (found,) = onnx.flex_attention(q, k, v, score_mod=score_mod, prob_mod=prob_mod)
    close(found, p @ repeated(v, 4))


def test_prob_mod_in_several_blocks_is_the_same_with_its_gradients(monkeypatch):
    q, k, v = (x.requires_grad_() for x in inputs(T=11))
    gate = torch.zeros(11, requires_grad=True)  # a gradient although each product is 0

    def solve():
        (y,) = onnx.flex_attention(q, k, v, prob_mod=lambda p, b, h, t, s: p * gate[t] + p)
        return y, *torch.autograd.grad(y.square().sum(), (q, k, v, gate))

    whole = solve()
    module = importlib.import_module("heed.onnx.flex_attention")
    monkeypatch.setattr(module, "_PAIRS", 2 * 4 * 7 * 3)  # three queries each
    for found, want in zip(solve(), whole, strict=True):
        torch.testing.assert_close(found, want)
    assert whole[-1].abs().min() > 0


def test_flex_gradcheck():
    tensors = inputs(B=1, H=2, Hkv=1, T=3, S=3, D=2, Dv=2, dtype=torch.float64)
    tables = torch.randn(3, 3).double(), torch.randn(2).double()

    def outputs(q, k, v, bias, gate):
        return onnx.flex_attention(
            q,
            k,
            v,
            score_mod=lambda x, b, h, t, s: torch.where(s <= t, x + bias[t, s], -INF),
            prob_mod=lambda p, b, h, t, s: p * p * gate[h],
        )

    assert gradcheck(outputs, [x.requires_grad_() for x in (*tensors, *tables)])


def test_flex_row_without_keys_is_zero():
    q, k, v = (x.requires_grad_() for x in inputs())
    for mods in ({}, {"prob_mod": lambda p, b, h, t, s: p + 0 * s}):
        (y,) = onnx.flex_attention(
            q, k, v, score_mod=lambda x, b, h, t, s: torch.where(t == 2, -INF, x), **mods
        )
        assert (y[:, :, 2] == 0).all() and (y[:, :, 1] != 0).all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(y.sum(), (q, k, v)))


@pytest.mark.parametrize("name", ["score_mod", "prob_mod"])
def test_a_mod_that_branches_is_refused(name):
    def branches(x, b, h, t, s):
        return x if x > 0 else x * 2

    with pytest.raises(heed.ProgramError, match="test_onnx.py.*torch.where"):
        onnx.flex_attention(*inputs(), **{name: branches})


# LinearAttention.

RULES = ["linear", "gated", "delta", "gated_delta"]


def linear_inputs(rule, B=2, T=5, H=4, Hkv=2, D=3, Dv=2, row_decay=True, dtype=torch.float64):
    tensors = {
        "query": torch.randn(B, T, H * D),
        "key": normalize(torch.randn(B, T, Hkv, D), dim=-1).flatten(2),
        "value": torch.randn(B, T, Hkv * Dv),
        "past_state": torch.randn(B, Hkv, D, Dv),
    }
    if "gated" in rule:
        tensors["decay"] = -3 * torch.rand(B, T, Hkv * D if row_decay else Hkv)
    if "delta" in rule:
        tensors["beta"] = torch.rand(B, T, Hkv)
    return {name: x.to(dtype) for name, x in tensors.items()}


def token_by_token(H, Hkv, query, key, value, past_state, decay=None, beta=None, scale=None):
    """The recurrence as it is written, in float64."""
    query, key, value, state = (x.double() for x in (query, key, value, past_state))
    B, T, D = query.shape[0], query.shape[1], past_state.shape[2]
    outputs = []
    for t in range(T):
        q, k, v = (
            x[:, t].view(B, heads, -1) for x, heads in ((query, H), (key, Hkv), (value, Hkv))
        )
        if decay is not None:
            state = state * decay[:, t].double().reshape(B, Hkv, -1, 1).exp()
        if beta is not None:
            v = beta[:, t].double().unsqueeze(2) * (v - (state * k.unsqueeze(3)).sum(2))
        state = state + k.unsqueeze(3) * v.unsqueeze(2)
        read = state.repeat_interleave(H // Hkv, 1)
        outputs.append((scale or D**-0.5) * (q.unsqueeze(3) * read).sum(2))
    return torch.stack(outputs, 1).flatten(2), state


def both_outputs(tensors, rule, H=4, Hkv=2, **options):
    return onnx.linear_attention(
        **tensors, update_rule=rule, q_num_heads=H, kv_num_heads=Hkv, **options
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("row_decay", [True, False])
@pytest.mark.parametrize("chunk", [1, 4, 16, 64])
def test_chunks_are_the_recurrence(rule, row_decay, chunk):
    tensors = linear_inputs(rule, T=37, D=6, Dv=5, row_decay=row_decay)
    wanted = token_by_token(4, 2, **tensors, scale=0.7)
    found = both_outputs(tensors, rule, scale=0.7, chunk_size=chunk)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("row_decay", [True, False])
def test_strong_decays_neither_overflow_nor_vanish(row_decay):
    tensors = linear_inputs("gated_delta", T=80, row_decay=row_decay, dtype=torch.float32)
    tensors["decay"] *= 20
    tensors["decay"][:, ::7] = 0
    tensors["decay"][:, 40] = -INF
    wanted = token_by_token(4, 2, **tensors)
    for a, b in zip(both_outputs(tensors, "gated_delta"), wanted, strict=True):
        close(a, b, 1e-5)


def test_state_goes_on_from_call_to_call():
    tensors = linear_inputs("gated_delta", T=20)
    whole, end = both_outputs(tensors, "gated_delta")
    state = tensors.pop("past_state")
    for part in (slice(0, 13), slice(13, 14), slice(14, 20)):
        piece = {name: x[:, part] for name, x in tensors.items()} | {"past_state": state}
        out, state = both_outputs(piece, "gated_delta")
        torch.testing.assert_close(out, whole[:, part], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(state, end, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("row_decay", [True, False])
def test_linear_gradcheck(rule, row_decay):
    tensors = linear_inputs(rule, B=1, T=3, H=2, Hkv=1, D=2, row_decay=row_decay)
    names = list(tensors)

    def outputs(*values):
        named = dict(zip(names, values, strict=True))
        return both_outputs(named, rule, H=2, Hkv=1, chunk_size=2)

    assert gradcheck(outputs, [x.requires_grad_() for x in tensors.values()])


def test_linear_types_and_shared_beta():
    tensors = linear_inputs("delta", dtype=torch.float32)
    tensors["beta"] = tensors["beta"][..., :1]
    wanted = token_by_token(4, 2, **tensors | {"beta": tensors["beta"].expand(2, 5, 2)})
    close(both_outputs(tensors, "delta")[0], wanted[0])
    halves = {name: x.half() for name, x in tensors.items()}
    state = halves.pop("past_state").float()
    out, present = both_outputs(halves | {"past_state": state}, "delta")
    assert (out.dtype, present.dtype) == (torch.float16, torch.float32)
    assert both_outputs(halves, "delta")[1].dtype == torch.float16
    assert len(both_outputs(halves, b"delta", num_outputs=1)) == 1


def test_linear_without_tokens_keeps_the_state():
    tensors = linear_inputs("gated_delta", T=0)
    out, state = both_outputs(tensors, "gated_delta")
    assert out.shape == (2, 0, 8) and torch.equal(state, tensors["past_state"])


# What is refused, with its one line.

Q, K, V = inputs()
PACKED = [x.transpose(1, 2).flatten(2) for x in (Q, K, V)]
L = linear_inputs("gated_delta")
HEADS = {"q_num_heads": 4, "kv_num_heads": 2}
WRONG = [
    ("attention", (Q[0, 0], K, V), {}, "q: expected [B,H,T,D] or [B,T,H*D], got [5,8]"),
    ("attention", (Q, PACKED[1], V), {}, "k: expected 4 dimensions, as q has, got [2,7,16]"),
    ("attention", PACKED, {}, "q_num_heads: expected a number of heads, got None"),
    ("attention", PACKED, {"q_num_heads": 4}, "kv_num_heads: expected a number of heads, got None"),
    ("attention", PACKED, {"q_num_heads": 3, "kv_num_heads": 2}, "q_num_heads: expected a multiple of kv_num_heads = 2, got 3"),
    ("attention", PACKED, {"q_num_heads": 6, "kv_num_heads": 2}, "q: expected a last size that 6 heads divide, got [2,5,32]"),
    ("attention", (Q, K, V), HEADS, "q_num_heads: expected none, as q has 4 dimensions, got 4"),
    ("attention", (Q, K.double(), V), {}, "k: expected q's dtype torch.float32, got torch.float64"),
    ("attention", (Q, K, V, None, K), {}, "past_key: expected past_key and past_value together, got 'one'"),
    ("attention", (Q, K, V, None, K, V[:, :, :2]), {}, "past_value: expected [B,Hkv,P,Dv] = [2,2,7,6], got [2,2,2,6]"),
    ("attention", (Q, K, V, None, K, V, torch.tensor([1, 2])), {}, "nonpad_kv_seqlen: expected none, as there is past_key, got 'one'"),
    ("attention", (Q, K, V, None, None, None, torch.tensor([1])), {}, "nonpad_kv_seqlen: expected [B] = [2], got [1]"),
    ("attention", (Q, K, V, None, None, None, torch.tensor([1, 2])), {"opset": 23}, "nonpad_kv_seqlen: expected opset 24 or later, got 23"),
    ("attention", (Q, K, V), {"left_window_size": 3, "opset": 24}, "left_window_size: expected opset 25 or later, got 24"),
    ("attention", (Q, K, V), {"right_window_size": -2}, "right_window_size: expected -1 or more, got -2"),
    ("attention", (Q, K, V, torch.zeros(5, 8)), {}, "attn_mask: expected a shape that broadcasts to [2,4,5,7], got [5,8]"),
    ("attention", (Q, K, V), {"qk_matmul_output_mode": 4}, "qk_matmul_output_mode: expected 0 to 3, got 4"),
    ("attention", (Q, K, V), {"softmax_precision": 7}, "softmax_precision: expected 1, 10, 11 or 16, got 7"),
    ("attention", (Q, K, V), {"softcap": -1.0}, "softcap: expected 0 or more, got -1.0"),
    ("attention", (Q, K, V), {"opset": 22}, "opset: expected 23 or later, got 22"),
    ("attention", (Q, K, V), {"num_outputs": 5}, "num_outputs: expected 1 to 4, got 5"),
    ("flex_attention", PACKED, {}, "q: expected [B,H,T,D], got [2,5,32]"),
    ("flex_attention", (Q, K[..., :7], V), {}, "k: expected [2,Hkv,S,8], got [2,2,7,7]"),
    ("flex_attention", (Q, K, V[:, :, 1:]), {}, "v: expected [2,2,7,Dv], got [2,2,6,6]"),
    ("flex_attention", (Q[:, :3], K, V), {}, "k: expected Hkv heads that divide q's H = 3, got [2,2,7,8]"),
    ("flex_attention", (Q, K, V), {"num_outputs": 2}, "num_outputs: expected 1, got 2"),
    ("linear_attention", (), L, "q_num_heads: expected a number of heads, got None"),
    ("linear_attention", (), L | HEADS | {"update_rule": "retained"}, "update_rule: expected one of linear, gated, delta, gated_delta, got 'retained'"),
    ("linear_attention", (), L | HEADS | {"update_rule": "delta"}, "decay: expected none, as update_rule is 'delta', got [2,5,6]"),
    ("linear_attention", (), L | HEADS | {"beta": None}, "beta: expected a tensor, as update_rule is 'gated_delta', got None"),
    ("linear_attention", (), L | HEADS | {"query": Q}, "query: expected [B,T,H*D], got [2,4,5,8]"),
    ("linear_attention", (), L | HEADS | {"decay": L["key"][..., :3]}, "decay: expected [2,5,2] or [2,5,6], got [2,5,3]"),
    ("linear_attention", (), L | HEADS | {"past_state": L["past_state"].mT}, "past_state: expected [B,Hkv,D,Dv] = [2,2,3,2], got [2,2,2,3]"),
    ("linear_attention", (), L | HEADS | {"chunk_size": 0}, "chunk_size: expected 1 or more, got 0"),
    ("linear_attention", (), L | HEADS | {"opset": 26}, "opset: expected 27 or later, got 26"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "options", "message"), WRONG, ids=[f"{w[0]}: {w[3]}" for w in WRONG]
)
def test_message(name, arguments, options, message):
    with pytest.raises(ValueError) as error:
        getattr(onnx, name)(*arguments, **options)
    assert str(error.value) == f"[onnx.{name}] {message}"


def test_a_length_beyond_the_keys_is_refused_by_the_engine():
    with pytest.raises(RuntimeError, match="kv_lengths"):
        onnx.attention(Q, K, V, nonpad_kv_seqlen=torch.tensor([3, 8]))
