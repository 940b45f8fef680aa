"""The cases that the benches time, and what each is to reach.

The first part is the target table row by row, the second what is only watched. One thread unless a
case says otherwise; T queries, S keys, D wide, and useful operations only.
"""

from dataclasses import dataclass, replace

from figures import KINDS, Figure


@dataclass(frozen=True)
class Case:
    name: str
    B: int
    H: int
    T: int
    S: int
    D: int
    Hkv: int | None = None  # key heads; None: H
    dtype: str = "fp32"
    kind: str = "dot"
    causal: bool = False  # from the top left
    window: int | None = None  # keys that a query sees, itself and those before
    score: str | None = None  # a name of contestants.SCORES
    lengths: bool = False  # keys per element, spread over [S/4, S]
    backward: bool = False
    want: tuple[str, ...] = ()  # statistics asked for beside the output
    cold: bool = False  # each call meets keys and values that no cache holds
    rival: str | None = "SDPA"  # or "FlexAttention", "eager", None
    threads: int | None = None  # None: as many as the command line says
    judged_with: str | None = None  # the kernel set that the targets are for; None: any
    figures: tuple[Figure, ...] = (Figure("ratio"), Figure("fma"))


def _case(name: str, B: int, H: int, T: int, S: int | None = None, D: int = 64, **options) -> Case:
    """`ratio=1.15, fma=0.85` and the like become figures with these targets."""
    targets = {figure: options.pop(figure) for figure in list(options) if figure in KINDS}
    if targets:
        options["figures"] = tuple(Figure(*target) for target in targets.items())
    return Case(name, B, H, T, T if S is None else S, D, **options)


LONG = {"B": 1, "H": 8, "T": 2048}
SHORT = {"B": 8, "H": 12, "T": 128}
DECODE = {"B": 1, "H": 32, "Hkv": 8, "T": 1, "S": 8192, "D": 128, "cold": True}
BF16 = {**LONG, "dtype": "bf16", "judged_with": "v4bf16"}
ADDITIVE = {"B": 64, "H": 1, "kind": "additive", "rival": "eager"}
PROGRAM = {**LONG, "rival": "FlexAttention"}
WINDOWED = {"B": 1, "H": 1, "T": 65536, "causal": True, "window": 512, "rival": None}
STATISTICS = {**LONG, "rival": None}

TARGETS = [
    _case("fp32 T2048", **LONG, ratio=1.15, fma=0.85),
    _case("fp32 T2048 causal", **LONG, causal=True, ratio=1.4, fma=0.80),
    _case("fp32 T512 causal", B=1, H=8, T=512, causal=True, ratio=2.0, fma=0.75),
    _case("fp32 B8 H12 T128", **SHORT, ratio=1.3, fma=0.75),
    _case("fp32 B8 H12 T128 causal", **SHORT, causal=True, ratio=1.9, fma=0.55),
    _case("fp32 T2048, fwd+bwd", **LONG, backward=True, ratio=1.25, fma=0.85),
    _case("fp32 T2048 causal, fwd+bwd", **LONG, causal=True, backward=True, ratio=1.5, fma=0.85),
    _case("bf16 T2048", **BF16, ratio=2.0, bf16=0.70),
    _case("bf16 T2048 causal", **BF16, causal=True, ratio=2.4, bf16=0.70),
    _case("fp16 T2048", **LONG, dtype="fp16", ratio=1.1, fma=None),
    _case(
        "fp32 H1 T4096 causal, fwd+bwd, 2 threads",
        **{"B": 1, "H": 1, "T": 4096, "causal": True, "backward": True, "threads": 2},
        ratio=2.0,
        fma=None,
    ),
    _case("fp32 decode H32/8 S8192 D128", **DECODE, ratio=4.0, read=0.80),
    _case("bf16 decode H32/8 S8192 D128", **DECODE, dtype="bf16", ratio=20.0, read=0.80),
    _case("window 256 T2048", **PROGRAM, causal=True, window=256, ratio=2.0, plain_rate=0.88),
    _case("ALiBi T2048", **PROGRAM, score="ALiBi", ratio=2.0, plain_time=1.12),
    _case("soft cap T2048", **PROGRAM, score="soft cap", ratio=2.0, plain_time=1.12),
    _case("relative table T2048", **PROGRAM, score="relative table", ratio=2.0, plain_time=1.12),
    _case(
        "additive B64 T30 S50 D256, fwd+bwd",
        **ADDITIVE,
        T=30,
        S=50,
        D=256,
        backward=True,
        ratio=8.0,
    ),
    _case("entropy and maximum T2048", **STATISTICS, want=("entropy", "max"), plain_time=1.08),
    _case("column sums T2048", **STATISTICS, want=("column_sums",), sweep=1.1),
    _case("diagonal T65536", **WINDOWED, want=("diagonal:-1",), extra=0.050),
    _case(
        "memory of T16384 ALiBi, window 256, fwd+bwd",
        **{"B": 1, "H": 8, "T": 16384, "causal": True, "window": 256, "score": "ALiBi"},
        backward=True,
        rival=None,
        memory=64 * 2.0**20,
    ),
    _case("H1 T65536 window 512, 2 threads", **WINDOWED, threads=2, seconds=3.0),
]

WATCHED = [
    _case("fp32 T512 causal, fwd+bwd", B=1, H=8, T=512, causal=True, backward=True),
    _case("fp32 B8 H12 T128, fwd+bwd", **SHORT, backward=True),
    _case("fp32 B8 H12 T128 causal, fwd+bwd", **SHORT, causal=True, backward=True),
    _case("bf16 T2048, fwd+bwd", **LONG, dtype="bf16", backward=True),
    _case("fp32 B8 T512 lengths", B=8, H=8, T=512, lengths=True),
    _case("fp32 B8 T512 lengths, fwd+bwd", B=8, H=8, T=512, lengths=True, backward=True),
    _case("additive B64 T30 S50 D256", **ADDITIVE, T=30, S=50, D=256),
    _case("additive RNN step B64 S20 D512", **ADDITIVE, T=1, S=20, D=512),
    _case("additive RNN step B64 S20 D512, fwd+bwd", **ADDITIVE, T=1, S=20, D=512, backward=True),
]

CASES = TARGETS + WATCHED


def plain(case: Case) -> Case:
    """What a score, a window or statistics are measured against: ours without them.

    A window's band is what makes it fast, so its measure is the plain square; statistics keep the
    band, for which they are asked.
    """
    if case.want:
        return replace(case, want=())
    return replace(case, score=None, causal=False, window=None)
