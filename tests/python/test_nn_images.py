"""Attention on feature maps against plain torch formulas and the modules of transformers."""

import pytest
import torch
from image_formulas import cbam, non_local, position_term, squeeze_excitation
from torch import nn
from transformers import EfficientNetConfig, SamVisionConfig, SwinConfig
from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAEEncoderAttnBlock
from transformers.models.efficientnet.modeling_efficientnet import EfficientNetSqueezeExciteLayer
from transformers.models.regnet.modeling_regnet import RegNetSELayer
from transformers.models.sam.modeling_sam import SamVisionAttention
from transformers.models.swin.modeling_swin import SwinAttention

from heed.nn.cbam import Cbam
from heed.nn.multi_head_attention import MultiHeadAttention
from heed.nn.non_local_attention import NonLocalAttention
from heed.nn.relative_positions_2d import RelativePositions2d
from heed.nn.squeeze_excitation import SqueezeExcitation

SIZES = [(1, 1), (1, 6), (7, 5), (8, 8)]
B, C = 2, 6


def feature_map(rows, columns, *, channels=C, layout=torch.contiguous_format, dtype=torch.float32):
    x = torch.randn(B, channels, rows, columns, dtype=dtype)
    return x.to(memory_format=layout).requires_grad_()


LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def drawn(module):
    """The module with every parameter away from 0, gamma among them."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def assert_same(module, actual, expected, leaves):
    """The output, and the gradient of each leaf and parameter, are the formula's."""
    tolerance = {"rtol": 1e-4, "atol": 2e-5}
    torch.testing.assert_close(actual, expected, **tolerance)
    wanted = [*leaves, *module.parameters()]
    direction = torch.randn_like(expected)
    got, right = (
        torch.autograd.grad((y * direction).sum(), wanted, materialize_grads=True)
        for y in (actual, expected)
    )
    for mine, its in zip(got, right, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)


@LAYOUTS
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reduction, bias", [(2, True), (4, False), (16, True)])
def test_squeeze_excitation_is_the_formula(size, reduction, bias, layout):
    module = drawn(SqueezeExcitation(C, reduction=reduction, bias=bias))
    assert module.reduce.out_features == max(C // reduction, 1)
    x = feature_map(*size, layout=layout)
    output, weights = module(x, return_weights=True)
    expected, right = squeeze_excitation(module, x)
    torch.testing.assert_close(weights, right.detach())
    assert not weights.requires_grad
    assert output.is_contiguous(memory_format=layout)
    assert_same(module, output, expected, [x])
    torch.testing.assert_close(module(x), output)


@LAYOUTS
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [{}, {"reduction": 4, "kernel_size": 3, "bias": False}])
def test_cbam_is_the_formula(size, options, layout):
    module = drawn(Cbam(C, **options))
    x = feature_map(*size, layout=layout)
    result = module(x, return_weights=True)
    output, of_channels, of_pixels = cbam(module, x)
    torch.testing.assert_close(result.channel_weights, of_channels.detach())
    torch.testing.assert_close(result.spatial_weights, of_pixels.detach())
    assert not result.channel_weights.requires_grad
    assert not result.spatial_weights.requires_grad
    assert_same(module, result.output, output, [x])
    torch.testing.assert_close(module(x), output)


NON_LOCAL = {
    "wang": {},
    "sagan": {"key_channels": 2, "value_channels": 4, "pool": 2},
    "no bias, scaled": {"bias": False, "scale": 0.25},
    "heads": {"heads": 3, "key_channels": 3, "value_channels": 6},
    "dot": {"score": "dot"},
    "dot, pooled, heads": {"score": "dot", "pool": 3, "heads": 2, "key_channels": 4},
    "near": {"radius": 1},
    "near, pooled": {"radius": 3, "pool": 2},
    "biased": {"heads": 2, "key_channels": 4, "positions": {"heads": 2}},
    "biased, pooled, near": {"radius": 4, "pool": 3, "positions": {}},
    "vectors": {"scale": 0.5, "positions": {"bias": False, "head_size": 3}},
    "both, pooled": {
        "heads": 2,
        "key_channels": 4,
        "pool": 2,
        "positions": {"heads": 2, "head_size": 2},
    },
}


def non_local_module(name):
    options = dict(NON_LOCAL[name])
    if "positions" in options:
        options["positions"] = RelativePositions2d(8, 9, **options["positions"])
    return drawn(NonLocalAttention(C, **options))


@LAYOUTS
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NON_LOCAL)
def test_non_local_attention_is_the_formula(name, size, layout):
    module = non_local_module(name)
    x = feature_map(*size, layout=layout)
    output, weights = module(x, return_weights=True)
    expected, right = non_local(module, x)
    torch.testing.assert_close(weights, right.detach(), rtol=1e-4, atol=1e-5)
    assert not weights.requires_grad
    assert_same(module, output, expected, [x])
    torch.testing.assert_close(module(x), output)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SqueezeExcitation(3, reduction=2),
        lambda: Cbam(3, reduction=2, kernel_size=3),
        lambda: NonLocalAttention(3, pool=2, positions=RelativePositions2d(3, 2, head_size=1)),
        lambda: NonLocalAttention(3, score="dot"),
    ],
)
def test_gradcheck(make):
    module = drawn(make().double())
    x = feature_map(3, 2, channels=3, dtype=torch.float64)
    names, parameters = zip(*module.named_parameters(), strict=True)

    def f(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(f, (x, *parameters), fast_mode=True)


def test_non_local_attention_starts_as_the_identity():
    x = feature_map(4, 3)
    assert torch.equal(NonLocalAttention(C)(x), x)


def test_dropout_is_for_training_only():
    module = drawn(NonLocalAttention(C, dropout=0.5))
    x = feature_map(4, 4)
    assert not torch.equal(module(x), module(x))
    module.eval()
    torch.testing.assert_close(module(x), non_local(module, x)[0])


@pytest.mark.parametrize("options", [{"heads": 2}, {"heads": 2, "head_size": 3}])
def test_multi_head_attention_takes_positions_of_a_map(options):
    rows, columns = 3, 5
    positions = RelativePositions2d(4, columns, **options)
    module = drawn(MultiHeadAttention(6, 2, positions=positions))
    x = torch.randn(B, rows * columns, 6, requires_grad=True)

    def heads(projection):
        return projection(x).unflatten(-1, (2, 3)).transpose(1, 2)

    q, k = heads(module.query_projection), heads(module.key_projection)
    v = heads(module.value_projection)
    scores = module.scale * (q @ k.mT)
    scores = scores + position_term(positions, q, rows, columns, 1, module.scale)
    expected = module.output_projection((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert_same(module, module(x), expected, [x])

    # Pixel after pixel with a cache: each query stands where the cache ends.
    causal = module(x, causal="top_left")
    cache = module.make_cache(B, rows * columns)
    for start in range(0, rows * columns, 4):
        step = module(x[:, start : start + 4], causal="top_left", cache=cache)
        torch.testing.assert_close(step, causal[:, start : start + 4], rtol=1e-4, atol=1e-5)


# The same weights in published modules.


def copied(linear, layer):
    """The weights of a linear layer or a convolution 1 x 1 into a linear layer."""
    with torch.no_grad():
        linear.weight.copy_(layer.weight.flatten(1))
        linear.bias.copy_(layer.bias)


def test_squeeze_excitation_is_regnets():
    theirs = RegNetSELayer(C, 2)
    ours = SqueezeExcitation(C, reduction=3)
    copied(ours.reduce, theirs.attention[0])
    copied(ours.expand, theirs.attention[2])
    x = feature_map(7, 5)
    torch.testing.assert_close(ours(x), theirs(x))


def test_squeeze_excitation_is_efficientnets():
    config = EfficientNetConfig(squeeze_expansion_ratio=0.5, hidden_act="relu")
    theirs = EfficientNetSqueezeExciteLayer(config, C, 0)
    ours = SqueezeExcitation(C, reduction=2)
    copied(ours.reduce, theirs.reduce)
    copied(ours.expand, theirs.expand)
    x = feature_map(7, 5)
    torch.testing.assert_close(ours(x), theirs(x))


def test_non_local_attention_is_chameleons():
    channels = 32
    theirs = ChameleonVQVAEEncoderAttnBlock(channels)
    ours = NonLocalAttention(
        channels, key_channels=channels, value_channels=channels, scale=channels**-0.5
    )
    for name, layer in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "proj_out")):
        copied(ours.get_submodule(f"{name}_projection"), theirs.get_submodule(layer))
    nn.init.ones_(ours.gamma)
    x = feature_map(7, 5, channels=channels)
    normed = theirs.norm(x)
    torch.testing.assert_close(x + ours(normed) - normed, theirs(x), rtol=1e-5, atol=1e-5)


def test_biased_non_local_attention_is_swins_window():
    config = SwinConfig(attn_implementation="eager")
    theirs = SwinAttention(config, 16, 4, 7)
    nn.init.normal_(theirs.relative_position_bias.relative_position_bias_table)
    positions = RelativePositions2d(7, 7, heads=4)
    ours = NonLocalAttention(
        16, key_channels=16, value_channels=16, heads=4, scale=0.5, positions=positions
    )
    for name in "qkvo":
        full = {"q": "query", "k": "key", "v": "value", "o": "output"}[name]
        copied(ours.get_submodule(f"{full}_projection"), theirs.get_submodule(f"{name}_proj"))
    with torch.no_grad():
        table = theirs.relative_position_bias.relative_position_bias_table  # [13 * 13,H]
        positions.bias.copy_(table.mT.view(4, 13, 13))
        ours.gamma.fill_(1)
    x = feature_map(7, 7, channels=16)  # a batch of windows
    expected = theirs(x.flatten(2).mT)[0]
    torch.testing.assert_close((ours(x) - x).flatten(2).mT, expected, rtol=1e-4, atol=1e-5)


def test_vectors_of_rows_and_columns_are_sams():
    config = SamVisionConfig(hidden_size=16, num_attention_heads=4, image_size=96, patch_size=16)
    theirs = SamVisionAttention(config, 0)
    for table in (theirs.rel_pos_h, theirs.rel_pos_w):
        nn.init.normal_(table)
    positions = RelativePositions2d(6, 6, bias=False, head_size=4)
    ours = MultiHeadAttention(16, 4, positions=positions)
    names = ("query", "key", "value")
    with torch.no_grad():
        for i, name in enumerate(names):
            projection = ours.get_submodule(f"{name}_projection")
            projection.weight.copy_(theirs.qkv.weight.chunk(3)[i])
            projection.bias.copy_(theirs.qkv.bias.chunk(3)[i])
        positions.row_table.copy_(theirs.rel_pos_h / ours.scale)  # SAM does not scale this term
        positions.column_table.copy_(theirs.rel_pos_w / ours.scale)
    copied(ours.output_projection, theirs.proj)
    x = torch.randn(B, 6, 6, 16)
    torch.testing.assert_close(ours(x.flatten(1, 2)).view_as(x), theirs(x)[0], rtol=1e-4, atol=1e-5)


# Sizes and errors.


@pytest.mark.parametrize(
    "make, complaint",
    [
        (lambda: SqueezeExcitation(0), r"\[SqueezeExcitation\] channels: expected at least 1"),
        (lambda: Cbam(4, reduction=0), r"\[Cbam\] reduction: expected at least 1, got 0"),
        (lambda: Cbam(4, kernel_size=4), r"\[Cbam\] kernel_size: expected odd, got 4"),
        (lambda: NonLocalAttention(4, heads=3, key_channels=4), "expected multiples of heads = 3"),
        (lambda: NonLocalAttention(4, pool=0), r"pool: expected at least 1, got 0"),
        (lambda: NonLocalAttention(4, dropout=1.0), r"dropout: expected in \[0, 1\), got 1.0"),
        (lambda: NonLocalAttention(4, score="cosine"), 'expected "embedded_gaussian" or "dot"'),
        (lambda: NonLocalAttention(4, score="dot", radius=2), '"dot" has no softmax'),
        (lambda: RelativePositions2d(0, 4), "rows, columns: expected at least 1, got 0, 4"),
        (lambda: RelativePositions2d(4, 4, bias=False), "expected a bias, or head_size"),
    ],
)
def test_options_are_checked(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


@pytest.mark.parametrize("module", [SqueezeExcitation(C), Cbam(C), NonLocalAttention(C)])
def test_maps_are_checked(module):
    for x in (torch.zeros(2, C + 1, 3, 3), torch.zeros(2, C, 3)):
        with pytest.raises(ValueError, match=r"x: expected \[B,C,rows,columns\] = \[\*, 6, \*, \*"):
            module(x)


@pytest.mark.parametrize(
    "positions, size, complaint",
    [
        (RelativePositions2d(3, 3), (4, 3), r"queries: expected a map of at most 3 x 3, got 4 x 3"),
        (RelativePositions2d(3, 3, heads=2), (3, 3), "heads: expected 2, got 1"),
        (RelativePositions2d(3, 3, head_size=2), (3, 3), "head_size: expected 2, got 3"),
    ],
)
def test_positions_are_checked_against_the_map(positions, size, complaint):
    with pytest.raises(ValueError, match=complaint):
        NonLocalAttention(C, positions=positions)(torch.zeros(1, C, *size))
