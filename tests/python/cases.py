"""The cases that tests of attention share: sizes on the edges of tiles, masks, memory layouts."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    name: str
    B: int = 2
    H: int = 2
    Hkv: int = 2
    T: int = 17
    S: int = 19
    D: int = 16
    Dv: int = 16
    kind: str = "dot"
    causal: str | None = None
    scale: float | None = None
    lengths: tuple[int, ...] | None = None
    window: tuple[int, int] | None = None
    sinks: bool = False
    top_k: int | None = None
    layout: str = "dense"

    def __str__(self) -> str:
        return self.name


_LEAVES = ("weight", "sinks")  # options that get gradients


@dataclass
class Inputs:
    q: Tensor
    k: Tensor
    v: Tensor
    options: dict = field(default_factory=dict)

    def differentiable(self) -> list[Tensor]:
        more = [self.options[name] for name in _LEAVES if name in self.options]
        return [self.q, self.k, self.v, *more]

    def to(self, dtype: torch.dtype, grad: bool = False) -> "Inputs":
        """Fresh leaves of another dtype with the same strides."""

        def leaf(x: Tensor) -> Tensor:
            return x.detach().to(dtype).requires_grad_(grad)

        options = dict(self.options)
        options |= {name: leaf(options[name]) for name in _LEAVES if name in options}
        return Inputs(leaf(self.q), leaf(self.k), leaf(self.v), options)


def _laid_out(layout: str, B: int, H: int, T: int, D: int) -> Tensor:
    """Random [B,H,T,D] in one of the memory layouts that callers have."""
    match layout:
        case "dense":
            return torch.randn(B, H, T, D)
        case "token_major":
            return torch.randn(B, T, H, D).transpose(1, 2)
        case "sliced":  # rows off every alignment
            return torch.randn(B, H, T + 3, D + 5)[:, :, 2 : T + 2, 1 : D + 1]
        case "strided_rows":
            return torch.randn(B, H, D, T).transpose(2, 3)
        case "one_head_for_all":
            return torch.randn(B, 1, T, D).expand(B, H, T, D)
    raise ValueError(layout)


def make(case: Case, dtype: torch.dtype = torch.float32, seed: int = 0) -> Inputs:
    torch.manual_seed(seed)
    options: dict = {"kind": case.kind, "causal": case.causal, "scale": case.scale}
    if case.lengths is not None:
        options["kv_lengths"] = torch.tensor(case.lengths)
    for name in ("window", "top_k"):
        if getattr(case, name) is not None:
            options[name] = getattr(case, name)
    if case.kind == "additive":
        options["weight"] = torch.randn(case.H, case.D).to(dtype)
    if case.sinks:
        options["sinks"] = torch.randn(case.H).to(dtype)
    q = _laid_out(case.layout, case.B, case.H, case.T, case.D)
    k = _laid_out(case.layout, case.B, case.Hkv, case.S, case.D)
    v = _laid_out(case.layout, case.B, case.Hkv, case.S, case.Dv)
    return Inputs(q.to(dtype), k.to(dtype), v.to(dtype), options)


_EDGES = (1, 7, 15, 16, 17, 47, 48, 49, 95, 96, 97, 129)

SIZES = [
    *(Case(f"dot_T{n}", B=1, T=n, S=23, D=8, Dv=8) for n in _EDGES),
    *(Case(f"dot_S{n}", B=1, T=5, S=n, D=8, Dv=8) for n in _EDGES),
    *(Case(f"dot_D{n}", B=1, T=9, S=11, D=n, Dv=n) for n in (1, 3, 4, 15, 17, 33, 64, 128, 257)),
    *(Case(f"dot_square_{n}", H=1, Hkv=1, T=n, S=n, causal="top_left") for n in _EDGES),
    Case("dot_Dv_larger", D=8, Dv=40),
    Case("dot_Dv_smaller", D=40, Dv=8),
    Case("dot_Dv_one", D=16, Dv=1),
    Case("dot_long", B=1, H=1, Hkv=1, T=130, S=700, D=64, Dv=64),
    Case("additive_RNN_step", B=5, H=1, Hkv=1, T=1, S=20, D=48, Dv=32, kind="additive"),
    *(Case(f"additive_T{n}", B=1, T=n, S=13, D=9, Dv=5, kind="additive") for n in _EDGES),
    *(Case(f"additive_S{n}", B=1, T=4, S=n, D=9, Dv=5, kind="additive") for n in _EDGES),
    *(Case(f"additive_D{n}", T=3, S=6, D=n, kind="additive") for n in (1, 15, 17, 64)),
]

MASKS = [
    Case(f"{kind}_{causal}_T{T}_S{S}", T=T, S=S, kind=kind, causal=causal)
    for kind in ("dot", "additive")
    for causal in ("top_left", "bottom_right")
    for T, S in ((50, 50), (3, 50), (50, 3), (49, 97), (97, 49), (1, 33))
] + [
    Case(f"{kind}_{causal}_lengths", B=5, T=21, S=50, kind=kind, causal=causal, lengths=lengths)
    for kind in ("dot", "additive")
    for causal in (None, "top_left", "bottom_right")
    for lengths in ((50, 1, 0, 17, 48),)
]

WINDOWS = [
    Case(f"{kind}_window_{left}_{right}_{causal}_T{T}_S{S}", T=T, S=S, kind=kind, causal=causal,
         window=(left, right))
    for kind, left, right in (("dot", 3, 2), ("dot", 0, 0), ("dot", -1, 4), ("dot", 20, -1),
                              ("additive", 5, 1))
    for causal in (None, "top_left", "bottom_right")
    for T, S in ((50, 50), (7, 60), (60, 7))
] + [
    Case(f"window_{causal}_lengths{sinks}", B=5, T=21, S=50, causal=causal, window=(6, 9),
         lengths=(50, 1, 0, 17, 48), sinks=bool(sinks))
    for causal in (None, "top_left", "bottom_right")
    for sinks in ("", "_sinks")
]  # fmt: skip

EXTRAS = [
    Case("sinks", sinks=True),
    Case("sinks_step", T=1, S=70, H=4, Hkv=2, sinks=True),
    Case("sinks_causal_grouped", H=4, Hkv=2, T=50, S=50, causal="top_left", sinks=True),
    Case("sinks_where_no_key_is", T=9, S=4, causal="bottom_right", sinks=True),
    Case("sinks_additive", kind="additive", sinks=True, lengths=(0, 12)),
    *(Case(f"top_{n}", T=20, S=60, top_k=n) for n in (1, 3, 59, 60, 200)),
    Case("top_4_causal", T=50, S=50, causal="top_left", top_k=4),
    Case("top_4_step", T=1, S=130, H=4, Hkv=1, top_k=4),
    Case("top_4_additive_lengths", kind="additive", top_k=4, lengths=(19, 2)),
    Case("top_4_sinks_window", S=60, top_k=4, sinks=True, window=(20, 30)),
    Case("none", kind="none", causal="top_left"),
    Case("none_lengths_sinks", kind="none", lengths=(19, 0), sinks=True),
]

KINDS = [
    Case("dot_scale", scale=0.3),
    Case("dot_scale_zero", scale=0.0),
    Case("dot_scale_negative", scale=-0.7),
    Case("additive_scale", kind="additive", scale=0.5),
    Case("cosine", kind="cosine"),
    Case("cosine_temperature_causal", kind="cosine", scale=8.0, causal="bottom_right"),
    Case("cosine_grouped_sinks", kind="cosine", H=4, Hkv=2, sinks=True, lengths=(19, 5)),
    Case("dot_grouped_heads", H=6, Hkv=2),
    Case("dot_one_key_head_causal", H=5, Hkv=1, causal="top_left", lengths=(19, 4)),
    Case("additive_grouped_heads", H=4, Hkv=2, kind="additive"),
]

LAYOUTS = [
    Case(f"{kind}_{layout}", kind=kind, layout=layout, D=15, Dv=7, lengths=(19, 6))
    for kind in ("dot", "additive")
    for layout in ("token_major", "sliced", "strided_rows", "one_head_for_all")
]

ALL = SIZES + MASKS + WINDOWS + EXTRAS + KINDS + LAYOUTS
