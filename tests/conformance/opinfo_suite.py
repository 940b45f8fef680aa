"""The samples of scaled_dot_product_attention in OpInfo, PyTorch's own description of its functions,
forward and backward, against the formula in float64.

`python tests/conformance/opinfo_suite.py` counts what torch passes.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from sdpa_faces import FACES, formula, fresh, with_gradients
from suite import Case, Suite
from torch import Tensor
from torch.testing import assert_close

SAMPLES = 25
NAMES = ("out", "d_query", "d_key", "d_value", "d_attn_mask")

# OpInfo's own tolerance for float32, assert_close's for float64. Samples reach +-9, so that half
# precision is compared with what the formula itself loses in it, by flash-attention's factors.
EXACT = {
    torch.float32: {"atol": 5e-5, "rtol": 5e-6},
    torch.float64: {"atol": 1e-7, "rtol": 1e-7},
}
OUT_FACTOR, GRADIENT_FACTOR = 2, 3


@cache
def samples(dtype: torch.dtype) -> list[Any]:
    from torch.testing._internal.common_methods_invocations import op_db

    name = "nn.functional.scaled_dot_product_attention"
    (info,) = (info for info in op_db if info.name == name)
    torch.manual_seed(0)
    found = list(info.sample_inputs("cpu", dtype, requires_grad=True))
    assert len(found) == SAMPLES, f"expected {SAMPLES} samples, got {len(found)}"
    return found


def kept_by(attention: Callable[..., Tensor], seed: int, q, k, options) -> Tensor:
    """What the same dropout makes of the weights: values of one key each show which it kept."""
    S, p = k.shape[-2], options["dropout_p"]
    each = torch.eye(S, dtype=q.dtype).expand(*k.shape[:-2], S, S)
    torch.manual_seed(seed)
    kept = attention(q, k, each, **options).detach() != 0
    return kept.double() / (1 - p)


def check(attention: Callable[..., Tensor], dtype: torch.dtype, i: int) -> None:
    sample = samples(dtype)[i]
    options = dict(sample.kwargs)
    leaves = [sample.input, *sample.args]
    mask = options.pop("attn_mask", None)
    leaves += [] if mask is None else [mask]
    torch.manual_seed(i)
    out = attention(*leaves[:3], attn_mask=mask, **options)
    kept = None
    if options["dropout_p"] > 0:
        kept = kept_by(attention, i, *leaves[:2], options)
    d_out = torch.randn_like(out)
    ours = with_gradients(out, leaves, d_out)

    def exactly(dtype: torch.dtype) -> list[Tensor]:
        inputs = fresh(leaves, dtype)
        factors = None if kept is None else kept.to(dtype)
        result = formula(*inputs, is_causal=options["is_causal"], kept=factors)
        return with_gradients(result, inputs, d_out)

    if dtype in EXACT:
        for name, got, right in zip(NAMES, ours, exactly(torch.float64), strict=False):
            assert_close(
                got, right.to(dtype), msg=lambda m, name=name: f"{name}: {m}", **EXACT[dtype]
            )
        return
    for results in zip(NAMES, ours, exactly(dtype), exactly(torch.float64), strict=False):
        compare_losses(*results)


def compare_losses(name: str, ours: Tensor, plain: Tensor, exact: Tensor) -> None:
    lost, plainly = ((x.double() - exact).abs().max().item() for x in (ours, plain))
    factor = OUT_FACTOR if name == "out" else GRADIENT_FACTOR
    assert lost <= factor * plainly + 1e-5, (
        f"{name}: error {lost:.3g}, expected at most {factor} x {plainly:.3g}, the formula's own"
    )


def run(dtype: torch.dtype, i: int) -> None:
    for face, attention in FACES.items():
        try:
            check(attention, dtype, i)
        except AssertionError as error:
            raise AssertionError(f"{face}: {error}") from None


def cases(*dtypes: torch.dtype) -> Iterator[Case]:
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        for i in range(SAMPLES):
            yield Case(f"{name} sample {i}", partial(run, dtype, i))


SUITES = [
    Suite("torch OpInfo", partial(cases, torch.float32), "torch: 25 (its own)"),
    Suite(
        "torch OpInfo, other types",
        partial(cases, torch.float64, torch.bfloat16, torch.float16),
        "torch: 75 (its own)",
    ),
]

if __name__ == "__main__":
    FACES = {"torch": F.scaled_dot_product_attention}
    for suite in SUITES:
        passed = 0
        for case in suite.cases():
            try:
                case.run()
                passed += 1
            except AssertionError as error:
                print(case.name, error)
        print(f"{suite.name}: torch passes {passed}")
