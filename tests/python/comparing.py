"""How close is close: an error against float64 is bounded by plain torch's in the same dtype."""

import torch
from torch import Tensor


def assert_no_worse(ours: Tensor, plain: Tensor, exact: Tensor, what: str) -> None:
    """`ours` and `plain` are float32 results, `exact` the float64 one of the same formula."""
    finite = torch.isfinite(exact)
    assert torch.equal(torch.isfinite(ours), finite), f"{what}: not finite where it should be"
    assert torch.equal(ours[~finite].double(), exact[~finite]), f"{what}: infinities differ"
    ours, plain, exact = ours[finite].double(), plain[finite].double(), exact[finite]
    if exact.numel() == 0:
        return
    own, allowed = (ours - exact).abs().max().item(), (plain - exact).abs().max().item()
    # Twice torch's own error, plus a few roundings of the largest value.
    bound = 2 * allowed + 4 * torch.finfo(torch.float32).eps * max(1.0, exact.abs().max().item())
    assert own <= bound, f"{what}: error {own:.3g} > {bound:.3g} (torch's own: {allowed:.3g})"
