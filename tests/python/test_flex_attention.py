"""heed.flex_attention: block masks, code around it and the example. What it computes is compared in
tests/conformance, FlexAttention's suites.
"""

import inspect
import operator
from importlib import import_module
from pathlib import Path

import formula
import numpy as np
import pytest
import torch
import torch.nn.attention.flex_attention as torchs

from heed.flex_attention import BlockMask, create_block_mask, create_mask, flex_attention

ours = import_module("heed.flex_attention")  # a name that the package gives to the function
EXAMPLE = Path(__file__).parents[2] / "examples/flex_training.py"


def causal(b, h, t, s):
    return s <= t


def windows(b, h, t, s):
    return (t - s < 20 + 9 * h) & (s <= t + b)


@pytest.fixture
def qkv():
    return [torch.randn(2, 4, 70, 16, requires_grad=True) for _ in range(3)]


def dense(q, k, v, seen):
    """Attention where seen [T,S] says so."""
    mask_mod = {"mask_mod": lambda b, h, t, s: seen[t, s]}
    return formula.attention(q.double(), k.double(), v.double(), **mask_mod)[0].float()


# The originals' names.


def test_arguments_are_torchs():
    for name in ("flex_attention", "create_block_mask", "create_mask"):
        theirs = inspect.signature(getattr(torchs, name)).parameters
        mine = inspect.signature(getattr(ours, name)).parameters
        assert list(mine) == list(theirs)
        for word in theirs:
            assert mine[word].kind == theirs[word].kind
            if word != "device":
                assert mine[word].default == theirs[word].default


def test_kernel_options_change_nothing(qkv):
    options = {"BLOCK_M": 64, "BACKEND": "TRITON"}
    assert torch.equal(flex_attention(*qkv, kernel_options=options), flex_attention(*qkv))


# Masks.


def test_a_mask_costs_nothing_until_its_blocks_are_asked_for():
    calls = []

    def mask_mod(b, h, t, s):
        calls.append(t)
        return s <= t

    mask = create_block_mask(mask_mod, 64, 64, 1 << 20, 1 << 20)
    assert mask.shape == (64, 64, 1 << 20, 1 << 20) and mask.numel() == 1 << 52
    assert mask.BLOCK_SIZE == (128, 128) and mask.mask_mod is mask_mod
    assert "mask_mod=mask_mod" in repr(mask) and mask.to("cpu") is mask
    assert mask._adjust(300, 200).shape == (64, 64, 300, 200)
    assert not calls
    assert create_block_mask(mask_mod, 1, 1, 256, 256).sparsity() == 25
    assert calls


def test_blocks_are_looked_at_anew_after_the_rule_is_replaced():
    mask = create_block_mask(causal, None, None, 256, 256)
    assert mask.to_dense().tolist() == [[[[1, 0], [1, 1]]]]
    mask.mask_mod = lambda b, h, t, s: t <= s
    assert mask.to_dense().tolist() == [[[[1, 1], [0, 1]]]]


@pytest.mark.parametrize("lengths", [(70, 70), (128, 64), (50, 130)])
@pytest.mark.parametrize("size", [32, 16, (32, 48), (7, 5)])
def test_blocks_are_those_of_the_dense_mask(lengths, size):
    mask = create_block_mask(windows, 2, 3, *lengths, BLOCK_SIZE=size)
    theirs = torchs.create_block_mask(windows, 2, 3, *lengths, "cpu", BLOCK_SIZE=size)
    assert torch.equal(mask.to_dense(), theirs.to_dense())
    for part in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"):
        assert torch.equal(getattr(mask, part), getattr(theirs, part)), part
    assert mask.sparsity() == pytest.approx(theirs.sparsity(), abs=1e-4)


def test_drawing():
    drawing = create_block_mask(causal, None, 5, 96, 96, BLOCK_SIZE=32).to_string(limit=2)
    one = "██    \n████  \n██████\n"
    assert drawing == f"(0, 0)\n{one}\n(0, 1)\n{one}\n...\nmore with BlockMask.to_string(limit=N)"
    coarse = create_block_mask(causal, None, None, 128, 128, BLOCK_SIZE=32)
    assert coarse.to_string(grid_size=2) == "(0, 0)\n░░  \n██░░\n"
    assert coarse.to_string(grid_size=-1).count("█") == 20
    assert str(coarse).startswith("BlockMask(shape=(1, 1, 128, 128), sparsity=37.50%,\n(0, 0)")


def test_dense_masks_are_torchs():
    for mod, sizes in ((windows, (2, 3, 20, 30)), (causal, (None, None, 5, 4))):
        assert torch.equal(create_mask(mod, *sizes), torchs.create_mask(mod, *sizes, "cpu"))

    def score_mod(score, b, h, t, s):
        return torch.where(s <= t, score - 1e6, -float("inf"))

    assert torch.equal(create_mask(score_mod, 1, 1, 9, 9), create_mask(causal, 1, 1, 9, 9))


def test_masks_are_joined():
    joined = ours.and_masks(causal, ours.or_masks(windows, lambda b, h, t, s: s == 0))
    expected = create_mask(causal, 2, 3, 40, 40) & create_mask(windows, 2, 3, 40, 40)
    expected[..., 0] = True
    assert torch.equal(create_mask(joined, 2, 3, 40, 40), expected)
    assert create_mask(ours.and_masks(), 1, 1, 3, 3).all()
    assert not create_mask(ours.or_masks(), 1, 1, 3, 3).any()


@pytest.mark.parametrize(
    ("index", "same"),
    [
        (0, np.s_[0:1]),
        (-1, np.s_[1:2]),
        (np.s_[:1, 2], np.s_[:1, 2:3]),
        (np.s_[1, 1:3, 4], np.s_[1:2, 1:3, 4:5]),
        (np.s_[:, 0, torch.tensor([5, 1])], np.s_[:, 0:1, [5, 1]]),
    ],
)
def test_a_slice_has_the_blocks_of_its_place(index, same):
    mask = create_block_mask(windows, 2, 3, 96, 96, BLOCK_SIZE=16)
    blocks = mask.to_dense()[same]
    assert torch.equal(mask[index].to_dense(), blocks)
    assert mask[index].shape == (*blocks.shape[:2], 96, 96)


# torch's own masks.


def test_of_torchs_masks_the_rule_is_taken_alone_where_it_says_all(qkv):
    theirs = torchs.create_block_mask(causal, None, None, 70, 70, "cpu", BLOCK_SIZE=16)
    assert ours._rule(theirs) is causal
    empty = torch.ones(1, 1, 2, dtype=torch.int32), torch.zeros(1, 1, 2, 2, dtype=torch.int32)
    of_blocks = torchs.BlockMask.from_kv_blocks(*empty, BLOCK_SIZE=35, mask_mod=causal)
    assert ours._rule(of_blocks) is not causal
    seen = (torch.arange(70) < 35) & (torch.arange(70) <= torch.arange(70)[:, None])
    torch.testing.assert_close(flex_attention(*qkv, block_mask=of_blocks), dense(*qkv, seen))


def test_full_blocks_are_not_asked_by_the_rule(qkv):
    every = torch.full((1, 1, 2), 2), torch.arange(2).expand(1, 1, 2, 2)
    none = torch.zeros_like(every[0]), every[1]
    for module in (ours, torchs):
        mask = module.BlockMask.from_kv_blocks(*none, *every, BLOCK_SIZE=35, mask_mod=causal)
        assert torch.equal(flex_attention(*qkv, block_mask=mask), flex_attention(*qkv))


def test_torchs_mask_is_examined_once_and_its_rule_may_be_replaced(qkv):
    calls = []

    def mask_mod(b, h, t, s):
        calls.append(type(t).__name__)
        return s <= t

    mask = torchs.create_block_mask(mask_mod, None, None, 70, 70, "cpu")
    out = flex_attention(*qkv, block_mask=mask)
    once = len(calls)
    assert torch.equal(flex_attention(*qkv, block_mask=mask), out)
    assert len(calls) == once + 1  # traced for the call
    mask.mask_mod = lambda b, h, t, s: t <= s
    seen = torch.ones(70, 70).triu().bool()
    torch.testing.assert_close(flex_attention(*qkv, block_mask=mask), dense(*qkv, seen))


def test_a_mask_of_one_endless_block_is_for_every_length(qkv):
    one = torch.ones(1, 1, 1, dtype=torch.int32), torch.zeros(1, 1, 1, 1, dtype=torch.int32)
    mask = torchs.BlockMask.from_kv_blocks(*one, BLOCK_SIZE=1 << 30, seq_lengths=(1, 1))
    assert torch.equal(flex_attention(*qkv, block_mask=mask), flex_attention(*qkv))


def test_of_blocks_as_torchs():
    number = torch.tensor([1, 2])
    indices = torch.tensor([[2, 0, 1], [1, 0, 2]])
    mask = BlockMask.from_kv_blocks(number[None, None], indices[None, None], BLOCK_SIZE=(8, 4))
    assert mask.shape == (1, 1, 16, 12)
    assert mask.to_dense().tolist() == [[[[0, 0, 1], [1, 1, 0]]]]
    assert mask._adjust(8, 12).to_dense().tolist() == [[[[0, 0, 1]]]]
    assert BlockMask.from_kv_blocks(number, indices).shape == (1, 1, 256, 384)
    with pytest.raises(RuntimeError, match="two dimensions or more, got 1"):
        BlockMask.from_kv_blocks(number, number)
    with pytest.raises(AssertionError, match="expected both, got one"):
        BlockMask.from_kv_blocks(number, indices, number)


@pytest.mark.parametrize("wrong", [torch.ones(70, 70, dtype=torch.bool), causal])
def test_what_is_no_mask_is_refused(qkv, wrong):
    with pytest.raises(TypeError, match=r"\[flex_attention\] block_mask: expected a BlockMask"):
        flex_attention(*qkv, block_mask=wrong)


# Bits of integers.


@pytest.mark.parametrize("join", [operator.and_, operator.or_, operator.xor])
@pytest.mark.parametrize("constant", [None, 0, 5, 90, -1, -8])
def test_bits_are_pythons(join, constant):
    """Of negative numbers, too; compared exactly, through a mask."""
    other = torch.tensor(
        [join(x - 40, x - 50 if constant is None else constant) for x in range(80)]
    )

    def mask_mod(b, h, t, s):
        return join(t - 40, t - 50 if constant is None else constant) == other[t]

    assert create_mask(mask_mod, 1, 1, 80, 1).all()
    other += 1
    assert not create_mask(mask_mod, 1, 1, 80, 1).any()


def test_bits_of_two_unknown_numbers_find_a_place_in_a_table():
    table = torch.arange(64)

    def mask_mod(b, h, t, s):
        return (table[t ^ s] == (t | s) - (t & s)) & (t >> 2 == t // 4) & (s << 1 == 2 * s)

    assert create_mask(mask_mod, 1, 1, 64, 64).all()


# Code around it.


@pytest.mark.parametrize("module", [ours, torchs], ids=["heed's mask", "torch's mask"])
def test_inside_compiled_code(qkv, module):
    mask = module.create_block_mask(causal, None, None, 70, 70, "cpu")
    bias = torch.randn(4, 140, requires_grad=True)

    def loss(q, k, v):
        def score_mod(score, b, h, t, s):
            return score + bias[h, t - s + 70]

        out, lse = flex_attention(2 * q, k, v, score_mod, mask, return_lse=True)
        return out.sin().sum() + lse.sum()

    compiled = torch.compile(loss, backend="aot_eager")
    expected = torch.autograd.grad(loss(*qkv), (*qkv, bias))
    for _ in range(2):
        gradients = torch.autograd.grad(compiled(*qkv), (*qkv, bias))
        for gradient, same in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, same)


def test_compiled_itself_with_all_that_people_compile(qkv):
    compiled = torch.compile(flex_attention, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*qkv), flex_attention(*qkv))
    create = torch.compile(create_block_mask)
    assert create(causal, None, None, 70, 70).shape == (1, 1, 70, 70)


# The example.


def trained(steps, importing):
    code = EXAMPLE.read_text(encoding="utf-8").replace("heed.flex_attention", importing)
    names = {"__name__": "example"}
    exec(compile(code, str(EXAMPLE), "exec"), names)
    return names["train"](steps)


def test_the_example_trains(capsys):
    losses = trained(40, "heed.flex_attention")
    assert "step   0  loss" in capsys.readouterr().out
    early, late = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    assert early > 2.9 and late < early - 0.8


def test_torch_refuses_the_example_on_a_cpu():
    with pytest.raises(NotImplementedError, match="does not support backward on CPU"):
        trained(1, "torch.nn.attention.flex_attention")
