"""Other programs' names for the parameters of attention and of the Transformer's blocks."""

from collections.abc import Mapping

import torch
from torch import Tensor

StateDict = dict[str, Tensor]


def from_torch(state: Mapping[str, Tensor]) -> StateDict:
    """Of torch.nn.MultiheadAttention, TransformerEncoderLayer, TransformerDecoderLayer and stacks.

    | torch | heed.nn |
    |---|---|
    | `self_attn`, `multihead_attn` | `self_attention`, `cross_attention` |
    | `in_proj_weight`, or `q_proj_weight` and so on | `query_projection.weight`, `key_...`, `value_...` |
    | `out_proj` | `output_projection` |
    | `linear1`, `linear2` | `feed_forward.hidden_projection`, `feed_forward.output_projection` |
    | `norm1` | `self_attention_norm` |
    | `norm2`, `norm3` of a decoder's layer | `cross_attention_norm`, `feed_forward_norm` |
    | `norm2` of an encoder's layer | `feed_forward_norm` |
    """
    ours: StateDict = {}
    for name, tensor in state.items():
        prefix, _, last = name.rpartition("in_proj_")
        if last in ("weight", "bias"):
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                ours[f"{prefix}{part}_projection.{last}"] = rows
        else:
            ours[name] = tensor
    decoders = {
        name.removesuffix("norm3.weight") for name in state if name.endswith("norm3.weight")
    }
    names = {
        "q_proj_weight": "query_projection.weight",
        "k_proj_weight": "key_projection.weight",
        "v_proj_weight": "value_projection.weight",
        "out_proj.": "output_projection.",
        "self_attn.": "self_attention.",
        "multihead_attn.": "cross_attention.",
        "linear1.": "feed_forward.hidden_projection.",
        "linear2.": "feed_forward.output_projection.",
        "norm1.": "self_attention_norm.",
        "norm3.": "feed_forward_norm.",
    }
    renamed = {}
    for name, tensor in ours.items():
        of_decoder = name.partition("norm2.")[0] in decoders
        second = "cross_attention_norm." if of_decoder else "feed_forward_norm."
        renamed[_replace(name, {**names, "norm2.": second})] = tensor
    return renamed


def from_llama(state: Mapping[str, Tensor]) -> StateDict:
    """Of a LlamaDecoderLayer or LlamaModel of transformers, for a TransformerDecoder(Layer) with
    cross_attention=False, norm="rms", norm_first=True, activation="swiglu", bias=False and
    RotaryPositions.

    | transformers | heed.nn |
    |---|---|
    | `self_attn.q_proj`, `k_proj`, `v_proj`, `o_proj` | `self_attention.query_projection`, ... |
    | `mlp.gate_proj`, `up_proj`, `down_proj` | `feed_forward.gate_...`, `hidden_...`, `output_projection` |
    | `input_layernorm`, `post_attention_layernorm` | `self_attention_norm`, `feed_forward_norm` |
    """
    names = {
        "self_attn.q_proj.": "self_attention.query_projection.",
        "self_attn.k_proj.": "self_attention.key_projection.",
        "self_attn.v_proj.": "self_attention.value_projection.",
        "self_attn.o_proj.": "self_attention.output_projection.",
        "mlp.gate_proj.": "feed_forward.gate_projection.",
        "mlp.up_proj.": "feed_forward.hidden_projection.",
        "mlp.down_proj.": "feed_forward.output_projection.",
        "input_layernorm.": "self_attention_norm.",
        "post_attention_layernorm.": "feed_forward_norm.",
    }
    return {_replace(name, names): tensor for name, tensor in state.items()}


def from_gpt2(state: Mapping[str, Tensor]) -> StateDict:
    """Of a GPT2Block or GPT2Model of transformers, for a TransformerDecoder(Layer) with
    cross_attention=False, norm_first=True and activation="gelu_tanh". Its matrices are transposed.

    | transformers | heed.nn |
    |---|---|
    | `h` | `layers` |
    | `attn.c_attn`, `attn.c_proj` | `self_attention.query_projection`, `key_...`, `value_...`; `output_...` |
    | `mlp.c_fc`, `mlp.c_proj` | `feed_forward.hidden_projection`, `feed_forward.output_projection` |
    | `ln_1`, `ln_2`, `ln_f` | `self_attention_norm`, `feed_forward_norm`, `norm` |
    """
    names = {
        "h.": "layers.",
        "attn.c_proj.": "self_attention.output_projection.",
        "mlp.c_fc.": "feed_forward.hidden_projection.",
        "mlp.c_proj.": "feed_forward.output_projection.",
        "ln_1.": "self_attention_norm.",
        "ln_2.": "feed_forward_norm.",
        "ln_f.": "norm.",
    }
    ours: StateDict = {}
    for name, tensor in state.items():
        matrix = ".c_" in f".{name}" and tensor.dim() == 2  # [in,out]
        rows = tensor.t() if matrix else tensor
        prefix, packed, last = name.partition("attn.c_attn.")
        if packed:
            for part, own in zip(("query", "key", "value"), torch.chunk(rows, 3), strict=True):
                whole = f"{prefix}self_attention.{part}_projection.{last}"
                ours[_replace(whole, names)] = own
        else:
            ours[_replace(name, names)] = rows
    return ours


def from_wav2vec2(state: Mapping[str, Tensor]) -> StateDict:
    """Of the layers of a Wav2Vec2Encoder of transformers, for a TransformerEncoder with
    activation="gelu". What comes before them, a convolution and a norm, is left out.

    | transformers | heed.nn |
    |---|---|
    | `attention.q_proj`, `k_proj`, `v_proj`, `out_proj` | `self_attention.query_projection`, ... |
    | `feed_forward.intermediate_dense`, `output_dense` | `feed_forward.hidden_projection`, `output_projection` |
    | `layer_norm`, `final_layer_norm` | `self_attention_norm`, `feed_forward_norm` |
    """
    names = {
        "attention.": "self_attention.",
        "q_proj.": "query_projection.",
        "k_proj.": "key_projection.",
        "v_proj.": "value_projection.",
        "out_proj.": "output_projection.",
        "intermediate_dense.": "hidden_projection.",
        "output_dense.": "output_projection.",
        "layer_norm.": "self_attention_norm.",
        "final_layer_norm.": "feed_forward_norm.",
    }
    layers = {name: tensor for name, tensor in state.items() if name.startswith("layers.")}
    return {_replace(name, names): tensor for name, tensor in layers.items()}


def _replace(name: str, names: Mapping[str, str]) -> str:
    """Each of `names` where it stands at the beginning or after a dot."""
    dotted = f".{name}"
    for theirs, ours in names.items():
        dotted = dotted.replace(f".{theirs}", f".{ours}")
    return dotted[1:]
