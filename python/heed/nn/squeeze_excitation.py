"""Squeeze and excitation (Hu et al. 2018): a weight a channel."""

from torch import Tensor, nn

from heed.nn._feature_map import check_feature_map, check_reduction
from heed.nn._heads import Output


class SqueezeExcitation(nn.Module):
    """output = x * w, w = sigmoid(W2 relu(W1 mean over pixels of x)).

    Hu, Shen, Sun 2018, "Squeeze-and-Excitation Networks". A gate and no softmax: channels do not
    compete, and nothing of attention's engine is needed.

    Args:
        channels: C.
        reduction: r: C // r channels, at least 1, between W1 and W2.
        bias: of W1 and W2.
    """

    def __init__(self, channels: int, *, reduction: int = 16, bias: bool = True) -> None:
        super().__init__()
        check_reduction("SqueezeExcitation", channels, reduction)
        self.channels = channels
        self.reduction = reduction
        self.reduce = nn.Linear(channels, max(channels // reduction, 1), bias)
        self.expand = nn.Linear(max(channels // reduction, 1), channels, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's normal, as in the paper; biases 0."""
        for linear in (self.reduce, self.expand):
            nn.init.kaiming_normal_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, *, return_weights: bool = False) -> Output:
        """x [B,C,rows,columns] -> output of the same sizes.

        With return_weights (output, weights [B,C]), each in (0, 1), without a gradient.
        """
        check_feature_map("SqueezeExcitation", x, self.channels)
        weights = self.expand(self.reduce(x.mean((2, 3))).relu()).sigmoid()  # [B,C]
        output = x * weights[..., None, None]
        return (output, weights.detach()) if return_weights else output

    def extra_repr(self) -> str:
        return f"channels={self.channels}, reduction={self.reduction}"
