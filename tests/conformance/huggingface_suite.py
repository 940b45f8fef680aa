"""Hugging Face models with attn_implementation="heed" against "eager": tiny random ones, with
padding left and right, forward and gradients of every parameter, and greedy generation.

`python tests/conformance/huggingface_suite.py sdpa` counts what another implementation passes.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from suite import Case, Suite
from torch import Tensor

import heed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

B, T, V = 3, 21, 61  # elements, tokens, vocabulary
LENGTHS = [21, 13, 6]  # real tokens of each element

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.2,  # scores that differ: the usual 0.02 makes attention a mean
}
DECODER = SMALL | {"vocab_size": V, "max_position_embeddings": 96, "pad_token_id": 0}
GROUPED = DECODER | {"num_key_value_heads": 2, "head_dim": 8}

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}


@dataclass(frozen=True, eq=False)  # compared and hashed as itself
class Model:
    """A tiny model: its names in transformers, what is special about its attention."""

    name: str
    architecture: str
    config: str
    settings: dict[str, Any]
    inputs: str = "text"  # a function below
    generates: bool = False
    rounds: bool = False  # eager's softmax is in float32, whatever the dtype
    fast: bool = False


MODELS = [
    Model("BERT", "BertModel", "BertConfig", DECODER, fast=True),
    Model(
        "ModernBERT, windows both ways",
        "ModernBertModel",
        "ModernBertConfig",
        DECODER
        | {"local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 1}
        | {"bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2},
        rounds=True,
    ),
    Model(
        "GPT-2",
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96, "vocab_size": V}
        | {"initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2},
        generates=True,
        fast=True,
    ),
    Model(
        "Llama, grouped heads",
        "LlamaForCausalLM",
        "LlamaConfig",
        GROUPED,
        generates=True,
        fast=True,
        rounds=True,
    ),
    Model("Qwen3", "Qwen3ForCausalLM", "Qwen3Config", GROUPED, generates=True, rounds=True),
    Model(
        "Mistral, sliding window",
        "MistralForCausalLM",
        "MistralConfig",
        GROUPED | {"sliding_window": 7},
        generates=True,
        fast=True,
        rounds=True,
    ),
    Model(
        "Gemma 2, soft cap and window",
        "Gemma2ForCausalLM",
        "Gemma2Config",
        GROUPED | {"sliding_window": 7, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
        generates=True,
        fast=True,
        rounds=True,
    ),
    Model(
        "GPT-OSS, sinks and window",
        "GptOssForCausalLM",
        "GptOssConfig",
        GROUPED
        | {
            "sliding_window": 7,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "experts_implementation": "eager",
        },
        generates=True,
        fast=True,
    ),
    Model(
        "T5, relative bias",
        "T5ForConditionalGeneration",
        "T5Config",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": V}
        | {"decoder_start_token_id": 0, "initializer_factor": 1.0, "dropout_rate": 0.0},
        inputs="two_texts",
        generates=True,
        fast=True,
    ),
    Model(
        "ViT",
        "ViTModel",
        "ViTConfig",
        SMALL | {"image_size": 24, "patch_size": 4},
        inputs="image",
        fast=True,
        rounds=True,
    ),
    Model(
        "Wav2Vec2",
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        SMALL
        | {"conv_dim": (16, 16), "conv_kernel": (5, 3), "conv_stride": (5, 2), "vocab_size": V}
        | {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4, "feat_extract_norm": "layer"}
        | {"num_conv_pos_embedding_groups": 2, "apply_spec_augment": False, "layerdrop": 0.0}
        | {"conv_bias": True},
        inputs="sound",
        fast=True,
    ),
    Model(
        "Whisper",
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
        | {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
        | {"num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 96}
        | {"vocab_size": V, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        | {"decoder_start_token_id": 1, "init_std": 0.2, "begin_suppress_tokens": None}
        | {"suppress_tokens": None},
        inputs="spectrum",
        generates=True,
        fast=True,
    ),
]


@cache
def built(model: Model, dtype: torch.dtype) -> "PreTrainedModel":
    """In evaluation mode: dropout draws differ by implementation."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, model.config)(**model.settings, attn_implementation="eager")
    found = getattr(transformers, model.architecture)(config)
    return found.bfloat16().to(dtype).eval()  # the same weights in every dtype


def running(model: Model, dtype: torch.dtype, implementation: str) -> "PreTrainedModel":
    found = built(model, dtype)
    if implementation == "heed":
        heed.register_with_transformers()
    found.set_attn_implementation(implementation)
    return found


# What models read, and which of their output rows are real: (inputs, rows [B,T] bool).


def padding(side: str, length: int = T) -> Tensor:
    """[B,length] int64, 1 where real."""
    lengths = torch.tensor(LENGTHS)[:, None] * length // T
    place = torch.arange(length)
    return (place < lengths if side == "right" else place >= length - lengths).long()


def text(side: str | None) -> tuple[dict[str, Tensor], Tensor]:
    inputs = {"input_ids": torch.randint(3, V, (B, T))}
    if side is None:
        return inputs, torch.ones(B, T, dtype=torch.bool)
    mask = padding(side)
    return inputs | {"attention_mask": mask}, mask.bool()


def two_texts(side: str | None) -> tuple[dict[str, Tensor], Tensor]:
    inputs, _ = text(side)
    target, rows = text(side)
    inputs |= {f"decoder_{name}": value for name, value in target.items()}
    return inputs, rows


def image(side: str | None) -> tuple[dict[str, Tensor], Tensor]:
    return {"pixel_values": torch.randn(B, 3, 24, 24)}, torch.ones(B, 1, dtype=torch.bool)


def sound(side: str | None) -> tuple[dict[str, Tensor], Tensor]:
    samples = 245  # 24 frames
    inputs = {"input_values": torch.randn(B, samples)}
    if side is None:
        return inputs, torch.ones(B, 1, dtype=torch.bool)
    inputs["attention_mask"] = padding("right", samples)  # the model counts frames from the left
    return inputs, torch.arange(24) < (torch.tensor(LENGTHS)[:, None] * samples // T // 10 - 2)


def spectrum(side: str | None) -> tuple[dict[str, Tensor], Tensor]:
    target, rows = text(side)
    inputs = {f"decoder_{name}": value for name, value in target.items()}
    return inputs | {"input_features": torch.randn(B, 8, 40)}, rows


def inputs_of(model: Model, side: str | None, dtype: torch.dtype) -> tuple[dict, Tensor]:
    torch.manual_seed(1)
    inputs, rows = globals()[model.inputs](side)
    floats = {name: x.to(dtype) for name, x in inputs.items() if x.is_floating_point()}
    return inputs | floats, rows


# The cases.


def differentiated(
    model: "PreTrainedModel", inputs: dict[str, Tensor], rows: Tensor
) -> dict[str, Tensor]:
    """The rows of the output that are real, and the gradient of each parameter that has one."""
    model.zero_grad()
    output = model(**inputs)[0]  # [B,T,E]
    output = torch.where(rows[..., None], output, 0)
    torch.manual_seed(2)
    output.backward(torch.randn(output.shape, dtype=output.dtype))
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return found | {"output": output.detach()}


def forward_and_gradients(
    model: Model, side: str | None, dtype: torch.dtype, implementation: str = "heed"
) -> None:
    """As eager within TOLERANCES of a tensor's largest value."""
    expected = results(model, side, dtype, "eager")
    found = results(model, side, dtype, implementation)
    tolerance = 1e-6 if model.rounds and dtype == torch.float64 else TOLERANCES[dtype]
    for name, error in errors(found, expected).items():
        assert error < tolerance, f"{name} differs by {error:.1e} of its largest value"


def half_precision(model: Model, side: str | None, implementation: str = "heed") -> None:
    """Not much farther from float32 than eager is (flash-attention's criterion)."""
    right = results(model, side, torch.float32, "eager")
    eager = errors(results(model, side, torch.bfloat16, "eager"), right)
    for name, error in errors(results(model, side, torch.bfloat16, implementation), right).items():
        assert error < 3 * eager[name] + 0.02, (
            f"{name}: error {error:.2g}, eager's {eager[name]:.2g}"
        )


def results(
    model: Model, side: str | None, dtype: torch.dtype, implementation: str
) -> dict[str, Tensor]:
    inputs, rows = inputs_of(model, side, dtype)
    return differentiated(running(model, dtype, implementation), inputs, rows)


def errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Largest difference over largest value; NaN if anything is."""
    assert found.keys() == expected.keys()
    largest = {name: x.abs().max().item() or 1.0 for name, x in expected.items()}
    for name in largest:
        if name.endswith(("key.bias", "k_proj.bias")):  # no influence: a gradient of rounding only
            largest[name] = max(largest.values())
    return {
        name: (found[name].to(right.dtype) - right).abs().max().item() / largest[name]
        for name, right in expected.items()
    }


def generation(model: Model, side: str | None, cache: str, implementation: str = "heed") -> None:
    """Greedy: the tokens are the same."""
    inputs, _ = inputs_of(model, side, torch.float32)
    found = {}
    for name in ("eager", implementation):
        found[name] = running(model, torch.float32, name).generate(
            **inputs,
            max_new_tokens=12,
            do_sample=False,
            cache_implementation=cache,
            eos_token_id=None,
            pad_token_id=0,
        )
    assert torch.equal(found["eager"], found[implementation]), "other tokens"


def packed(model: Model, implementation: str = "heed") -> None:
    """Two sequences one after the other, told apart by positions that start again."""
    inputs, rows = inputs_of(model, None, torch.float32)
    inputs["position_ids"] = torch.cat([torch.arange(9), torch.arange(T - 9)]).expand(B, T)
    expected = differentiated(running(model, torch.float32, "eager"), inputs, rows)
    found = differentiated(running(model, torch.float32, implementation), inputs, rows)
    worst = max(errors(found, expected).values())
    assert worst < TOLERANCES[torch.float32], f"differs by {worst:.1e} of the largest value"


def sides(model: Model) -> list[str | None]:
    """Where it can be padded."""
    return {"image": [None], "sound": [None, "right"]}.get(model.inputs, [None, "right", "left"])


def cases(implementation: str = "heed") -> Iterator[Case]:
    def case(name: str, fast: bool, check: Callable, *arguments: Any) -> Case:
        run = partial(check, model, *arguments, implementation=implementation)
        return Case(f"{model.name}: {name}", run, fast and model.fast)

    for model in MODELS:
        for side in sides(model):
            padded = f", {side} padding" if side else ""
            yield case(
                f"float32{padded}", side != "right", forward_and_gradients, side, torch.float32
            )
            if not (model.rounds and side):  # there eager's masked rows are NaN
                yield case(f"float64{padded}", False, forward_and_gradients, side, torch.float64)
            yield case(f"bfloat16{padded}", False, half_precision, side)
        for side in (None, "left") if model.generates else ():
            padded = ", left padding" if side else ""
            yield case(f"generation{padded}", False, generation, side, "dynamic")
            yield case(f"generation, static cache{padded}", False, generation, side, "static")
        if model.generates and model.inputs == "text":
            yield case("packed sequences", "sliding" in model.name, packed)


SUITES = [
    Suite(
        "Hugging Face models", cases, rivals="transformers' sdpa 100/127", needs=("transformers",)
    )
]


if __name__ == "__main__":
    passed = failed = 0
    for case in cases(sys.argv[1]):
        try:
            case.run()
            passed += 1
        except Exception as error:  # noqa: BLE001, a case may fail in any way
            failed += 1
            print(f"failed: {case.name}: {type(error).__name__}: {str(error).splitlines()[0]}")
    print(f"{sys.argv[1]}: {passed}/{passed + failed}")
