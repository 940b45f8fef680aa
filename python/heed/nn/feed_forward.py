"""The feed-forward network between attentions (Vaswani et al. 2017), gated too (Shazeer 2020)."""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["relu", "gelu", "gelu_tanh", "swiglu"]


class FeedForward(nn.Module):
    """output = f(x W_1 + b_1) W_2 + b_2, each row by itself.

    With "swiglu" a second projection opens and shuts the hidden units: (silu(x W_g) * x W_1) W_2.
    Vaswani et al. 2017, "Attention Is All You Need"; Hendrycks & Gimpel 2016, "Gaussian Error Linear
    Units"; Shazeer 2020, "GLU Variants Improve Transformer".

    Args:
        embed_size: E.
        hidden_size: F; None: 4 E.
        activation: "relu"; "gelu", exact; "gelu_tanh", by its approximation; "swiglu".
        bias: whether the projections add one.
        dropout: probability with which a hidden unit is dropped while training.
    """

    def __init__(
        self,
        embed_size: int,
        hidden_size: int | None = None,
        *,
        activation: Activation = "relu",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden_size = 4 * embed_size if hidden_size is None else hidden_size
        if hidden_size < 1:
            raise ValueError(f"[FeedForward] hidden_size: expected at least 1, got {hidden_size}")
        if activation not in get_args(Activation):
            raise ValueError(
                f"[FeedForward] activation: expected one of {', '.join(get_args(Activation))}, "
                f"got {activation}"
            )
        check_dropout("FeedForward", "dropout", dropout)
        self.activation = activation
        self.dropout = dropout
        self.hidden_projection = nn.Linear(embed_size, hidden_size, bias)
        self.gate_projection = (
            nn.Linear(embed_size, hidden_size, bias) if activation == "swiglu" else None
        )
        self.output_projection = nn.Linear(hidden_size, embed_size, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform, biases 0, as the paper's own program."""
        for projection in self.children():
            assert isinstance(projection, nn.Linear)
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [...,E] -> [...,E]."""
        hidden = self.hidden_projection(x)  # [...,F]
        if self.gate_projection is not None:
            hidden = F.silu(self.gate_projection(x)) * hidden
        elif self.activation == "relu":
            hidden = hidden.relu()
        else:
            approximate = "tanh" if self.activation == "gelu_tanh" else "none"
            hidden = F.gelu(hidden, approximate=approximate)
        if self.dropout > 0:
            hidden = F.dropout(hidden, self.dropout, self.training)
        return self.output_projection(hidden)

    def extra_repr(self) -> str:
        return f"activation={self.activation}, dropout={self.dropout}"


def check_dropout(module: str, argument: str, p: float) -> None:
    if not 0 <= p < 1:
        raise ValueError(f"[{module}] {argument}: expected in [0, 1), got {p}")
