"""heed.replace_torch_attention: torch's own attention runs the engine, and only then and there."""

import math
import threading

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention  # imported before it is replaced

from heed import replace_torch
from heed.replace_torch import replace_torch_attention

KEYS = ("AutogradCPU", "CPU")


@pytest.fixture(autouse=True)
def torch_is_as_it_was():
    yield
    assert replace_torch._users == 0
    for key in KEYS:
        has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
        assert not has_kernel("aten::scaled_dot_product_attention", key)
    assert torch.backends.mha.get_fastpath_enabled()
    assert "heed" not in torch.compiler.config.cache_key_tag


@pytest.fixture
def calls(monkeypatch):
    """The sizes of queries that the engine was given."""
    engine, seen = replace_torch.scaled_dot_product_attention, []

    def spy(query, *others):
        seen.append(tuple(query.shape))
        return engine(query, *others)

    monkeypatch.setattr(replace_torch, "scaled_dot_product_attention", spy)
    return seen


def inputs(*size, dtype=torch.float32, grad=False):
    return [torch.randn(*size, dtype=dtype).requires_grad_(grad) for _ in range(3)]


def math_in_float64(q, k, v, attn_mask=None, **options):
    if attn_mask is not None and attn_mask.is_floating_point():
        attn_mask = attn_mask.double()
    with sdpa_kernel(SDPBackend.MATH):
        return scaled_dot_product_attention(
            q.double(), k.double(), v.double(), attn_mask, **options
        )


def gradients(out, tensors):
    return torch.autograd.grad((out * torch.linspace(-1, 1, out.shape[-1])).sum(), tensors)


# Where it acts.


@pytest.mark.parametrize("options", [
    {},
    {"is_causal": True},
    {"attn_mask": torch.rand(2, 1, 1, 9) < 0.7},
    {"attn_mask": torch.randn(9, 9), "scale": 0.5},
], ids=["plain", "causal", "bool", "float"])  # fmt: skip
@pytest.mark.parametrize("rank", [3, 4])
def test_an_earlier_name_runs_the_engine_forward_and_backward(calls, options, rank):
    tensors = inputs(*(2, 3, 9, 8)[4 - rank :], grad=True)
    if rank == 3 and "attn_mask" in options and options["attn_mask"].dim() == 4:
        options = {"attn_mask": options["attn_mask"][:1, 0]}
    expected = math_in_float64(*tensors, **options)
    with replace_torch_attention():
        out = scaled_dot_product_attention(*tensors, **options)
        named = torch.nn.functional.scaled_dot_product_attention(*tensors, **options)
    assert len(calls) == 2 and torch.equal(out, named)
    torch.testing.assert_close(out, expected.float())
    for got, right in zip(gradients(out, tensors), gradients(expected, tensors), strict=True):
        torch.testing.assert_close(got, right)


def test_grouped_heads_and_dropout(calls):
    q, k, v = torch.randn(2, 6, 40, 8), torch.zeros(2, 2, 50, 8), torch.ones(2, 2, 50, 8)
    with replace_torch_attention():
        out = scaled_dot_product_attention(q, k, v, dropout_p=0.4, enable_gqa=True)
    assert len(calls) == 1
    assert out.std() > 0.01 and out.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(calls, mode):
    with replace_torch_attention(), mode():
        q, k, v = inputs(1, 2, 9, 8)
        out = scaled_dot_product_attention(q, k, v)
    assert len(calls) == 1
    torch.testing.assert_close(out, math_in_float64(q, k, v).float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_and_autocast(calls, dtype):
    q, k, v = inputs(1, 2, 9, 8)
    expected = math_in_float64(*(x.to(dtype) for x in (q, k, v)))
    with replace_torch_attention():
        out = scaled_dot_product_attention(*(x.to(dtype) for x in (q, k, v)))
        with torch.autocast("cpu", dtype):
            cast = scaled_dot_product_attention(q, k, v)
    assert len(calls) == 2 and out.dtype == dtype and torch.equal(out, cast)
    torch.testing.assert_close(out, expected.to(dtype), atol=1e-2, rtol=1e-2)


def test_what_is_masked_does_not_leak(calls):
    q, k, v = inputs(1, 2, 9, 8)
    padding = torch.arange(9).view(1, 1, 1, 9) < 6
    expected = scaled_dot_product_attention(q, k, v, padding)
    k[:, :, 6:], v[:, :, 6:] = math.nan, math.nan
    assert scaled_dot_product_attention(q, k, v, padding).isnan().any()  # torch's own
    with replace_torch_attention():
        out = scaled_dot_product_attention(q, k, v, padding)
    torch.testing.assert_close(out, expected)


# When it acts.


def test_it_nests(calls):
    q, k, v = inputs(1, 2, 5, 4)
    counts = []

    def attend():
        scaled_dot_product_attention(q, k, v)
        counts.append(len(calls))

    attend()
    with replace_torch_attention():
        attend()
        with replace_torch_attention():
            attend()
        attend()
    attend()
    assert counts == [0, 1, 2, 3, 3]


def test_an_exception_ends_it():
    with pytest.raises(ZeroDivisionError), replace_torch_attention():
        raise ZeroDivisionError


def test_a_plain_call_lasts_and_can_be_ended_once(calls):
    q, k, v = inputs(1, 2, 5, 4)
    replacement = replace_torch_attention()
    scaled_dot_product_attention(q, k, v)
    assert len(calls) == 1
    with replacement:  # begun already
        scaled_dot_product_attention(q, k, v)
    scaled_dot_product_attention(q, k, v)
    assert len(calls) == 2
    with replacement, replace_torch_attention():
        scaled_dot_product_attention(q, k, v)
    assert len(calls) == 3


def test_it_holds_for_all_threads_and_many_may_begin_it():
    q, k, v = inputs(1, 2, 5, 4)
    k[:, :, -1], v[:, :, -1] = math.nan, math.nan
    clean = []

    def work():
        for _ in range(20):
            with replace_torch_attention():
                out = scaled_dot_product_attention(q, k, v, is_causal=True)
                clean.append(not out[:, :, :-1].isnan().any())

    with replace_torch_attention():
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(clean) == 80 and all(clean)


# What is left to torch.


class Subclass(torch.Tensor):
    pass


def tangent(q, k, v):
    q, k, v = q[0], k[0], v[0]  # of rank 3, for which torch has it
    with forward_ad.dual_level():
        out = scaled_dot_product_attention(forward_ad.make_dual(q, k), k, v)
        return forward_ad.unpack_dual(out).tangent


def only_math(q, k, v):
    with sdpa_kernel(SDPBackend.MATH):
        return scaled_dot_product_attention(q, k, v)


def jagged(*tensors):
    """[B,H,T,D] whose T may differ."""
    sequences = (list(x.transpose(1, 2)) for x in tensors)
    q, k, v = (torch.nested.nested_tensor(x, layout=torch.jagged) for x in sequences)
    out = scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
    return out.transpose(1, 2).values()


LEFT = {
    "float64": lambda q, k, v: scaled_dot_product_attention(q.double(), k.double(), v.double()),
    "subclass": lambda q, k, v: scaled_dot_product_attention(q.as_subclass(Subclass), k, v),
    "nested": lambda q, k, v: scaled_dot_product_attention(
        *(torch.nested.nested_tensor(list(x)) for x in (q, k, v))
    ).to_padded_tensor(0.0),
    "jagged": jagged,
    "mask and causal": lambda q, k, v: scaled_dot_product_attention(
        q, k, v, torch.ones(5, 5, dtype=torch.bool), is_causal=True
    ),
    "sdpa_kernel": only_math,
    "forward mode": tangent,
    "vmap": torch.vmap(scaled_dot_product_attention),
    "func.grad": torch.func.grad(lambda q, k, v: scaled_dot_product_attention(q, k, v).sum()),
    "meta": lambda q, k, v: torch.empty_like(
        scaled_dot_product_attention(q.to("meta"), k.to("meta"), v.to("meta")), device="cpu"
    ).zero_(),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("attend", LEFT.values(), ids=LEFT)
def test_is_left_to_torch(calls, attend):
    tensors = inputs(2, 3, 5, 4)
    expected = attend(*tensors)
    with replace_torch_attention():
        out = attend(*tensors)
    assert not calls
    assert torch.equal(out, expected)


@pytest.mark.parametrize("wrong, error", [
    (lambda x: (x.int(), x.int(), x.int()), RuntimeError),
    (lambda x: (x, x.double(), x), RuntimeError),
    (lambda x: (x, x[..., :3], x), RuntimeError),
    (lambda x: (x, x, x, torch.ones(5, 4, dtype=torch.bool)), RuntimeError),
    (lambda x: (x, x, x, torch.ones(5, 5, dtype=torch.int)), RuntimeError),
    (lambda x: (x[0, 0, 0], x, x), RuntimeError),
    (lambda x: (x, x, 1), TypeError),
])  # fmt: skip
def test_errors_are_of_torchs_types(wrong, error):
    arguments = wrong(torch.randn(2, 3, 5, 4))
    with replace_torch_attention(), pytest.raises(error):
        scaled_dot_product_attention(*arguments)


# Modules.

E, H = 16, 4


def padding_of(B, T):
    return torch.arange(T) >= torch.tensor([T, T - 3, 1][:B]).view(B, 1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_transformer_encoder(calls, training, grad):
    layer = nn.TransformerEncoderLayer(E, H, 32, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).train(training)
    x, padding = torch.randn(3, 7, E), padding_of(3, 7)
    with torch.set_grad_enabled(grad):
        expected = encoder(x, src_key_padding_mask=padding)
        with replace_torch_attention():
            out = encoder(x, src_key_padding_mask=padding)
    assert len(calls) == 2  # one a layer
    torch.testing.assert_close(out[~padding], expected[~padding], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention(calls, batch_first):
    module = nn.MultiheadAttention(E, H, batch_first=batch_first).eval()
    x, mask = torch.randn(5, 5, E), torch.ones(5, 5).triu(1).bool()
    expected = module(x, x, x, need_weights=False, attn_mask=mask)[0]
    with replace_torch_attention():
        out = module(x, x, x, need_weights=False, attn_mask=mask)[0]
        assert len(calls) == 1
        weights = module(x, x, x, attn_mask=mask)[1]
    assert len(calls) == 1
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, 5))


def test_a_training_step_of_a_decoder_layer(calls):
    layer = nn.TransformerDecoderLayer(E, H, 32, dropout=0.0, batch_first=True)
    x, memory = torch.randn(2, 6, E), torch.randn(2, 9, E)
    causal = nn.Transformer.generate_square_subsequent_mask(6)

    def step():
        out = layer(x, memory, tgt_mask=causal, tgt_is_causal=True)
        return torch.autograd.grad(out.square().sum(), list(layer.parameters()))

    expected = step()
    with replace_torch_attention():
        found = step()
    assert len(calls) == 2
    for got, right in zip(found, expected, strict=True):
        torch.testing.assert_close(got, right, atol=1e-5, rtol=1e-4)


def test_a_hugging_face_model_with_sdpa(calls):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=E, num_hidden_layers=2, num_attention_heads=H,
        intermediate_size=32, attn_implementation="sdpa",
    )  # fmt: skip
    model = transformers.BertModel(config).eval()
    ids, padding = torch.randint(30, (3, 7)), padding_of(3, 7)
    expected = model(ids, attention_mask=(~padding).long()).last_hidden_state
    with replace_torch_attention():
        out = model(ids, attention_mask=(~padding).long()).last_hidden_state
    assert len(calls) == 2
    torch.testing.assert_close(out[~padding], expected[~padding], atol=2e-6, rtol=1e-5)


# Graphs.


def test_torch_compile_keeps_the_engine_in_its_graph():
    q, k, v = inputs(1, 2, 9, 8)
    graphs = []

    def backend(graph, _):
        graphs.append({node.target for node in graph.graph.nodes})
        return graph

    from torch._dynamo.backends.common import aot_autograd

    torch._dynamo.reset()
    compiled = torch.compile(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True).sin(),
        backend=aot_autograd(fw_compiler=backend),
        fullgraph=True,
    )
    expected = scaled_dot_product_attention(q, k, v, is_causal=True).sin()
    with replace_torch_attention():
        torch.testing.assert_close(compiled(q, k, v), expected)
    torch.testing.assert_close(compiled(q, k, v), expected)  # afterwards, too
    assert len(graphs) == 1 and torch.ops.heed.attention.default in graphs[0]
    torch._dynamo.reset()


def test_stored_graphs_are_not_mixed_with_torchs():
    before = torch.compiler.config.cache_key_tag
    with replace_torch_attention():
        assert torch.compiler.config.cache_key_tag == before + "+heed"
    assert torch.compiler.config.cache_key_tag == before


def test_torch_export_works():
    class Module(nn.Module):
        def forward(self, q, k, v):
            return scaled_dot_product_attention(q, k, v)

    tensors = inputs(1, 2, 9, 8)
    expected = scaled_dot_product_attention(*tensors)
    with replace_torch_attention():
        program = torch.export.export(Module(), tuple(tensors))
        torch.testing.assert_close(program.module()(*tensors), expected)
    torch.testing.assert_close(program.module()(*tensors), expected)
