"""torch.nn's attention modules while `replace_torch_attention` holds, against themselves without
it: outputs, gradients of inputs and of every parameter.

`python tests/conformance/torch_modules_suite.py` counts what torch passes.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from sdpa_faces import EngineCalls
from suite import Case, Suite
from torch import Tensor, nn
from torch.testing import assert_close

from heed.replace_torch import replace_torch_attention

B, T, S, E, H = 3, 7, 9, 16, 4
LENGTHS = {T: [7, 4, 1], S: [9, 2, 5]}

# Those of PyTorch's own comparison of its fused kernel with mathematics, test_transformers.py.
TOLERANCES = {
    torch.float32: {"atol": 1.25e-5, "rtol": 5.25e-6},
    torch.bfloat16: {"atol": 5e-2, "rtol": 5e-2},
}
Results = dict[str, Tensor]
MASKS = ("none", "bool", "float", "causal", "causal flag")


@dataclass(frozen=True)
class Setting:
    module: str
    mask: str = "none"
    padding: bool = False
    batch_first: bool = True
    norm_first: bool = False
    training: bool = True
    grad: bool = True
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        words = [self.module, f"mask {self.mask}", str(self.dtype).removeprefix("torch.")]
        words += [word for word in ("padding", "batch_first", "norm_first") if getattr(self, word)]
        words += ["train" if self.training else "eval", *([] if self.grad else ["no_grad"])]
        return ", ".join(words)


def settings() -> Iterator[Setting]:
    for module, mask, padding in itertools.product(BUILD, MASKS, (False, True)):
        plain = Setting(module, mask, padding)
        yield plain
        yield replace(plain, batch_first=False)
        yield replace(plain, training=False)
        yield replace(plain, training=False, grad=False)
        yield replace(plain, dtype=torch.bfloat16)
        if module != "MultiheadAttention":
            yield replace(plain, norm_first=True)


def layer_of(kind: type[nn.Module]):
    def build(setting: Setting) -> nn.Module:
        orders = {"batch_first": setting.batch_first, "norm_first": setting.norm_first}
        return kind(E, H, 24, dropout=0.0, **orders)

    return build


BUILD = {
    "MultiheadAttention": lambda s: nn.MultiheadAttention(E, H, batch_first=s.batch_first),
    "TransformerEncoderLayer": layer_of(nn.TransformerEncoderLayer),
    "TransformerDecoderLayer": layer_of(nn.TransformerDecoderLayer),
}
ATTENTIONS = {"MultiheadAttention": 1, "TransformerEncoderLayer": 1, "TransformerDecoderLayer": 2}


def mask_of(kind: str, queries: int, keys: int) -> Tensor | None:
    """True, or -inf, hides a key here; the first is never hidden."""
    if kind == "none":
        return None
    if kind in ("causal", "causal flag"):
        hidden = torch.ones(queries, keys).triu(1).bool()
        return torch.zeros(queries, keys).masked_fill(hidden, -torch.inf)
    if kind == "float":
        return torch.randn(queries, keys)
    hidden = torch.rand(queries, keys) < 0.4
    hidden[:, 0] = False
    return hidden


def padding_of(setting: Setting, keys: int) -> Tensor | None:
    if not setting.padding:
        return None
    hidden = torch.arange(keys) >= torch.tensor(LENGTHS[keys]).view(B, 1)  # [B,S]
    if setting.mask in ("none", "bool"):
        return hidden
    return torch.zeros(B, keys).masked_fill(hidden, -torch.inf)  # of the mask's type, as asked for


def call(module: nn.Module, setting: Setting, inputs: list[Tensor]) -> Tensor:
    torch.manual_seed(1)
    flag = setting.mask == "causal flag"
    x, *memory = inputs

    def cast(mask: Tensor | None) -> Tensor | None:
        return mask.to(x.dtype) if mask is not None and mask.is_floating_point() else mask

    if setting.module == "MultiheadAttention":
        mask, padding = cast(mask_of(setting.mask, T, S)), cast(padding_of(setting, S))
        keys = memory[0]
        return module(
            x, keys, keys, key_padding_mask=padding, attn_mask=mask, need_weights=False,
            is_causal=flag,
        )[0]  # fmt: skip
    mask, padding = cast(mask_of(setting.mask, T, T)), cast(padding_of(setting, T))
    if setting.module == "TransformerEncoderLayer":
        return module(x, src_mask=mask, src_key_padding_mask=padding, is_causal=flag)
    return module(
        x, memory[0], tgt_mask=mask, tgt_key_padding_mask=padding, tgt_is_causal=flag,
        memory_key_padding_mask=cast(padding_of(setting, S)),
    )  # fmt: skip


def results(module: nn.Module, setting: Setting, inputs: list[Tensor]) -> Results:
    with torch.set_grad_enabled(setting.grad):
        out = call(module, setting, inputs)
    if not setting.grad:
        return {"out": out}
    leaves = dict(module.named_parameters())
    leaves |= {f"input {i}": x for i, x in enumerate(inputs)}
    d_out = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(out.dtype)
    found = torch.autograd.grad(out, list(leaves.values()), d_out, allow_unused=True)
    gradients = zip(leaves, found, strict=True)
    return {"out": out} | {name: x for name, x in gradients if x is not None}


@contextmanager
def fused_inference(enabled: bool) -> Iterator[None]:
    """With it some layers of torch take the numbers of a float mask for truth values."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


def heed(compute: Callable[[], Results], attentions: int) -> Results:
    with replace_torch_attention(), EngineCalls() as calls:
        found = compute()
    assert calls.count == attentions, f"the engine was called {calls.count} times"
    return found


def run(setting: Setting, contestant: Callable[..., Results] = heed) -> None:
    torch.manual_seed(0)
    module = BUILD[setting.module](setting).train(setting.training).to(setting.dtype)
    sizes = [(B, T, E), (B, S, E)][: 1 if setting.module == "TransformerEncoderLayer" else 2]
    inputs = [torch.randn(size).to(setting.dtype) for size in sizes]  # [B,T,E], [B,S,E]
    if not setting.batch_first:
        inputs = [x.transpose(0, 1) for x in inputs]

    def given() -> list[Tensor]:
        return [x.detach().requires_grad_(setting.grad) for x in inputs]

    with fused_inference(False):
        expected = results(module, setting, given())
    found = contestant(lambda: results(module, setting, given()), ATTENTIONS[setting.module])
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        assert_close(
            found[name], right, **TOLERANCES[setting.dtype],
            msg=lambda message, name=name: f"{name}: {message}",
        )  # fmt: skip


def cases() -> Iterator[Case]:
    for i, setting in enumerate(settings()):
        yield Case(str(setting), partial(run, setting), fast=i % 3 == 0)


SUITES = [Suite("torch modules", cases, "torch: 168 (its fused inference)")]

if __name__ == "__main__":
    passed = 0
    for setting in settings():
        try:
            run(setting, contestant=lambda compute, attentions: compute())
            passed += 1
        except AssertionError as error:
            print(setting, str(error).splitlines()[0])
    print(f"torch passes {passed}")
