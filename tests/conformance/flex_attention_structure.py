"""FlexAttention beside its mods: shapes, strides, log-sum-exp, masked rows, block masks, errors."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import permutations, product

import torch
from flex_attention_checks import Sizes, check, inputs, plain
from flex_attention_mods import CORE
from suite import Case
from torch import Tensor

ALIBI = next(mod for mod in CORE if mod.name == "alibi")
STRUCTURE: list[Case] = []
MODULES = {"heed": "heed.flex_attention", "torch": "torch.nn.attention.flex_attention"}


def case(*choices: Iterable, fast: bool = True) -> Callable:
    """A case, or one for each combination of choices."""

    def register(run: Callable) -> Callable:
        for values in product(*choices):
            words = [run.__name__.replace("_", " "), *(str(value) for value in values)]
            STRUCTURE.append(Case(" ".join(words), partial(run, *values), fast))
        return run

    return register


def flex(*tensors: Tensor, **options):
    from heed.flex_attention import flex_attention

    return flex_attention(*tensors, **options)


def with_lse(*tensors: Tensor, **options) -> tuple[Tensor, Tensor]:
    return flex(*tensors, return_lse=True, **options)


def qkv(T: int = 70, S: int = 70, dtype: torch.dtype = torch.float32, **sizes: int) -> list[Tensor]:
    return inputs(Sizes(T=T, S=S, **sizes), dtype)[:3]


def close(ours: Tensor, exact: Tensor) -> None:
    torch.testing.assert_close(ours, exact.to(ours.dtype), atol=2e-6, rtol=2e-6)


def raises(error: type[Exception], words: str, call: Callable) -> None:
    try:
        call()
    except error as problem:
        text = str(problem)
        assert words in text and "\n" not in text, text
        return
    raise AssertionError(f"expected {error.__name__}")


# Strides. A tensor of the right shape and contents is copied to lie in memory as said.


def offset(x: Tensor) -> Tensor:
    room = x.new_zeros(x.numel() + 997)
    room[997:] = x.flatten()
    return room[997:].view(x.shape)


def heads_last(x: Tensor) -> Tensor:
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def batch_inside(x: Tensor) -> Tensor:
    return x.permute(1, 2, 0, 3).contiguous().permute(2, 0, 1, 3)


def padded_rows(x: Tensor) -> Tensor:
    room = x.new_zeros(*x.shape[:3], x.shape[3] + 1)
    room[..., :-1] = x
    return room[..., :-1]


def width_outside(x: Tensor) -> Tensor:
    return x.mT.contiguous().mT


STRIDES = {
    make.__name__: make for make in (offset, heads_last, batch_inside, padded_rows, width_outside)
}


@case(STRIDES)
def strides_of_q(name):
    check(lambda q, k, v, **m: with_lse(STRIDES[name](q), k, v, **m), ALIBI, Sizes(), torch.float32)


@case(STRIDES, STRIDES)
def strides_of_k_and_v(k_name, v_name):
    def run(q, k, v, **mods):
        return with_lse(q, STRIDES[k_name](k), STRIDES[v_name](v), **mods)

    check(run, ALIBI, Sizes(T=64), torch.float32)


@case(["k", "v"])
def one_row_shared_by_all_keys(which):
    q, k, v = qkv()
    shared = (k if which == "k" else v)[:, :, :1].expand(-1, -1, 70, -1)
    k, v = (shared, v) if which == "k" else (k, shared)
    close(flex(q, k, v), plain(q.double(), k.double(), v.double())[0])


@case(permutations(range(3)))
def output_lies_as_q_does(order):
    places = [*order, 3]
    q, k, v = qkv(B=3, Bkv=3)
    laid = q.permute(places).contiguous().permute([places.index(dim) for dim in range(4)])
    out = flex(laid, k, v)
    assert sorted(range(4), key=lambda dim: -out.stride(dim)) == places
    close(out, plain(q.double(), k.double(), v.double())[0])


# Sizes.


@case([-3, -1, 1, 3])
def lengths_beside_a_tile(more):
    check(with_lse, ALIBI, Sizes(T=128 + more, S=128 + more), torch.float32)
    check(with_lse, ALIBI, Sizes(T=128, S=128 + more), torch.float32)


@case()
def one_query_and_one_key():
    check(with_lse, ALIBI, Sizes(T=1, S=1), torch.float32)


@case([17, 24, 94, 121])
def head_size(D):
    check(with_lse, ALIBI, Sizes(D=D, Dv=D, T=64), torch.float32)


@case([(0, 5), (5, 0)])
def empty(lengths):
    q, k, v = (x.requires_grad_() for x in qkv(*lengths))
    out, lse = with_lse(q, k, v)
    assert out.shape == q.shape and not out.any() and (lse == -torch.inf).all()
    out.sum().backward()
    assert not any(x.grad.any() for x in (q, k, v))


# Gradients and log-sum-exp.


@case(CORE)
def gradcheck(mod):
    n = replace(Sizes(), T=11, S=11, D=4, Dv=4, H=2, Hkv=2)
    learnt = [make(n).double().requires_grad_() for make in mod.learnt]
    q, k, v = (x.requires_grad_() for x in inputs(n, torch.float64)[:3])

    def call(q, k, v, *learnt):
        out, lse = with_lse(q, k, v, **mod.of(n, list(learnt)))
        seeing = lse.isfinite()
        return out, lse.where(seeing, 0)

    assert torch.autograd.gradcheck(call, (q, k, v, *learnt), fast_mode=True)


@case(["q", "k", "v"])
def one_input_learns(name):
    tensors = dict(zip("qkv", qkv(), strict=True))
    tensors[name].requires_grad_()
    mods = {"score_mod": lambda score, b, h, t, s: score * 2 + s}
    exact = {x: tensor.detach().double() for x, tensor in tensors.items()}
    exact[name].requires_grad_()
    for each, attend in ((tensors, with_lse), (exact, plain)):
        attend(*each.values(), **mods)[0].square().sum().backward()
    torch.testing.assert_close(tensors[name].grad, exact[name].grad.float(), atol=1e-4, rtol=1e-4)


@case()
def lse_is_a_natural_logarithm_in_float32():
    q, k, v = qkv()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
        lse = with_lse(q, k, v)[1]
        assert lse.dtype == torch.float32
        close(lse, (q.double() @ k.double().mT / 4).logsumexp(dim=-1))


@case()
def auxiliary_outputs():
    from torch.nn.attention.flex_attention import AuxRequest as TorchsRequest

    from heed.flex_attention import AuxRequest

    q, k, v = qkv()
    q.requires_grad_()
    score = 3 * q.double() @ k.double().mT / 4
    for request in (AuxRequest, TorchsRequest):
        mods = {"score_mod": lambda score, b, h, t, s: 3 * score}
        out, aux = flex(q, k, v, **mods, return_aux=request(lse=True, max_scores=True))
        close(aux.lse, score.logsumexp(dim=-1))
        close(aux.max_scores, score.amax(dim=-1))
        assert aux.lse.requires_grad and not aux.max_scores.requires_grad
        assert flex(q, k, v, return_aux=request())[1] == (None, None)
        assert flex(q, k, v, return_aux=request(lse=True))[1].max_scores is None


@case([torch.float32, torch.bfloat16, torch.float64])
def fully_masked_rows(dtype):
    from heed.flex_attention import AuxRequest, create_block_mask

    q, k, v = (x.requires_grad_() for x in qkv(dtype=dtype))
    mask = create_block_mask(lambda b, h, t, s: (t % 3 > 0) & (s <= t), None, None, 70, 70)
    out, aux = flex(q, k, v, block_mask=mask, return_aux=AuxRequest(True, True))
    nothing = torch.arange(70) % 3 == 0
    assert not out[:, :, nothing].any() and out[:, :, ~nothing].all()
    for rows in (aux.lse, aux.max_scores):
        assert (rows[:, :, nothing] == -torch.inf).all() and rows[:, :, ~nothing].isfinite().all()
    (out.sum() + aux.lse[:, :, ~nothing].sum()).backward()
    assert not q.grad[:, :, nothing].any()
    assert all(x.grad.isfinite().all() and x.grad.any() for x in (q, k, v))


@case()
def rows_masked_by_infinities():
    q, k, v = (x.requires_grad_() for x in qkv())
    out, lse = with_lse(
        q, k, v, score_mod=lambda score, b, h, t, s: torch.where(t < 9, -torch.inf, score)
    )
    assert not out[:, :, :9].any() and (lse[:, :, :9] == -torch.inf).all()
    out.sum().backward()
    assert not q.grad[:, :, :9].any() and q.grad.isfinite().all()


@case()
def without_gradients():
    q, k, v = qkv()
    learnt = torch.randn(4, requires_grad=True)
    with torch.no_grad():
        out = flex(q, k, v, score_mod=lambda score, b, h, t, s: score * learnt[h])
    assert not out.requires_grad


@case()
def two_calls_in_one_graph():
    q, k, v = (x.double().requires_grad_() for x in qkv())
    first = {"score_mod": lambda score, b, h, t, s: score + (t - s)}
    second = {"score_mod": lambda score, b, h, t, s: torch.where(t >= s, score, -torch.inf)}

    def both(attend):
        inner = attend(q, k, v, **first)[0]
        return torch.autograd.grad(attend(inner, k, v, **second)[0].square().sum(), (q, k, v))

    for ours, exact in zip(both(with_lse), both(plain), strict=True):
        torch.testing.assert_close(ours, exact)


@case()
def mod_changed_between_calls():
    q, k, v = qkv()
    add, shift = True, torch.ones((), dtype=torch.int32)

    def score_mod(score, b, h, t, s):
        return score + shift * s if add else score * shift * s

    for add in (True, False, True):  # noqa: B007, the mod reads it
        exact = plain(q.double(), k.double(), v.double(), score_mod=score_mod)[0]
        out = flex(q, k, v, score_mod=score_mod)
        torch.testing.assert_close(out, exact.float(), atol=1e-4, rtol=1e-4)


# Block masks.


def dense(mask: Tensor, *tensors: Tensor) -> Tensor:
    return plain(*(x.double() for x in tensors), mask_mod=lambda b, h, t, s: mask[t, s])[0]


def by_blocks(whose: str, mask_mod: Callable | None, with_full: bool):
    """3 x 3 blocks of 30 x 20: those that ask the mask_mod, and those that are full."""
    module = import_module(MODULES[whose])
    partly = torch.tensor([[1, 0, 0], [1, 0, 1], [0, 1, 0]])
    full = torch.tensor([[0, 0, 1], [0, 1, 0], [0, 0, 0]]) if with_full else torch.zeros(3, 3)

    def listed(blocks):
        order = blocks.int().argsort(dim=-1, descending=True, stable=True)
        return blocks.sum(dim=-1).int()[None, None], order.int()[None, None]

    lists = [*listed(partly), *(listed(full) if with_full else ())]
    mask = module.BlockMask.from_kv_blocks(
        *lists, BLOCK_SIZE=(30, 20), mask_mod=mask_mod, seq_lengths=(85, 60)
    )
    t, s = torch.arange(85)[:, None], torch.arange(60)
    inside = torch.ones(85, 60).bool() if mask_mod is None else mask_mod(0, 0, t, s)
    seen = partly.bool()[t // 30, s // 20] & inside | full.bool()[t // 30, s // 20]
    return mask, seen


@case(MODULES, [False, True], [False, True])
def mask_by_its_blocks(whose, ruled, with_full):
    mask_mod = (lambda b, h, t, s: t >= s) if ruled else None
    mask, seen = by_blocks(whose, mask_mod, with_full)
    q, k, v = qkv(85, 60)
    close(flex(q, k, v, block_mask=mask), dense(seen, q, k, v))
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    flex(q, k, v, block_mask=mask).square().sum().backward()
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    dense(seen, *exact).square().sum().backward()
    for ours, theirs in zip((q, k, v), exact, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad.float(), atol=1e-4, rtol=1e-4)


@case([128, 256, (128, 256), (256, 128), 96, 50])
def blocks_are_torchs(size):
    from torch.nn.attention.flex_attention import create_block_mask as torchs_create

    from heed.flex_attention import create_block_mask

    def mask_mod(b, h, t, s):
        return (t >= s) & (t - s < 100 + 60 * h) | (s < 20 * b)

    ours = create_block_mask(mask_mod, 2, 3, 300, 410, BLOCK_SIZE=size)
    theirs = torchs_create(mask_mod, 2, 3, 300, 410, device="cpu", BLOCK_SIZE=size)
    assert torch.equal(ours.to_dense(), theirs.to_dense()) and ours.shape == theirs.shape
    tensors = qkv(300, 410, B=2, H=3, Hkv=3)
    assert torch.equal(flex(*tensors, block_mask=ours), flex(*tensors, block_mask=theirs))


@case()
def contradiction_has_no_blocks():
    from heed.flex_attention import and_masks, create_block_mask

    never = and_masks(lambda b, h, t, s: t >= s, lambda b, h, t, s: t < s)
    mask = create_block_mask(never, None, None, 256, 256)
    assert mask.sparsity() == 100 and not mask.to_dense().any()


@case(MODULES)
def slice_of_a_mask(whose):
    module = import_module(MODULES[whose])
    whole = module.create_block_mask(lambda b, h, t, s: t >= s, 2, None, 64, 64, "cpu", 16)
    part = whole[0, :, 2]
    q, k, v = qkv(16, 64)
    part.seq_lengths = (16, 64)
    try:
        flex(q, k, v, block_mask=part)
        raise AssertionError("a slice without a rule was taken")
    except RuntimeError as error:
        assert "slice" in str(error)
    part.mask_mod = lambda b, h, t, s: whole.mask_mod(b, h, t + 32, s)
    seen = torch.arange(16)[:, None] + 32 >= torch.arange(64)
    close(flex(q, k, v, block_mask=part), dense(seen, q, k, v))


@case(MODULES)
def adjusted_mask(whose):
    module = import_module(MODULES[whose])
    q, k, v = qkv(50, 70)
    mask = module.create_block_mask(lambda b, h, t, s: t >= s, None, None, 300, 300, "cpu")
    raises(ValueError, "_adjust(50, 70)", lambda: flex(q, k, v, block_mask=mask))
    seen = torch.arange(50)[:, None] >= torch.arange(70)
    close(flex(q, k, v, block_mask=mask._adjust(50, 70)), dense(seen, q, k, v))


# Compiled code around it.


@case(MODULES, fast=False)
def inside_compiled_code(whose):
    module = import_module(MODULES[whose])
    mask = module.create_block_mask(lambda b, h, t, s: t >= s, None, None, 70, 70, "cpu")
    q, k, v = (x.requires_grad_() for x in qkv())
    bias = torch.randn(140, requires_grad=True)

    def step(q, k, v):
        def score_mod(score, b, h, t, s):
            return score + bias[t - s + 70]

        out, lse = with_lse(2 * q, k, v, score_mod=score_mod, block_mask=mask)
        return out.sin().sum() + lse.sum()

    compiled = torch.compile(step)
    for _ in range(2):
        eager = torch.autograd.grad(step(q, k, v), (q, k, v, bias))
        for ours, plain_ones in zip(
            torch.autograd.grad(compiled(q, k, v), (q, k, v, bias)), eager, strict=True
        ):
            close(ours, plain_ones)


@case(fast=False)
def compiled_itself():
    tensors = qkv()
    compiled = torch.compile(with_lse, fullgraph=True)
    for ours, eager in zip(compiled(*tensors), with_lse(*tensors), strict=True):
        close(ours, eager)


# Errors, of torch's types.


@case()
def error_of_mixed_dtypes():
    q, k, v = qkv()
    raises(ValueError, "float32, torch.float16", lambda: flex(q, k.half(), v))


@case()
def error_of_mixed_devices():
    q, k, v = qkv()
    raises(ValueError, "one device", lambda: flex(q, k.to("meta"), v))


@case()
def error_of_heads():
    q, k, v = qkv()
    raises(ValueError, "enable_gqa=True", lambda: flex(q, k[:, :2], v[:, :2]))
    few = k[:, :3], v[:, :3]
    raises(ValueError, "H = 4 and Hkv = 3", lambda: flex(q, *few, enable_gqa=True))


@case()
def error_of_head_sizes():
    q, k, v = qkv()
    raises(ValueError, "16 and 8", lambda: flex(q, k[..., :8], v))


@case()
def error_of_ranks():
    q, k, v = qkv()
    raises(NotImplementedError, "[3, 3, 3]", lambda: flex(q[0], k[0], v[0]))
    raises(ValueError, "[1, 1, 1]", lambda: flex(q[0, 0, 0], k[0, 0, 0], v[0, 0, 0]))


@case()
def error_of_batches():
    from heed.flex_attention import create_block_mask

    q, k, v = qkv(B=4, Bkv=1)
    raises(ValueError, "block_mask", lambda: flex(q, k, v))
    for B, error in ((2, ValueError), (None, ValueError)):
        mask = create_block_mask(lambda b, h, t, s: t >= s, B, None, 70, 70)
        raises(error, "of block_mask", lambda mask=mask: flex(q, k, v, block_mask=mask))
    q, k, v = qkv(B=4, Bkv=2)
    mask = create_block_mask(lambda b, h, t, s: t >= s, 4, None, 70, 70)
    raises(RuntimeError, "batch size 1 or 4", lambda: flex(q, k, v, block_mask=mask))


@case()
def error_of_both_ways_to_ask_for_lse():
    from heed.flex_attention import AuxRequest

    q, k, v = qkv()
    raises(ValueError, "return_aux", lambda: with_lse(q, k, v, return_aux=AuxRequest(lse=True)))


@case()
def error_of_a_score_mod_as_mask():
    from heed.flex_attention import and_masks, create_block_mask

    def score_mod(score, b, h, t, s):
        return score

    raises(AssertionError, "score_mod", lambda: create_block_mask(score_mod, 1, 1, 8, 8))
    raises(RuntimeError, "functions", lambda: and_masks(score_mod, 3))


@case()
def error_of_a_branch():
    from heed import ProgramError

    def score_mod(score, b, h, t, s):
        return score if t > s else -score

    q, k, v = qkv()
    raises(ProgramError, "torch.where", lambda: flex(q, k, v, score_mod=score_mod))
