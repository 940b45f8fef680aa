"""Dot-product attention (Luong et al. 2015; scaled, Vaswani et al. 2017)."""

from torch import Tensor, nn

from heed.nn._heads import Output, attend_single_head


class DotAttention(nn.Module):
    """score = scale * <q, k>, with scale = 1 / sqrt(D), or 1 where not `scaled`.

    Luong et al. 2015, "Effective approaches to attention-based neural machine translation"; scaled,
    so that scores stay of order 1, Vaswani et al. 2017, "Attention is all you need". The module has
    no parameters.
    """

    def __init__(self, *, scaled: bool = True) -> None:
        super().__init__()
        self.scaled = scaled

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,D], keys [B,S,D], values [B,S,Dv] -> output [B,T,Dv], weights [B,T,S].

        lengths: int64 [B], the keys of each element; None: all S.
        """
        return attend_single_head(
            query,
            keys,
            values,
            return_weights=return_weights,
            scale=None if self.scaled else 1.0,
            kv_lengths=lengths,
        )

    def extra_repr(self) -> str:
        return f"scaled={self.scaled}"
