"""States saved by the modules of C++ are loaded by those of Python, strictly, and the other way,
and either computes the same with them."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from heed.nn.adaptive_span_attention import AdaptiveSpanAttention
from heed.nn.additive_attention import AdditiveAttention
from heed.nn.alibi import Alibi
from heed.nn.attention_pooling import AttentionPooling
from heed.nn.cbam import Cbam
from heed.nn.content_location_attention import ContentLocationAttention
from heed.nn.cosine_attention import CosineAttention
from heed.nn.coverage_attention import CoverageAttention
from heed.nn.dynamic_sparse_attention import DynamicSparseAttention
from heed.nn.general_attention import GeneralAttention
from heed.nn.hierarchical_attention import HierarchicalAttention
from heed.nn.learned_positions import LearnedPositions
from heed.nn.local_predictive_attention import LocalPredictiveAttention
from heed.nn.location_attention import LocationAttention
from heed.nn.location_sensitive_attention import LocationSensitiveAttention
from heed.nn.longformer_attention import LongformerAttention
from heed.nn.multi_head_attention import MultiHeadAttention
from heed.nn.non_local_attention import NonLocalAttention
from heed.nn.random_feature_attention import RandomFeatureAttention
from heed.nn.relative_positions import RelativePositions
from heed.nn.relative_positions_2d import RelativePositions2d
from heed.nn.rotary_positions import RotaryPositions
from heed.nn.sentinel_attention import SentinelAttention
from heed.nn.set_attention import (
    InducedSetAttentionBlock,
    PoolingByMultiheadAttention,
    SetAttentionBlock,
)
from heed.nn.squeeze_excitation import SqueezeExcitation
from heed.nn.t5_bias import T5Bias
from heed.nn.token_embedding import TokenEmbedding
from heed.nn.transformer_decoder import TransformerDecoder
from heed.nn.transformer_encoder import TransformerEncoder
from heed.nn.transformer_xl_positions import TransformerXLPositions

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(os.environ.get("HEED_BUILD", ROOT / "build")) / "bin" / "heed_state_driver"

B, T, S, E, H, D, SIZE = 2, 7, 5, 12, 3, 4, 8
Inputs = dict[str, Tensor]


def draw_inputs() -> Inputs:
    return {
        "x": torch.randn(B, T, E),
        "memory": torch.randn(B, S, E),
        "lengths": torch.tensor([S, 3]),
        "words": torch.randn(B, 3, 4, E),
        "map": torch.randn(B, E, 5, 6),
        "tokens": torch.randint(9, (B, T)),
        "is_global": torch.arange(T).expand(B, T) == 2,
    }


def on_rows(module, i):
    return module(i["x"])


def on_memory(module, i):
    return module(i["memory"], i["lengths"])


def on_map(module, i):
    return module(i["map"])


def asking(module, i):
    return module(i["x"], i["memory"], i["memory"], i["lengths"])


def asking_projected(module, i):
    return module(i["x"], module.keys(i["memory"]), i["memory"], i["lengths"])


def sensitively(module, i):
    query, keys = i["x"][:, :1], module.keys(i["memory"])
    _, weights = module(query, keys, i["memory"], None, i["lengths"])
    return module(query, keys, i["memory"], weights, i["lengths"])[0]


def relative():
    return RelativePositions(D, max_distance=3)


def t5():
    return T5Bias(H, buckets=8, max_distance=12)


def multi_head(make_positions):
    return lambda: MultiHeadAttention(E, H, positions=make_positions()), asking


# tests/nn/state_driver.cpp has the same table: what makes the module, and how it is called.
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Inputs], Tensor]]] = {
    "multi_head": (lambda: MultiHeadAttention(E, H, kv_heads=1, value_head_size=5), asking),
    "multi_head_relative": multi_head(relative),
    "multi_head_t5": multi_head(t5),
    "multi_head_transformer_xl": multi_head(lambda: TransformerXLPositions(E, H)),
    "multi_head_rotary": multi_head(lambda: RotaryPositions(D)),
    "multi_head_alibi": multi_head(lambda: Alibi(H)),
    "encoder": (lambda: TransformerEncoder(2, E, H, hidden_size=20, positions=t5()), on_rows),
    "encoder_pre_norm": (
        lambda: TransformerEncoder(
            2,
            E,
            H,
            kv_heads=1,
            hidden_size=20,
            activation="swiglu",
            norm="rms",
            norm_first=True,
            bias=False,
            make_positions=relative,
        ),
        on_rows,
    ),
    "decoder": (
        lambda: TransformerDecoder(2, E, H, hidden_size=20),
        lambda module, i: module(i["x"], i["memory"], None, i["lengths"]),
    ),
    "token_embedding": (
        lambda: TokenEmbedding(9, E, scaled=True, positions=LearnedPositions(16, E)),
        lambda module, i: module(i["tokens"]),
    ),
    "additive": (lambda: AdditiveAttention(E, E, SIZE), asking_projected),
    "general": (lambda: GeneralAttention(E, E), asking_projected),
    "cosine": (CosineAttention, asking),
    "location": (
        lambda: LocationAttention(E, 16),
        lambda module, i: module(i["x"], i["memory"], i["lengths"]),
    ),
    "location_sensitive": (
        lambda: LocationSensitiveAttention(E, E, SIZE, filters=3, width=5),
        sensitively,
    ),
    "content_location": (lambda: ContentLocationAttention(E), asking),
    "local_predictive": (lambda: LocalPredictiveAttention(E, SIZE, 2.0), asking),
    "longformer": (
        lambda: LongformerAttention(E, H, 2),
        lambda module, i: module(i["x"], i["is_global"]),
    ),
    "adaptive_span": (
        lambda: AdaptiveSpanAttention(4, heads=H),
        lambda module, i: module(i["x"], i["x"], i["x"]),
    ),
    "dynamic_sparse": (lambda: DynamicSparseAttention(D, buckets=4, heads=H), asking),
    "random_features": (lambda: RandomFeatureAttention(D, 16, heads=H), asking),
    "coverage": (
        lambda: CoverageAttention(E, E, SIZE),
        lambda module, i: asking_projected(module, i).output,
    ),
    "sentinel": (
        lambda: SentinelAttention(E, E, E, SIZE),
        lambda module, i: (
            module(i["x"], module.keys(i["memory"]), i["memory"], i["x"], i["lengths"]).output
        ),
    ),
    "pooling": (lambda: AttentionPooling(E, queries=2, hidden_size=SIZE), on_memory),
    "hierarchical": (
        lambda: HierarchicalAttention(E, SIZE, encoder_size=5),
        lambda module, i: module(i["words"]).output,
    ),
    "set": (lambda: SetAttentionBlock(E, H), on_memory),
    "induced_set": (lambda: InducedSetAttentionBlock(E, H, 4), on_memory),
    "set_pooling": (lambda: PoolingByMultiheadAttention(E, H, 2), on_memory),
    "squeeze_excitation": (lambda: SqueezeExcitation(E, reduction=4), on_map),
    "cbam": (lambda: Cbam(E, reduction=4, kernel_size=3), on_map),
    "non_local": (
        lambda: NonLocalAttention(
            E, heads=2, positions=RelativePositions2d(6, 6, heads=2, head_size=3)
        ),
        on_map,
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What either side saved: SIDE/NAME, a state, and SIDE/NAME.output, what C++ makes of it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("states")
    save_file({name: x.contiguous() for name, x in draw_inputs().items()}, folder / "inputs")
    for side in ("cpp", "python"):
        (folder / side).mkdir()
    for name, (make, _) in CASES.items():
        module = make()
        for parameter in module.parameters():  # zeros would not tell one name from another
            nn.init.uniform_(parameter, -0.5, 0.5)
        save_file(module.state_dict(), folder / "python" / name)
    subprocess.run([DRIVER, folder], check=True)
    return folder


def test_both_sides_have_the_same_modules(folder):
    for side in ("cpp", "python"):
        states = {path.name for path in (folder / side).iterdir()}
        assert states == set(CASES) | {f"{name}.output" for name in CASES}


@pytest.mark.parametrize("side", ["cpp", "python"])
@pytest.mark.parametrize("name", CASES)
def test_a_state_means_the_same_on_both_sides(folder, name, side):
    make, call = CASES[name]
    state = load_file(folder / side / name)
    module = make().eval()
    assert {n: x.dtype for n, x in state.items()} == {
        n: x.dtype for n, x in module.state_dict().items()
    }
    module.load_state_dict(state, strict=True)
    with torch.no_grad():
        found = call(module, load_file(folder / "inputs"))
    expected = load_file(folder / side / f"{name}.output")["output"]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_each_tensor_of_a_state_counts(folder):
    """Else a name could stand for another's tensor, and no output would tell."""
    inputs = load_file(folder / "inputs")
    for name, (make, call) in CASES.items():
        module = make().eval()
        state = load_file(folder / "python" / name)
        expected = load_file(folder / "python" / f"{name}.output")["output"]
        for key, tensor in state.items():
            if key.endswith("key_projection.bias"):
                continue  # the same for all keys: the softmax does not see it
            module.load_state_dict({**state, key: tensor + torch.rand_like(tensor)})
            with torch.no_grad():
                found = call(module, inputs)
            assert (found - expected).abs().max() > 1e-5, (name, key)
