"""How close is close: an error against float64 is bounded by plain torch's in the same dtype."""

import torch
from torch import Tensor

# Forward sums are as exact as torch's. The backward recomputes a softmax from its rounded logarithm.
FORWARD, BACKWARD = 4, 16


def assert_no_worse(
    ours: Tensor, plain: Tensor, exact: Tensor, what: str, roundings: int = FORWARD
) -> None:
    """`ours` and `plain` are results in one dtype, `exact` the float64 one of the same formula.

    Allowed is twice torch's own error, plus `roundings` of the largest value in ours' dtype.
    """
    finite = torch.isfinite(exact)
    assert torch.equal(torch.isfinite(ours), finite), f"{what}: not finite where it should be"
    assert torch.equal(ours[~finite].double(), exact[~finite]), f"{what}: infinities differ"
    unit = torch.finfo(ours.dtype).eps
    ours, plain, exact = ours[finite].double(), plain[finite].double(), exact[finite]
    if exact.numel() == 0:
        return
    own, allowed = (ours - exact).abs().max().item(), (plain - exact).abs().max().item()
    rounding = unit * max(1.0, exact.abs().max().item())
    bound = 2 * allowed + roundings * rounding
    assert own <= bound, f"{what}: error {own:.3g} > {bound:.3g} (torch's own: {allowed:.3g})"
