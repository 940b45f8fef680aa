#!/usr/bin/env python3
"""What mechanisms of reach, linear time, heads and positions cost, beside their formulas in torch.

Prints a row of Markdown for each and length: a forward and backward in float32 on one thread, in
process time, best of samples taken in turns; then the memory that it takes beyond inputs and
gradients. The gradients are compared first.
"""

import functools
from collections.abc import Callable
from typing import Any

import beside
import positions
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heed.nn.adaptive_span_attention import AdaptiveSpanAttention
from heed.nn.attention_pooling import AttentionPooling
from heed.nn.block_attention import BlockAttention
from heed.nn.coverage_attention import CoverageAttention
from heed.nn.document_attention import DocumentAttention
from heed.nn.dynamic_sparse_attention import DynamicSparseAttention
from heed.nn.hierarchical_attention import HierarchicalAttention
from heed.nn.learned_positions import LearnedPositions
from heed.nn.linear_attention import LinearAttention
from heed.nn.local_attention import LocalAttention
from heed.nn.local_predictive_attention import LocalPredictiveAttention
from heed.nn.longformer_attention import LongformerAttention
from heed.nn.multi_head_attention import MultiHeadAttention
from heed.nn.random_feature_attention import RandomFeatureAttention
from heed.nn.sentinel_attention import SentinelAttention
from heed.nn.set_attention import InducedSetAttentionBlock, SetAttentionBlock
from heed.nn.sinusoidal_positions import SinusoidalPositions
from heed.nn.top_k_attention import TopKAttention

H, D = 4, 64
E = H * D


def split(x: Tensor) -> Tensor:
    return x.unflatten(-1, (H, D)).transpose(1, 2)


def join(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def masked(x: Tensor, mask: Tensor) -> Tensor:
    q = split(x)
    score = (q @ q.mT / D**0.5).masked_fill(~mask, float("-inf"))
    return join(score.softmax(-1) @ q)


def distance(T: int) -> Tensor:
    return torch.arange(T).view(T, 1) - torch.arange(T)


def local(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = LocalAttention(128, heads=H)
    return module, lambda x: module(x, x, x), lambda x: masked(x, distance(T).abs() <= 128)


def local_predictive(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = LocalPredictiveAttention(E, E, 128.0)

    def plain(x: Tensor) -> Tensor:
        away = torch.arange(T) - module.centres(x, torch.tensor([T])).unsqueeze(-1)
        score = x @ x.mT - away**2 * (2 / 128**2)
        return score.masked_fill(away.abs() > 128, float("-inf")).softmax(-1) @ x

    return module, lambda x: module(x, x, x), plain


def longformer(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = LongformerAttention(E, H, 128)
    is_global = torch.zeros(1, T, dtype=torch.bool)
    is_global[0, 0] = True

    def plain(x: Tensor) -> Tensor:
        of_query, of_key = is_global.view(1, 1, T, 1), is_global.view(1, 1, 1, T)
        near = (distance(T).abs() <= 128) | of_key
        mixed = []
        for prefix, mask in (("", near), ("global_", torch.ones_like(near))):
            q, k, v = (
                split(module.get_submodule(f"{prefix}{name}_projection")(x))
                for name in ("query", "key", "value")
            )
            score = (q @ k.mT / D**0.5).masked_fill(~mask, float("-inf"))
            mixed.append(score.softmax(-1) @ v)
        return module.output_projection(join(torch.where(of_query, mixed[1], mixed[0])))

    return module, lambda x: module(x, is_global), plain


def block(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = BlockAttention(64, heads=H, global_blocks=1)

    def plain(x: Tensor) -> Tensor:
        i, j = torch.arange(T).view(T, 1) // 64, torch.arange(T) // 64
        return masked(x, ((i - j).abs() <= 1) | (i < 1) | (j < 1))

    return module, lambda x: module(x, x, x), plain


def document(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = DocumentAttention(heads=H)
    of = torch.arange(T).unsqueeze(0) // 256
    same = of.unsqueeze(-1) == of.unsqueeze(-2)
    return module, lambda x: module(x, x, x, of), lambda x: masked(x, same)


def adaptive_span(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = AdaptiveSpanAttention(T, heads=H)
    with torch.no_grad():
        module.span.copy_(torch.tensor([0.01, 0.02, 0.05, 0.2]))

    def plain(x: Tensor) -> Tensor:
        q = split(x)
        soft = ((32 + T * module.span.view(H, 1, 1) - distance(T)) / 32).clamp(0, 1)
        raw = torch.exp(q @ q.mT / D**0.5) * soft * (distance(T) >= 0)
        return join(raw / raw.sum(-1, keepdim=True) @ q)

    return module, lambda x: module(x, x, x), plain


def dynamic_sparse(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = DynamicSparseAttention(D, heads=H, buckets=16, rounds=2)

    def plain(x: Tensor) -> Tensor:
        of_q, of_k = module.buckets_of(split(x)), module.buckets_of(split(x))
        return masked(x, (of_q.unsqueeze(-1) == of_k.unsqueeze(-2)).any(1))

    return module, lambda x: module(x, x, x), plain


def top_k(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = TopKAttention(0.05, heads=H)

    def plain(x: Tensor) -> Tensor:
        q = split(x)
        score = q @ q.mT / D**0.5
        least = score.topk(max(1, int(0.05 * T)), -1).values[..., -1:]
        return join(score.masked_fill(score < least, float("-inf")).softmax(-1) @ q)

    return module, lambda x: module(x, x, x), plain


def linear(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = LinearAttention(heads=H, causal=True)

    def plain(x: Tensor) -> Tensor:
        of_q, of_k = F.elu(split(x)) + 1, F.elu(split(x)) + 1
        raw = (of_q @ of_k.mT).tril()
        return join(raw / raw.sum(-1, keepdim=True) @ split(x))

    return module, lambda x: module(x, x, x), plain


def random_features(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = RandomFeatureAttention(D, 128, heads=H)

    def features(x: Tensor) -> Tensor:
        y = split(x) / D**0.25
        return torch.exp(y @ module.projection.T - y.square().sum(-1, keepdim=True) / 2)

    def plain(x: Tensor) -> Tensor:
        of_q, of_k = features(x), features(x)
        mixed = of_q @ (of_k.mT @ split(x))
        return join(mixed / (of_q @ of_k.sum(-2).unsqueeze(-1)))

    return module, lambda x: module(x, x, x), plain


def coverage(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = CoverageAttention(E, E, E)

    def plain(x: Tensor) -> Tensor:
        keys, covered, outputs = module.keys(x), x.new_zeros(1, T), []
        for t in range(16):
            query = module.query_projection(x[:, t : t + 1])
            hidden = torch.tanh(query + keys + covered.unsqueeze(-1) * module.coverage_weight)
            p = (hidden @ module.score_weight[0]).softmax(-1)
            covered = covered + p
            outputs.append(p.unsqueeze(1) @ x)
        return torch.cat(outputs, 1)

    return module, lambda x: module(x[:, :16], module.keys(x), x).output, plain


def sentinel(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = SentinelAttention(E, E, E, E)

    def plain(x: Tensor) -> Tensor:
        few = x[:, :16]
        query = module.query_projection(few)
        hidden = torch.tanh(query.unsqueeze(2) + module.keys(x).unsqueeze(1))
        own = torch.tanh(module.sentinel_projection(few) + query) @ module.score_weight[0]
        p = torch.cat([hidden @ module.score_weight[0], own.unsqueeze(-1)], -1).softmax(-1)
        return p[..., :-1] @ x + p[..., -1:] * few

    return module, lambda x: module(x[:, :16], module.keys(x), x, x[:, :16]).output, plain


def pooling(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = AttentionPooling(E, queries=4, hidden_size=E)

    def plain(x: Tensor) -> Tensor:
        keys = torch.tanh(module.projection(x))  # type: ignore[misc]
        return (module.query @ keys.mT).softmax(-1) @ x

    return module, module, plain


def hierarchical(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = HierarchicalAttention(E, E)

    def pool(attention: Any, rows: Tensor) -> Tensor:
        score = torch.tanh(attention.projection(rows)) @ attention.query[0]
        return (score.softmax(-1).unsqueeze(-2) @ rows).squeeze(-2)

    def plain(x: Tensor) -> Tensor:
        sentences = pool(module.word_attention, x.view(1, T // 16, 16, E))
        return pool(module.sentence_attention, sentences)

    return module, lambda x: module(x.view(1, T // 16, 16, E)).output, plain


def set_formula(block: Any, x: Tensor, y: Tensor) -> Tensor:
    query = block.query_projection(x)
    score = split(query) @ split(block.key_projection(y)).mT / E**0.5
    mixed = join(score.softmax(-1) @ split(block.value_projection(y)))
    attended = block.attention_norm(query + mixed)
    return block.output_norm(attended + torch.relu(block.feed_forward(attended)))


def set_block(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = SetAttentionBlock(E, H)
    return module, module, lambda x: set_formula(module.block, x, x)


def induced_set_block(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = InducedSetAttentionBlock(E, H, 32)

    def plain(x: Tensor) -> Tensor:
        return set_formula(module.spread, x, set_formula(module.gather, module.points[None], x))

    return module, module, plain


def multi_head(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = MultiHeadAttention(E, H)
    return module, module, lambda x: by_heads(module, x, lambda q, k, v: softmax_of(q @ k.mT) @ v)


def cache(T: int) -> tuple[nn.Module, Callable, Callable]:
    """T tokens, one after the other, without gradients."""
    module = MultiHeadAttention(E, H)
    cache = module.make_cache(1, T)

    def ours(x: Tensor) -> Tensor:
        cache.reset()
        with torch.no_grad():
            return torch.cat(
                [module(token, causal="bottom_right", cache=cache) for token in x.split(1, 1)], 1
            )

    def plain(x: Tensor) -> Tensor:
        held = [x.new_empty(1, H, 0, D)] * 2  # keys and values

        def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            held[:] = [torch.cat(both, 2) for both in zip(held, (k, v), strict=True)]
            return softmax_of(q @ held[0].mT) @ held[1]

        with torch.no_grad():
            return torch.cat([by_heads(module, token, step) for token in x.split(1, 1)], 1)

    return module, ours, plain


def sinusoidal(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = SinusoidalPositions(E)

    def plain(x: Tensor) -> Tensor:
        angles = torch.arange(T).double().unsqueeze(-1) / 10000 ** (torch.arange(0, E, 2) / E)
        return x + torch.stack((angles.sin(), angles.cos()), -1).flatten(-2).float()

    return module, module, plain


def learned(T: int) -> tuple[nn.Module, Callable, Callable]:
    module = LearnedPositions(T, E)
    return module, module, lambda x: x + module.weight[:T]


def softmax_of(products: Tensor) -> Tensor:
    return (products / D**0.5).softmax(-1)


def by_heads(module: MultiHeadAttention, x: Tensor, mix: Callable) -> Tensor:
    projections = module.query_projection, module.key_projection, module.value_projection
    return module.output_projection(join(mix(*(split(p(x)) for p in projections))))


def with_positions(name: str, T: int) -> tuple[nn.Module, Callable, Callable]:
    module = MultiHeadAttention(E, H, positions=positions.CASES[name](H, D))

    def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return positions.formula_of(module.positions, q, k, v, False)

    return module, module, lambda x: by_heads(module, x, mix)


CASES = {
    case.__name__: case
    for case in (
        local,
        local_predictive,
        longformer,
        block,
        document,
        adaptive_span,
        dynamic_sparse,
        top_k,
        linear,
        random_features,
        coverage,
        sentinel,
        pooling,
        hierarchical,
        set_block,
        induced_set_block,
        multi_head,
        cache,
        sinusoidal,
        learned,
    )
} | {name: functools.partial(with_positions, name) for name in positions.CASES}


def gradients(name: str, T: int) -> beside.Runs:
    """A forward and backward of the formula's and of the module's."""
    torch.manual_seed(0)
    module, ours, formula = CASES[name](T)
    x = torch.randn(1, T, E, requires_grad=True)
    leaves = [x, *module.parameters()]
    d_out = torch.randn_like(formula(x))

    def both(forward: Callable[[Tensor], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        def run() -> tuple[Tensor, ...]:
            out = forward(x)
            if not out.requires_grad:
                return (out,)
            return torch.autograd.grad(out, leaves, d_out, materialize_grads=True)

        return run

    return {"formula": both(formula), "module": both(ours)}


PAGE = beside.Page(
    file=__file__,
    purpose=__doc__.splitlines()[0],
    setting=f"B = 1, H = {H}, D = {D}",
    columns=("mechanism", "T = S"),
    names=lambda: list(CASES),
    sizes=lambda name: [2048],
    runs=gradients,
    smallest=16,
    # A bias of keys changes no softmax, and a softmax of large products is nearly one-hot.
    slack=1e-4,
)

main = PAGE.main

if __name__ == "__main__":
    main()
