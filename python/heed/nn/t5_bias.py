"""The position bias of T5 (Raffel et al. 2020)."""

import math

import torch
from torch import Tensor, nn

from heed.attention import ScoreMod
from heed.nn.attention_positions import AttentionHeads, AttentionPositions, place_of


class T5Bias(AttentionPositions):
    """score + bias[bucket(s - t), h]: near distances have a bucket each, far ones share wider ones.

    Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer". Half of the buckets are exact, the others grow by a constant factor up to
    max_distance, and the last holds what is farther. T5 itself does not scale its products:
    MultiHeadAttention(..., scale=1.0).

    Args:
        heads: H.
        buckets: their number.
        max_distance: from which on all distances share a bucket.
        bidirectional: half of the buckets for keys after the query; False: all for keys up to it,
            and keys after it count as distance 0.
    """

    def __init__(
        self,
        heads: int,
        *,
        buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        exact = buckets // (4 if bidirectional else 2)
        if exact < 1 or max_distance <= exact:
            raise ValueError(
                "[T5Bias] buckets, max_distance: expected at least one exact bucket a side and a "
                f"distance above {exact}, got {buckets}, {max_distance}"
            )
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.bias = nn.Parameter(torch.empty(buckets, heads))
        distances = torch.arange(-max_distance, max_distance + 1, device="cpu")
        self._buckets = self.buckets_of(distances)  # [2 max_distance + 1]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zero: no distance is preferred at first."""
        nn.init.zeros_(self.bias)

    def buckets_of(self, ahead: Tensor) -> Tensor:
        """ahead = s - t [...] -> the bucket [...] int64."""
        buckets = len(self.bias) // 2 if self.bidirectional else len(self.bias)
        first = buckets * (ahead > 0) if self.bidirectional else torch.zeros_like(ahead)
        distance = ahead.abs() if self.bidirectional else (-ahead).clamp(min=0)
        exact = buckets // 2
        growth = (buckets - exact) / math.log(self.max_distance / exact)
        # Distances at a bucket's edge: a little more than what rounding may take away.
        far = exact + (torch.log(distance.double() / exact) * growth + 1e-9).long()
        return first + torch.where(distance < exact, distance, far.clamp(max=buckets - 1))

    def score_mod(self, heads: AttentionHeads) -> ScoreMod:
        far, offset = self.max_distance, heads.offset
        bias = self.bias.index_select(0, self._buckets.to(self.bias.device))  # [2 far + 1,H]

        def t5(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return score + bias[(s - place_of(offset, b, t)).clamp(-far, far) + far, h]

        return t5

    def extra_repr(self) -> str:
        buckets, heads = self.bias.shape
        return (
            f"heads={heads}, buckets={buckets}, max_distance={self.max_distance}, "
            f"bidirectional={self.bidirectional}"
        )
