"""Softmax attention estimated by random features (Choromanski et al. 2021, Performer's FAVOR+)."""

import torch
from torch import Tensor, nn

from heed.nn._heads import Output, check_heads, heads_of, keys_beyond
from heed.nn.linear_attention import mix_by_features, weights_of_powers


class RandomFeatureAttention(nn.Module):
    """exp(<q, k> / sqrt(D)) = E_w[phi(q) phi(k)], phi(x) = exp(<w, x'> - |x'|^2 / 2), x' = x / D^(1/4)

    for w from a normal distribution: positive random features, so linear attention with phi in
    place of elu + 1 estimates softmax attention. Choromanski et al. 2021, "Rethinking Attention
    with Performers" (FAVOR+); rows of the projection are orthogonal within blocks of D, which
    lowers the variance. |q'|^2 / 2 is the same for all keys of a row and cancels; the exponents go
    to the operator as they are (its map is exp), which keeps each weight relative to its row's
    largest, so no stabiliser is needed here.

    Args:
        head_size: D, width of a query and a key within a head.
        features: m, number of random features.
        heads: H; the last dimension of query, keys and values is split among them.
        causal: keys s <= t only.
    """

    projection: Tensor

    def __init__(
        self, head_size: int, features: int, *, heads: int = 1, causal: bool = False
    ) -> None:
        super().__init__()
        check_heads("RandomFeatureAttention", heads)
        if features < 1:
            raise ValueError(
                f"[RandomFeatureAttention] features: expected at least 1, got {features}"
            )
        self.heads = heads
        self.causal = causal
        self.register_buffer("projection", torch.empty(features, head_size))  # [m,D]
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the projection anew, which a model in training does every so many steps."""
        m, D = self.projection.shape
        # Householder's Q leans to one side; with R's signs its rows point everywhere alike.
        drawn = (torch.linalg.qr(torch.randn(D, D)) for _ in range(-(-m // D)))
        blocks = [q * r.diagonal().sign() for q, r in drawn]
        lengths = torch.randn(m, D).norm(dim=1, keepdim=True)  # of rows of a normal matrix
        self.projection.copy_(torch.cat(blocks)[:m] * lengths)

    def exponents(self, x: Tensor) -> Tensor:
        """x [B,H,T,D] -> log phi(x) + |x'|^2 / 2 [B,H,T,m]."""
        return x @ (self.projection.T * x.shape[-1] ** -0.25)

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
        if lengths is not None:  # padding may hold anything, and norms' gradients would pass it on
            k = k.masked_fill(keys_beyond(lengths, k.shape[2]).view(-1, 1, k.shape[2], 1), 0)
        norms = k.square().sum(-1, keepdim=True) / (2 * k.shape[-1] ** 0.5)  # [B,H,S,1]
        q, k = self.exponents(q), self.exponents(k) - norms  # [B,H,T,m], [B,H,S,m]
        output = mix_by_features(q, k, v, lengths, self.causal, "exp")
        if not return_weights:
            return output
        return output, weights_of_powers(q, k, lengths, self.causal)

    def extra_repr(self) -> str:
        m, D = self.projection.shape
        return f"head_size={D}, features={m}, heads={self.heads}, causal={self.causal}"
