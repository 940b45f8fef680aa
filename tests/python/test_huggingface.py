"""attn_implementation="heed": what each argument does against the formula in float64, masks against
transformers' own, and models that compile, checkpoint, drop and show their weights.
"""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import heed
from heed.huggingface import MaskRule, attention_forward, attention_mask, register_with_transformers

transformers = pytest.importorskip("transformers")
from transformers import masking_utils as hf  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

import huggingface_suite as suite  # noqa: E402

B, H, Hkv, T, S, D, Dv = 2, 4, 2, 5, 7, 8, 6


# Registration.


def test_the_package_imports_without_transformers():
    code = "import sys, heed, heed.huggingface; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_registering_twice_changes_nothing():
    register_with_transformers()
    before = dict(transformers.AttentionInterface._global_mapping)
    register_with_transformers()
    assert transformers.AttentionInterface._global_mapping == before
    assert before["heed"] is attention_forward


@pytest.mark.parametrize("found", [None, type(sys)("transformers")], ids=["missing", "too old"])
def test_without_transformers_one_line_says_what_to_do(monkeypatch, found):
    monkeypatch.setitem(sys.modules, "transformers", found)
    monkeypatch.delitem(sys.modules, "heed.transformers_cache", raising=False)
    for function, least in ((register_with_transformers, "4.53"), (heed.growing_cache, "4.56")):
        says = rf"expected {least} or newer, got .*; pip install"
        with pytest.raises(ImportError, match=says) as error:
            function()
        assert "\n" not in str(error.value)


# The attention function against the formula.


def formula(q, k, v, seen, softcap=None, added=0.0, sinks=None):
    """[B,T,H,Dv] and the weights [B,H,T,S], in float64."""
    q, k, v = (x.double() for x in (q, k, v))
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    score = q @ k.transpose(2, 3) * 0.3
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)
    score = (score + added).masked_fill(~seen, -torch.inf)
    if sinks is not None:
        score = torch.cat([score, sinks.double()[:, None, None].expand(*score.shape[:3], 1)], -1)
    weights = torch.softmax(score, -1)[..., : k.shape[2]]
    return (weights @ v).transpose(1, 2), weights


def operands(queries=T, dtype=torch.float32):
    q = torch.randn(B, queries, H, D, dtype=dtype).transpose(1, 2)
    k, v = torch.randn(B, Hkv, S, D, dtype=dtype), torch.randn(B, Hkv, S, Dv, dtype=dtype)
    return q, k, v


def layer(is_causal=False):
    module = nn.Module()
    module.is_causal = is_causal
    return module


def band(queries, low, high):
    """True where low <= t - s <= high."""
    difference = torch.arange(queries)[:, None] - torch.arange(S)
    return (difference >= low) & (difference <= high)


ALL = torch.ones(T, S, dtype=torch.bool)
PADDED = torch.arange(S) < torch.tensor([4, 7]).view(B, 1, 1, 1)
HOLES = torch.rand(B, 1, T, S, generator=torch.Generator().manual_seed(1)) > 0.3
BIAS = torch.randn(1, H, T, S, generator=torch.Generator().manual_seed(2))
SINKS = torch.tensor([0.5, -1.0, 2.0, 0.0])
FLOAT = torch.where(HOLES, 0.0, torch.finfo(torch.float32).min)

CASES = {
    "nothing": ({}, {}, ALL),
    "causal by the layer": ({"causal": True}, {}, band(T, 0, S)),
    "causal by the call": ({}, {"is_causal": True}, band(T, 0, S)),
    "call over layer": ({"causal": True}, {"is_causal": False}, ALL),
    "sliding window": ({"causal": True}, {"sliding_window": 3}, band(T, 0, 2)),
    "padding": ({"causal": True}, {"attention_mask": PADDED}, PADDED),
    "matrix": ({}, {"attention_mask": HOLES}, HOLES),
    "longer matrix": ({}, {"attention_mask": nn.functional.pad(HOLES, (0, 3), value=True)}, HOLES),
    "float matrix": ({}, {"attention_mask": FLOAT}, HOLES),
    "soft cap": ({}, {"softcap": 0.7}, ALL),
    "soft cap, bias, mask": (
        {},
        {"softcap": 0.7, "position_bias": BIAS, "attention_mask": PADDED},
        PADDED,
    ),
    "bias and float mask": ({}, {"position_bias": BIAS, "attention_mask": FLOAT}, HOLES),
    "sinks": ({"causal": True}, {"s_aux": SINKS}, band(T, 0, S)),
}


@pytest.mark.parametrize("name", CASES)
def test_an_argument_does_what_the_formula_says(name):
    of_layer, arguments, seen = CASES[name]
    q, k, v = operands()
    mask = arguments.get("attention_mask")
    rest = {key: x for key, x in arguments.items() if key != "attention_mask"}
    found, weights = attention_forward(
        layer(of_layer.get("causal", False)),
        q,
        k,
        v,
        mask,
        scaling=0.3,
        output_attentions=True,
        **rest,
    )
    expected, exact = formula(
        *(q, k, v, seen.expand(B, H, T, S)),
        softcap=arguments.get("softcap"),
        added=arguments.get("position_bias", torch.zeros(1)).double(),
        sinks=arguments.get("s_aux"),
    )
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(weights.double(), exact, rtol=0, atol=2e-6)
    assert found.is_contiguous() and found.shape == (B, T, H, Dv)


def test_a_single_query_is_the_newest():
    q, k, v = operands(queries=1)
    for arguments, seen in (({}, ALL[:1]), ({"sliding_window": 3}, torch.arange(S)[None] >= S - 3)):
        found, weights = attention_forward(layer(True), q, k, v, None, scaling=0.3, **arguments)
        expected, _ = formula(q, k, v, seen.expand(B, H, 1, S))
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)
        assert weights is None  # nobody asked


def test_gradients_reach_bias_sinks_and_mask():
    q, k, v = operands(dtype=torch.float64)
    bias, sinks, mask = BIAS.double(), SINKS.double(), torch.randn(B, 1, T, S, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for x in (q, k, v, bias, sinks, mask)]
    q, k, v, bias, sinks, mask = leaves
    found, _ = attention_forward(
        *(layer(), q, k, v, mask),
        **{"scaling": 0.3, "position_bias": bias, "s_aux": sinks, "softcap": 0.7},
    )
    seen = ALL.expand(B, H, T, S)
    expected, _ = formula(q, k, v, seen, softcap=0.7, added=bias + mask, sinks=sinks)
    d_out = torch.randn_like(expected)
    ours, right = (torch.autograd.grad(out, leaves, d_out) for out in (found, expected))
    for own, exact in zip(ours, right, strict=True):
        torch.testing.assert_close(own, exact, rtol=1e-9, atol=1e-11)


def test_head_mask_scales_heads():
    q, k, v = operands()
    plain, weights = attention_forward(layer(), q, k, v, None, output_attentions=True)
    factors = torch.tensor([0.0, 1.0, 0.5, 2.0])
    for head_mask in (factors, factors.view(1, H, 1, 1)):
        out, masked = attention_forward(
            layer(), q, k, v, None, head_mask=head_mask, output_attentions=True
        )
        torch.testing.assert_close(out, plain * factors[:, None])
        torch.testing.assert_close(masked, weights * factors[:, None, None])


def test_dropout_drops_that_share_of_the_weights():
    q, k = torch.randn(2, 4, 64, D), torch.randn(2, 4, 64, D)
    values = torch.eye(64).expand(2, 4, 64, 64)  # the output is the weights
    kept, _ = attention_forward(layer(), q, k, values, None)
    assert kept.is_contiguous()  # for queries that are not token-major, too
    dropped, _ = attention_forward(layer(), q, k, values, None, dropout=0.25)
    share = (dropped == 0).double().mean().item()
    assert abs(share - 0.25) < 0.02
    torch.testing.assert_close(dropped, torch.where(dropped == 0, 0.0, kept / 0.75))


def test_a_mask_of_another_shape_is_named():
    q, k, v = operands()
    for name in ("attention_mask", "position_bias"):
        with pytest.raises(RuntimeError, match=rf"{name}: expected .* \[2, 4, 5, 7\], got"):
            attention_forward(layer(), q, k, v, **({"attention_mask": None} | {name: BIAS[:, :3]}))


# Masks against transformers' own.


def padding(*rows):
    return torch.tensor([[c == "1" for c in row] for row in rows])


DOCUMENTS = torch.tensor([0, 0, 0, 1, 1, 1, 1])


def document(b, h, t, s):
    return DOCUMENTS[t] == DOCUMENTS[s]


LEFT, RIGHT, HOLED = (
    padding("0001111", "1111111"),
    padding("1110000", "1111111"),
    padding("1010110", "1111111"),
)
causal, both = hf.causal_mask_function, hf.bidirectional_mask_function
sliding, both_sliding = (
    hf.sliding_window_causal_mask_function,
    hf.sliding_window_bidirectional_mask_function,
)
starts = torch.tensor([[0, 1, 2, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0, 1]])
packed = hf.packed_sequence_compatibility_function(causal, starts, (starts == 0).cumsum(-1))
REQUESTS = {
    "causal": {"mask_function": causal},
    "causal, left padding": {"mask_function": causal, "attention_mask": LEFT},
    "causal, right padding": {"mask_function": causal, "attention_mask": RIGHT},
    "causal, holes": {"mask_function": causal, "attention_mask": HOLED},
    "causal, continued": {"mask_function": causal, "q_length": 3, "q_offset": 4},
    "continued, padded": {
        "mask_function": causal,
        "q_length": 3,
        "q_offset": 4,
        "attention_mask": LEFT,
    },
    "one query": {"mask_function": causal, "q_length": 1, "q_offset": 6},
    "one query, padded": {
        "mask_function": causal,
        "q_length": 1,
        "q_offset": 6,
        "attention_mask": LEFT,
    },
    "static cache": {
        "mask_function": causal,
        "q_length": 3,
        "q_offset": torch.tensor(0),
        "attention_mask": LEFT[:, 2:5],
    },
    "static cache, continued": {
        "mask_function": causal,
        "q_length": 2,
        "q_offset": torch.tensor(3),
        "attention_mask": LEFT[:, :5],
    },
    "static cache, one query": {
        "mask_function": causal,
        "q_length": 1,
        "q_offset": torch.tensor(3),
        "attention_mask": LEFT[:, :4],
        "allow_is_causal_skip": False,
    },
    "window": {"mask_function": sliding(3), "local_size": 3},
    "window, padded": {"mask_function": sliding(3), "local_size": 3, "attention_mask": LEFT},
    "window, continued": {
        "mask_function": sliding(3),
        "local_size": 3,
        "q_length": 3,
        "q_offset": 9,
        "kv_offset": 5,
    },
    "window, one query": {
        "mask_function": sliding(3),
        "local_size": 3,
        "q_length": 1,
        "q_offset": 6,
    },
    "wide window": {"mask_function": sliding(7), "local_size": 7},
    "both ways": {
        "mask_function": both,
        "attention_mask": RIGHT,
        "allow_is_causal_skip": False,
        "allow_is_bidirectional_skip": True,
    },
    "both ways, free places": {
        "mask_function": both,
        "allow_is_causal_skip": False,
        "attention_mask": LEFT[:, :5],
    },
    "both ways, no skip": {"mask_function": both, "allow_is_causal_skip": False},
    "window both ways": {
        "mask_function": both_sliding(2),
        "local_size": 2,
        "allow_is_causal_skip": False,
        "allow_is_bidirectional_skip": True,
        "attention_mask": RIGHT,
    },
    "chunks": {
        "mask_function": hf.chunked_causal_mask_function(3, torch.tensor([2, 0])),
        "local_size": 3,
        "attention_mask": LEFT,
    },
    "chunks, continued": {
        "mask_function": hf.chunked_causal_mask_function(3, torch.tensor([2, 0])),
        "local_size": 3,
        "q_length": 3,
        "q_offset": 9,
        "kv_offset": 5,
    },
    "another window": {"mask_function": sliding(4), "local_size": 3},
    "or, static cache": {
        "mask_function": hf.or_masks(causal, document),
        "q_length": 3,
        "q_offset": torch.tensor(0),
        "attention_mask": LEFT[:, 2:5],
        "allow_is_causal_skip": False,
    },
    "packed": {"mask_function": packed, "allow_is_causal_skip": False},
    "documents": {
        "mask_function": hf.and_masks(causal, document),
        "allow_is_causal_skip": False,
        "use_vmap": True,
    },
    "or": {
        "mask_function": hf.or_masks(causal, document),
        "allow_is_causal_skip": False,
        "use_vmap": True,
        "attention_mask": RIGHT,
    },
    "blocks": {
        "mask_function": hf.or_masks(causal, hf.blockwise_overlay(starts.clamp(max=1) - 1)),
        "allow_is_causal_skip": False,
    },
}
NEVER_TRACED = [name for name in REQUESTS if name.startswith(("causal", "window", "both", "one"))]


def request(name, **changes):
    return {"batch_size": B, "q_length": S, "kv_length": S} | REQUESTS[name] | changes


def seen_by(mask, queries, is_causal):
    """[B,T,S] by what the engine gives a weight."""
    q, k = torch.zeros(B, 1, queries, D), torch.zeros(B, 1, S, D)
    _, weights = attention_forward(layer(is_causal), q, k, k, mask, output_attentions=True)
    return weights[:, 0] > 0


@pytest.mark.parametrize("name", REQUESTS)
def test_a_mask_is_transformers_own(name):
    asked = request(name)
    every = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    expected = hf.sdpa_mask(**asked | every)[:, 0]  # [B,T,S]
    mask = attention_mask(**asked)
    is_causal = "both" not in name
    assert torch.equal(seen_by(mask, asked["q_length"], is_causal), expected.expand(B, -1, -1))
    if isinstance(mask, MaskRule):
        assert mask._written is None  # until somebody looks:
        assert torch.equal(mask[:, 0, 1:], expected[:, 1:])
        assert torch.equal(~mask, ~expected[:, None])


@pytest.mark.parametrize("name", NEVER_TRACED)
def test_frequent_masks_cost_no_tracing(name, monkeypatch):
    monkeypatch.setattr("heed.huggingface.trace_program", None)
    assert not isinstance(attention_mask(**request(name)), (bool, int))


def test_nothing_is_made_where_causality_says_all():
    for name in ("causal", "one query", "wide window"):
        assert attention_mask(**request(name)) is None
        assert attention_mask(**request(name, attention_mask=padding("1" * S, "1" * S))) is None
    assert attention_mask(**request("both ways", attention_mask=None)) is None
    assert attention_mask(**request("both ways, no skip")) is not None
    filled = padding("111", "111")  # the rest of a static cache is free
    assert attention_mask(**request("static cache", attention_mask=filled)) is None


def test_what_a_program_cannot_say_is_written_out():
    def some(b, h, t, s):
        return torch.isin(t - s, torch.tensor([0, 2, 3]))

    asked = request("causal", mask_function=some, allow_is_causal_skip=False)
    mask = attention_mask(**asked)
    assert type(mask) is torch.Tensor
    assert torch.equal(mask, hf.sdpa_mask(**asked))


def test_an_index_that_a_program_may_not_use_is_written_out():
    table = torch.rand(3) > 0.5

    def wraps(b, h, t, s):
        return table[(t - s) - (t - s) // 3 * 3]  # never outside, but not provably

    asked = request("causal", mask_function=wraps, allow_is_causal_skip=False)
    assert torch.equal(
        seen_by(attention_mask(**asked), S, False), hf.sdpa_mask(**asked)[:, 0].expand(B, -1, -1)
    )


def test_masks_have_one_head():
    def by_head(b, h, t, s):
        return (s <= t) | (h > 0)

    asked = request("causal", mask_function=by_head, allow_is_causal_skip=False)
    q, k = torch.zeros(B, H, S, D), torch.zeros(B, H, S, D)
    _, weights = attention_forward(
        layer(), q, k, k, attention_mask(**asked), output_attentions=True
    )
    assert torch.equal(weights > 0, hf.sdpa_mask(**asked).expand(B, H, S, S))


def test_a_step_that_may_be_compiled_gets_a_tensor():
    assert type(attention_mask(**request("static cache, one query"))) is torch.Tensor


def test_a_mask_for_other_keys_is_written_out():
    mask = attention_mask(**request("continued, padded"))
    seen = seen_by(mask, 3, True)
    q, k = torch.zeros(B, 1, 3, D), torch.zeros(B, 1, S - 2, D)  # a model that drops keys
    _, weights = attention_forward(layer(), q, k, k, mask, output_attentions=True)
    assert torch.equal(weights[:, 0] > 0, seen[:, :, : S - 2])


def test_a_mask_stays_when_a_static_cache_counts_on():
    offset = torch.tensor(3)
    asked = request("static cache, continued", q_offset=offset)
    mask, expected = attention_mask(**asked), hf.sdpa_mask(**asked)
    offset += 2
    assert torch.equal(mask[:], expected)


def test_positions_of_4_x_are_understood():
    asked = request("continued, padded")
    mask = attention_mask(**asked)
    del asked["q_length"], asked["q_offset"]
    older = attention_mask(**asked, cache_position=torch.arange(4, 7))
    assert older.options.keys() == mask.options.keys()
    assert torch.equal(seen_by(older, 3, True), seen_by(mask, 3, True))


# Models.


def model_named(start):
    return next(model for model in suite.MODELS if model.name.startswith(start))


def outputs(model, implementation="heed", side="left"):
    running = suite.running(model, torch.float32, implementation)
    inputs, rows = suite.inputs_of(model, side, torch.float32)
    return running, inputs, rows


@pytest.mark.parametrize("model", suite.MODELS, ids=lambda model: model.name)
def test_every_layer_of_the_suites_models_comes_here(model, monkeypatch):
    running, inputs, _ = outputs(model)
    calls = []

    def counted(*arguments, **options):
        calls.append(type(arguments[4]))
        return attention_forward(*arguments, **options)

    monkeypatch.setitem(transformers.AttentionInterface._global_mapping, "heed", counted)
    with torch.no_grad():
        running(**inputs)
    stacks = {"two_texts": 6, "spectrum": 6}.get(model.inputs, 2)  # encoder, decoder, across
    assert len(calls) == stacks
    assert torch.Tensor not in calls  # no matrix


def test_weights_are_eagers_when_asked_for():
    model = model_named("Llama")
    found = {}
    for implementation in ("heed", "eager"):
        running, inputs, _ = outputs(model, implementation, side="right")
        with torch.no_grad():
            found[implementation] = running(**inputs, output_attentions=True).attentions
    for own, right in zip(found["heed"], found["eager"], strict=True):
        torch.testing.assert_close(own, right, rtol=0, atol=1e-5)


def test_mask_and_attention_compile_into_one_graph():
    config = suite.running(model_named("Mistral"), torch.float32, "heed").config
    q, k, v = torch.randn(3, B, Hkv, S, D)

    def attend(q, k, v, padding):
        embeddings = q.transpose(1, 2)  # what masks want to know of them is B, T and the device
        mask = hf.create_sliding_window_causal_mask(config, embeddings, padding, None)
        return attention_forward(layer(), q, k, v, mask, softcap=2.0)[0]

    padding = LEFT.long()
    expected = attend(q, k, v, padding)
    found = torch.compile(attend, backend="eager", fullgraph=True)(q, k, v, padding)
    torch.compiler.reset()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_layers_checkpoint():
    running, inputs, rows = outputs(model_named("Mistral"))
    expected = suite.differentiated(running, inputs, rows)
    running.activation_checkpointing_enable()
    running.train()
    found = suite.differentiated(running, inputs, rows)
    running.activation_checkpointing_disable()
    running.eval()
    for name, right in expected.items():
        torch.testing.assert_close(found[name], right, rtol=1e-4, atol=1e-5)


# The cache.


@pytest.fixture
def caches():
    """transformers' own, and ours with the same rows; (2 texts, 3 heads, width 4)."""
    return transformers.DynamicCache(), heed.growing_cache()


def grow(caches, rows, batch=2):
    new = torch.randn(2, batch, 3, rows, 4)
    kept = [cache.update(new[0], new[1], 0) for cache in caches]
    for own, ours in zip(*kept, strict=True):
        assert torch.equal(own, ours)
    return kept[1]


def test_a_growing_cache_holds_what_a_dynamic_one_does(caches):
    for rows in (5, 1, 1, 7, 1, 1):
        grow(caches, rows)
    assert caches[1].get_seq_length() == 16


def test_a_growing_cache_appends_in_place(caches):
    grow(caches, 4)
    places = [grow(caches, 1)[0].data_ptr() for _ in range(20)]
    assert len(set(places)) == 3  # room for 10, 22 and 46


CHANGES = {
    "cropped": lambda cache: cache.crop(-2),
    "reordered": lambda cache: cache.reorder_cache(torch.tensor([1, 1])),
    "selected": lambda cache: cache.batch_select_indices(torch.tensor([1, 0])),
    "reset": lambda cache: cache.reset(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_growing_cache_goes_on_after_it_is(change, caches):
    grow(caches, 4)
    grow(caches, 2)
    for cache in caches:
        CHANGES[change](cache)
    for _ in range(3):
        grow(caches, 1)


def test_copies_of_a_growing_cache_are_independent(caches):
    grow(caches, 4)
    grow(caches, 1)
    other = copy.deepcopy(caches[1])
    before = caches[1].layers[0].keys.clone()
    other.update(*torch.randn(2, 2, 3, 2, 4), 0)
    grow(caches, 1)
    assert torch.equal(caches[1].layers[0].keys[:, :, :5], before)


def test_gradients_pass_a_growing_cache(caches):
    grow(caches, 4)
    grow(caches, 1)
    new = torch.randn(2, 3, 1, 4, requires_grad=True)
    keys, _ = caches[1].update(new, new, 0)
    keys.sum().backward()
    assert torch.equal(new.grad, torch.ones_like(new))


def test_a_growing_cache_serves_inference_mode_and_what_follows(caches):
    with torch.inference_mode():
        grow(caches, 4)
        grow(caches, 1)
    grow(caches, 1)


def test_layers_with_windows_keep_their_own_cache():
    config = suite.running(model_named("Mistral"), torch.float32, "heed").config
    kinds = {type(layer) for layer in heed.growing_cache(config).layers}
    assert kinds == {type(layer) for layer in transformers.DynamicCache(config=config).layers}


@pytest.mark.parametrize("beams", [1, 3])
def test_models_generate_the_same_with_a_growing_cache(beams):
    model = suite.running(model_named("GPT-2"), torch.float32, "heed").eval()
    ids = torch.randint(1, 50, (2, 5))
    options = {"max_new_tokens": 12, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    own = model.generate(ids, **options)
    ours = model.generate(ids, past_key_values=heed.growing_cache(model.config), **options)
    assert torch.equal(own, ours)
