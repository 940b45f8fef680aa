"""MultiHeadAttention and KeyValueCache: torch's own module and the plain formula are the judges."""

import math

import pytest
import torch
from torch import nn

from heed.nn.attention_positions import AttentionPositions
from heed.nn.key_value_cache import KeyValueCache
from heed.nn.multi_head_attention import MultiHeadAttention
from heed.nn.rotary_positions import RotaryPositions

B, T, S, E, H = 2, 5, 7, 12, 4


def plain(module, query, key, value, *, bias=0.0, seen=None, head_mask=None):
    """The formula on [B,H,T,S]: bias is added to the scores, seen says which keys are."""
    q = module.query_projection(query).unflatten(-1, (module.heads, -1)).transpose(1, 2)
    k = module.key_projection(key).unflatten(-1, (module.kv_heads, -1)).transpose(1, 2)
    v = module.value_projection(value).unflatten(-1, (module.kv_heads, -1)).transpose(1, 2)
    group = module.heads // module.kv_heads
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.mT * module.scale + bias
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    weights = scores.softmax(-1)
    mixed = weights @ v
    if head_mask is not None:
        mixed = mixed * head_mask[..., None, None]
    return module.output_projection(mixed.transpose(1, 2).flatten(2)), weights


def assert_same(module, inputs, got, expected, **tolerance):
    """Outputs and the gradients of inputs and parameters."""
    torch.testing.assert_close(got, expected, **tolerance)
    direction = torch.randn_like(expected)
    leaves = [*inputs, *module.parameters()]
    ours = torch.autograd.grad((got * direction).sum(), leaves, allow_unused=True)
    theirs = torch.autograd.grad((expected * direction).sum(), leaves, allow_unused=True)
    for own, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, right, **tolerance)


def inputs(*shapes, dtype=torch.float32):
    return [torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kv_heads": 2},
        {"kv_heads": 1, "bias": False},
        {"key_size": 6, "value_size": 9},
        {"head_size": 5, "value_head_size": 3, "kv_heads": 2},
        {"scale": 1.0},
    ],
    ids=str,
)
def test_is_the_formula(options):
    module = MultiHeadAttention(E, H, **options)
    x = inputs((B, T, E), (B, S, options.get("key_size", E)), (B, S, options.get("value_size", E)))
    got, weights = module(*x, return_weights=True)
    expected, right = plain(module, *x)
    assert_same(module, x, got, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights, right.detach(), rtol=1e-4, atol=1e-6)
    assert not weights.requires_grad


def test_any_number_of_heads_once_their_size_is_given():
    module = MultiHeadAttention(10, 3, head_size=4)
    x = inputs((B, T, 10))
    assert_same(module, x, module(*x), plain(module, *x * 3)[0], rtol=1e-4, atol=1e-5)


rows, columns = torch.arange(T).unsqueeze(-1), torch.arange(S)
LENGTHS = torch.tensor([7, 3])
PADDING = torch.tensor([[False] * 5 + [True] * 2, [True, False, True] + [False] * 4])
RULES = {
    "lengths": ({"lengths": LENGTHS}, columns < LENGTHS.view(B, 1, 1, 1)),
    "key_padding": ({"key_padding": PADDING}, ~PADDING.view(B, 1, 1, S)),
    "top_left": ({"causal": "top_left"}, columns <= rows),
    "bottom_right": ({"causal": "bottom_right"}, columns <= rows + S - T),
    "window": ({"window": (2, 1)}, (rows - columns <= 2) & (columns - rows <= 1)),
    "mask_mod": ({"mask_mod": lambda b, h, t, s: (s + h) % 2 == 0}, None),
    "two": (
        {"key_padding": PADDING, "mask_mod": lambda b, h, t, s: s > 0},
        ~PADDING.view(B, 1, 1, S) & (columns > 0),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_masks(rule):
    options, seen = RULES[rule]
    if seen is None:
        seen = (columns + torch.arange(H).view(H, 1, 1)) % 2 == 0
    module = MultiHeadAttention(E, H)
    x = inputs((B, T, E), (B, S, E), (B, S, E))
    got, weights = module(*x, **options, return_weights=True)
    expected, right = plain(module, *x, seen=seen)
    assert_same(module, x, got, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights, right.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(H,), (B, H)], ids=str)
def test_a_head_mask_is_a_factor_of_each_head(shape):
    module = MultiHeadAttention(E, H)
    head_mask = torch.rand(shape).round(decimals=1)
    x = inputs((B, T, E))
    got = module(*x, head_mask=head_mask)
    assert_same(module, x, got, plain(module, *x * 3, head_mask=head_mask)[0])


def test_a_score_mod_changes_the_score():
    module = MultiHeadAttention(E, H)
    table = torch.randn(H, requires_grad=True)
    x = [*inputs((B, T, E), (B, S, E), (B, S, E)), table]
    got = module(*x[:3], score_mod=lambda score, b, h, t, s: score + table[h] * (t - s))
    expected, _ = plain(module, *x[:3], bias=table.view(H, 1, 1) * (rows - columns))
    assert_same(module, x, got, expected, rtol=1e-4, atol=1e-5)


def test_gradcheck():
    module = MultiHeadAttention(4, 2, kv_heads=1).double()
    x = inputs((1, 3, 4), (1, 2, 4), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda q, k: module(q, k, causal="bottom_right"), x)


def test_batch_first_off_is_the_same_transposed():
    first = MultiHeadAttention(E, H)
    second = MultiHeadAttention(E, H, batch_first=False)
    second.load_state_dict(first.state_dict())
    query, memory = torch.randn(B, T, E), torch.randn(B, S, E)
    expected, weights = first(query, memory, return_weights=True)
    got, same = second(query.transpose(0, 1), memory.transpose(0, 1), return_weights=True)
    torch.testing.assert_close(got.transpose(0, 1), expected)
    torch.testing.assert_close(same, weights)


def test_dropout_is_for_training_alone():
    module = MultiHeadAttention(E, H, dropout=0.5)
    x = torch.randn(B, 40, E)
    module.eval()
    torch.testing.assert_close(module(x), plain(module, x, x, x)[0], rtol=1e-4, atol=1e-5)
    module.train()
    torch.manual_seed(1)
    one = module(x)
    torch.manual_seed(1)
    assert torch.equal(module(x), one)
    assert not torch.allclose(module(x), one)


def state_of_torch(module, E):
    """torch.nn.MultiheadAttention's state dict under our names."""
    theirs = module.state_dict()
    state = {f"output_projection.{name}": theirs[f"out_proj.{name}"] for name in ("weight", "bias")}
    for i, name in enumerate(("query", "key", "value")):
        if "in_proj_weight" in theirs:
            state[f"{name}_projection.weight"] = theirs["in_proj_weight"][i * E : (i + 1) * E]
        else:
            state[f"{name}_projection.weight"] = theirs[f"{name[0]}_proj_weight"]
        state[f"{name}_projection.bias"] = theirs["in_proj_bias"][i * E : (i + 1) * E]
    return state


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 6, "vdim": 9}], ids=str)
def test_parity_with_torch(sizes, batch_first):
    theirs = nn.MultiheadAttention(E, H, batch_first=batch_first, **sizes)
    nn.init.normal_(theirs.in_proj_bias)
    ours = MultiHeadAttention(
        E,
        H,
        key_size=sizes.get("kdim"),
        value_size=sizes.get("vdim"),
        batch_first=batch_first,
    )
    ours.load_state_dict(state_of_torch(theirs, E))
    x = [torch.randn(B, T, E), torch.randn(B, S, sizes.get("kdim", E))]
    x.append(torch.randn(B, S, sizes.get("vdim", E)))
    if not batch_first:
        x = [y.transpose(0, 1) for y in x]
    expected, weights = theirs(*x, key_padding_mask=PADDING, average_attn_weights=False)
    got, same = ours(*x, key_padding=PADDING, return_weights=True)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(same, weights.detach(), rtol=1e-5, atol=1e-5)


def test_names_of_the_state():
    module = MultiHeadAttention(E, H)
    assert sorted(module.state_dict()) == sorted(
        f"{part}_projection.{name}"
        for part in ("query", "key", "value", "output")
        for name in ("weight", "bias")
    )
    bound = math.sqrt(6 / (E + E))
    module.reset_parameters()
    assert module.query_projection.weight.abs().max() <= bound
    assert module.query_projection.bias.abs().max() == 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MultiHeadAttention(10, 4), "embed_size: expected a multiple of heads = 4, got 10"),
        (lambda: MultiHeadAttention(8, 4, kv_heads=3), "kv_heads: expected a divisor of heads = 4"),
        (lambda: MultiHeadAttention(8, 4, dropout=1.0), r"dropout: expected in \[0, 1\), got 1.0"),
        (
            lambda: MultiHeadAttention(E, H)(torch.randn(B, T, E), head_mask=torch.ones(3)),
            r"head_mask: expected \[H\] = \[4\]",
        ),
        (
            lambda: MultiHeadAttention(E, H)(
                torch.randn(B, T, E), key_padding=torch.zeros(B, 3, dtype=torch.bool)
            ),
            r"key_padding: expected bool \[B,S\] = \[2, 5\]",
        ),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# The cache.


def steps(module, x, cache, sizes):
    """x [B,T,E] in pieces of the given sizes, each after the others."""
    return torch.cat(
        [module(part, causal="top_left", cache=cache) for part in x.split(sizes, 1)], 1
    )


@pytest.mark.parametrize("positions", [None, RotaryPositions(3, size=2)], ids=["none", "rotary"])
@pytest.mark.parametrize("grow", [False, True])
def test_step_by_step_is_the_whole_at_once(positions, grow):
    module = MultiHeadAttention(E, H, kv_heads=2, positions=positions)
    x = torch.randn(B, 9, E)
    cache = module.make_cache(B, capacity=2 if grow else 9, grow=grow)
    got = steps(module, x, cache, [4, 1, 1, 3])
    torch.testing.assert_close(got, module(x, causal="top_left"), rtol=1e-5, atol=1e-6)
    assert cache.length == 9 and cache.capacity == (16 if grow else 9)


@pytest.mark.parametrize("window", [None, (2, 0)], ids=["all", "window"])
@pytest.mark.parametrize("positions", [None, RotaryPositions(3, size=2)], ids=["none", "rotary"])
def test_elements_of_different_lengths(positions, window):
    module = MultiHeadAttention(E, H, positions=positions)
    x = torch.randn(B, 8, E)
    prompt = torch.tensor([5, 3])
    cache = module.make_cache(B, capacity=8)
    options = {"causal": "top_left", "window": window}
    first = module(x[:, :5], lengths=prompt, cache=cache, **options)
    taken = torch.stack([x[0, 5:7], x[1, 3:5]])
    then = module(taken, cache=cache, **options)
    assert cache.lengths.tolist() == [7, 5]
    for b, (start, end) in enumerate([(5, 7), (3, 5)]):
        expected = module(x[b : b + 1, :end], **options)[0]
        torch.testing.assert_close(first[b, :start], expected[:start], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(then[b], expected[start:], rtol=1e-5, atol=1e-6)


def test_a_window_alone_counts_from_the_queries_place():
    module = MultiHeadAttention(E, H)
    x = torch.randn(B, 8, E)
    cache = module.make_cache(B, capacity=8)
    module(x[:, :6], cache=cache)
    got = module(x[:, 6:], window=(1, 0), cache=cache)
    torch.testing.assert_close(got, module(x, window=(1, 0))[:, 6:], rtol=1e-5, atol=1e-6)


def test_a_cross_attention_reads_what_its_first_step_kept():
    module = MultiHeadAttention(E, H)
    memory, query = torch.randn(B, S, E), torch.randn(B, 3, E)
    cache = module.make_cache(B, capacity=S)
    module(query[:, :1], memory, lengths=LENGTHS, cache=cache)
    got = module(query[:, 1:], cache=cache, append=False)
    expected = module(query[:, 1:], memory, lengths=LENGTHS)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    assert cache.lengths.tolist() == LENGTHS.tolist()


def test_append_writes_in_place_and_gives_views():
    cache = KeyValueCache(B, 2, 8, 3, value_size=5)
    keys, values = torch.randn(B, 2, 4, 3), torch.randn(B, 2, 4, 5)
    cache.append(keys, values, torch.tensor([4, 1]))
    k, v, lengths = cache.keys, cache.values, cache.lengths
    assert torch.equal(k[0], keys[0]) and torch.equal(v[1, :, :1], values[1, :, :1])
    memory = k.data_ptr()
    cache.append(keys[:, :, :2], values[:, :, :2])
    k, v, lengths = cache.keys, cache.values, cache.lengths
    assert k.data_ptr() == memory and lengths.tolist() == [6, 3]
    assert torch.equal(k[1, :, 1:3], keys[1, :, :2]) and torch.equal(v[0, :, 4:], values[0, :, :2])
    cache.select(torch.tensor([1, 1]))
    assert cache.lengths.tolist() == [3, 3] and torch.equal(cache.keys[0], k[1, :, :3])
    cache.reset()
    assert cache.length == 0 and cache.capacity == 8


def test_growing_doubles_and_keeps_the_rows():
    cache = KeyValueCache(1, 1, 2, 3, grow=True)
    rows = torch.randn(1, 1, 11, 3)
    for t in range(11):
        cache.append(rows[:, :, t : t + 1], rows[:, :, t : t + 1])
    assert cache.capacity == 16 and torch.equal(cache.keys, rows)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda c: c.append(torch.ones(B, 2, 9, 3), torch.ones(B, 2, 9, 3)), "capacity = 8 rows"),
        (lambda c: c.append(torch.ones(B, 1, 2, 3), torch.ones(B, 2, 2, 3)), r"keys: expected \[B"),
        (
            lambda c: c.append(*[torch.ones(B, 2, 2, 3)] * 2, torch.tensor([3, 1])),
            "lengths: expected",
        ),
        (lambda c: c.select(torch.tensor([], dtype=torch.int64)), r"elements: expected \[B\]"),
        (lambda c: KeyValueCache(0, 1, 1, 1), "batch: expected at least 1, got 0"),
    ],
)
def test_the_cache_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make(KeyValueCache(B, 2, 8, 3))


def test_positions_may_do_nothing():
    module = MultiHeadAttention(E, H, positions=AttentionPositions())
    x = torch.randn(B, T, E)
    torch.testing.assert_close(module(x), plain(module, x, x, x)[0], rtol=1e-4, atol=1e-5)
