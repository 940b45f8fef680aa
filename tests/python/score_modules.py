"""The modules of heed.nn that are a score, and their formulas in plain torch, scores stored."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heed.nn.additive_attention import AdditiveAttention
from heed.nn.content_location_attention import ContentLocationAttention
from heed.nn.cosine_attention import CosineAttention
from heed.nn.dot_attention import DotAttention
from heed.nn.general_attention import GeneralAttention
from heed.nn.kernel_regression import KernelRegression
from heed.nn.location_attention import LocationAttention


def softmax_of_kept(scores: Tensor, lengths: Tensor | None) -> Tensor:
    """[B,T,S] -> weights, keys beyond each length left out; without keys 0."""
    if lengths is None:
        return scores.softmax(-1)
    beyond = torch.arange(scores.shape[-1]) >= lengths.view(-1, 1, 1)
    kept = scores.masked_fill(beyond, torch.finfo(scores.dtype).min)
    return kept.softmax(-1).masked_fill(beyond, 0)


# Each formula: module and inputs without the values -> scores [B,T,S], in the inputs' dtype.


def dot_scores(module, query, keys):
    return query @ keys.mT / (math.sqrt(query.shape[-1]) if module.scaled else 1)


def general_scores(module, query, memory):
    return query @ module.key_projection.weight @ memory.mT


def additive_scores(module, query, memory):
    """v . tanh(W q + U k), as in Bahdanau 2015 and in d2l.ai, section 11.4."""
    W, U = module.query_projection, module.key_projection
    hidden = torch.tanh(W(query).unsqueeze(2) + U(memory).unsqueeze(1))  # [B,T,S,D]
    return hidden @ module.score_weight[0]


def cosine_scores(module, query, keys):
    return F.normalize(query, dim=-1) @ F.normalize(keys, dim=-1).mT * module.logit_scale.exp()


def location_scores(module, query, length):
    return F.linear(query, module.position_keys)[..., :length]


def kernel_scores(module, query, keys):
    of_query, of_key = query.square().sum(-1, keepdim=True), keys.square().sum(-1).unsqueeze(1)
    distance = of_query + of_key - 2 * query @ keys.mT  # [B,T,S], squared
    return -distance / (2 * module.log_bandwidth.exp() ** 2)


def content_location_scores(module, query, keys, lengths=None):
    hidden = torch.tanh(module.hidden_projection(query))
    n = keys.shape[1] if lengths is None else lengths.view(-1, 1, 1)
    centre = n * torch.sigmoid(module.centre_projection(hidden))  # [B,T,1]
    deviation = n * torch.sigmoid(module.window_projection(hidden)) / 2
    away = torch.arange(keys.shape[1]) - centre  # [B,T,S]
    return query @ keys.mT / math.sqrt(query.shape[-1]) - away**2 / (2 * deviation**2)


@dataclass
class Case:
    make: Callable[[int], nn.Module]  # for queries of a width
    keys_narrower: int | None  # than queries, by so many; None: there are no keys
    scores: Callable[..., Tensor]
    parameters: dict[str, list[int]]  # names and sizes for queries of width 6

    def inputs(self, B=3, T=5, S=7, D=6, Dv=4, dtype=torch.float32):
        """query [B,T,D], memory or keys [B,S,.] where there are any, values [B,S,Dv]."""
        sizes = [(B, T, D), (B, S, Dv)]
        if self.keys_narrower is not None:
            sizes.insert(1, (B, S, D - self.keys_narrower))
        return [torch.randn(size, dtype=dtype, requires_grad=True) for size in sizes]

    def module(self, D=6, dtype=torch.float32):
        module = self.make(D)
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=1.2 / D**0.5)  # as training leaves it: not at its start
        return module.to(dtype)

    def run(self, module, inputs, lengths=None, return_weights=False):
        query, *memory, values = inputs
        if hasattr(module, "keys"):
            memory = [module.keys(*memory)]
        return module(query, *memory, values, lengths, return_weights=return_weights)

    def formula(self, module, inputs, lengths=None):
        query, *memory, values = inputs
        if self.scores is location_scores:
            memory = [values.shape[1]]
        if self.scores is content_location_scores:
            memory.append(lengths)
        weights = softmax_of_kept(self.scores(module, query, *memory), lengths)
        return weights @ values, weights


CASES = {
    "dot": Case(lambda D: DotAttention(scaled=False), 0, dot_scores, {}),
    "scaled dot": Case(lambda D: DotAttention(), 0, dot_scores, {}),
    "general": Case(
        lambda D: GeneralAttention(query_size=D, key_size=D - 1),
        1,
        general_scores,
        {"key_projection.weight": [6, 5]},
    ),
    "additive": Case(
        lambda D: AdditiveAttention(query_size=D, key_size=D - 1, size=D + 3),
        1,
        additive_scores,
        {
            "score_weight": [1, 9],
            "query_projection.weight": [9, 6],
            "query_projection.bias": [9],
            "key_projection.weight": [9, 5],
        },
    ),
    "cosine": Case(lambda D: CosineAttention(), 0, cosine_scores, {"logit_scale": []}),
    "location": Case(
        lambda D: LocationAttention(query_size=D, max_length=512),
        None,
        location_scores,
        {"position_keys": [512, 6]},
    ),
    "kernel regression": Case(
        lambda D: KernelRegression(), 0, kernel_scores, {"log_bandwidth": []}
    ),
    "content and location": Case(
        lambda D: ContentLocationAttention(size=D),
        0,
        content_location_scores,
        {
            "hidden_projection.weight": [6, 6],
            "centre_projection.weight": [1, 6],
            "window_projection.weight": [1, 6],
        },
    ),
}


# Location-sensitive attention goes from step to step.


def sensitive_formula(module, query, memory, values, previous, lengths):
    hidden = module.query_projection(query) + module.key_projection(memory)  # [B,S,D]
    if previous is not None:
        features = F.conv1d(previous, module.location_convolution.weight, padding=module.width // 2)
        hidden = hidden + features.mT @ module.location_projection.weight.T
    scores = torch.tanh(hidden) @ module.score_weight[0]  # [B,S]
    weights = softmax_of_kept(scores.unsqueeze(1), lengths)
    return weights @ values, weights
