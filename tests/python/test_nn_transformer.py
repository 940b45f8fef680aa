"""The Transformer's blocks: torch's own layers, transformers' and the formulas are the judges."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from heed.nn.feed_forward import FeedForward
from heed.nn.learned_positions import LearnedPositions
from heed.nn.rotary_positions import RotaryPositions
from heed.nn.sinusoidal_positions import SinusoidalPositions
from heed.nn.state_dicts import from_gpt2, from_llama, from_torch, from_wav2vec2
from heed.nn.t5_bias import T5Bias
from heed.nn.token_embedding import TokenEmbedding
from heed.nn.transformer_decoder import TransformerDecoder, TransformerDecoderLayer
from heed.nn.transformer_encoder import TransformerEncoder, TransformerEncoderLayer

B, T, S, E, H, HIDDEN = 2, 5, 7, 12, 4, 20
PADDING = torch.tensor([[False] * T, [False] * 3 + [True] * 2])
MEMORY_PADDING = torch.tensor([[False] * S, [True] + [False] * 2 + [True] * 4])
LENGTHS = torch.tensor([T, 3])
MEMORY_LENGTHS = torch.tensor([S, 2])
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def leaf(*shape):
    return torch.randn(*shape, requires_grad=True)


def shake(module):
    """Norms and biases that nothing could do without."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)


def assert_same(ours, theirs, got, expected, inputs, names, rows=None):
    """Outputs and gradients of inputs and, by their names, of parameters. Only the rows that `rows`
    says ([...], bool) count: padding's own are anything."""
    rows = torch.ones(got.shape[:-1], dtype=torch.bool) if rows is None else rows
    got, expected = got[rows], expected[rows]
    torch.testing.assert_close(got, expected, **CLOSE)
    direction = torch.randn_like(expected)
    for module in (ours, theirs):
        module.zero_grad()
    own = torch.autograd.grad((got * direction).sum(), inputs, retain_graph=True)
    right = torch.autograd.grad((expected * direction).sum(), inputs, retain_graph=True)
    torch.testing.assert_close(own, right, **CLOSE)
    (got * direction).sum().backward()
    (expected * direction).sum().backward()
    gradients = names({name: p.grad for name, p in theirs.named_parameters() if p.grad is not None})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], **CLOSE, msg=name)


def transposed(batch_first, *tensors):
    return [x if batch_first else x.transpose(0, 1) for x in tensors]


LAYERS = list(itertools.product([False, True], [False, True], ["relu", "gelu"]))


@pytest.mark.parametrize("norm_first, batch_first, activation", LAYERS)
def test_an_encoder_layer_is_torchs(norm_first, batch_first, activation):
    options = {"activation": activation, "norm_first": norm_first, "batch_first": batch_first}
    theirs = nn.TransformerEncoderLayer(E, H, HIDDEN, dropout=0.0, **options)
    shake(theirs)
    ours = TransformerEncoderLayer(E, H, hidden_size=HIDDEN, **options)
    ours.load_state_dict(from_torch(theirs.state_dict()))
    x = leaf(B, T, E)
    (y,) = transposed(batch_first, x)
    got = ours(y, key_padding=PADDING)
    expected = theirs(y, src_key_padding_mask=PADDING)
    (rows,) = transposed(batch_first, ~PADDING)
    assert_same(ours, theirs, got, expected, [x], from_torch, rows)
    torch.testing.assert_close(ours(y, LENGTHS)[rows], got[rows], **CLOSE)


@pytest.mark.parametrize("norm_first, batch_first, activation", LAYERS)
def test_a_decoder_layer_is_torchs(norm_first, batch_first, activation):
    options = {"activation": activation, "norm_first": norm_first, "batch_first": batch_first}
    theirs = nn.TransformerDecoderLayer(E, H, HIDDEN, dropout=0.0, **options)
    shake(theirs)
    ours = TransformerDecoderLayer(E, H, hidden_size=HIDDEN, **options)
    ours.load_state_dict(from_torch(theirs.state_dict()))
    x, memory = leaf(B, T, E), leaf(B, S, E)
    y, m = transposed(batch_first, x, memory)
    got = ours(y, m, key_padding=PADDING, memory_key_padding=MEMORY_PADDING)
    expected = theirs(
        y,
        m,
        tgt_mask=torch.ones(T, T, dtype=torch.bool).triu(1),
        tgt_key_padding_mask=PADDING,
        memory_key_padding_mask=MEMORY_PADDING,
    )
    (rows,) = transposed(batch_first, ~PADDING)
    assert_same(ours, theirs, got, expected, [x, memory], from_torch, rows)


@pytest.mark.parametrize("norm_first", [False, True])
def test_stacks_are_torchs(norm_first):
    layer = nn.TransformerEncoderLayer(
        E, H, HIDDEN, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    theirs = nn.TransformerEncoder(
        layer, 3, nn.LayerNorm(E) if norm_first else None, enable_nested_tensor=False
    )
    ours = TransformerEncoder(3, E, H, hidden_size=HIDDEN, norm_first=norm_first)
    ours.load_state_dict(from_torch(theirs.state_dict()))
    x = leaf(B, T, E)
    assert_same(ours, theirs, ours(x), theirs(x), [x], from_torch)
    layer = nn.TransformerDecoderLayer(
        E, H, HIDDEN, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    theirs = nn.TransformerDecoder(layer, 2, nn.LayerNorm(E))
    ours = TransformerDecoder(2, E, H, hidden_size=HIDDEN, norm_first=norm_first, final_norm=True)
    ours.load_state_dict(from_torch(theirs.state_dict()))
    memory = leaf(B, S, E)
    got, expected = ours(x, memory, causal=None), theirs(x, memory)
    assert_same(ours, theirs, got, expected, [x, memory], from_torch)


def test_llamas_layers():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="eager",
    )
    theirs = transformers.LlamaModel(config)
    shake(theirs)
    ours = TransformerDecoder(
        2,
        16,
        4,
        kv_heads=2,
        hidden_size=24,
        cross_attention=False,
        norm="rms",
        norm_first=True,
        norm_eps=config.rms_norm_eps,
        activation="swiglu",
        bias=False,
        positions=RotaryPositions(4),
    )
    state = from_llama(theirs.state_dict())
    assert state.pop("embed_tokens.weight").shape == (11, 16)
    ours.load_state_dict(state)
    x = leaf(B, T, 16)
    expected = theirs(inputs_embeds=x, use_cache=False).last_hidden_state
    assert_same(ours, theirs, ours(x), expected, [x], from_llama)


def test_gpt2s_layers():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=11,
        n_positions=T,
        n_embd=16,
        n_layer=2,
        n_head=4,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        attn_implementation="eager",
    )
    theirs = transformers.GPT2Model(config)
    shake(theirs)
    ours = TransformerDecoder(
        2, 16, 4, cross_attention=False, norm_first=True, activation="gelu_tanh"
    )
    state = from_gpt2(theirs.state_dict())
    embedding = TokenEmbedding(11, 16, positions=LearnedPositions(T, 16))
    embedding.load_state_dict(
        {"weight": state.pop("wte.weight"), "positions.weight": state.pop("wpe.weight")}
    )
    ours.load_state_dict(state)
    tokens = torch.randint(11, (B, T))
    x = embedding(tokens)
    expected = theirs(tokens, use_cache=False).last_hidden_state
    torch.testing.assert_close(ours(x), expected, **CLOSE)
    y = leaf(B, T, 16)
    places = theirs.wpe.weight[:T]
    expected = theirs(inputs_embeds=y, use_cache=False).last_hidden_state
    assert_same(ours, theirs, ours(y + places), expected, [y], from_gpt2)


def test_wav2vec2s_layers():
    transformers = pytest.importorskip("transformers")
    wav2vec2 = pytest.importorskip("transformers.models.wav2vec2.modeling_wav2vec2")
    config = transformers.Wav2Vec2Config(
        hidden_size=E,
        num_hidden_layers=2,
        num_attention_heads=H,
        intermediate_size=HIDDEN,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        attn_implementation="eager",
    )
    theirs = wav2vec2.Wav2Vec2Encoder(config).eval()
    shake(theirs)
    ours = TransformerEncoder(2, E, H, hidden_size=HIDDEN, activation="gelu")
    ours.load_state_dict(from_wav2vec2(theirs.state_dict()))
    x = leaf(B, T, E)
    heard = x * ~PADDING.unsqueeze(-1)
    y = theirs.layer_norm(heard + theirs.pos_conv_embed(heard))
    expected = theirs(x.clone(), attention_mask=~PADDING).last_hidden_state
    got = ours(y, LENGTHS)
    assert_same(ours, theirs, got, expected, [x], from_wav2vec2, ~PADDING)


NAMES = {
    "self_attention": ("query", "key", "value", "output"),
    "cross_attention": ("query", "key", "value", "output"),
    "feed_forward": ("hidden", "output"),
}


def test_names_of_the_state_are_those_of_cpp():
    """tests/nn/transformer_test.cpp has the same list."""
    expected = {
        f"layers.0.{part}.{projection}_projection.{name}"
        for part, projections in NAMES.items()
        for projection in projections
        for name in ("weight", "bias")
    }
    expected |= {f"layers.0.{part}_norm.{name}" for part in NAMES for name in ("weight", "bias")}
    stack = TransformerDecoder(1, E, H, final_norm=True, positions=T5Bias(H, bidirectional=False))
    expected |= {"norm.weight", "norm.bias", "positions.bias"}
    assert set(stack.state_dict()) == expected
    swiglu = FeedForward(E, activation="swiglu", bias=False)
    assert set(swiglu.state_dict()) == {
        f"{name}_projection.weight" for name in ("hidden", "gate", "output")
    }


def test_feed_forward_is_the_formula():
    functions = {
        "relu": lambda u, g: u.clamp_min(0),
        "gelu": lambda u, g: u * (1 + torch.erf(u / 2**0.5)) / 2,
        "gelu_tanh": lambda u, g: F.gelu(u, approximate="tanh"),
        "swiglu": lambda u, g: g * g.sigmoid() * u,
    }
    for activation, function in functions.items():
        module = FeedForward(E, HIDDEN, activation=activation)
        shake(module)
        x = torch.randn(B, T, E)
        gate = x if module.gate_projection is None else module.gate_projection(x)
        hidden = function(module.hidden_projection(x), gate)
        torch.testing.assert_close(module(x), module.output_projection(hidden), **CLOSE)


KINDS = {
    "post": {},
    "pre": {"norm_first": True, "activation": "gelu"},
    "llama": {
        "norm_first": True,
        "norm": "rms",
        "kv_heads": 2,
        "bias": False,
        "activation": "swiglu",
    },
}
POSITIONS = {
    "none": lambda: None,
    "rotary": lambda: RotaryPositions(3, size=2),
    "t5": lambda: T5Bias(H, bidirectional=False),
}


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_is_the_whole_at_once(kind, positions):
    decoder = TransformerDecoder(2, E, H, positions=POSITIONS[positions](), **KINDS[kind])
    x, memory = torch.randn(B, 9, E), torch.randn(B, S, E)
    cache = decoder.make_cache(B, 2, grow=True)
    with torch.no_grad():
        outputs = [decoder(x[:, :3], memory, memory_lengths=MEMORY_LENGTHS, cache=cache)]
        outputs += [decoder(part, cache=cache) for part in x[:, 3:].split([1, 1, 4], 1)]
        whole = decoder(x, memory, memory_lengths=MEMORY_LENGTHS)
    torch.testing.assert_close(torch.cat(outputs, 1), whole, **CLOSE)
    assert cache.lengths.tolist() == [9, 9]


def test_prompts_of_different_lengths_and_beams():
    decoder = TransformerDecoder(2, E, H, norm_first=True)
    x, memory = torch.randn(B, 6, E), torch.randn(B, S, E)
    cache = decoder.make_cache(B, 6)
    with torch.no_grad():
        decoder(x[:, :5], memory, LENGTHS, cache=cache)
        cache.select(torch.tensor([1, 0]))  # the beams change places
        got = decoder(torch.stack([x[1, 3:4], x[0, 5:6]]), cache=cache)
        whole = decoder(x, memory)
        torch.testing.assert_close(got[:, 0], torch.stack([whole[1, 3], whole[0, 5]]), **CLOSE)
        cache.reset()
        torch.testing.assert_close(decoder(x, memory, cache=cache), whole, **CLOSE)


def test_weights_of_each_layer():
    decoder = TransformerDecoder(3, E, H)
    x, memory = torch.randn(B, T, E), torch.randn(B, S, E)
    output, own, cross = decoder(x, memory, return_weights=True)
    torch.testing.assert_close(output, decoder(x, memory))
    assert [list(w.shape) for w in own] == [[B, H, T, T]] * 3
    assert [list(w.shape) for w in cross] == [[B, H, T, S]] * 3
    assert own[0].triu(1).abs().max() == 0
    encoder = TransformerEncoder(2, E, H)
    output, weights = encoder(x, LENGTHS, window=(1, 1), return_weights=True)
    torch.testing.assert_close(output, encoder(x, LENGTHS, window=(1, 1)))
    assert len(weights) == 2 and weights[1][1, :, :, 3:].abs().max() == 0
    only, own, cross = TransformerDecoder(1, E, H, cross_attention=False)(x, return_weights=True)
    assert only.shape == x.shape and len(own) == 1 and cross == []


def test_positions_shared_or_one_for_each_layer():
    shared = TransformerEncoder(2, E, H, positions=T5Bias(H))
    own = TransformerEncoder(2, E, H, make_positions=lambda: T5Bias(H))
    names = [
        [n for n, _ in stack.named_parameters() if "positions" in n] for stack in (shared, own)
    ]
    assert names[0] == ["positions.bias"]
    assert names[1] == [f"layers.{i}.self_attention.positions.bias" for i in range(2)]
    x = torch.randn(B, T, E)
    before = shared(x)
    nn.init.normal_(shared.positions.bias, std=3)
    assert not torch.allclose(shared(x), before)
    with pytest.raises(ValueError, match="got both"):
        TransformerEncoder(2, E, H, positions=T5Bias(H), make_positions=lambda: T5Bias(H))


def test_dropout_is_for_training_alone():
    x = torch.randn(B, 40, E)
    for name in ("dropout", "attention_dropout", "hidden_dropout"):
        module = TransformerEncoderLayer(E, H, **{name: 0.5})
        assert not torch.allclose(module(x), module(x))
        module.eval()
        assert torch.equal(module(x), module(x))


def test_initial_values():
    hidden = TransformerEncoderLayer(64, 4).feed_forward.hidden_projection
    bound = (6 / (64 + 256)) ** 0.5
    assert 0.98 * bound < hidden.weight.abs().max() <= bound and hidden.bias.abs().max() == 0
    stack = TransformerDecoder(3, 64, 4, initialization="gpt2")
    stack.reset_parameters()  # as the constructor: not scaled twice
    for name, parameter in stack.named_parameters():
        if parameter.dim() == 2:
            expected = 0.02 / 3 if name.endswith("output_projection.weight") else 0.02
            assert abs(parameter.std() - expected) < 1e-3, name


def test_token_embedding_reads_and_writes_with_one_matrix():
    embedding = TokenEmbedding(
        11, E, scaled=True, padding_index=2, positions=LearnedPositions(9, E)
    )
    assert set(embedding.state_dict()) == {"weight", "positions.weight"}
    assert embedding.weight[2].abs().max() == 0
    tokens, offset = torch.tensor([[3, 2, 10], [0, 3, 1]]), torch.tensor([0, 4])
    places = embedding.positions.weight[offset[:, None] + torch.arange(3)]
    got = embedding(tokens, offset)
    torch.testing.assert_close(got, embedding.weight[tokens] * E**0.5 + places)
    torch.testing.assert_close(embedding.logits(got), got @ embedding.weight.T)
    got.sum().backward()
    assert embedding.weight.grad[2].abs().max() == 0 < embedding.weight.grad[3].abs().max()
    assert TokenEmbedding(11, E, positions=SinusoidalPositions(E))(tokens).shape == (2, 3, E)
    wide = TokenEmbedding(1000, 64)
    assert abs(wide.weight.std() - 1 / 8) < 1e-3
    wide = TokenEmbedding(1000, 64, initialization="gpt2")
    assert abs(wide.weight.std() - 0.02) < 1e-3


def test_sizes_may_be_empty():
    decoder = TransformerDecoder(1, E, H)
    nothing, rows = torch.zeros(B, 0, E), torch.randn(B, T, E)
    assert decoder(nothing, rows).shape == (B, 0, E)
    assert decoder(rows, nothing).isfinite().all()
    with torch.no_grad():
        cached = decoder(rows, nothing, cache=decoder.make_cache(B, T))
    torch.testing.assert_close(cached, decoder(rows, nothing), **CLOSE)


def kept_bytes(function):
    """What autograd keeps of a call's results for its backward pass."""
    kept = {}

    def pack(x):
        kept[x.data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = function()
    return result, sum(kept.values())


def test_torchs_checkpointing_works_on_a_layer():
    layer = TransformerDecoderLayer(
        E,
        H,
        dropout=0.2,
        attention_dropout=0.2,
        hidden_dropout=0.2,
        positions=RotaryPositions(3, size=2),
    )
    x, memory = leaf(B, T, E), leaf(B, S, E)
    results = []
    for again in (False, True):
        torch.manual_seed(1)
        if again:
            y = checkpoint(layer, x, memory, use_reentrant=False, memory_lengths=MEMORY_LENGTHS)
        else:
            y = layer(x, memory, memory_lengths=MEMORY_LENGTHS)
        loss = y.square().sum()
        results.append([y, *torch.autograd.grad(loss, [x, memory, *layer.parameters()])])
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("make", [TransformerEncoder, TransformerDecoder])
def test_a_stack_that_checkpoints_gives_the_same_and_keeps_less(make):
    torch.manual_seed(2)
    stack = make(3, E, H, dropout=0.1, norm_first=True)
    memory = [torch.randn(B, S, E)] * (make is TransformerDecoder)
    x = leaf(B, 40, E)
    results, kept = [], []
    for stack.checkpoint in (False, True):
        torch.manual_seed(3)
        result, size = kept_bytes(lambda: stack(x, *memory, return_weights=True))
        kept.append(size)
        gradients = torch.autograd.grad(result[0].sum(), [x, *stack.parameters()])
        results.append([result[0], result[1][2], *gradients])
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert kept[1] < kept[0] / 4


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: FeedForward(E, 0), "hidden_size: expected at least 1, got 0"),
        (lambda: FeedForward(E, activation="elu"), "activation: expected one of relu, gelu, "),
        (
            lambda: TransformerEncoderLayer(E, H, dropout=1),
            r"Layer\] dropout: expected in \[0, 1\)",
        ),
        (lambda: TransformerEncoderLayer(E, H, norm="batch"), "norm: expected layer or rms"),
        (
            lambda: TransformerEncoderLayer(E, H, initialization="he"),
            "initialization: expected glorot or gpt2, got he",
        ),
        (lambda: TransformerEncoder(0, E, H), "layers: expected at least 1, got 0"),
        (
            lambda: TransformerDecoderLayer(E, H)(torch.randn(B, T, E)),
            r"memory: expected \[B,S,memory_size\], as no cache holds it yet, got None",
        ),
        (lambda: TokenEmbedding(3, E, padding_index=3), r"padding_index: expected in \[0, 3\)"),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
