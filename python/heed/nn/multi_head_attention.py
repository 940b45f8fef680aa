"""Multi-head attention (Vaswani et al. 2017), with grouped key/value heads (Ainslie et al. 2023)."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from heed.attention import Corner, MaskMod, Options, ScoreMod, attention
from heed.nn._heads import Output, heads_of, join_heads, weights_of
from heed.nn.attention_positions import AttentionHeads, AttentionPositions, place_of
from heed.nn.key_value_cache import KeyValueCache


class MultiHeadAttention(nn.Module):
    """output = concat_h(softmax(q_h k_h^T scale) v_h) W_o, with q_h, k_h, v_h projected.

    Vaswani et al. 2017, "Attention Is All You Need"; with kv_heads < heads, groups of heads share
    keys and values: Shazeer 2019 (one), Ainslie et al. 2023, "GQA". Nothing of size T x S is kept.

    Args:
        embed_size: E, the width of queries and of the output.
        heads: H.
        kv_heads: Hkv, a divisor of H; None: H.
        key_size: width of key rows; None: E.
        value_size: width of value rows; None: E.
        head_size: D of a head's queries and keys; None: E / H.
        value_head_size: Dv of a head's values; None: D.
        bias: whether the four projections add one.
        scale: of the products; None: 1 / sqrt(D).
        dropout: probability with which a weight is dropped while training.
        batch_first: [B,T,E]; False: [T,B,E] for query, key, value and output.
        positions: a module of positions, such as RotaryPositions, that joins in every call.
    """

    def __init__(
        self,
        embed_size: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        key_size: int | None = None,
        value_size: int | None = None,
        head_size: int | None = None,
        value_head_size: int | None = None,
        bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
        batch_first: bool = True,
        positions: AttentionPositions | None = None,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if heads < 1 or (head_size is None and embed_size % heads != 0):
            raise ValueError(
                f"[MultiHeadAttention] embed_size: expected a multiple of heads = {heads}, "
                f"got {embed_size}; or give head_size"
            )
        if kv_heads < 1 or heads % kv_heads != 0:
            raise ValueError(
                f"[MultiHeadAttention] kv_heads: expected a divisor of heads = {heads}, "
                f"got {kv_heads}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"[MultiHeadAttention] dropout: expected in [0, 1), got {dropout}")
        self.embed_size = embed_size
        self.heads = heads
        self.kv_heads = kv_heads
        self.head_size = embed_size // heads if head_size is None else head_size
        self.value_head_size = self.head_size if value_head_size is None else value_head_size
        self.scale = 1 / math.sqrt(self.head_size) if scale is None else scale
        self.dropout = dropout
        self.batch_first = batch_first
        key_size = embed_size if key_size is None else key_size
        value_size = embed_size if value_size is None else value_size
        self.query_projection = nn.Linear(embed_size, heads * self.head_size, bias)
        self.key_projection = nn.Linear(key_size, kv_heads * self.head_size, bias)
        self.value_projection = nn.Linear(value_size, kv_heads * self.value_head_size, bias)
        self.output_projection = nn.Linear(heads * self.value_head_size, embed_size, bias)
        self.positions = positions
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform, biases 0, as the paper's own program; positions keep theirs."""
        for projection in self._projections():
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        lengths: Tensor | None = None,
        *,
        causal: Corner | None = None,
        window: tuple[int, int] | None = None,
        key_padding: Tensor | None = None,
        head_mask: Tensor | None = None,
        score_mod: ScoreMod | None = None,
        mask_mod: MaskMod | None = None,
        cache: KeyValueCache | None = None,
        append: bool = True,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,E], key [B,S,key_size], value [B,S,value_size] -> output [B,T,E].

        Args:
            key: None: query (self-attention).
            value: None: key.
            lengths: int64 [B], rows of key and value that count; the rest is padding.
            causal: which corner of T x S the diagonal starts from. With a cache the queries follow
                the rows that it held, whichever is named.
            window: (left, right), keys around the query's place, -1 unbounded.
            key_padding: bool [B,S], true where a key is padding; with a cache, S counts all rows.
            head_mask: [H] or [B,H], a factor of each head's output; 0 switches it off.
            score_mod: score_mod(score, b, h, t, s), after the positions' own.
            mask_mod: mask_mod(b, h, t, s), true where query t sees key s.
            cache: key and value are appended to it, and all its rows are attended to.
            append: False: the cache stays as it is, key and value go unread (a decoder's
                cross-attention after its first step).
            return_weights: also the weights [B,H,T,S] before dropout, without a gradient.

        Returns:
            output, or (output, weights).
        """
        key = query if key is None else key
        value = key if value is None else value
        query, key, value = map(self._batch_first, (query, key, value))
        appends = cache is not None and append
        at_the_end = appends and lengths is None and causal is not None  # the last query stands
        offset = None
        if self.positions is not None or (appends and not at_the_end):
            offset = self._offset(query, key, lengths, causal, cache if append else None)
        q = heads_of(self.query_projection(query), self.heads)  # [B,H,T,D]
        if self.positions is not None:
            q = self.positions.rotate(q, offset)
        k, v, kv_lengths = self._keys_and_values(key, value, lengths, cache, append, offset)
        mods = [mask_mod]
        if key_padding is not None:
            mods.append(self._padding(key_padding, k))
        if at_the_end:
            causal = "bottom_right"
        elif appends:
            mods.append(_near(offset, causal, window))
            causal, window = None, None
        dropout = self.dropout if self.training else 0.0
        heads = AttentionHeads(q, k, offset, self.scale, drops=dropout > 0)
        mods_of_score = [score_mod]
        if self.positions is not None:
            mods_of_score.insert(0, self.positions.score_mod(heads))
        options: Options = {
            "score_mod": _in_turn(mods_of_score),
            "mask_mod": _all_of(mods),
            "causal": causal,
            "window": window,
            "scale": self.scale,
            "kv_lengths": kv_lengths,
            "dropout_p": dropout,
        }
        mixed = self._attend(heads, v, options)  # [B,H,T,Dv]
        if head_mask is not None:
            mixed = mixed * self._of_heads(head_mask, mixed)
        output = self._batch_first(self.output_projection(join_heads(mixed)))
        return (output, weights_of(heads.q, heads.k, **options)) if return_weights else output

    def make_cache(self, batch: int, capacity: int, *, grow: bool = False) -> KeyValueCache:
        """A cache for this layer, in its dtype."""
        weight = self.key_projection.weight
        return KeyValueCache(
            batch,
            self.kv_heads,
            capacity,
            self.head_size,
            value_size=self.value_head_size,
            grow=grow,
            dtype=weight.dtype,
            device=weight.device,
        )

    def extra_repr(self) -> str:
        return (
            f"embed_size={self.embed_size}, heads={self.heads}, kv_heads={self.kv_heads}, "
            f"head_size={self.head_size}, value_head_size={self.value_head_size}, "
            f"dropout={self.dropout}, batch_first={self.batch_first}"
        )

    def _projections(self) -> list[nn.Linear]:
        return [
            self.query_projection,
            self.key_projection,
            self.value_projection,
            self.output_projection,
        ]

    def _batch_first(self, x: Tensor) -> Tensor:
        """[B,T,*] from the caller's layout, or back into it."""
        return x if self.batch_first else x.transpose(0, 1)

    def _offset(
        self,
        query: Tensor,
        key: Tensor,
        lengths: Tensor | None,
        causal: Corner | None,
        cache: KeyValueCache | None,
    ) -> Tensor | None:
        """Where the first query stands among the keys: int64 [B], or None for 0."""
        if cache is not None:
            return cache.lengths
        if causal != "bottom_right" or (lengths is None and query.shape[1] == key.shape[1]):
            return None
        ends = query.new_full(query.shape[:1], key.shape[1], dtype=torch.int64)
        return (ends if lengths is None else lengths) - query.shape[1]

    def _keys_and_values(
        self,
        key: Tensor,
        value: Tensor,
        lengths: Tensor | None,
        cache: KeyValueCache | None,
        append: bool,
        offset: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """k [B,Hkv,S,D], v [B,Hkv,S,Dv] and how many rows of each element count."""
        if cache is None or append:
            k = heads_of(self.key_projection(key), self.kv_heads)
            v = heads_of(self.value_projection(value), self.kv_heads)
            if self.positions is not None:
                k = self.positions.rotate(k, None if cache is None else offset)
            if cache is None:
                return k, v, lengths
            cache.append(k, v, lengths)
        return cache.keys, cache.values, None if cache.uniform else cache.lengths

    def _attend(self, heads: AttentionHeads, v: Tensor, options: Options) -> Tensor:
        if self.positions is None:
            return attention(heads.q, heads.k, v, **options)
        if options["dropout_p"] > 0:  # the parts that positions ask for drop the same weights
            options["seed"] = int(torch.randint(2**62, ()))

        def attend(part: MaskMod | None, values: Tensor) -> tuple[Tensor, Tensor]:
            of_part: Any = {**options, "mask_mod": _all_of([options["mask_mod"], part])}
            return attention(heads.q, heads.k, values, return_lse=True, **of_part)

        return self.positions.mix(heads, v, attend)

    def _padding(self, key_padding: Tensor, k: Tensor) -> MaskMod:
        expected = (k.shape[0], k.shape[2])
        if key_padding.shape != expected or key_padding.dtype != torch.bool:
            raise ValueError(
                f"[MultiHeadAttention] key_padding: expected bool [B,S] = {list(expected)}, "
                f"got {key_padding.dtype} {list(key_padding.shape)}"
            )
        return lambda b, h, t, s: ~key_padding[b, s]

    def _of_heads(self, head_mask: Tensor, mixed: Tensor) -> Tensor:
        """head_mask as a factor of mixed [B,H,T,Dv]."""
        B, H = mixed.shape[:2]
        if head_mask.shape not in ((H,), (B, H)):
            raise ValueError(
                f"[MultiHeadAttention] head_mask: expected [H] = [{H}] or [B,H] = [{B}, {H}], "
                f"got {list(head_mask.shape)}"
            )
        return head_mask.to(mixed.dtype)[..., None, None]


def _near(
    offset: Tensor | None, causal: Corner | None, window: tuple[int, int] | None
) -> MaskMod | None:
    """causal and window counted from each element's own place, as a rule."""
    left, right = (-1, -1) if window is None else window
    right = right if causal is None else 0
    rules: list[MaskMod | None] = []
    if right >= 0:
        rules.append(lambda b, h, t, s: s - place_of(offset, b, t) <= right)
    if left >= 0:
        rules.append(lambda b, h, t, s: place_of(offset, b, t) - s <= left)
    return _all_of(rules)


def _all_of(mods: list[MaskMod | None]) -> MaskMod | None:
    rules = tuple(mod for mod in mods if mod is not None)
    if len(rules) < 2:
        return rules[0] if rules else None

    def seen(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        result = rules[0](b, h, t, s)
        for rule in rules[1:]:
            result = result & rule(b, h, t, s)
        return result

    return seen


def _in_turn(mods: list[ScoreMod | None]) -> ScoreMod | None:
    steps = tuple(mod for mod in mods if mod is not None)
    if len(steps) < 2:
        return steps[0] if steps else None

    def score_mod(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        for step in steps:
            score = step(score, b, h, t, s)
        return score

    return score_mod
