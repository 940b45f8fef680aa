"""`heed.replace_torch_attention`: torch's own scaled_dot_product_attention runs the engine."""

import threading

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad

from heed.sdpa import scaled_dot_product_attention

_DTYPES = {torch.float32, torch.bfloat16, torch.float16}  # torch's float64 is faster than ours
# The last two are torch.compile's. Others (nested, distributed, quantized) may know torch's operators
# only.
_TYPES = {Tensor, torch.nn.Parameter, FakeTensor, FunctionalTensor}


class replace_torch_attention:  # noqa: N801, a function to its callers
    """Torch's own attention on the CPU runs this engine, gradients included.

    In a `with` statement until its end; as a plain call for the rest of the process. It nests and
    holds for all threads. It acts below the function's name: names imported earlier are reached,
    and so are torch.nn.MultiheadAttention, the Transformer layers and Hugging Face's "sdpa". The
    layers' fused inference, which goes around the function, is off meanwhile.

    Results and gradients are those of `heed.scaled_dot_product_attention`. To torch are left:
    dtypes other than float32, bfloat16 and float16; other devices; nested tensors and other
    subclasses of Tensor; forward-mode derivatives and torch.func's transforms; attn_mask and
    is_causal together; weights that are asked for (need_weights); and everything while
    torch.nn.attention.sdpa_kernel excludes FLASH_ATTENTION.

    A graph that torch.compile makes meanwhile keeps the engine; one made before keeps torch.
    """

    def __init__(self) -> None:
        self._active = True
        _add_user()

    def __enter__(self) -> "replace_torch_attention":
        if not self._active:
            self._active = True
            _add_user()
        return self

    def __exit__(self, *error: object) -> None:
        if self._active:
            self._active = False
            _remove_user()


_lock = threading.Lock()
_users = 0
_replacement: "_Replacement | None" = None  # while there are users


def _add_user() -> None:
    global _users, _replacement
    with _lock:
        if _users == 0:
            _replacement = _Replacement()
        _users += 1


def _remove_user() -> None:
    global _users, _replacement
    with _lock:
        _users -= 1
        if _users == 0 and _replacement is not None:
            _replacement.undo()
            _replacement = None


class _Replacement:
    """What is changed in torch, and the way back."""

    def __init__(self) -> None:
        self.fused_inference = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        # Stored graphs that call the engine must not be loaded where it is not.
        self.tag = torch.compiler.config.cache_key_tag
        torch.compiler.config.cache_key_tag = f"{self.tag}+heed"
        self.library = torch.library.Library("aten", "IMPL")
        for key in ("AutogradCPU", "CPU"):  # the second for inference_mode
            self.library.impl("scaled_dot_product_attention", _attention, key)

    def undo(self) -> None:
        self.library._destroy()
        torch.compiler.config.cache_key_tag = self.tag
        torch.backends.mha.set_fastpath_enabled(self.fused_inference)


_of_torch = torch.ops.aten.scaled_dot_product_attention.default


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """aten::scaled_dot_product_attention."""
    if _is_covered(query, key, value, attn_mask, is_causal):
        return scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
        )
    return _of_torch.decompose(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )


def _is_covered(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, is_causal: bool
) -> bool:
    return (
        query.dtype in _DTYPES
        and query.dtype == key.dtype == value.dtype
        and type(query) in _TYPES
        and type(key) in _TYPES
        and type(value) in _TYPES
        and (attn_mask is None or (type(attn_mask) in _TYPES and not is_causal))
        and torch._C._get_flash_sdp_enabled()
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
    )
