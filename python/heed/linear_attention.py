"""`heed.linear_attention`: attention in time and memory that grow with T, not T x S."""

from typing import Literal

from torch import Tensor

from heed._library import operators

FeatureMap = Literal["elu", "relu", "exp"]


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, *, feature_map: FeatureMap = "elu", causal: bool = False
) -> Tensor:
    """out[b,h,t] = sum over s of w[t,s] v[b,h/G,s] / sum over s of w[t,s], with G = H / Hkv.

    The weights are w[t,s] = <phi(q[b,h,t]), phi(k[b,h/G,s])>: products of features, so that the
    sums over keys are shared by all queries (Katharopoulos et al. 2020, "Transformers are RNNs").

    Args:
        q: queries [B,H,T,D], float32, bfloat16, float16 or float64, on the CPU. Any strides; rows
            that are not contiguous are copied. Sums are in float32 (float64 for float64, by a
            scalar reference that takes O(T S)).
        k: keys [B,Hkv,S,D] in q's dtype; Hkv divides H.
        v: values [B,Hkv,S,Dv] in q's dtype.
        feature_map: phi, per element. "elu": elu(x) + 1; "relu": max(x, 0); "exp": exp(x), which
            never overflows: each weight is relative to the row's largest.
        causal: key s is seen by queries t >= s only; T and S may differ. A row then depends on
            nothing after it, not even in its last bit.

    Returns:
        out [B,H,T,Dv] in q's dtype, token-major in memory where q is. A row whose weights sum to 0
        (no key, or no feature in common) gives 0 and zero gradients. Differentiable in q, k and
        v; second derivatives and forward mode store [B,H,T,S] matrices. The same bits for any
        number of threads.

    Raises:
        RuntimeError: an argument has another shape, dtype, device or value than expected.
    """
    return operators.linear_attention(q, k, v, feature_map=feature_map, causal=causal)
