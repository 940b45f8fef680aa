"""`heed.attention_stats`: what the attention matrix looks like, without the matrix."""

from collections.abc import Sequence
from typing import Any, Literal, overload

from torch import Tensor

from heed._library import operators
from heed.attention import Corner, Kind, MaskMod, ScoreMod, call, operator_options

_ALL = ("entropy", "max", "top:8", "column_sums", "diagonal:-1", "blocks:64")


_Single = Literal["out", "lse", "entropy", "max", "column_sums", "blocks"]


class Statistics(dict[str, Any]):
    """A dict of tensors, and of (keys, weights) under "top"; finds "top:8" there as well."""

    @overload
    def __getitem__(self, word: Literal["top"]) -> tuple[Tensor, Tensor]: ...
    @overload
    def __getitem__(self, word: _Single) -> Tensor: ...
    @overload
    def __getitem__(self, word: str) -> Any: ...
    def __getitem__(self, word: str) -> Any:
        return super().__getitem__(word)

    def __missing__(self, word: str) -> Any:
        name = word.split(":")[0]
        if name == word or name not in self:
            raise KeyError(word)
        return self[name]


def attention_stats(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    want: Sequence[str] = _ALL,
    row_weights: Tensor | None = None,
    kind: Kind = "dot",
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
    causal: Corner | None = None,
    window: tuple[int, int] | None = None,
    scale: float | None = None,
    kv_lengths: Tensor | None = None,
    sinks: Tensor | None = None,
    top_k: int | None = None,
    weight: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
) -> Statistics:
    """Statistics of the weights p[b,h,t,s] = softmax_s(score), next to the output.

    p is never stored: cost and memory are those of `attention`, and of one more sweep for each of
    the last three. Nothing carries a gradient; p is taken before dropout.

    Args:
        want: which, each at most once, except for diagonals.
            "entropy": - sum_s p ln p of each row [B,H,T], in nats, the sink counted.
            "max": the largest score of each row [B,H,T], of keys.
            "top:n": the n largest weights of each row by falling weight, as (keys, weights): keys
                int64 [B,H,T,n], equal weights by rising key, and weights [B,H,T,n]; where the row
                sees fewer than n keys, key -1 and weight 0.
            "column_sums": sum_t row_weights[b,h,t] p[b,h,t,s] [B,H,S].
            "diagonal:d": p[b,h,t,t + d] [B,H,T], 0 outside.
            "blocks:n": means of p over blocks of n x n [B,H,ceil(T/n),ceil(S/n)], those at the
                edges over what lies inside.
        row_weights: [B,H,T] in lse's dtype, for "column_sums"; None: ones.

    Other arguments, and errors, are those of `attention`. A row that sees no key has entropy 0 and
    max -inf.

    Returns:
        A dict of "out", "lse" (as `attention` returns them) and what was asked for, under "entropy",
        "max", "top", "column_sums", "diagonal:d" and "blocks"; in float32, float64 if q is.
    """
    options = operator_options(
        q,
        kind=kind,
        score_mod=score_mod,
        mask_mod=mask_mod,
        causal=causal,
        window=window,
        scale=scale,
        kv_lengths=kv_lengths,
        sinks=sinks,
        top_k=top_k,
        weight=weight,
        dropout_p=dropout_p,
        seed=seed,
    )
    want = list(want)
    out, lse, *rest = call(
        operators.attention_stats, q, k, v, want=want, row_weights=row_weights, **options
    )
    statistics = Statistics(out=out, lse=lse)
    for word in want:
        name = word if word.startswith("diagonal") else word.split(":")[0]
        statistics[name] = (rest.pop(0), rest.pop(0)) if name == "top" else rest.pop(0)
    return statistics
