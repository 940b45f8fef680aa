"""Both ways to this engine's scaled_dot_product_attention, the formula that they compute, and a
counter of the engine's calls."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from heed.replace_torch import replace_torch_attention
from heed.sdpa import scaled_dot_product_attention

INF = torch.inf


def through_torch(*arguments: Tensor, **options) -> Tensor:
    with replace_torch_attention():
        return F.scaled_dot_product_attention(*arguments, **options)


FACES: dict[str, Callable[..., Tensor]] = {
    "heed": scaled_dot_product_attention,
    "torch replaced": through_torch,
}


def formula(q, k, v, attn_mask=None, is_causal=False, kept=None) -> Tensor:
    """kept [...,T,S]: what dropout multiplies the weights with. No row may be without keys."""
    scores = q @ k.mT / q.shape[-1] ** 0.5  # [...,T,S]
    if is_causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~seen, -INF)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -INF)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = scores.softmax(-1)
    return (weights if kept is None else weights * kept) @ v


def with_gradients(out: Tensor, leaves: Sequence[Tensor], d_out: Tensor) -> list[Tensor]:
    return [out, *torch.autograd.grad(out, leaves, d_out.to(out.dtype))]


def fresh(leaves: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [x.detach().to(dtype).requires_grad_() for x in leaves]


class EngineCalls(TorchDispatchMode):
    """`count`: how often the engine computed attention meanwhile."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.heed.attention.default
        return func(*args, **(kwargs or {}))
