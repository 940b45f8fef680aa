"""What the mechanisms share: heads, one or many, weights on request, and checks."""

from typing import Unpack

import torch
from torch import Tensor

from heed.attention import Options, attention, attention_weights

Output = Tensor | tuple[Tensor, Tensor]  # output, or (output, weights) where they were asked for


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[B,T,H*D] -> [B,H,T,D], a view: the engine reads strided rows where they are."""
    if x.dim() != 3 or x.shape[-1] % heads != 0:
        raise ValueError(f"[heads] expected [B,T,{heads} * D], got {list(x.shape)}")
    return x.view(*x.shape[:2], heads, x.shape[-1] // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[B,H,T,D] -> [B,T,H*D]."""
    return x.transpose(1, 2).flatten(2)


def attend_heads(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    heads: int,
    return_weights: bool,
    **options: Unpack[Options],
) -> Output:
    """query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv] -> [B,T,H*Dv], weights [B,H,T,S]."""
    q, k = heads_of(query, heads), heads_of(keys, heads)
    output = join_heads(attention(q, k, heads_of(values, heads), **options))
    return (output, weights_of(q, k, **options)) if return_weights else output


def attend_single_head(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    return_weights: bool,
    **options: Unpack[Options],
) -> Output:
    """query [B,T,D], keys [B,S,D], values [B,S,Dv] -> output [B,T,Dv], weights [B,T,S]."""
    q, k = query.unsqueeze(1), keys.unsqueeze(1)
    output = attention(q, k, values.unsqueeze(1), **options).squeeze(1)
    return (output, weights_of(q, k, **options).squeeze(1)) if return_weights else output


def output_and_weights(result: Output) -> tuple[Tensor, Tensor | None]:
    """What a module gave, whether weights were asked for or not."""
    return result if isinstance(result, tuple) else (result, None)


def weights_of(q: Tensor, k: Tensor, **options: Unpack[Options]) -> Tensor:
    """The matrix [B,H,T,S] before dropout, computed once more and without a gradient."""
    options.pop("dropout_p", None)
    options.pop("seed", None)
    return attention_weights(q, k, **options)  # type: ignore[misc]


def keys_beyond(lengths: Tensor, S: int) -> Tensor:
    """lengths int64 [B] -> bool [B,S], true where a key is padding."""
    return torch.arange(S, device=lengths.device) >= lengths.unsqueeze(1)


def within(values: Tensor, lengths: Tensor | None) -> Tensor:
    """values [B,S,Dv] with 0 where they are padding, which may hold anything: even that times a
    weight of 0 is not always 0."""
    if lengths is None:
        return values
    return values.masked_fill(keys_beyond(lengths, values.shape[1]).unsqueeze(-1), 0)


def check_heads(name: str, heads: int) -> None:
    if heads < 1:
        raise ValueError(f"[{name}] heads: expected at least 1, got {heads}")


def check_embed_size(name: str, embed_size: int, heads: int) -> None:
    if heads < 1 or embed_size % heads != 0:
        raise ValueError(
            f"[{name}] embed_size: expected a multiple of heads = {heads}, got {embed_size}"
        )


def check_rows(name: str, argument: str, x: Tensor, sizes: str, width: int) -> None:
    """Before a projection, whose own message would speak of a matrix product."""
    if x.dim() != 3 or x.size(2) != width:
        raise ValueError(
            f"[{name}] {argument}: expected {sizes} = [*, *, {width}], got {list(x.shape)}"
        )
