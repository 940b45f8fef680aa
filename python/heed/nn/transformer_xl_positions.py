"""Relative positions of Transformer-XL (Dai et al. 2019)."""

import torch
from torch import Tensor, nn

from heed.attention import ScoreMod
from heed.nn.attention_positions import AttentionHeads, AttentionPositions, place_of, places_of
from heed.nn.sinusoidal_positions import wave_angles

# Of E: up to here the table takes less time than the wider product, by half at 1024 keys; beyond,
# its memory grows with T S.
_WIDEST = 8


class TransformerXLPositions(AttentionPositions):
    """score = scale ((q[t] + u) k[s] + (q[t] + w) W r[t - s]), r[d] = (sin(d f_i), cos(d f_i))_i.

    Dai et al. 2019, "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context"; also
    XLNet's. u is content_bias, w position_bias, W projection, f_i = base^(-2i/E).

    (q + w) W r of all distances is a table [B,H,T,T + S - 1]. Where that is wider than 8 E, the
    sum formula of sine and cosine takes r[t - s] apart into a factor of t and one of s: then the
    score is one product of rows of the width D + E, and memory O(B H T (D + E)) for any S.

    Args:
        embed_size: E, the width of r, even.
        heads: H.
        head_size: D; None: E / H.
        base: of the waves.
    """

    def __init__(
        self,
        embed_size: int,
        heads: int,
        *,
        head_size: int | None = None,
        base: float = 10000.0,
    ) -> None:
        super().__init__()
        if embed_size < 2 or embed_size % 2 != 0:
            raise ValueError(
                f"[TransformerXLPositions] embed_size: expected an even number, got {embed_size}"
            )
        if heads < 1 or (head_size is None and embed_size % heads != 0):
            raise ValueError(
                f"[TransformerXLPositions] heads: expected a divisor of embed_size = {embed_size}, "
                f"got {heads}; or give head_size"
            )
        self.embed_size = embed_size
        self.base = base
        head_size = embed_size // heads if head_size is None else head_size
        self.projection = nn.Linear(embed_size, heads * head_size, bias=False)
        self.content_bias = nn.Parameter(torch.empty(heads, head_size))
        self.position_bias = nn.Parameter(torch.empty(heads, head_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal with deviation 0.02, as the paper's own program."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def score_mod(self, heads: AttentionHeads) -> ScoreMod | None:
        q_position = heads.q + self.position_bias.unsqueeze(-2)  # [B,H,T,D]
        heads.q = heads.q + self.content_bias.unsqueeze(-2)
        T, S = heads.q.shape[2], heads.k.shape[2]
        low, high = (0, 0) if heads.offset is None else map(int, heads.offset.aminmax())
        first, last = low - S + 1, high + T - 1  # the distances that there are
        if last - first + 1 > _WIDEST * self.embed_size:
            self._widen(heads, q_position)
            return None
        return self._table(heads, q_position, torch.arange(first, last + 1, device=heads.q.device))

    def _waves(self, places: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sin and cos [...,E/2] of the places [...]."""
        angles = wave_angles(places, self.embed_size, self.base)
        return angles.sin().to(like.dtype), angles.cos().to(like.dtype)

    def _table(self, heads: AttentionHeads, q_position: Tensor, distances: Tensor) -> ScoreMod:
        H, D = self.content_bias.shape
        r = self.projection(torch.cat(self._waves(distances, heads.q), dim=-1))  # [R,H D]
        r = r.unflatten(-1, (H, D)).transpose(0, 1)  # [H,R,D]
        products = (q_position * heads.scale) @ r.mT  # [B,H,T,R]
        offset, ahead = heads.offset, -int(distances[0])  # keys after the first query

        def transformer_xl(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return score + products[b, h, t, place_of(offset, b, t) - s + ahead]

        return transformer_xl

    def _widen(self, heads: AttentionHeads, q_position: Tensor) -> None:
        H, D = self.content_bias.shape
        z = q_position @ self.projection.weight.view(H, D, -1)  # [B,H,T,E]
        z_sin, z_cos = z.chunk(2, dim=-1)
        sin_t, cos_t = self._waves(places_of(heads.offset, z.shape[2], z.device), z)
        if heads.offset is not None:
            sin_t, cos_t = sin_t.unsqueeze(1), cos_t.unsqueeze(1)  # [B,1,T,E/2]
        # sin(t - s) = sin t cos s - cos t sin s, cos(t - s) = cos t cos s + sin t sin s
        of_sin_s, of_cos_s = z_cos * sin_t - z_sin * cos_t, z_sin * sin_t + z_cos * cos_t
        waves = torch.cat(self._waves(places_of(None, heads.k.shape[2], z.device), z), dim=-1)
        heads.q = torch.cat((heads.q, of_sin_s, of_cos_s), dim=-1)  # [B,H,T,D + E]
        heads.k = torch.cat((heads.k, waves.expand(*heads.k.shape[:2], -1, -1)), dim=-1)

    def extra_repr(self) -> str:
        return f"embed_size={self.embed_size}, base={self.base}"
