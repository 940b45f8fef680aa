"""What the layers of encoders and decoders share: their options, norms and residual steps."""

import copy
import math
from collections.abc import Callable
from typing import Any, Literal, TypedDict, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from heed.attention import Corner, MaskMod, ScoreMod
from heed.nn.attention_positions import AttentionPositions
from heed.nn.feed_forward import Activation, FeedForward, check_dropout
from heed.nn.multi_head_attention import MultiHeadAttention

Norm = Literal["layer", "rms"]
Initialization = Literal["glorot", "gpt2"]


class SelfAttentionCall(TypedDict, total=False):
    """What a call may say of self-attention: arguments of `MultiHeadAttention`."""

    causal: Corner | None
    window: tuple[int, int] | None
    key_padding: Tensor | None
    head_mask: Tensor | None
    score_mod: ScoreMod | None
    mask_mod: MaskMod | None


class SharedOptions(TypedDict, total=False):
    """The arguments of a layer once more, for the stacks that pass them on."""

    kv_heads: int | None
    head_size: int | None
    hidden_size: int | None
    activation: Activation
    norm: Norm
    norm_first: bool
    norm_eps: float
    bias: bool
    scale: float | None
    dropout: float
    attention_dropout: float
    hidden_dropout: float
    batch_first: bool
    initialization: Initialization


class LayerOptions(SharedOptions, total=False):
    positions: AttentionPositions | None


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network, each a residual step:

        norm_first:  x + dropout(f(norm(x)))         (Xiong et al. 2020, "pre-norm")
        otherwise:   norm(x + dropout(f(x)))         (Vaswani et al. 2017, "post-norm")

    Args:
        embed_size: E.
        heads: H.
        kv_heads: Hkv, a divisor of H; None: H.
        head_size: D; None: E / H.
        hidden_size: F of the feed-forward network; None: 4 E.
        activation: "relu", "gelu", "gelu_tanh" or "swiglu".
        norm: "layer" (Ba et al. 2016) or "rms" (Zhang & Sennrich 2019).
        norm_first: before each step's function rather than after its sum.
        norm_eps: what the norm adds to the variance.
        bias: whether projections and layer norms add one.
        scale: of the products of queries and keys; None: 1 / sqrt(D).
        dropout: probability with which an element of a step's function is dropped while training.
        attention_dropout: the same of attention weights.
        hidden_dropout: the same of the feed-forward network's hidden units.
        batch_first: [B,T,E]; False: [T,B,E].
        positions: a module of positions, such as RotaryPositions, in self-attention.
        initialization: "glorot", or "gpt2": normal with deviation 0.02, biases 0 (Radford et al.
            2019).
    """

    def __init__(
        self,
        embed_size: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_size: int | None = None,
        hidden_size: int | None = None,
        activation: Activation = "relu",
        norm: Norm = "layer",
        norm_first: bool = False,
        norm_eps: float = 1e-5,
        bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        batch_first: bool = True,
        positions: AttentionPositions | None = None,
        initialization: Initialization = "glorot",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_dropout(name, "dropout", dropout)
        check_dropout(name, "attention_dropout", attention_dropout)
        if initialization not in get_args(Initialization):
            raise ValueError(
                f"[{name}] initialization: expected glorot or gpt2, got {initialization}"
            )
        self.norm_first = norm_first
        self.dropout = dropout
        self.initialization = initialization
        self.self_attention = MultiHeadAttention(
            embed_size,
            heads,
            kv_heads=kv_heads,
            head_size=head_size,
            bias=bias,
            scale=scale,
            dropout=attention_dropout,
            batch_first=batch_first,
            positions=positions,
        )
        self.feed_forward = FeedForward(
            embed_size, hidden_size, activation=activation, bias=bias, dropout=hidden_dropout
        )
        self.self_attention_norm = make_norm(norm, embed_size, norm_eps, bias)
        self.feed_forward_norm = make_norm(norm, embed_size, norm_eps, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `initialization` says; norms 1 and 0; positions keep theirs."""
        for module in self.children():
            module.reset_parameters()  # type: ignore[operator]
            if self.initialization == "gpt2":
                for projection in module.children():
                    if isinstance(projection, nn.Linear):
                        nn.init.normal_(projection.weight, std=0.02)

    def residual_projections(self) -> list[nn.Linear]:
        """The last projection of each residual step."""
        return [
            module.output_projection
            for module in self.children()
            if isinstance(module, MultiHeadAttention | FeedForward)
        ]

    def extra_repr(self) -> str:
        return f"norm_first={self.norm_first}, dropout={self.dropout}"

    def _before(self, norm: nn.Module, x: Tensor) -> Tensor:
        """What a step's function is given."""
        return norm(x) if self.norm_first else x

    def _after(self, norm: nn.Module, x: Tensor, change: Tensor) -> Tensor:
        """What a step gives."""
        if self.dropout > 0:
            change = F.dropout(change, self.dropout, self.training)
        return x + change if self.norm_first else norm(x + change)

    def _feed_forward_step(self, x: Tensor) -> Tensor:
        norm = self.feed_forward_norm
        return self._after(norm, x, self.feed_forward(self._before(norm, x)))


class TransformerStack(nn.Module):
    """Layers one after the other."""

    def __init__(
        self,
        make_layer: Callable[[AttentionPositions | None], TransformerLayer],
        layers: int,
        *,
        positions: AttentionPositions | None,
        make_positions: Callable[[], AttentionPositions] | None,
        final_norm: bool | None,
        checkpoint: bool,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if layers < 1:
            raise ValueError(f"[{name}] layers: expected at least 1, got {layers}")
        if positions is not None and make_positions is not None:
            raise ValueError(
                f"[{name}] positions: expected one module for all layers or make_positions, got both"
            )
        own = [make_layer(make_positions() if make_positions else None) for _ in range(layers)]
        self.checkpoint = checkpoint
        self.layers = nn.ModuleList(own)
        self.norm: nn.Module | None = None
        if own[0].norm_first if final_norm is None else final_norm:
            self.norm = copy.deepcopy(own[0].feed_forward_norm)
        self.positions = positions
        for layer in own if positions is not None else []:
            # The layers read it, the stack alone has it among its modules: one name in state dicts.
            object.__setattr__(layer.self_attention, "positions", positions)
        self._scale_residuals()

    def reset_parameters(self) -> None:
        """Each layer's. With "gpt2" the last projection of each of the N residual steps is divided
        by sqrt(N), so that their sum starts as large as one."""
        for module in [*self.layers, self.norm]:
            if module is not None:
                module.reset_parameters()
        self._scale_residuals()

    def extra_repr(self) -> str:
        return f"checkpoint={self.checkpoint}"

    def _scale_residuals(self) -> None:
        projections = [
            projection
            for layer in self.layers
            if isinstance(layer, TransformerLayer) and layer.initialization == "gpt2"
            for projection in layer.residual_projections()
        ]
        with torch.no_grad():
            for projection in projections:
                projection.weight.div_(math.sqrt(len(projections)))

    def _run(self, layer: nn.Module, *arguments: Any, keep: bool = False, **options: Any) -> Any:
        """layer(*arguments, **options), whose intermediate results are kept for the backward pass
        or, under `checkpoint`, computed again."""
        if self.checkpoint and not keep and torch.is_grad_enabled():
            return checkpoint(layer, *arguments, use_reentrant=False, **options)
        return layer(*arguments, **options)

    def _normed(self, x: Tensor) -> Tensor:
        return x if self.norm is None else self.norm(x)


def make_norm(norm: Norm, size: int, eps: float, bias: bool) -> nn.LayerNorm | nn.RMSNorm:
    if norm not in get_args(Norm):
        raise ValueError(f"[TransformerLayer] norm: expected layer or rms, got {norm}")
    if norm == "rms":
        return nn.RMSNorm(size, eps=eps)
    return nn.LayerNorm(size, eps=eps, bias=bias)
