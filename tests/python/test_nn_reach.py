"""Mechanisms of reach, sparsity and linear time against plain torch formulas and transformers."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parameters_to_vector

import heed
from heed.nn import dynamic_sparse_attention
from heed.nn.adaptive_span_attention import AdaptiveSpanAttention
from heed.nn.attention_pooling import AttentionPooling
from heed.nn.block_attention import BlockAttention
from heed.nn.coverage_attention import CoverageAttention
from heed.nn.document_attention import DocumentAttention
from heed.nn.dynamic_sparse_attention import DynamicSparseAttention
from heed.nn.hierarchical_attention import HierarchicalAttention
from heed.nn.linear_attention import LinearAttention
from heed.nn.local_attention import LocalAttention
from heed.nn.local_predictive_attention import LocalPredictiveAttention
from heed.nn.longformer_attention import LongformerAttention
from heed.nn.random_feature_attention import RandomFeatureAttention
from heed.nn.sentinel_attention import SentinelAttention, VisualSentinel
from heed.nn.set_attention import (
    InducedSetAttentionBlock,
    MultiheadAttentionBlock,
    PoolingByMultiheadAttention,
    SetAttentionBlock,
)
from heed.nn.top_k_attention import TopKAttention

B, H, T, D, DV = 2, 3, 37, 8, 5
LENGTHS = torch.tensor([T, 19])


def softmax(score, mask):
    """Weights of the keys where mask is true; a row without any gets 0."""
    mask = mask.expand(score.shape)
    row = torch.where(mask, score, -1e30).softmax(-1)
    return torch.where(mask, row, 0.0)


def split(x, heads=H):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join(x):
    return x.transpose(1, 2).flatten(2)


def places(S=T):
    return torch.arange(T).view(T, 1), torch.arange(S)


def seen_keys(lengths=LENGTHS, S=T):
    return (torch.arange(S) < lengths.view(-1, 1)).view(-1, 1, 1, S)


def inputs(dtype=torch.float32, heads=H):
    return [
        torch.randn(B, T, heads * width, dtype=dtype, requires_grad=True) for width in (D, D, DV)
    ]


def assert_same(module, actual, expected, leaves):
    """The output, and the gradient of each leaf and parameter, are the formula's."""
    tolerance = {"rtol": 1e-4, "atol": 2e-5}
    torch.testing.assert_close(actual, expected, **tolerance)
    wanted = [*leaves, *module.parameters()]
    direction = torch.randn_like(expected)
    got, right = (
        torch.autograd.grad((y * direction).sum(), wanted, retain_graph=True)
        for y in (actual, expected)
    )
    for mine, its in zip(got, right, strict=True):
        torch.testing.assert_close(mine, its, **tolerance)


def check_masked(module, mask, lengths=LENGTHS, **arguments):
    """A module that is softmax(<q, k> / sqrt(D)) over the keys where mask [T,S] or [B,H,T,S]."""
    q, k, v = inputs()
    if lengths is not None:
        mask = mask & seen_keys(lengths)
    p = softmax(split(q) @ split(k).mT / math.sqrt(D), mask)
    out, weights = module(q, k, v, lengths=lengths, return_weights=True, **arguments)
    torch.testing.assert_close(weights, p.detach(), rtol=1e-4, atol=1e-5)
    assert not weights.requires_grad
    assert_same(module, out, join(p @ split(v)), [q, k, v])
    torch.testing.assert_close(module(q, k, v, lengths=lengths, **arguments), out)


@pytest.mark.parametrize("causal", [None, "top_left"])
def test_local_is_a_band(causal):
    t, s = places()
    mask = ((t - s).abs() <= 4) & (s <= t if causal else True)
    check_masked(LocalAttention(4, heads=H, causal=causal), mask)


def test_local_from_the_other_corner():
    q, k, v = (torch.randn(1, n, D) for n in (3, 10, 10))
    _, weights = LocalAttention(2, causal="bottom_right")(q, k, v, return_weights=True)
    t, s = torch.arange(3).view(3, 1), torch.arange(10)
    assert torch.equal(weights[0, 0] > 0, (s <= t + 7) & (s >= t + 5))


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_local_predictive_looks_around_its_centre(normalized, lengths):
    module = LocalPredictiveAttention(D, 7, 5.0, normalized=normalized)
    torch.nn.init.normal_(module.score_weight)  # centres all over the place
    torch.nn.init.normal_(module.query_projection.weight)
    q, k, v = inputs(heads=1)
    length = torch.full((B,), T) if lengths is None else lengths
    hidden = torch.tanh(q @ module.query_projection.weight.T)
    centre = length.view(B, 1) * torch.sigmoid(hidden @ module.score_weight[0])
    away = torch.arange(T) - centre.unsqueeze(-1)  # [B,T,S]
    mask = (away.abs() <= 5) & seen_keys(length)[:, 0]
    gaussian = -(away**2) / (2 * 2.5**2)
    if normalized:
        p = softmax(q @ k.mT + gaussian, mask)
    else:
        p = softmax(q @ k.mT, mask) * gaussian.exp()
    out, weights = module(q, k, v, lengths, return_weights=True)
    torch.testing.assert_close(weights, p.detach(), rtol=1e-4, atol=1e-5)
    assert_same(module, out, p @ v, [q, k, v])


def test_predicted_places_are_finer_than_bfloat16():
    module = LocalPredictiveAttention(D, 7, 2.0).bfloat16()
    q = torch.randn(1, 50, D, dtype=torch.bfloat16)
    centres = module.centres(q, torch.tensor([4000]))
    assert centres.dtype == torch.float32
    assert (centres - centres.bfloat16()).abs().max() > 1  # near 2000, a multiple of 8
    assert module(q, q, q).dtype == torch.bfloat16


def longformer_twin(E, window):
    transformers = pytest.importorskip("transformers.models.longformer.modeling_longformer")
    config = transformers.LongformerConfig(
        hidden_size=E,
        num_attention_heads=2,
        attention_window=[2 * window],
        attention_probs_dropout_prob=0.0,
    )
    theirs = transformers.LongformerSelfAttention(config, 0).eval()
    ours = LongformerAttention(E, 2, window)
    names = {
        f"{name}{suffix}": f"{'global_' if suffix else ''}{name}_projection"
        for name in ("query", "key", "value")
        for suffix in ("", "_global")
    }
    state = ours.state_dict()
    for name, parameter in theirs.state_dict().items():
        theirs_name, kind = name.split(".")
        torch.nn.init.normal_(parameter, std=0.3)
        state[f"{names[theirs_name]}.{kind}"] = parameter.clone()
    state["output_projection.weight"], state["output_projection.bias"] = (
        torch.eye(E),
        torch.zeros(E),
    )
    ours.load_state_dict(state)
    return ours, theirs


@pytest.mark.parametrize("some_global", [True, False])
def test_longformer_is_that_of_transformers(some_global):
    ours, theirs = longformer_twin(E=12, window=4)
    T = 32  # a multiple of transformers' window
    lengths = torch.tensor([T, 21])
    x = torch.randn(B, T, 12)
    is_global = torch.zeros(B, T, dtype=torch.bool)
    if some_global:
        is_global[0, [0, 3]] = is_global[1, [0, 17]] = True
    masked = torch.arange(T) >= lengths.view(B, 1)
    mask = torch.zeros(B, T).masked_fill(is_global, 10000.0).masked_fill(masked, -10000.0)
    (expected,) = theirs(
        x,
        attention_mask=mask,
        is_index_masked=masked,
        is_index_global_attn=is_global,
        is_global_attn=some_global,
    )
    out = ours(x, is_global if some_global else None, lengths)
    torch.testing.assert_close(out[~masked], expected[~masked], rtol=1e-5, atol=1e-5)


def test_longformer_is_two_attentions():
    module = LongformerAttention(H * D, H, window=3)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(B, T, H * D, requires_grad=True)
    is_global = torch.rand(B, T) < 0.1
    t, s = places()
    of_query, of_key = is_global.view(B, 1, T, 1), is_global.view(B, 1, 1, T)
    masks = {"": ~of_query & (((t - s).abs() <= 3) | of_key), "global_": of_query}
    mixed = weights = 0
    for prefix, mask in masks.items():
        q, k, v = (
            split(module.get_submodule(f"{prefix}{name}_projection")(x))
            for name in ("query", "key", "value")
        )
        p = softmax(q @ k.mT / math.sqrt(D), mask & seen_keys())
        mixed, weights = mixed + p @ v, weights + p
    out, got = module(x, is_global, LENGTHS, return_weights=True)
    torch.testing.assert_close(got, weights.detach(), rtol=1e-4, atol=1e-5)
    assert_same(module, out, module.output_projection(join(mixed)), [x])


@pytest.mark.parametrize("causal", [None, "top_left"])
@pytest.mark.parametrize("random_blocks", [0, 2])
def test_blocks_are_seen_whole(causal, random_blocks):
    module = BlockAttention(
        6, heads=H, global_blocks=1, random_blocks=random_blocks, seed=3, causal=causal
    )
    i, j = (x // 6 for x in places())
    drawn = module.drawn(T, T)  # [H,7,random]
    assert torch.equal(drawn, module.drawn(T, T))
    assert drawn.shape == (H, 7, random_blocks)
    mask = ((i - j).abs() <= 1) | (i < 1) | (j < 1)
    chosen = drawn[:, torch.arange(T) // 6]  # [H,T,random]
    mask = mask | (chosen.unsqueeze(2) == j.view(-1, 1)).any(-1)
    if causal:
        mask = mask & (j.new_tensor(range(T)) <= torch.arange(T).view(T, 1))
    check_masked(module, mask)


def test_blocks_count_places_from_causals_corner():
    module = BlockAttention(
        4, heads=H, neighbours=0, global_blocks=1, random_blocks=1, causal="bottom_right"
    )
    q, k, v = inputs()
    _, among_all = module(q, k, v, return_weights=True)
    _, last = module(q[:, -3:], k, v, return_weights=True)
    torch.testing.assert_close(last, among_all[:, :, -3:])
    _, last = module(q[:, -3:], k, v, LENGTHS, return_weights=True)
    seen = (last[1, 0] > 0).nonzero()  # of 19 keys: queries at 16, 17 and 18
    assert [seen[seen[:, 0] == t, 1].max().item() for t in range(3)] == [16, 17, 18]
    _, weights = module(q, k, v, LENGTHS, return_weights=True)
    assert torch.equal(weights[1, :, : T - 19], torch.zeros(H, T - 19, T))


@pytest.mark.parametrize("causal", [None, "top_left"])
def test_documents_do_not_see_each_other(causal):
    documents = torch.stack([torch.arange(T) // 10, torch.arange(T) % 3])
    t, s = places()
    mask = documents.view(B, 1, T, 1) == documents.view(B, 1, 1, T)
    if causal:
        mask = mask & (s <= t)
    check_masked(DocumentAttention(heads=H, causal=causal), mask, documents=documents)
    with pytest.raises(ValueError, match=r"documents: expected int64 \[2, 37\]"):
        q, k, v = inputs()
        DocumentAttention(heads=H)(q, k, v, documents[:1])


@pytest.mark.parametrize("causal", [True, False])
def test_adaptive_span_learns_its_reach(causal):
    module = AdaptiveSpanAttention(20, heads=H, ramp=6, causal=causal)
    assert torch.equal(module.span, torch.zeros(H))
    with torch.no_grad():
        module.span.copy_(torch.tensor([0.02, 0.31, 0.77]))
    t, s = places()
    away = (t - s).abs()
    soft = ((6 + 20 * module.span.view(H, 1, 1) - away) / 6).clamp(0, 1)  # [H,T,S]
    q, k, v = inputs()
    mask = seen_keys() & (s <= t if causal else torch.ones(T, T, dtype=torch.bool))
    raw = torch.where(mask, soft * torch.exp(split(q) @ split(k).mT / math.sqrt(D)), 0)
    total = raw.sum(-1, keepdim=True)
    p = raw / torch.where(total > 0, total, 1)
    out, weights = module(q, k, v, LENGTHS, return_weights=True)
    torch.testing.assert_close(weights, p.detach(), rtol=1e-4, atol=1e-5)
    assert_same(module, out, join(p @ split(v)), [q, k, v])
    assert torch.autograd.grad(out.sum(), module.span)[0].abs().min() > 0
    torch.testing.assert_close(module.span_loss(), 2e-6 * 20 * module.span.mean())
    with torch.no_grad():
        module.span.copy_(torch.tensor([-1.0, 0.5, 2.0]))
    module.clamp_span()
    assert module.span.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_dynamic_sparse_is_the_union_of_its_buckets(causal, rounds):
    module = DynamicSparseAttention(D, buckets=6, rounds=rounds, heads=H, causal=causal)
    q, k, v = inputs()
    t, s = places()
    met = torch.zeros(B, H, T, T, dtype=torch.bool)
    for rotation in module.rotations:  # [H,D,3]
        of_q, of_k = (
            torch.cat([split(x) @ rotation, -split(x) @ rotation], -1).argmax(-1) for x in (q, k)
        )
        met |= of_q.unsqueeze(-1) == of_k.unsqueeze(-2)
    mask = met & seen_keys() & (s <= t if causal else True)
    p = softmax(split(q) @ split(k).mT / math.sqrt(D), mask)
    out, weights = module(q, k, v, LENGTHS, return_weights=True)
    torch.testing.assert_close(weights, p.detach(), rtol=1e-4, atol=1e-5)
    assert_same(module, out, join(p @ split(v)), [q, k, v])


@pytest.mark.parametrize("causal", [False, True])
def test_dynamic_sparse_sorts_long_rows(causal, monkeypatch):
    module = DynamicSparseAttention(D, buckets=6, rounds=3, heads=H, causal=causal)
    q, k, v = inputs()
    swept = module(q, k, v, LENGTHS)
    monkeypatch.setattr(dynamic_sparse_attention, "_SWEPT_KEYS", 1)
    assert_same(module, module(q, k, v, LENGTHS), swept, [q, k, v])
    nowhere = torch.tensor([0, T])
    assert torch.equal(module(q, k, v, nowhere)[0], torch.zeros(T, H * DV))


def test_dynamic_sparse_gives_0_to_a_query_that_meets_no_key():
    module = DynamicSparseAttention(D, buckets=2, rounds=2)
    key = torch.randn(1, 1, D)
    out, weights = module(-key, key, key, return_weights=True)
    assert torch.equal(out, torch.zeros(1, 1, D))
    assert torch.equal(weights, torch.zeros(1, 1, 1, 1))


def test_top_k_drops_the_rest_entirely_and_keeps_ties():
    module = TopKAttention(0.2, heads=H)
    q, k, v = inputs()
    score = split(q) @ split(k).mT / math.sqrt(D)
    smallest = score.topk(int(0.2 * T), -1).values[..., -1:]
    p = softmax(score, score >= smallest)
    out, weights = module(q, k, v, return_weights=True)
    torch.testing.assert_close(weights, p.detach(), rtol=1e-4, atol=1e-5)
    assert_same(module, out, join(p @ split(v)), [q, k, v])
    assert torch.equal((weights > 0).sum(-1), torch.full((B, H, T), int(0.2 * T)))
    _, least = TopKAttention(0.001, heads=H)(q, k, v, return_weights=True)
    assert torch.equal(least.count_nonzero(-1), torch.ones(B, H, T, dtype=torch.int64))
    query, keys = torch.ones(1, 1, 1), torch.tensor([0.0, 2, 1, 2, 2, 1]).view(1, 6, 1)
    _, tied = TopKAttention(1 / 6)(query, keys, keys, return_weights=True)
    torch.testing.assert_close(tied.flatten(), torch.tensor([0, 1, 0, 1, 1, 0]) / 3)


FEATURES = {"elu": lambda x: F.elu(x) + 1, "relu": F.relu, "exp": torch.exp}


@pytest.mark.parametrize("feature_map", FEATURES)
@pytest.mark.parametrize("causal", [False, True])
def test_linear_is_a_product_of_features(feature_map, causal):
    module = LinearAttention(heads=H, causal=causal, feature_map=feature_map)
    phi = FEATURES[feature_map]
    q, k, v = inputs()
    t, s = places()
    mask = seen_keys() & (s <= t if causal else True)
    raw = (phi(split(q)) @ phi(split(k)).mT).where(mask, 0)
    p = raw / raw.sum(-1, keepdim=True).clamp(min=1e-30)
    out, weights = module(q, k, v, LENGTHS, return_weights=True)
    torch.testing.assert_close(weights, p.detach(), rtol=1e-4, atol=1e-5)
    assert_same(module, out, join(p @ split(v)), [q, k, v])
    empty = module(q, k, v, torch.tensor([0, T]))
    assert torch.equal(empty[0], torch.zeros(T, H * DV))


@pytest.mark.parametrize("causal", [False, True])
def test_random_features_are_those_of_the_paper(causal):
    m = 24
    module = RandomFeatureAttention(D, m, heads=H, causal=causal)
    q, k, v = inputs()

    def phi(x):
        x = x / D**0.25
        return torch.exp(x @ module.projection.T - x.square().sum(-1, keepdim=True) / 2)

    t, s = places()
    mask = seen_keys() & (s <= t if causal else True)
    raw = (phi(split(q)) @ phi(split(k)).mT).where(mask, 0)
    p = raw / raw.sum(-1, keepdim=True)
    out, weights = module(q, k, v, LENGTHS, return_weights=True)
    torch.testing.assert_close(weights, p.detach(), rtol=1e-4, atol=1e-5)
    assert_same(module, out, join(p @ split(v)), [q, k, v])
    block = module.projection[:D]
    directions = block / block.norm(dim=1, keepdim=True)
    torch.testing.assert_close(directions @ directions.T, torch.eye(D), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "module", [RandomFeatureAttention(D, 20, heads=H), LinearAttention(heads=H, feature_map="exp")]
)
def test_weights_are_those_of_the_output_where_features_overflow(module):
    x = 30 * torch.randn(B, T, H * D)
    padded = x.masked_fill((torch.arange(T) >= LENGTHS.view(B, 1)).unsqueeze(-1), math.nan)
    padded.requires_grad_()
    out, weights = module(x, padded, padded, LENGTHS, return_weights=True)
    torch.testing.assert_close(join(weights @ split(x)), out, rtol=1e-4, atol=1e-3)
    assert not torch.autograd.grad(out.sum(), padded)[0].isnan().any()


def test_random_features_estimate_without_bias():
    torch.manual_seed(0)
    module = RandomFeatureAttention(D, 8000 * D)
    q, k = torch.randn(2, 20, D) / 2
    exponents = (
        x / D**0.25 @ module.projection.T - x.square().sum(-1, True) / 2 / D**0.5 for x in (q, k)
    )
    of_q, of_k = (x.exp() for x in exponents)
    exact = ((q * k).sum(-1) / math.sqrt(D)).exp()
    torch.testing.assert_close((of_q * of_k).mean(-1), exact, rtol=0.04, atol=0)


def test_more_random_features_come_closer_to_the_softmax():
    q, k, v = (x.detach() / 2 for x in inputs(heads=1))
    exact = F.scaled_dot_product_attention(q, k, v)

    def error(features):
        module = RandomFeatureAttention(D, features)
        total = 0.0
        for _ in range(8):
            module.reset_parameters()
            total += (module(q, k, v) - exact).square().mean().item()
        return total

    assert error(1024) < 0.2 * error(32)


def test_coverage_adds_up_and_is_differentiated():
    module = CoverageAttention(6, 5, 9)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    steps = 4
    query = torch.randn(B, steps, 6, requires_grad=True)
    memory = torch.randn(B, T, 5, requires_grad=True)
    v = torch.randn(B, T, DV, requires_grad=True)
    result = module(query, module.keys(memory), v, LENGTHS)
    coverage = torch.zeros(B, T)
    outputs, losses = [], []
    for t in range(steps):
        hidden = torch.tanh(
            module.query_projection(query[:, t : t + 1])
            + memory @ module.key_projection.weight.T
            + coverage.unsqueeze(-1) * module.coverage_weight
        )
        p = softmax(hidden @ module.score_weight[0], seen_keys()[:, 0, 0])
        losses.append(torch.minimum(p, coverage).sum(-1))
        coverage = coverage + p
        outputs.append((p.unsqueeze(1) @ v).squeeze(1))
        torch.testing.assert_close(result.weights[:, t], p, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.coverage, coverage, rtol=1e-4, atol=1e-5)
    expected = torch.cat([torch.stack(outputs, 1), torch.stack(losses, 1).unsqueeze(-1)], -1)
    actual = torch.cat([result.output, result.loss.unsqueeze(-1)], -1)
    assert_same(module, actual, expected, [query, memory, v])
    # In two calls, the second with the coverage that the first left.
    keys = module.keys(memory)
    first = module(query[:, :2], keys, v, LENGTHS)
    second = module(query[:, 2:], keys, v, LENGTHS, coverage=first.coverage)
    torch.testing.assert_close(second.output, result.output[:, 2:])


def test_sentinel_is_one_more_key_with_a_value_of_its_own():
    gate = VisualSentinel(4, DV)
    module = SentinelAttention(6, 5, DV, 9)
    x, before, cell = (torch.randn(B, T, n) for n in (4, DV, DV))
    sentinel = gate(x, before, cell)
    expected = torch.sigmoid(
        x @ gate.input_projection.weight.T
        + gate.input_projection.bias
        + before @ gate.hidden_projection.weight.T
    ) * torch.tanh(cell)
    torch.testing.assert_close(sentinel, expected)
    sentinel = sentinel.detach().requires_grad_()
    query = torch.randn(B, T, 6, requires_grad=True)
    memory = torch.randn(B, T, 5, requires_grad=True)
    v = torch.randn(B, T, DV, requires_grad=True)
    result = module(query, module.keys(memory), v, sentinel, LENGTHS, return_weights=True)
    queries = module.query_projection(query)  # [B,T,9]
    hidden = torch.tanh(queries.unsqueeze(2) + module.keys(memory).unsqueeze(1))
    own = torch.tanh(queries + module.sentinel_projection(sentinel)) @ module.score_weight[0]
    score = torch.cat([hidden @ module.score_weight[0], own.unsqueeze(-1)], -1)  # [B,T,S + 1]
    mask = F.pad(seen_keys()[:, 0], (0, 1), value=True)
    p = softmax(score, mask)
    expected = p[..., :-1] @ v + p[..., -1:] * sentinel
    torch.testing.assert_close(result.weights, p[..., :-1].detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.sentinel_weight, p[..., -1], rtol=1e-4, atol=1e-5)
    assert_same(module, result.output, expected, [query, memory, v, sentinel])


@pytest.mark.parametrize("hidden_size", [0, 7])
def test_pooling_asks_with_learnt_queries(hidden_size):
    module = AttentionPooling(D, queries=3, hidden_size=hidden_size)
    x = torch.randn(B, T, D, requires_grad=True)
    keys = torch.tanh(module.projection(x)) if hidden_size else x
    p = softmax(module.query @ keys.mT, seen_keys()[:, 0])
    out, weights = module(x, LENGTHS, return_weights=True)
    torch.testing.assert_close(weights, p.detach(), rtol=1e-4, atol=1e-5)
    assert_same(module, out, p @ x, [x])


@pytest.mark.parametrize("encoder_size", [0, 4])
def test_hierarchical_pools_words_then_sentences(encoder_size):
    module = HierarchicalAttention(D, 6, encoder_size=encoder_size)
    N, words = 3, 5
    word_lengths = torch.tensor([[5, 2, 3], [4, 0, 0]])
    sentence_lengths = torch.tensor([3, 1])
    x = torch.randn(B, N, words, D, requires_grad=True)
    got = module(x, word_lengths, sentence_lengths, return_weights=True)

    def pool(attention, rows):  # rows [S,E], without padding
        score = torch.tanh(attention.projection(rows)) @ attention.query[0]
        p = score.softmax(-1)
        return p @ rows, p

    documents = []
    for b in range(B):
        sentences = []
        for n in range(sentence_lengths[b]):
            rows = x[b, n, : word_lengths[b, n]]
            if encoder_size:
                rows = module.word_encoder(rows)[0]
            sentence, p = pool(module.word_attention, rows)
            sentences.append(sentence)
            torch.testing.assert_close(got.word_weights[b, n, : len(p)], p.detach())
        rows = torch.stack(sentences)
        if encoder_size:
            rows = module.sentence_encoder(rows)[0]
        document, p = pool(module.sentence_attention, rows)
        documents.append(document)
        torch.testing.assert_close(got.sentence_weights[b, : len(p)], p.detach())
    assert_same(module, got.output, torch.stack(documents), [x])


def block_formula(block, x, y, mask):
    q, k, v = block.query_projection(x), block.key_projection(y), block.value_projection(y)
    p = softmax(split(q) @ split(k).mT / math.sqrt(q.shape[-1]), mask)
    attended = block.attention_norm(q + join(p @ split(v)))
    return block.output_norm(attended + F.relu(block.feed_forward(attended)))


def test_set_blocks_are_those_of_the_paper():
    E = 12
    x = torch.randn(B, T, 7, requires_grad=True)
    mask = seen_keys()
    sab = SetAttentionBlock(E, H, input_size=7)
    assert_same(sab, sab(x, LENGTHS), block_formula(sab.block, x, x, mask), [x])
    isab = InducedSetAttentionBlock(E, H, 4, input_size=7)
    gathered = block_formula(isab.gather, isab.points.expand(B, 4, E), x, mask)
    all_points = torch.ones(1, 1, 1, 4, dtype=torch.bool)
    expected = block_formula(isab.spread, x, gathered, all_points)
    assert_same(isab, isab(x, LENGTHS), expected, [x])
    z = torch.randn(B, T, E, requires_grad=True)
    pma = PoolingByMultiheadAttention(E, H, 2)
    y = F.relu(pma.feed_forward(z))
    expected = block_formula(pma.block, pma.seeds.expand(B, 2, E), y, mask)
    assert_same(pma, pma(z, LENGTHS), expected, [z])
    order = torch.randperm(T)
    torch.testing.assert_close(pma(z[:, order]), pma(z), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(isab(x[:, order]), isab(x)[:, order], rtol=1e-4, atol=1e-5)
    _, weights = pma(z, LENGTHS, return_weights=True)
    assert weights.shape == (B, H, 2, T)
    assert (
        "attention_norm.weight" not in MultiheadAttentionBlock(E, H, layer_norm=False).state_dict()
    )


def dropping(heads):
    return SimpleNamespace(
        local=LocalAttention(4, heads=heads, dropout=0.5),
        block=BlockAttention(6, heads=heads, dropout=0.5),
        span=AdaptiveSpanAttention(20, heads=heads, dropout=0.5),
        top_k=TopKAttention(0.5, heads=heads, dropout=0.5),
        sparse=DynamicSparseAttention(D, heads=heads, dropout=0.5),
    )


@pytest.mark.parametrize("name", vars(dropping(1)))
def test_weights_are_dropped_in_training_only(name):
    module = getattr(dropping(1), name)
    q, k, v = inputs(heads=1)
    first = module(q, k, v)
    assert not torch.equal(first, module(q, k, v))
    module.eval()
    assert torch.equal(module(q, k, v), module(q, k, v))


GRADCHECKED = {
    "local_predictive": lambda: LocalPredictiveAttention(D, 3, 2.5, normalized=False),
    "adaptive_span": lambda: AdaptiveSpanAttention(4, ramp=2, initial_span=0.4),
    "dynamic_sparse": lambda: DynamicSparseAttention(D, buckets=2),
    "linear": lambda: LinearAttention(causal=True),
    "random_features": lambda: RandomFeatureAttention(D, 6),
}


@pytest.mark.parametrize("name", GRADCHECKED)
def test_gradients_by_differences(name):
    module = GRADCHECKED[name]().double()
    q, k, v = (torch.randn(1, n, D, dtype=torch.float64, requires_grad=True) for n in (3, 4, 4))
    parameters = dict(module.named_parameters())

    def call(q, k, v, *values):
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(module, named, (q, k, v))

    torch.autograd.gradcheck(call, (q, k, v, *parameters.values()), fast_mode=True)


MODULES = {
    "local": (lambda: LocalAttention(2), ""),
    "local_predictive": (
        lambda: LocalPredictiveAttention(4, 3, 2.0),
        "query_projection.weight score_weight",
    ),
    "span": (lambda: AdaptiveSpanAttention(4), "span"),
    "sparse": (lambda: DynamicSparseAttention(4), "rotations"),
    "random_features": (lambda: RandomFeatureAttention(4, 8), "projection"),
    "coverage": (
        lambda: CoverageAttention(4, 3, 2),
        "coverage_weight key_projection.weight query_projection.bias query_projection.weight "
        "score_weight",
    ),
    "sentinel": (
        lambda: SentinelAttention(4, 3, 2, 2),
        "key_projection.weight query_projection.weight score_weight sentinel_projection.weight",
    ),
    "pooling": (
        lambda: AttentionPooling(4, hidden_size=3),
        "projection.bias projection.weight query",
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_state_has_the_names_of_the_cpp_modules(name):
    make, names = MODULES[name]
    module = make()
    assert sorted(module.state_dict()) == names.split()
    if list(module.parameters()) and name != "span":
        again = copy.deepcopy(module)
        again.reset_parameters()
        assert not torch.equal(
            parameters_to_vector(again.parameters()), parameters_to_vector(module.parameters())
        )
    assert type(module).__name__ in repr(module)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LocalAttention(-1), r"\[LocalAttention\] window: expected at least 0, got -1"),
        (lambda: LocalAttention(1, heads=0), r"\[LocalAttention\] heads: expected at least 1"),
        (lambda: LocalPredictiveAttention(2, 2, 0), r"window: expected more than 0"),
        (lambda: LongformerAttention(10, 4, 2), r"expected a multiple of heads = 4, got 10"),
        (lambda: LongformerAttention(8, 4, -1), r"window: expected at least 0"),
        (lambda: BlockAttention(0), r"block_size: expected at least 1"),
        (lambda: AdaptiveSpanAttention(0), r"expected at least 1, got 0, 32"),
        (lambda: DynamicSparseAttention(4, buckets=3), r"buckets: expected an even number, got 3"),
        (lambda: DynamicSparseAttention(4, rounds=0), r"rounds: expected at least 1"),
        (lambda: TopKAttention(0.0), r"sparsity_factor: expected in \(0, 1\]"),
        (lambda: RandomFeatureAttention(4, 0), r"features: expected at least 1"),
        (lambda: AttentionPooling(4, queries=0), r"queries: expected at least 1"),
        (lambda: MultiheadAttentionBlock(10, 4), r"expected a multiple of heads = 4, got 10"),
        (lambda: InducedSetAttentionBlock(8, 4, 0), r"points: expected at least 1"),
        (lambda: PoolingByMultiheadAttention(8, 4, 0), r"seeds: expected at least 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_heads_divide_the_width():
    x = torch.randn(1, 4, 10)
    with pytest.raises(ValueError, match=r"expected \[B,T,4 \* D\], got \[1, 4, 10\]"):
        LocalAttention(2, heads=4)(x, x, x)
    assert heed.__version__
