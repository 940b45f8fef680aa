"""Content and location in one score (Yang et al. 2018)."""

import torch
from torch import Tensor, nn

from heed.nn._heads import Output, attend_single_head, check_rows


class ContentLocationAttention(nn.Module):
    """score = scale * <q, k> - (s - P)^2 / (2 (W / 2)^2): what lies at a place, and where it is.

    The centre P and the window W are predicted from the query. With n keys, counted from 0,
    P = n sigmoid(u . h) and W = n sigmoid(w . h) of the hidden layer h = tanh(H q).

    Yang et al. 2018, "Modeling localness for self-attention networks".

    Args:
        size: D, the width of queries and keys.
        scaled: whether scale = 1 / sqrt(D); otherwise it is 1.
    """

    def __init__(self, size: int, *, scaled: bool = True) -> None:
        super().__init__()
        self.size, self.scaled = size, scaled
        self.hidden_projection = nn.Linear(size, size, bias=False)
        self.centre_projection = nn.Linear(size, 1, bias=False)
        self.window_projection = nn.Linear(size, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform, as the Transformer's matrices."""
        for matrix in self.parameters():
            nn.init.xavier_uniform_(matrix)

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
        check_rows("ContentLocationAttention", "query", query, "[B,T,size]", self.size)
        hidden = self.hidden_projection(query).tanh()  # [B,T,D]
        n = keys.size(1) if lengths is None else lengths.unsqueeze(1)  # or [B,1]
        real = torch.promote_types(query.dtype, torch.float32)  # 8 bits can't count keys

        def share_of_keys(projection: nn.Linear) -> Tensor:  # [B,T]
            return n * projection(hidden).squeeze(-1).to(real).sigmoid()

        centre = share_of_keys(self.centre_projection)
        # A tenth of a key is as good as no width at all, and its square still is a number.
        window = share_of_keys(self.window_projection).clamp(min=0.1)
        precision = 2 / window.square()

        def localness(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return score - precision[b, t] * (s - centre[b, t]) ** 2

        return attend_single_head(
            query,
            keys,
            values,
            return_weights=return_weights,
            score_mod=localness,
            scale=None if self.scaled else 1.0,
            kv_lengths=lengths,
        )

    def extra_repr(self) -> str:
        return f"size={self.size}, scaled={self.scaled}"
