"""Rotary positions (Su et al. 2021) and the ways to stretch them."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from heed.nn.attention_positions import AttentionPositions, places_of

Pairing = Literal["half_split", "interleaved"]
Scaling = Literal["none", "linear", "dynamic", "yarn", "llama3"]


@dataclass(frozen=True)
class RotaryScaling:
    """How the angles f_i = base^(-2i/R) change so that a longer text stays within what was trained.

    kind:
        "linear": f_i / factor (Chen et al. 2023, position interpolation).
        "dynamic": once the text is longer than original_length, base grows with it, "NTK-aware"
            (bloc97 2023): base ((factor L / original_length) - (factor - 1))^(R / (R - 2)); keys
            in a cache keep the turn that they had when the text was shorter.
        "yarn": waves that turn more than beta_fast times within original_length stay, those that
            turn less than beta_slow times are divided by factor, between them a ramp; and rows are
            multiplied by attention_factor (Peng et al. 2024).
        "llama3": waves shorter than original_length / high_frequency stay, those longer than
            original_length / low_frequency are divided by factor, between them a blend (Grattafiori
            et al. 2024).
    factor: how much longer.
    original_length: of the texts in training.
    attention_factor: of yarn; None: 0.1 ln(factor) + 1.
    """

    kind: Scaling = "none"
    factor: float = 1.0
    original_length: int = 2048
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    low_frequency: float = 1.0
    high_frequency: float = 4.0


class RotaryPositions(AttentionPositions):
    """Queries and keys turn: pair i of a row at place p by the angle p f_i, f_i = base^(-2i/R).

    Their products then depend on the distance alone. Su et al. 2021, "RoFormer: Enhanced
    Transformer with Rotary Position Embedding". No program: the rows turn before the engine.

    Args:
        head_size: D.
        size: R, how many of the D turn, the first ones; None: D. Even.
        base: of the angles.
        pairing: "half_split" pairs i with i + R/2 (GPT-NeoX, Llama); "interleaved" 2i with 2i + 1
            (RoFormer, GPT-J).
        scaling: for texts longer than in training.
    """

    def __init__(
        self,
        head_size: int,
        *,
        size: int | None = None,
        base: float = 10000.0,
        pairing: Pairing = "half_split",
        scaling: RotaryScaling | None = None,
    ) -> None:
        super().__init__()
        size = head_size if size is None else size
        if size < 2 or size % 2 != 0 or size > head_size:
            raise ValueError(
                "[RotaryPositions] size: expected an even number up to head_size = "
                f"{head_size}, got {size}"
            )
        if pairing not in ("half_split", "interleaved"):
            raise ValueError(
                "[RotaryPositions] pairing: expected half_split or interleaved, got " + pairing
            )
        self.size = size
        self.base = base
        self.pairing = pairing
        self.scaling = RotaryScaling() if scaling is None else scaling
        if self.scaling.kind not in ("none", "linear", "dynamic", "yarn", "llama3"):
            raise ValueError(
                "[RotaryPositions] scaling: expected none, linear, dynamic, yarn or llama3, got "
                + self.scaling.kind
            )
        low, high = self.scaling.low_frequency, self.scaling.high_frequency
        if self.scaling.factor < 1:
            raise ValueError(
                f"[RotaryPositions] factor: expected at least 1, got {self.scaling.factor}"
            )
        if self.scaling.kind == "dynamic" and size < 4:
            raise ValueError(
                f"[RotaryPositions] size: expected at least 4 where the base grows, got {size}"
            )
        if low >= high:
            raise ValueError(
                f"[RotaryPositions] low_frequency: expected below high_frequency = {high}, got {low}"
            )
        self._paired = None if self.scaling.kind == "dynamic" else self._pair(self.frequencies(0))

    def rotate(self, x: Tensor, offset: Tensor | None = None) -> Tensor:
        """x [B,H,T,D], rows at the places offset[b] + t -> [B,H,T,D]."""
        places = places_of(offset, x.shape[2], x.device)  # [T] or [B,T]
        # In double: float32 has lost three digits of the angle at place 10^4.
        angles = places.double().unsqueeze(-1) * self._paired_frequencies(places)
        if offset is not None:
            angles = angles.unsqueeze(1)  # [B,1,T,R]
        cos, sin = angles.cos(), angles.sin()
        if (factor := self.attention_factor()) != 1:
            cos, sin = cos * factor, sin * factor
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        turning = x if self.size == x.shape[-1] else x[..., : self.size]
        if self.pairing == "half_split":
            other = turning.roll(self.size // 2, -1)
        else:
            other = turning.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        turned = torch.addcmul(turning * cos, other, sin)
        return turned if turning is x else torch.cat((turned, x[..., self.size :]), dim=-1)

    def _paired_frequencies(self, places: Tensor) -> Tensor:
        """-f_i for the first of each pair and f_i for the second, [R]: each element becomes
        cos(p f) times itself and sin(p f) times the other."""
        if self._paired is not None:
            return self._paired.to(places.device)
        length = int(places.max()) + 1 if places.numel() > 0 else 0
        return self._pair(self.frequencies(length)).to(places.device)

    def _pair(self, frequencies: Tensor) -> Tensor:
        if self.pairing == "half_split":
            return torch.cat((-frequencies, frequencies))
        return torch.stack((-frequencies, frequencies), dim=-1).flatten()

    def frequencies(self, length: int) -> Tensor:
        """f_i [R/2], double, for a text of `length` places (only "dynamic" depends on it)."""
        exponents = torch.arange(0, self.size, 2, dtype=torch.float64, device="cpu") / self.size
        plain = self.base**-exponents
        scaling = self.scaling
        if scaling.kind == "linear":
            return plain / scaling.factor
        if scaling.kind == "dynamic":
            longer = max(length / scaling.original_length, 1.0)
            growth = scaling.factor * longer - (scaling.factor - 1)
            return plain * growth ** (-exponents * self.size / (self.size - 2))
        if scaling.kind == "yarn":
            fast, slow = self._dimension(scaling.beta_fast), self._dimension(scaling.beta_slow)
            fast, slow = max(math.floor(fast), 0), min(math.ceil(slow), self.size - 1)
            pairs = torch.arange(self.size // 2, dtype=torch.float64, device="cpu")
            stretched = ((pairs - fast) / max(slow - fast, 1e-3)).clamp(0, 1)
        elif scaling.kind == "llama3":
            turns = scaling.original_length * plain / (2 * math.pi)
            low, high = scaling.low_frequency, scaling.high_frequency
            stretched = 1 - ((turns - low) / (high - low)).clamp(0, 1)
        else:
            return plain
        return plain * (1 - stretched) + plain / scaling.factor * stretched

    def attention_factor(self) -> float:
        """What rows are multiplied by: 1 but for "yarn"."""
        scaling = self.scaling
        if scaling.kind != "yarn":
            return 1.0
        if scaling.attention_factor is not None:
            return scaling.attention_factor
        return 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0

    def _dimension(self, turns: float) -> float:
        """The pair, as a real number, that turns so often within the original length."""
        wave = self.scaling.original_length / (2 * math.pi * turns)
        return self.size / 2 * math.log(wave) / math.log(self.base)

    def extra_repr(self) -> str:
        return (
            f"size={self.size}, base={self.base}, pairing={self.pairing}, "
            f"scaling={self.scaling.kind}"
        )
