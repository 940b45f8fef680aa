"""Linear attention: features in place of the softmax (Katharopoulos et al. 2020)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from heed.attention import Corner
from heed.linear_attention import FeatureMap, linear_attention
from heed.nn._heads import (
    Output,
    check_heads,
    heads_of,
    join_heads,
    keys_beyond,
    weights_of,
)

# Features of 0 whatever the map: elu(x) + 1, max(x, 0) and exp(x) all vanish there.
_VANISHING = -1e4


class LinearAttention(nn.Module):
    """weights[t,s] ~ <phi(q[t]), phi(k[s])>, phi(x) = elu(x) + 1.

    Katharopoulos et al. 2020, "Transformers are RNNs: Fast Autoregressive Transformers with Linear
    Attention". The sums over keys are shared by all queries, so time grows with T + S and a state of
    D x Dv numbers a head is all that a causal row knows of the past.

    Args:
        heads: H; the last dimension of query, keys and values is split among them.
        causal: keys s <= t only.
        feature_map: phi: "elu" (elu(x) + 1), "relu" or "exp".
    """

    def __init__(
        self, *, heads: int = 1, causal: bool = False, feature_map: FeatureMap = "elu"
    ) -> None:
        super().__init__()
        check_heads("LinearAttention", heads)
        self.heads = heads
        self.causal = causal
        self.feature_map: FeatureMap = feature_map

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths int64 [B] of keys.

        Returns output [B,T,H*Dv], with return_weights (output, weights [B,H,T,S]).
        """
        q, k, v = (heads_of(x, self.heads) for x in (query, keys, values))
        output = mix_by_features(q, k, v, lengths, self.causal, self.feature_map)
        if not return_weights:
            return output
        if self.feature_map == "exp":
            return output, weights_of_powers(q, k, lengths, self.causal)
        q, k = (elu(x) + 1 if self.feature_map == "elu" else torch.relu(x) for x in (q, k))
        return output, weights_of_features(q, k, lengths, self.causal)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, causal={self.causal}, feature_map={self.feature_map!r}"


def mix_by_features(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None,
    causal: bool,
    feature_map: FeatureMap,
) -> Tensor:
    """q [B,H,T,D], k [B,H,S,D], v [B,H,S,Dv] -> [B,T,H*Dv], keys from lengths [B] on left out."""
    if lengths is not None:
        beyond = keys_beyond(lengths, k.shape[2]).view(-1, 1, k.shape[2], 1)
        k = k.masked_fill(beyond, _VANISHING)
        v = v.masked_fill(beyond, 0)
    out = linear_attention(q, k, v, feature_map=feature_map, causal=causal)
    if lengths is not None and feature_map == "exp":  # its weights are relative to the largest
        out = out.masked_fill((lengths == 0).view(-1, 1, 1, 1), 0)
    return join_heads(out)


def weights_of_features(q: Tensor, k: Tensor, lengths: Tensor | None, causal: bool) -> Tensor:
    """Features q [B,H,T,D], k [B,H,S,D] -> weights [B,H,T,S]: the softmax of log <q, k>."""
    corner: Corner | None = "top_left" if causal else None

    def log(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return torch.log(score)

    return weights_of(q, k, score_mod=log, scale=1.0, causal=corner, kv_lengths=lengths)


def weights_of_powers(q: Tensor, k: Tensor, lengths: Tensor | None, causal: bool) -> Tensor:
    """The same of exponents: the features are exp(q) and exp(k), which may be beyond any number."""
    if k.shape[2] == 0:
        return weights_of_features(q, k, lengths, causal)
    if lengths is not None:
        k = k.masked_fill(keys_beyond(lengths, k.shape[2]).view(-1, 1, k.shape[2], 1), _VANISHING)
    # Each feature relative to its largest over the keys, and what a query then has to its own
    # largest: factors of a row cancel, and the largest term of its sums is 1.
    largest = k.amax(-2, keepdim=True)  # [B,H,1,m]
    q = q + largest  # [B,H,T,m]
    q, k = q - q.amax(-1, keepdim=True), k - largest
    return weights_of_features(q.exp(), k.exp(), lengths, causal)
