"""One case's tensors, and the calls that are timed on them: ours, torch's, and ours without extras.

torch's rival is its scaled_dot_product_attention where that can say the case, else FlexAttention,
compiled beforehand, else the formula in eager torch.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import oracle
import torch
import torch.nn.functional as F
from table import Case, plain
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import heed

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COLD_BYTES = 2**29  # more than any cache holds

Results = tuple[Tensor, ...]


class Unavailable(Exception):
    """A rival that can't run on this machine; the message is one line."""


@dataclass
class Contestant:
    run: Callable[[], Results]
    expected: Callable[[], Results]  # what a run must give, in float32


@dataclass
class Problem:
    case: Case
    leaves: list[Tensor]  # q, k, v, then what else is learnt
    score_mod: oracle.ScoreMod | None
    d_out: Tensor
    lengths: Tensor | None = None
    mask: Tensor | None = None  # what torch needs to know the lengths, bool [B,1,1,S]
    _copies: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # of k and v, in turn
    _turn: int = 0

    def keys_and_values(self) -> tuple[Tensor, Tensor]:
        """k and v; for cold cases the copy that was used the longest ago."""
        if not self.case.cold:
            return self.leaves[1], self.leaves[2]
        if not self._copies:
            k, v = self.leaves[1:3]
            count = 1 + COLD_BYTES // (k.nbytes + v.nbytes)
            self._copies = [(k.clone(), v.clone()) for _ in range(count)]
        self._turn = (self._turn + 1) % len(self._copies)
        return self._copies[self._turn]

    def options(self) -> dict:
        """heed's keyword arguments."""
        case = self.case
        found: dict = {"kind": case.kind, "causal": "top_left" if case.causal else None}
        if case.window:
            found["window"] = (case.window - 1, 0)
        if self.lengths is not None:
            found["kv_lengths"] = self.lengths
        if case.kind == "additive":
            found["weight"] = self.leaves[3]
        if self.score_mod is not None:
            found["score_mod"] = self.score_mod
        return found

    def heed(self) -> Results:
        k, v = self.keys_and_values()
        return self.graded(lambda: heed.attention(self.leaves[0], k, v, **self.options()))

    def heed_statistics(self) -> Results:
        want = self.case.want
        found = heed.attention_stats(*self.leaves[:3], want=want, **self.options())
        return (found["out"], *(found[word] for word in want))

    def sdpa(self) -> Results:
        k, v = self.keys_and_values()
        return self.graded(lambda: self._sdpa(self.leaves[0], k, v))

    def _sdpa(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(
            *(q, k, v),
            attn_mask=self.mask,
            is_causal=self.case.causal,
            enable_gqa=k.shape[1] != q.shape[1],
        )

    def eager(self) -> Results:
        return self.graded(lambda: additive(*self.leaves))

    def graded(self, attend: Callable[[], Tensor]) -> Results:
        """(out,) or, with backward, (out, gradients...)."""
        with nullcontext() if self.case.backward else torch.no_grad():
            out = attend()
        if not self.case.backward:
            return (out,)
        return (out, *torch.autograd.grad(out, self.leaves, self.d_out))

    def expected(self) -> Results:
        if self.case.kind == "additive":
            return self.eager()
        if self.score_mod is not None or self.case.window:
            return self.graded(lambda: oracle.attention(*self.leaves[:3], self.rule()))
        q, k, v = (x.float() for x in self.leaves[:3])
        return self.graded(lambda: self._sdpa(q, k, v))

    def expected_statistics(self) -> Results:
        q, k, v = self.leaves[:3]
        wanted = oracle.statistics(q, k, v, self.rule(), self.case.want)
        return (oracle.attention(q, k, v, self.rule()), *wanted)

    def rule(self) -> oracle.Rule:
        return oracle.Rule(self.case.causal, self.case.window, self.score_mod)


def additive(q: Tensor, k: Tensor, v: Tensor, weight: Tensor) -> Tensor:
    """As one writes it: every tanh of [B,H,T,S,D] is stored."""
    hidden = torch.tanh(q.unsqueeze(3) + k.unsqueeze(2))
    score = torch.matmul(hidden, weight[:, None, :, None]).squeeze(-1)  # [B,H,T,S]
    return torch.softmax(score, dim=-1) @ v


def _alibi(case: Case) -> tuple[oracle.ScoreMod, list[Tensor]]:
    """Press et al. 2022, both ways; the slopes can be learnt."""
    slope = torch.exp2(-8.0 * torch.arange(1, case.H + 1) / case.H)
    return lambda score, b, h, t, s: score - slope[h] * (t - s).abs(), [slope]


def _soft_cap(case: Case) -> tuple[oracle.ScoreMod, list[Tensor]]:
    """Gemma 2."""
    return lambda score, b, h, t, s: 50.0 * torch.tanh(score / 50.0), []


def _relative_table(case: Case) -> tuple[oracle.ScoreMod, list[Tensor]]:
    """One bias a head and distance."""
    bias = torch.randn(case.H, case.T + case.S - 1)
    return lambda score, b, h, t, s: score + bias[h, t - s + case.S - 1], [bias]


SCORES = {"ALiBi": _alibi, "soft cap": _soft_cap, "relative table": _relative_table}


def make(case: Case) -> Problem:
    torch.manual_seed(0)
    dtype = DTYPES[case.dtype]
    q = torch.randn(case.B, case.H, case.T, case.D)
    k, v = (torch.randn(case.B, case.Hkv or case.H, case.S, case.D) for _ in range(2))
    leaves = [x.to(dtype) for x in (q, k, v)]
    score_mod = None
    if case.kind == "additive":
        leaves.append(torch.randn(case.H, case.D) / math.sqrt(case.D))
    if case.score is not None:
        score_mod, tables = SCORES[case.score](case)
        leaves += tables
    lengths = mask = None
    if case.lengths:
        lengths = torch.linspace(case.S / 4, case.S, case.B).long()
        mask = (torch.arange(case.S) < lengths[:, None])[:, None, None, :]
    for leaf in leaves:
        leaf.requires_grad_(case.backward)
    return Problem(case, leaves, score_mod, torch.randn_like(leaves[0]), lengths, mask)


def _compiled_flex(problem: Problem) -> Callable[[], Results]:
    """FlexAttention after its first run, which compiles it."""
    case = problem.case
    block_mask = None
    if case.window:
        block_mask = create_block_mask(
            lambda b, h, t, s: (s <= t) & (t - s < case.window),
            *(None, None, case.T, case.S),
            device="cpu",
        )
    torch._dynamo.reset()  # or the eighth shape would silently run uncompiled

    def run() -> Results:
        q, k, v = problem.leaves[:3]
        with torch.no_grad():
            return (flex(q, k, v, score_mod=problem.score_mod, block_mask=block_mask),)

    try:
        flex = torch.compile(flex_attention, dynamic=False, fullgraph=True)
        run()
    except Exception as error:  # whatever a compiler that is missing or broken may cause
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise Unavailable(f"FlexAttention does not compile here: {reason[:120]}") from error
    return run


def rival(problem: Problem) -> Contestant | None:
    """torch's, ready to be timed; raises Unavailable where it can't run."""
    name = problem.case.rival
    if name is None:
        return None
    calls = {"SDPA": lambda: problem.sdpa, "eager": lambda: problem.eager}
    run = _compiled_flex(problem) if name == "FlexAttention" else calls[name]()
    return Contestant(run, problem.expected)


def ours(problem: Problem) -> dict[str, Contestant]:
    """ "heed" and, where the case is measured against it, "plain"."""
    case = problem.case
    if case.want:
        found = {"heed": Contestant(problem.heed_statistics, problem.expected_statistics)}
    else:
        found = {"heed": Contestant(problem.heed, problem.expected)}
    names = {figure.name for figure in case.figures}
    if names & {"plain_rate", "plain_time", "sweep", "extra"}:
        without = make(plain(case))
        found["plain"] = Contestant(without.heed, without.expected)
    return found


def verify(name: str, contestants: dict[str, Contestant], dtype: str) -> float:
    """Largest difference to the slow way relative to the largest value; raises if one disagrees."""
    tolerance = 1e-4 if dtype == "fp32" else 2 * torch.finfo(DTYPES[dtype]).eps
    worst = 0.0
    for who, contestant in contestants.items():
        error = difference(contestant.run(), contestant.expected())
        if not error < tolerance:
            raise SystemExit(f"{name}: {who} differs from the formula by {error:.2g}, not timed")
        worst = max(worst, error)
    return worst


def difference(found: Results, expected: Results) -> float:
    """NaN if anything is."""
    errors = []
    for own, right in zip(found, expected, strict=True):
        largest = max(right.float().abs().max().item(), 1e-30)
        errors.append((own.float() - right.float()).abs().max().item() / largest)
    return math.nan if any(math.isnan(e) for e in errors) else max(errors)
