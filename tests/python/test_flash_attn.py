"""heed.flash_attn against attention written out in float64, in flash-attn's layout and conventions."""

import inspect
import math

import formula
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import grad, gradcheck

from heed import flash_attn
from heed.flash_attn import (
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
    flash_attn_with_kvcache,
)

SLOPES = torch.tensor([[0.3, 0.1, 0.05, 0.2], [0.02, 0.25, 0.15, 0.4]])  # [B,H]


def reference(q, k, v, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None, **rest):
    """(out [B,T,H,Dv], lse [B,H,T], weights [B,H,T,S]) in float64, of tensors [B,T,H,D]."""
    corner = k.shape[1] - q.shape[1]
    left, right = window_size[0], 0 if causal else window_size[1]
    scale = rest.pop("softmax_scale", None)

    def score_mod(score, b, h, t, s):
        if softcap > 0:
            score = softcap * torch.tanh(score / softcap)
        if alibi_slopes is not None:
            slopes = alibi_slopes.double().expand(q.shape[0], q.shape[2])
            score = score - slopes[b, h] * (t + corner - s).abs()
        return score

    def mask_mod(b, h, t, s):
        seen = s == s
        if left >= 0:
            seen = seen & (s >= t + corner - left)
        if right >= 0:
            seen = seen & (s <= t + corner + right)
        return seen

    out, lse, weights = formula.attention(
        *(x.double().transpose(1, 2) for x in (q, k, v)),
        score_mod=score_mod,
        mask_mod=mask_mod,
        scale=scale,
        **rest,
    )
    return out.transpose(1, 2), lse, weights


def batch(T, S, H=4, Hkv=2, D=16, dtype=torch.float32, B=2):
    q, k, v = torch.randn(B, T, H, D), torch.randn(B, S, Hkv, D), torch.randn(B, S, Hkv, D)
    return [x.to(dtype).requires_grad_() for x in (q, k, v)]


OPTIONS = [
    {},
    {"causal": True},
    {"window_size": (5, 3)},
    {"window_size": (-1, 2)},
    {"window_size": (4, -1)},
    {"causal": True, "window_size": (6, 9)},
    {"softcap": 1.5, "softmax_scale": 0.7},
    {"alibi_slopes": SLOPES[0]},
    {"alibi_slopes": SLOPES, "causal": True},
    {"alibi_slopes": SLOPES, "window_size": (7, 1), "softcap": 2.0},
]
NAMES = ["-".join(options) or "plain" for options in OPTIONS]
close = {"rtol": 2e-5, "atol": 2e-5}


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
@pytest.mark.parametrize(("T", "S"), [(17, 17), (9, 20), (20, 9)])
def test_values_and_gradients(options, T, S):
    q, k, v = batch(T, S)
    out, lse, weights = flash_attn_func(q, k, v, return_attn_probs=True, **options)
    right, right_lse, p = reference(q, k, v, **options)
    empty = right_lse == -math.inf
    right_side = 0 if options.get("causal") else options.get("window_size", (-1, -1))[1]
    assert empty.any() == (0 <= right_side < T - S)
    assert out.is_contiguous() and lse.dtype == torch.float32
    torch.testing.assert_close(out.double(), right, **close)
    torch.testing.assert_close(lse.double(), right_lse.masked_fill(empty, math.inf), **close)
    torch.testing.assert_close(weights.double(), p / p.amax(-1, True).clamp(min=1e-30), **close)
    loss = out.sin().sum() + lse[~empty].cos().sum()
    right_loss = right.sin().sum() + right_lse[~empty].cos().sum()
    for own, expected in zip(grad(loss, (q, k, v)), grad(right_loss, (q, k, v)), strict=True):
        torch.testing.assert_close(own, expected, **close)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_its_dtype(dtype):
    q, k, v = batch(33, 50, dtype=dtype)
    out, lse, weights = flash_attn_func(q, k, v, causal=True, return_attn_probs=True)
    assert out.dtype == weights.dtype == dtype and lse.dtype == torch.float32
    torch.testing.assert_close(out.double(), reference(q, k, v, causal=True)[0], rtol=0, atol=1e-2)


def test_slopes_get_a_gradient():
    q, k, v = (x.detach().requires_grad_() for x in batch(3, 4, D=2, dtype=torch.float64))
    slopes = SLOPES.double().requires_grad_()

    def f(q, k, v, slopes):
        out, lse, _ = flash_attn_func(
            q, k, v, softcap=3.0, alibi_slopes=slopes, return_attn_probs=True
        )
        return out, lse

    assert gradcheck(f, (q, k, v, slopes))


def test_packed_arguments_are_the_same_attention():
    q, k, v = (x.detach() for x in batch(11, 11, Hkv=4))
    options = {"causal": True, "window_size": (4, -1), "alibi_slopes": SLOPES}
    qkv, kv = (torch.stack(x, dim=2).requires_grad_() for x in ((q, k, v), (k, v)))
    plain = [x.requires_grad_() for x in (q, k, v)]
    expected = flash_attn_func(*plain, **options)
    d_plain = grad(expected.sin().sum(), plain)
    for out, packed, d_expected in (
        (flash_attn_qkvpacked_func(qkv, **options), qkv, torch.stack(d_plain, dim=2)),
        (flash_attn_kvpacked_func(q, kv, **options), kv, torch.stack(d_plain[1:], dim=2)),
    ):
        assert out.is_contiguous()
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(grad(out.sin().sum(), packed)[0], d_expected)


LENGTHS_Q, LENGTHS_K = (5, 0, 13, 1, 8), (9, 4, 13, 0, 3)
VARLEN_SLOPES = torch.rand(5, 4, generator=torch.Generator().manual_seed(1))


def offsets(lengths, dtype=torch.int32):
    return torch.tensor([0, *lengths]).cumsum(0).to(dtype)


def packed_sequences(lengths_q=LENGTHS_Q, lengths_k=LENGTHS_K, H=4, Hkv=2, D=16):
    q, k, v = torch.randn(sum(lengths_q), H, D), *torch.randn(2, sum(lengths_k), Hkv, D)
    return [x.requires_grad_() for x in (q, k, v)]


def one_by_one(q, k, v, lengths_q=LENGTHS_Q, lengths_k=LENGTHS_K, alibi_slopes=None, **options):
    outs, lses, weights = [], [], []
    parts = zip(q.split(lengths_q), k.split(lengths_k), v.split(lengths_k), strict=True)
    for b, own in enumerate(parts):
        if alibi_slopes is not None:
            options["alibi_slopes"] = alibi_slopes[b]
        out, lse, p = reference(*(x[None] for x in own), **options)
        outs.append(out[0])
        lses.append(lse[0])
        weights.append(p[0])
    return torch.cat(outs), torch.cat(lses, dim=1), weights


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_varlen(options):
    if "alibi_slopes" in options:
        options = options | {"alibi_slopes": VARLEN_SLOPES}
    q, k, v = packed_sequences()
    cu = offsets(LENGTHS_Q), offsets(LENGTHS_K)
    out, lse, weights = flash_attn_varlen_func(
        q, k, v, *cu, 13, 13, return_attn_probs=True, **options
    )
    right, right_lse, p = one_by_one(q, k, v, **options)
    torch.testing.assert_close(out.double(), right, **close)
    empty = right_lse == -math.inf
    torch.testing.assert_close(lse.double(), right_lse.masked_fill(empty, math.inf), **close)
    assert weights.shape == (5, 4, 13, 13)
    for own, expected in zip(weights, p, strict=True):
        T, S = expected.shape[1:]
        largest = expected.amax(-1, True).clamp(min=1e-30) if S else 1.0
        torch.testing.assert_close(own[:, :T, :S].double(), expected / largest, **close)
        assert own[:, T:].count_nonzero() == own[:, :, S:].count_nonzero() == 0
    ours = grad(out.sin().sum(), (q, k, v))
    for own, expected in zip(ours, grad(right.sin().sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(own, expected, **close)


@pytest.mark.parametrize("options", [{}, {"window_size": (3, 2), "alibi_slopes": VARLEN_SLOPES}])
def test_packed_varlen(options):
    q, k, v = packed_sequences(LENGTHS_Q, LENGTHS_Q, Hkv=4)
    cu = offsets(LENGTHS_Q)
    expected, _, _ = one_by_one(q, k, v, LENGTHS_Q, LENGTHS_Q, **options)
    own = flash_attn_varlen_qkvpacked_func(torch.stack((q, k, v), 1), cu, 13, **options)
    torch.testing.assert_close(own.double(), expected, **close)
    kv = torch.stack((k, v), dim=1)
    own = flash_attn_varlen_kvpacked_func(q, kv, cu, cu.clone(), 13, 13, **options)
    torch.testing.assert_close(own.double(), expected, **close)


def paged(keys, lengths, P, N, table_dtype=torch.int32):
    """Pages [N,P,Hkv,D] of NaN but for the keys, given one sequence a list, and their table."""
    pages = torch.full((N, P, *keys[0].shape[1:]), math.nan, dtype=keys[0].dtype)
    table = torch.randperm(N)[: len(keys) * (N // len(keys))].view(len(keys), -1)
    for own, row, length in zip(keys, table, lengths, strict=True):
        for s in range(length):
            pages[row[s // P], s % P] = own[s]
    return pages, table.to(table_dtype)


def test_varlen_pages():
    q, k, v = packed_sequences()
    cu = offsets(LENGTHS_Q), offsets(LENGTHS_K)
    torch.manual_seed(3)
    k_pages, table = paged(k.detach().split(LENGTHS_K), LENGTHS_K, 4, 25)
    torch.manual_seed(3)
    v_pages, _ = paged(v.detach().split(LENGTHS_K), LENGTHS_K, 4, 25)
    pages = [k_pages.requires_grad_(), v_pages.requires_grad_()]
    out = flash_attn_varlen_func(q, *pages, *cu, 13, 13, causal=True, block_table=table)
    expected = flash_attn_varlen_func(q, k, v, *cu, 13, 13, causal=True)
    torch.testing.assert_close(out, expected)
    d_pages = grad(out.sin().sum(), pages)
    for own, x in zip(d_pages, grad(expected.sin().sum(), (k, v)), strict=True):
        torch.testing.assert_close(own.sum(dim=(0, 1)), x.sum(dim=0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("varlen", [False, True])
def test_dropped_weights_are_negative(varlen, dtype):
    T, S, dropout_p = 60, 70, 0.3
    q, k, v = batch(T, S, dtype=dtype)
    options = {"causal": True, "window_size": (50, -1), "dropout_p": dropout_p}
    if varlen:
        cu = offsets((T, T)), offsets((S, S))
        flat = [x.flatten(0, 1) for x in (q, k, v)]
        out, _, weights = flash_attn_varlen_func(
            *flat, *cu, T, S, return_attn_probs=True, **options
        )
        out = out.unflatten(0, (2, T))
    else:
        out, _, weights = flash_attn_func(q, k, v, return_attn_probs=True, **options)
    keep, dropped = weights >= 0, weights < 0
    assert abs(dropped.sum() / weights.count_nonzero() - dropout_p) < 0.02
    assert dropped[0].ne(dropped[1]).any() and dropped[:, 0].ne(dropped[:, 1]).any()
    right, _, p = reference(q, k, v, keep=keep, **options)
    tolerance = {"rtol": 0, "atol": 5e-3} if dtype == torch.float16 else close
    torch.testing.assert_close(out.double(), right, **tolerance)
    torch.testing.assert_close(weights.double().abs(), p / p.amax(-1, True), **tolerance)
    if dtype != torch.float16:
        ours, expected = (grad(x.sin().sum(), (q, k, v)) for x in (out, right))
        for own, x in zip(ours, expected, strict=True):
            torch.testing.assert_close(own, x, **tolerance)


def test_wide_heads_other_values_and_a_cap_with_dropout():
    q, k = torch.randn(1, 7, 4, 300), torch.randn(1, 9, 2, 300)
    v, options = torch.randn(1, 9, 2, 20), {"softcap": 2.0, "dropout_p": 0.4}
    out, _, weights = flash_attn_func(q, k, v, return_attn_probs=True, **options)
    right, _, _ = reference(q, k, v, keep=weights >= 0, **options)
    torch.testing.assert_close(out.double(), right, **close)


def test_dropout_follows_torch_generator():
    q, k, v = batch(30, 30)
    torch.manual_seed(5)
    first, second = (flash_attn_func(q, k, v, dropout_p=0.4) for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(first, flash_attn_func(q, k, v, dropout_p=0.4))
    assert not torch.equal(first, second)


# The cache.


def turned(x, cos, sin, place, interleaved):
    """One token's heads x [H,D], float64, turned as complex numbers."""
    R = 2 * cos.shape[1]
    angle = torch.complex(cos[place].double(), sin[place].double())
    head, rest = x[:, :R], x[:, R:]
    pairs = head.unflatten(1, (-1, 2)) if interleaved else head.unflatten(1, (2, -1)).mT
    new = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * angle)
    return torch.cat([(new if interleaved else new.mT).flatten(1), rest], dim=1)


B, H, HKV, D, CAPACITY = 3, 4, 2, 16, 40
SEQLENS = torch.tensor([7, 0, 26], dtype=torch.int32)
LEFTPAD = torch.tensor([2, 0, 5], dtype=torch.int32)
ROWS = torch.tensor([4, 0, 1], dtype=torch.int32)
CACHE_SLOPES = torch.tensor([[0.3, 0.1, 0.05, 0.2], [0.02, 0.25, 0.15, 0.4], [0.0, 0.1, 0.2, 0.3]])
ANGLES = torch.rand(CAPACITY, 6, generator=torch.Generator().manual_seed(2)) * 6
CACHES = [
    {},
    {"causal": True, "cache_leftpad": LEFTPAD},
    {"causal": True, "cache_batch_idx": ROWS},
    {"window_size": (9, 1), "cache_batch_idx": ROWS, "cache_leftpad": LEFTPAD},
    {"window_size": (9, 1), "cache_leftpad": LEFTPAD, "alibi_slopes": CACHE_SLOPES},
    {"causal": True, "rotary": True},
    {"rotary": False, "alibi_slopes": CACHE_SLOPES[0]},
    {"window_size": (12, 3), "rotary": False, "softcap": 2.0},
    {"causal": True, "page": 8},
    {"window_size": (6, 2), "page": 4, "rotary": True, "alibi_slopes": CACHE_SLOPES},
    {"causal": True, "window_size": (11, 0), "page": 8, "cache_leftpad": LEFTPAD},
]


class CacheCase:
    """A call of flash_attn_with_kvcache, T queries and n new keys, and what it should do."""

    def __init__(self, T, n, rotary=None, page=None, **options):
        self.rotary = rotary if n else None
        self.rows, self.options = options.get("cache_batch_idx"), options
        self.seqlens = SEQLENS if n else SEQLENS.clamp(min=1)
        self.table = torch.randperm(B * CAPACITY // page).view(B, -1).int() if page else None
        rows = B if self.rows is None else 6
        shape = (B * CAPACITY // page, page) if page else (rows, CAPACITY)
        self.caches = torch.randn(2, *shape, HKV, D)
        self.q = torch.randn(B, T, H, D)
        self.new = torch.randn(2, B, n, HKV, D)

    def arguments(self):
        arguments = {"cache_seqlens": self.seqlens, "block_table": self.table} | self.options
        if self.new.numel() > 0:
            arguments |= {"k": self.new[0], "v": self.new[1]}
        if self.rotary is not None:
            arguments |= {"rotary_cos": ANGLES.cos(), "rotary_sin": ANGLES.sin()}
            arguments |= {"rotary_interleaved": self.rotary}
        return arguments

    def stored(self, b):
        """Keys and values [2,CAPACITY,HKV,D] of query row b, in float64."""
        if self.table is not None:
            return self.caches[:, self.table[b].long()].flatten(1, 2).double()
        return self.caches[:, b if self.rows is None else self.rows[b]].double()

    def turned(self, x, places):
        """x [T,heads,D] at their places."""
        if self.rotary is None:
            return x.double()
        angles = ANGLES.cos(), ANGLES.sin()
        tokens = zip(x.double(), places, strict=True)
        return torch.stack([turned(token, *angles, place, self.rotary) for token, place in tokens])

    def expected(self, b, stored):
        """(keys and values after the call, out [T,H,D], lse [H,T]); before it they are `stored`."""
        options, seqlen, n = dict(self.options), int(self.seqlens[b]), self.new.shape[2]
        last = seqlen + n
        leftpad = options.pop("cache_leftpad", None)
        first = 0 if leftpad is None else min(int(leftpad[b]), last)
        options.pop("cache_batch_idx", None)
        slopes = options.get("alibi_slopes")
        if slopes is not None and slopes.dim() == 2:
            options["alibi_slopes"] = slopes[b]
        moves = options.get("causal", False) or "window_size" in options
        q = self.turned(self.q[b], [seqlen + t * moves for t in range(self.q.shape[1])])
        stored[0, seqlen:last] = self.turned(self.new[0, b], range(seqlen, last))
        stored[1, seqlen:last] = self.new[1, b]
        out, lse, _ = reference(q[None], *stored[:, None, first:last], **options)
        return stored, out[0], lse[0].masked_fill(lse[0] == -math.inf, math.inf)


@pytest.mark.parametrize("T_new", [(3, 0), (1, 1), (3, 3), (4, 2)], ids=str)
@pytest.mark.parametrize("options", CACHES, ids=lambda options: "-".join(options) or "plain")
def test_kvcache(options, T_new):
    case = CacheCase(*T_new, **options)
    before, untouched = [case.stored(b) for b in range(B)], case.caches.clone()
    out, lse = flash_attn_with_kvcache(
        case.q, *case.caches, **case.arguments(), return_softmax_lse=True
    )
    for b in range(B):
        stored, right, right_lse = case.expected(b, before[b].clone())
        torch.testing.assert_close(case.stored(b), stored, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(out[b].double(), right, **close)
        torch.testing.assert_close(lse[b].double(), right_lse, **close)
    written = (case.caches != untouched).any(dim=(-1, -2)).sum()
    assert written == 2 * B * T_new[1]


def test_cache_is_full_without_lengths_and_int_is_for_all():
    q, k, v = (x.detach() for x in batch(2, 9))
    torch.testing.assert_close(
        flash_attn_with_kvcache(q, k, v, causal=True), flash_attn_func(q, k, v, causal=True)
    )
    torch.testing.assert_close(
        flash_attn_with_kvcache(q, k, v, cache_seqlens=6), flash_attn_func(q, k[:, :6], v[:, :6])
    )


def test_what_lies_beyond_the_lengths_is_never_read():
    q, k, v = (x.detach() for x in batch(1, 9))
    expected = flash_attn_with_kvcache(q, k, v, cache_seqlens=5, num_splits=3)
    k[:, 5:], v[:, 5:] = math.nan, math.nan
    assert torch.equal(expected, flash_attn_with_kvcache(q, k, v, cache_seqlens=5))


def test_plain_calls_run_without_a_program(monkeypatch):
    asked = []
    options_of = flash_attn.functions.Rules.options

    def spy(self, *arguments, **named):
        asked.append(options_of(self, *arguments, **named))
        return asked[-1]

    monkeypatch.setattr(flash_attn.functions.Rules, "options", spy)
    q, k, v = (x.detach() for x in batch(9, 9))
    cu = offsets((9, 9))
    for options in (
        {},
        {"causal": True},
        {"window_size": (3, 2)},
        {"causal": True, "window_size": (3, 0)},
    ):
        flash_attn_func(q, k, v, **options)
        flash_attn_varlen_func(*(x.flatten(0, 1) for x in (q, k, v)), cu, cu, 9, 9, **options)
    flash_attn_func(q[:, :5], k, v, causal=True, window_size=(3, 0))
    flash_attn_with_kvcache(q[:, :1], k, v, cache_seqlens=6, causal=True, window_size=(3, 0))
    assert len(asked) == 10 and all("program" not in options for options in asked)
    flash_attn_func(q, k, v, softcap=1.0)
    assert "program" in asked[-1]


# Arguments that are wrong.

Q, K, V = (x.detach() for x in batch(3, 5))
CU = offsets((3, 3)), offsets((5, 5))
FLAT = [x.flatten(0, 1) for x in (Q, K, V)]
TABLE = torch.zeros(2, 1, dtype=torch.int32)
COS = torch.ones(5, 4)


def dense(*arguments, **options):
    return lambda: flash_attn_func(*arguments, **options)


def cached(*arguments, **options):
    return lambda: flash_attn_with_kvcache(*arguments, **options)


def varlen(*arguments, **options):
    return lambda: flash_attn_varlen_func(*arguments, 3, 5, **options)


NEW = {"k": K[:, :2], "v": V[:, :2]}
WRONG = [
    (dense(Q[0], K, V), "flash_attn_func] q: expected [B,T,H,D], got [3, 4, 16]"),
    (
        dense(Q.int(), K, V),
        "flash_attn_func] q: expected dtype float16, bfloat16, float32 or float64, got torch.int32",
    ),
    (
        dense(Q, K.half(), V),
        "flash_attn_func] k: expected q's dtype torch.float32, got torch.float16",
    ),
    (
        dense(Q, K, V.double()),
        "flash_attn_func] v: expected q's dtype torch.float32, got torch.float64",
    ),
    (
        dense(Q, K[:1], V),
        "flash_attn_func] k: expected [B,S,Hkv,D] = [2,S,Hkv,16], got [1, 5, 2, 16]",
    ),
    (
        dense(Q, K[..., :8], V),
        "flash_attn_func] k: expected [B,S,Hkv,D] = [2,S,Hkv,16], got [2, 5, 2, 8]",
    ),
    (
        dense(Q, K, V[:, :4]),
        "flash_attn_func] v: expected [B,S,Hkv,Dv] = [2,5,2,Dv], got [2, 4, 2, 16]",
    ),
    (
        dense(Q[:, :, :3], K, V),
        "flash_attn_func] k: expected Hkv heads that divide q's H = 3, got Hkv = 2",
    ),
    (
        dense(Q, K, V, alibi_slopes=torch.rand(3)),
        "flash_attn_func] alibi_slopes: expected [H] = [4] or [B,H] = [2,4], got [3]",
    ),
    (dense(Q, K, V, 1.0), "attention] dropout_p: expected a probability in [0, 1), got 1"),
    (
        lambda: flash_attn_qkvpacked_func(Q),
        "flash_attn_qkvpacked_func] qkv: expected [B,T,3,H,D], got [2, 3, 4, 16]",
    ),
    (
        varlen(*FLAT, CU[0].float(), CU[1]),
        "flash_attn_varlen_func] cu_seqlens_q: expected dtype int32 or int64, got torch.float32",
    ),
    (
        varlen(*FLAT, CU[0], CU[1][:2]),
        "flash_attn_varlen_func] cu_seqlens_k: expected [B+1] = [3], got [2]",
    ),
    (
        varlen(*FLAT, CU[0] + 1, CU[1]),
        "varlen_attention] cu_seqlens_q: expected offsets that rise from 0 to 6, got 1 at 0",
    ),
    (
        varlen(FLAT[0], K, V, *CU, block_table=TABLE + 7),
        "flash_attn_varlen_func] block_table: expected pages in [0, 2), got 7",
    ),
    (
        varlen(FLAT[0], K, V, CU[0], CU[1] * 2, block_table=TABLE),
        "flash_attn_varlen_func] block_table: expected pages of 5 for 10 keys, got 1 pages",
    ),
    (
        cached(Q, K, V, k=K),
        "flash_attn_with_kvcache] k and v: expected both or neither, got one of them",
    ),
    (
        cached(Q, K, V, **NEW),
        "flash_attn_with_kvcache] cache_seqlens: expected a number or [B] with k and v, got None",
    ),
    (
        cached(Q, K, V, **NEW, cache_seqlens=4),
        "flash_attn_with_kvcache] cache_seqlens: expected numbers in [0, 3] (the cache has 5 places, 2 for new keys), got 4",
    ),
    (
        cached(Q, K, V, cache_seqlens=6, block_table=TABLE),
        "flash_attn_with_kvcache] cache_seqlens: expected numbers in [0, 5] (block_table's pages have 5 places, 0 for new keys), got 6",
    ),
    (
        cached(Q, K, V, **NEW, cache_seqlens=-1),
        "flash_attn_with_kvcache] cache_seqlens: expected numbers in [0, 3] (the cache has 5 places, 2 for new keys), got -1",
    ),
    (
        cached(Q, K, V, **NEW, cache_seqlens=3, causal=True, rotary_cos=COS, rotary_sin=COS),
        "flash_attn_with_kvcache] cache_seqlens: expected numbers in [0, 2] (rows of rotary_cos), got 3",
    ),
    (
        cached(Q, K, V, cache_batch_idx=torch.tensor([0, 2])),
        "flash_attn_with_kvcache] cache_batch_idx: expected numbers in [0, 1], got 2",
    ),
    (
        cached(Q, K, V, cache_batch_idx=TABLE[:, 0], block_table=TABLE),
        "flash_attn_with_kvcache] cache_batch_idx: expected None with a block_table, got a tensor",
    ),
    (
        cached(Q, K, V, rotary_cos=COS, rotary_sin=COS),
        "flash_attn_with_kvcache] k and v: expected new keys and values with rotary_cos, got None",
    ),
    (
        cached(Q, K, V, **NEW, cache_seqlens=1, rotary_cos=COS),
        "flash_attn_with_kvcache] rotary_cos and rotary_sin: expected both or neither, got one of them",
    ),
    (
        cached(Q, K, V, **NEW, cache_seqlens=1, rotary_cos=COS[:4], rotary_sin=COS[:4]),
        "flash_attn_with_kvcache] rotary_cos: expected P at least the cache's 5 keys, got 4",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[message for _, message in WRONG])
def test_message(wrong, message):
    with pytest.raises(RuntimeError) as error:
        wrong()
    text = str(error.value)
    assert text.startswith("[" + message) and "\n" not in text


def test_cuda_tensors_are_refused():
    with FakeTensorMode():
        q = torch.empty(1, 2, 3, 4, device="cuda", dtype=torch.float16)
        with pytest.raises(RuntimeError, match="q: expected a CPU tensor .*, got cuda:0$"):
            flash_attn_func(q, q, q)


# The rest of the contract.

COMMON = "dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False, return_attn_probs=False"
SIGNATURES = {
    "flash_attn_func": f"q, k, v, {COMMON}",
    "flash_attn_kvpacked_func": f"q, kv, {COMMON}",
    "flash_attn_qkvpacked_func": f"qkv, {COMMON}",
    "flash_attn_varlen_func": f"q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, {COMMON}, block_table=None",
    "flash_attn_varlen_kvpacked_func": f"q, kv, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, {COMMON}",
    "flash_attn_varlen_qkvpacked_func": f"qkv, cu_seqlens, max_seqlen, {COMMON}",
    "flash_attn_with_kvcache": "q, k_cache, v_cache, k=None, v=None, rotary_cos=None, rotary_sin=None, cache_seqlens=None, cache_batch_idx=None, cache_leftpad=None, block_table=None, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, rotary_interleaved=True, alibi_slopes=None, num_splits=0, return_softmax_lse=False",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    parameters = inspect.signature(getattr(flash_attn, name)).parameters.values()
    plain = (p.replace(annotation=inspect.Parameter.empty) for p in parameters)
    assert ", ".join(map(str, plain)) == SIGNATURES[name]


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[5], OPTIONS[9]], ids=str)
def test_compiles_to_one_graph(options):
    q, k, v = batch(6, 9)
    compiled = torch.compile(flash_attn_func, backend="aot_eager", fullgraph=True)
    own, expected = compiled(q, k, v, **options), flash_attn_func(q, k, v, **options)
    torch.testing.assert_close(own, expected)
    for a, b in zip(*(grad(x.sin().sum(), (q, k, v)) for x in (own, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_decoding_compiles_to_one_graph():
    q, k, v = (x.detach() for x in batch(1, 9))
    new = {"k": k[:, :1].clone(), "v": v[:, :1].clone(), "causal": True, "softcap": 2.0}
    lengths = torch.tensor([4, 6], dtype=torch.int32)
    caches = [[k.clone(), v.clone()] for _ in range(2)]
    step = torch.compile(flash_attn_with_kvcache, backend="aot_eager", fullgraph=True)
    own = step(q, *caches[0], cache_seqlens=lengths, **new)
    torch.testing.assert_close(
        own, flash_attn_with_kvcache(q, *caches[1], cache_seqlens=lengths, **new)
    )
    assert torch.equal(caches[0][0], caches[1][0]) and not torch.equal(caches[0][0], k)


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 3), (2, 3, 0)], ids=str)
def test_empty_sizes(shape):
    B, T, S = shape
    q, k, v = batch(T, S, B=B)
    out, lse, weights = flash_attn_func(q, k, v, 0.2, causal=True, return_attn_probs=True)
    assert out.shape == (B, T, 4, 16) and lse.shape == (B, 4, T) and weights.shape == (B, 4, T, S)
    assert out.count_nonzero() == 0 or S > 0
    cached = flash_attn_with_kvcache(q.detach(), k.detach(), v.detach())
    torch.testing.assert_close(cached, flash_attn_func(q, k, v).detach())
