"""Longformer's self-attention: a window and a few global tokens (Beltagy et al. 2020)."""

import torch
from torch import Tensor, nn

from heed.attention import Options, attention
from heed.nn._heads import Output, check_embed_size, check_rows, heads_of, join_heads, weights_of


class LongformerAttention(nn.Module):
    """Every token sees its window and the global tokens; a global token sees all.

    Two attentions whose queries are disjoint, so that the outputs add up:

        local tokens t:  keys where |t - s| <= window or is_global[s]
        global tokens t: all keys, by projections of their own for query, key and value

    Beltagy, Peters, Cohan 2020, "Longformer: The Long-Document Transformer". Time grows with
    T * (window + global tokens). `state_dict` names map to those of transformers'
    LongformerSelfAttention and the dense layer after it: query -> query_projection,
    query_global -> global_query_projection, ..., dense -> output_projection.

    Args:
        embed_size: E, a multiple of heads.
        heads: H.
        window: keys seen on either side; half of transformers' attention_window.
        dropout: probability with which a weight is dropped while training.
    """

    def __init__(self, embed_size: int, heads: int, window: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        check_embed_size("LongformerAttention", embed_size, heads)
        if window < 0:
            raise ValueError(f"[LongformerAttention] window: expected at least 0, got {window}")
        self.embed_size = embed_size
        self.heads = heads
        self.window = window
        self.dropout = dropout
        self.query_projection = nn.Linear(embed_size, embed_size)
        self.key_projection = nn.Linear(embed_size, embed_size)
        self.value_projection = nn.Linear(embed_size, embed_size)
        self.global_query_projection = nn.Linear(embed_size, embed_size)
        self.global_key_projection = nn.Linear(embed_size, embed_size)
        self.global_value_projection = nn.Linear(embed_size, embed_size)
        self.output_projection = nn.Linear(embed_size, embed_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal with deviation 0.02 and biases of 0, as the RoBERTa that Longformer starts from."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02)

    def forward(
        self,
        x: Tensor,
        is_global: Tensor | None = None,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """x [B,T,E], is_global bool [B,T] (none: no token is), lengths int64 [B].

        Returns output [B,T,E], with return_weights (output, weights [B,H,T,T]).
        """
        check_rows("LongformerAttention", "x", x, "[B,T,E]", self.embed_size)
        if is_global is None:
            is_global = x.new_zeros(x.shape[:2], dtype=torch.bool)
        elif is_global.shape != x.shape[:2] or is_global.dtype != torch.bool:
            raise ValueError(
                f"[LongformerAttention] is_global: expected bool [B,T] = {list(x.shape[:2])}, "
                f"got {is_global.dtype} {list(is_global.shape)}"
            )

        window = self.window

        def local(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            near = (t - s).abs() <= window
            return ~is_global[b, t] & (near | is_global[b, s])

        def everywhere(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return is_global[b, t]

        dropout_p = self.dropout if self.training else 0.0
        local_options: Options = {
            "mask_mod": local,
            "kv_lengths": lengths,
            "dropout_p": dropout_p,
        }
        q, k, v = (
            heads_of(projection(x), self.heads)
            for projection in (self.query_projection, self.key_projection, self.value_projection)
        )
        mixed = attention(q, k, v, **local_options)  # [B,H,T,D]
        weights = weights_of(q, k, **local_options) if return_weights else None
        if is_global.any():
            global_options: Options = {**local_options, "mask_mod": everywhere}
            q, k, v = (
                heads_of(projection(x), self.heads)
                for projection in (
                    self.global_query_projection,
                    self.global_key_projection,
                    self.global_value_projection,
                )
            )
            mixed = mixed + attention(q, k, v, **global_options)
            if weights is not None:
                weights = weights + weights_of(q, k, **global_options)
        output = self.output_projection(join_heads(mixed))
        return output if weights is None else (output, weights)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, window={self.window}"
