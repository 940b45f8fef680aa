"""Each module of positions against its plain formula and a published implementation."""

import itertools
import math

import pytest
import torch
from torch import nn
from transformers import (
    BloomConfig,
    LlamaConfig,
    T5Config,
    Wav2Vec2BertConfig,
    Wav2Vec2ConformerConfig,
    XLNetConfig,
)
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
    Wav2Vec2ConformerRelPositionalEmbedding,
    Wav2Vec2ConformerRotaryPositionalEmbedding,
    Wav2Vec2ConformerSelfAttention,
)
from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention

from heed.nn import relative_positions, transformer_xl_positions
from heed.nn.alibi import Alibi, alibi_slopes
from heed.nn.learned_positions import LearnedPositions
from heed.nn.multi_head_attention import MultiHeadAttention
from heed.nn.relative_positions import RelativePositions
from heed.nn.rotary_positions import RotaryPositions, RotaryScaling
from heed.nn.sinusoidal_positions import SinusoidalPositions
from heed.nn.t5_bias import T5Bias
from heed.nn.transformer_xl_positions import TransformerXLPositions

B, T, E, H, D = 2, 9, 16, 4, 4


# The formulas: term(module, q [B,H,T,D], k [B,H,S,D], ahead [T,S] = s - place of t) is what is
# added to the scaled product, [*,T,S].


def alibi_term(module, q, k, ahead):
    return -module.slopes.view(-1, 1, 1).float() * ahead.abs()


def t5_term(module, q, k, ahead):
    return module.bias[module.buckets_of(ahead)].permute(2, 0, 1)


def relative_term(module, q, k, ahead):
    far = module.max_distance
    vectors = module.key_table[ahead.clamp(-far, far) + far]  # [T,S,D]
    return torch.einsum("bhtd,tsd->bhts", q, vectors) / math.sqrt(D)


def transformer_xl_term(module, q, k, ahead):
    frequencies = 10000 ** (-torch.arange(0, E, 2) / E)
    angles = -ahead.unsqueeze(-1) * frequencies
    r = torch.cat((angles.sin(), angles.cos()), -1).to(q.dtype)  # [T,S,E]
    r = module.projection(r).unflatten(-1, (H, D))  # [T,S,H,D]
    by_place = torch.einsum("bhtd,tshd->bhts", q + module.position_bias.unsqueeze(1), r)
    by_content = (module.content_bias.unsqueeze(1) * k).sum(-1).unsqueeze(-2)
    return (by_place + by_content) / math.sqrt(D)


def plain(module, term, query, memory, *, offset=0, seen=None):
    """The formula of MultiHeadAttention with positions on [B,H,T,S]."""
    q = module.query_projection(query).unflatten(-1, (H, D)).transpose(1, 2)
    k = module.key_projection(memory).unflatten(-1, (H, D)).transpose(1, 2)
    v = module.value_projection(memory).unflatten(-1, (H, D)).transpose(1, 2)
    places = torch.arange(q.shape[2]).unsqueeze(-1) + offset
    ahead = torch.arange(k.shape[2]) - places
    scores = q @ k.mT * module.scale + term(module.positions, q, k, ahead)
    if seen is not None:
        scores = scores.masked_fill(~seen(ahead), -torch.inf)
    weights = scores.softmax(-1)
    mixed = weights @ v
    if getattr(module.positions, "value_table", None) is not None:
        far = module.positions.max_distance
        vectors = module.positions.value_table[ahead.clamp(-far, far) + far]
        mixed = mixed + torch.einsum("bhts,tsd->bhtd", weights, vectors)
    return module.output_projection(mixed.transpose(1, 2).flatten(2)), weights


IN_SCORES = {
    "alibi": (lambda: Alibi(H), alibi_term),
    "t5": (lambda: T5Bias(H, buckets=8, max_distance=6), t5_term),
    "t5 backward": (lambda: T5Bias(H, buckets=6, max_distance=5, bidirectional=False), t5_term),
    "shaw": (lambda: RelativePositions(D, max_distance=3), relative_term),
    "shaw, next keys": (lambda: RelativePositions(D, max_distance=1), relative_term),
    "shaw, keys": (lambda: RelativePositions(D, max_distance=2, values=False), relative_term),
    "transformer xl": (lambda: TransformerXLPositions(E, H), transformer_xl_term),
}
LAYOUTS = {  # queries, keys, the call's options, the plain rule, the first query's place
    "all": (T, T, {}, None, 0),
    "causal": (T, T, {"causal": "top_left"}, lambda ahead: ahead <= 0, 0),
    "memory before": (4, T, {"causal": "bottom_right"}, lambda ahead: ahead <= 0, T - 4),
    "few": (2, 5, {}, None, 0),
    "window": (T, T, {"window": (3, 1)}, lambda ahead: (ahead >= -3) & (ahead <= 1), 0),
}


def made(name, dtype=torch.float32):
    module = MultiHeadAttention(E, H, positions=IN_SCORES[name][0]()).to(dtype)
    for parameter in module.positions.parameters():
        nn.init.normal_(parameter)
    return module


@pytest.fixture(params=["few keys", "many keys"])
def keys(request, monkeypatch):
    """Both ways of the modules that go about many keys in another way than about few."""
    if request.param == "many keys":
        monkeypatch.setattr(relative_positions, "_FEW", 0)
        monkeypatch.setattr(transformer_xl_positions, "_WIDEST", 0)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", IN_SCORES)
def test_scores_and_gradients_are_the_formulas(name, layout):
    queries, keys, options, seen, offset = LAYOUTS[layout]
    module = made(name)
    memory = torch.randn(B, keys, E, requires_grad=True)
    query = torch.randn(B, queries, E, requires_grad=True)
    got, weights = module(query, memory, **options, return_weights=True)
    term = IN_SCORES[name][1]
    expected, right = plain(module, term, query, memory, offset=offset, seen=seen)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(weights, right.detach(), rtol=1e-4, atol=1e-5)
    direction = torch.randn_like(got)
    leaves = [query, memory, *module.parameters()]
    ours = torch.autograd.grad((got * direction).sum(), leaves)
    theirs = torch.autograd.grad((expected * direction).sum(), leaves)
    for own, gradient in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("name", ["shaw", "transformer xl", "t5"])
def test_gradcheck(name):
    module = made(name, torch.float64)
    x = torch.randn(1, 3, E, dtype=torch.float64, requires_grad=True)
    own = list(module.positions.parameters())

    def f(x, *parameters):
        return module(x, causal="top_left")

    assert torch.autograd.gradcheck(f, (x, *own), fast_mode=True)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("name", IN_SCORES)
def test_a_cache_of_unequal_lengths_gives_each_its_place(name):
    module = made(name)
    x = torch.randn(B, 8, E)
    cache = module.make_cache(B, capacity=8)
    first = module(x[:, :5], lengths=torch.tensor([5, 3]), causal="top_left", cache=cache)
    then = module(torch.stack([x[0, 5:7], x[1, 3:5]]), causal="top_left", cache=cache)
    for b, (start, end) in enumerate([(5, 7), (3, 5)]):
        expected = module(x[b : b + 1, :end], causal="top_left")[0]
        torch.testing.assert_close(first[b, :start], expected[:start], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(then[b], expected[start:], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("positions", [None, *IN_SCORES])
def test_no_key_gives_no_number_but_the_bias(positions):
    module = MultiHeadAttention(E, H) if positions is None else made(positions)
    x = torch.randn(B, 4, E, requires_grad=True)
    out = module(x, lengths=torch.tensor([4, 0]))
    assert torch.equal(out[1], module.output_projection.bias.expand(4, -1))
    out.sum().backward()
    assert x.grad.isfinite().all()
    for parameter in module.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.usefixtures("keys")
def test_shaws_values_drop_with_the_weights():
    """With v = 0 and a value vector of 1 for every distance, the output is each row's kept sum."""
    module = MultiHeadAttention(E, H, dropout=0.5, positions=RelativePositions(D, max_distance=2))
    nn.init.zeros_(module.value_projection.weight)
    nn.init.ones_(module.value_projection.bias)
    nn.init.eye_(module.output_projection.weight)
    nn.init.constant_(module.positions.value_table, -1.0)
    out = module(torch.randn(B, 30, E))
    torch.testing.assert_close(out, torch.zeros_like(out), rtol=0, atol=1e-5)


# Parity with transformers.


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("buckets, far", [(32, 128), (32, 64), (16, 20), (6, 50)])
def test_t5_buckets_are_transformers(buckets, far, bidirectional):
    ahead = torch.arange(-3 * far, 3 * far)
    ours = T5Bias(1, buckets=buckets, max_distance=far, bidirectional=bidirectional)
    theirs = T5Attention._relative_position_bucket(ahead, bidirectional, buckets, far)
    assert torch.equal(ours.buckets_of(ahead), theirs)


@pytest.mark.parametrize("decoder", [False, True])
def test_parity_with_t5(decoder):
    config = T5Config(d_model=E, d_kv=6, num_heads=H, is_decoder=decoder, dropout_rate=0.0)
    config._attn_implementation = "eager"
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0).eval()
    bias = T5Bias(H, bidirectional=not decoder)
    ours = MultiHeadAttention(E, H, head_size=6, bias=False, scale=1.0, positions=bias)
    names = {"q": "query", "k": "key", "v": "value", "o": "output"}
    state = {f"{names[n]}_projection.weight": getattr(theirs, n).weight for n in names}
    ours.load_state_dict({**state, "positions.bias": theirs.relative_attention_bias.weight})
    x = torch.randn(B, 40, E)
    mask = torch.full((40, 40), -torch.inf).triu(1)[None, None] if decoder else None
    expected = theirs(x, mask=mask)[0]
    got = ours(x, causal="top_left" if decoder else None)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


SCALINGS = {
    "default": ({}, None),
    "linear": ({"factor": 3.0}, RotaryScaling("linear", 3.0)),
    "dynamic": ({"factor": 2.0}, RotaryScaling("dynamic", 2.0, original_length=16)),
    "yarn": (
        {"factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 4.0},
        RotaryScaling("yarn", 4.0, original_length=16, beta_fast=4.0),
    ),
    "llama3": (
        {
            "factor": 8.0,
            "original_max_position_embeddings": 16,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
        RotaryScaling("llama3", 8.0, original_length=16),
    ),
}


@pytest.mark.parametrize("kind", SCALINGS)
def test_parity_with_llama(kind):
    parameters, scaling = SCALINGS[kind]
    config = LlamaConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
        rope_parameters={"rope_type": kind, "rope_theta": 500.0, **parameters},
    )
    config._attn_implementation = "eager"
    theirs, rotary = LlamaAttention(config, 0).eval(), LlamaRotaryEmbedding(config)
    positions = RotaryPositions(8, base=500.0, scaling=scaling)
    ours = MultiHeadAttention(32, 4, kv_heads=2, bias=False, positions=positions)
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output"}
    ours.load_state_dict(
        {f"{names[n]}_projection.weight": getattr(theirs, n).weight for n in names}
    )
    x = torch.randn(B, 40, 32)  # longer than in training
    waves = rotary(x, torch.arange(40).expand(B, 40))
    mask = torch.full((40, 40), -torch.inf).triu(1)[None, None]
    expected = theirs(x, position_embeddings=waves, attention_mask=mask)[0]
    frequencies = positions.frequencies(40).float()
    torch.testing.assert_close(frequencies, rotary.inv_freq, rtol=1e-5, atol=0)
    got = ours(x, causal="top_left")
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_a_rotation_as_complex_numbers():
    x = torch.randn(B, H, T, 8, dtype=torch.float64)
    angles = torch.arange(T).unsqueeze(-1) * 10000.0 ** -(torch.arange(0, 6, 2).double() / 6)
    turn = torch.polar(torch.ones_like(angles), angles)
    for pairing in ("interleaved", "half_split"):
        got = RotaryPositions(8, size=6, pairing=pairing).rotate(x)
        shape, dims = ((3, 2), (-1, -2)) if pairing == "interleaved" else ((2, 3), (-2, -1))
        pairs = x[..., :6].unflatten(-1, shape)
        real, imaginary = pairs.unbind(dims[0])
        z = torch.complex(real, imaginary) * turn
        expected = torch.stack((z.real, z.imag), dims[0]).flatten(-2)
        torch.testing.assert_close(got[..., :6], expected)
        assert torch.equal(got[..., 6:], x[..., 6:])


def test_rotated_products_depend_on_the_distance_alone():
    rotary = RotaryPositions(8)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(t, s):
        return (rotary.rotate(q, torch.tensor([t])) * rotary.rotate(k, torch.tensor([s]))).sum()

    torch.testing.assert_close(product(7, 3), product(1004, 1000), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mems", [0, 5])
@pytest.mark.usefixtures("keys")
def test_parity_with_xlnet(mems):
    width = E
    config = XLNetConfig(d_model=width, n_head=H, d_inner=8, n_layer=1, vocab_size=4, dropout=0.0)
    theirs = XLNetRelativeAttention(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=width**-0.5)
    theirs.layer_norm = nn.Identity()
    positions = TransformerXLPositions(width, H)
    ours = MultiHeadAttention(width, H, bias=False, positions=positions)
    names = {"q": "query", "k": "key", "v": "value"}
    ours.load_state_dict(
        {f"{names[n]}_projection.weight": getattr(theirs, n).flatten(1).T for n in names}
        | {
            "output_projection.weight": theirs.o.flatten(1),
            "positions.projection.weight": theirs.r.flatten(1).T,
            "positions.content_bias": theirs.r_w_bias,
            "positions.position_bias": theirs.r_r_bias,
        }
    )
    x, before = torch.randn(B, 12, width), torch.randn(B, mems, width)
    r = XLNetModel.relative_positional_encoding(XLNetModel(config), 12, 12 + mems, bsz=B)
    residual = x.transpose(0, 1)
    # XLNet's attention looks both ways, and its queries follow its memory; here a rule that lets
    # all be seen puts the queries there.
    expected = (
        theirs(residual, None, None, None, r, None, mems=before.transpose(0, 1))[0] - residual
    )
    cache = ours.make_cache(B, capacity=12 + mems)
    ours(before, cache=cache) if mems else None
    got = ours(x, cache=cache)
    torch.testing.assert_close(got, expected.transpose(0, 1), rtol=1e-5, atol=1e-5)


def state_of_wav2vec2(theirs):
    """The projections of a Wav2Vec2 attention under our names."""
    names = {"linear_q": "query", "linear_k": "key", "linear_v": "value", "linear_out": "output"}
    return {
        f"{ours}_projection.{part}": getattr(getattr(theirs, name), part)
        for name, ours in names.items()
        for part in ("weight", "bias")
    }


@pytest.mark.usefixtures("keys")
def test_parity_with_wav2vec2_conformer():
    config = Wav2Vec2ConformerConfig(
        hidden_size=32, num_attention_heads=H, position_embeddings_type="relative"
    )
    config._attn_implementation = "eager"
    theirs = Wav2Vec2ConformerSelfAttention(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours = MultiHeadAttention(32, H, positions=TransformerXLPositions(32, H))
    # Their waves are sine and cosine in turn, ours all sines, then all cosines.
    columns = torch.cat((torch.arange(0, 32, 2), torch.arange(1, 32, 2)))
    ours.load_state_dict(
        state_of_wav2vec2(theirs)
        | {
            "positions.projection.weight": theirs.linear_pos.weight[:, columns],
            "positions.content_bias": theirs.pos_bias_u,
            "positions.position_bias": theirs.pos_bias_v,
        }
    )
    x = torch.randn(B, 20, 32)
    waves = Wav2Vec2ConformerRelPositionalEmbedding(config)(x)
    expected, weights = theirs(x, relative_position_embeddings=waves)
    got, same = ours(x, return_weights=True)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(same, weights, rtol=1e-5, atol=1e-5)


def test_parity_with_wav2vec2_conformers_rotary():
    config = Wav2Vec2ConformerConfig(
        hidden_size=32,
        num_attention_heads=H,
        position_embeddings_type="rotary",
        rotary_embedding_base=500,
    )
    config._attn_implementation = "eager"
    theirs = Wav2Vec2ConformerSelfAttention(config).eval()
    ours = MultiHeadAttention(32, H)
    ours.load_state_dict(state_of_wav2vec2(theirs))
    x = torch.randn(B, 20, 32)
    waves = Wav2Vec2ConformerRotaryPositionalEmbedding(config)(x)
    expected, weights = theirs(x, relative_position_embeddings=waves)
    # They turn what is projected to queries and keys, not these.
    heads = x.unflatten(-1, (H, 8)).transpose(1, 2)
    turned = RotaryPositions(8, base=500.0).rotate(heads).transpose(1, 2).flatten(2)
    got, same = ours(turned, turned, x, return_weights=True)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(same, weights, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("left, right", [(6, 6), (6, 2)])
def test_parity_with_wav2vec2_bert(left, right):
    config = Wav2Vec2BertConfig(
        hidden_size=E,
        num_attention_heads=H,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=left,
        right_max_position_embeddings=right,
    )
    config._attn_implementation = "eager"
    theirs = Wav2Vec2BertSelfAttention(config).eval()
    ours = MultiHeadAttention(E, H, positions=RelativePositions(D, max_distance=left, values=False))
    # Where their sides differ, ours repeats the last row of the shorter one.
    rows = torch.arange(-left, left + 1).clamp(max=right) + left
    ours.load_state_dict(
        state_of_wav2vec2(theirs) | {"positions.key_table": theirs.distance_embedding.weight[rows]}
    )
    x = torch.randn(B, 20, E)
    expected, weights = theirs(x)
    got, same = ours(x, return_weights=True)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(same, weights, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 20])
def test_slopes_are_blooms_and_mpts(heads):
    bias = build_alibi_tensor(torch.ones(1, 5), heads, torch.float32)  # [H,1,5]
    slopes = alibi_slopes(heads).float()
    torch.testing.assert_close(bias[:, 0, 1], slopes)
    torch.testing.assert_close(-build_mpt_alibi_tensor(heads, 5)[:, 0, 3], slopes)


def test_blooms_bias_gives_the_same_weights():
    config = BloomConfig(hidden_size=24, n_head=6)
    module = MultiHeadAttention(24, config.n_head, positions=Alibi(config.n_head))
    x = torch.randn(1, 7, 24)
    _, weights = module(x, causal="top_left", return_weights=True)
    bias = build_alibi_tensor(torch.ones(1, 7), 6, torch.float32)
    q = module.query_projection(x).unflatten(-1, (6, 4)).transpose(1, 2)
    k = module.key_projection(x).unflatten(-1, (6, 4)).transpose(1, 2)
    scores = q @ k.mT / 2 + bias + torch.full((7, 7), -torch.inf).triu(1)
    torch.testing.assert_close(weights, scores.softmax(-1).detach(), rtol=1e-5, atol=1e-6)


# Positions that are added to the tokens.


def test_sinusoids():
    table = SinusoidalPositions(6)(torch.zeros(1, 20, 6))[0]
    for t, i in itertools.product((0, 1, 19), range(3)):
        angle = t / 10000 ** (2 * i / 6)
        torch.testing.assert_close(table[t, 2 * i].item(), math.sin(angle), atol=1e-6, rtol=0)
        torch.testing.assert_close(table[t, 2 * i + 1].item(), math.cos(angle), atol=1e-6, rtol=0)


@pytest.mark.parametrize("module", [SinusoidalPositions(6), LearnedPositions(20, 6)], ids=str)
def test_an_offset_for_each_element(module):
    x = torch.randn(B, 20, 6)
    whole = module(x) - x
    parts = torch.stack([x[0, 3:7], x[1, 11:15]])
    got = module(parts, torch.tensor([3, 11])) - parts
    torch.testing.assert_close(got, torch.stack([whole[0, 3:7], whole[1, 11:15]]))


def test_learned_positions_are_rows_of_their_weight():
    module = LearnedPositions(5, 6)
    x = torch.randn(B, 4, 6)
    torch.testing.assert_close(module(x), x + module.weight[:4])
    module(x).sum().backward()
    assert torch.equal(module.weight.grad[:, 0], torch.tensor([2.0, 2, 2, 2, 0]))
    with pytest.raises(ValueError, match="expected places below length = 5, got 6"):
        module(x, torch.tensor([0, 3]))


def test_names_of_the_states():
    names = {
        LearnedPositions(3, 4): ["weight"],
        SinusoidalPositions(4): [],
        Alibi(3): [],
        RotaryPositions(4): [],
        T5Bias(3): ["bias"],
        RelativePositions(4): ["key_table", "value_table"],
        RelativePositions(4, values=False): ["key_table"],
        TransformerXLPositions(4, 2): ["content_bias", "position_bias", "projection.weight"],
    }
    for module, expected in names.items():
        assert sorted(module.state_dict()) == expected
        assert repr(module)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SinusoidalPositions(5), "embed_size: expected an even number, got 5"),
        (lambda: Alibi(0), "heads: expected at least 1, got 0"),
        (lambda: T5Bias(2, buckets=3), "buckets, max_distance: expected"),
        (lambda: RelativePositions(4, max_distance=0), "max_distance: expected at least 1, got 0"),
        (lambda: TransformerXLPositions(6, 4), "heads: expected a divisor of embed_size = 6"),
        (lambda: RotaryPositions(4, size=6), "size: expected an even number up to head_size = 4"),
        (lambda: RotaryPositions(4, pairing="x"), "pairing: expected half_split or interleaved"),
        (lambda: RotaryPositions(4, scaling=RotaryScaling("x")), "scaling: expected none, linear"),
        (lambda: RotaryPositions(4, scaling=RotaryScaling("linear", 0.5)), "factor: expected at"),
        (
            lambda: RotaryPositions(2, scaling=RotaryScaling("dynamic", 2)),
            "size: expected at least 4",
        ),
        (
            lambda: RotaryPositions(4, scaling=RotaryScaling("llama3", 2, low_frequency=4.0)),
            "low_frequency: expected below high_frequency = 4.0, got 4.0",
        ),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
