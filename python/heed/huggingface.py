"""Hugging Face models on this engine: attn_implementation="heed", with masks that stay rules.

transformers is imported when `register_with_transformers` is called, not before.
"""

from collections.abc import Callable
from functools import partial
from importlib import metadata
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from heed._library import operators
from heed.attention import attend, call
from heed.errors import ProgramError
from heed.program_text import capped_dot, declaration, element
from heed.trace import trace_program

Options = dict[str, Any]  # keywords of the operators


def register_with_transformers() -> None:
    """Makes attn_implementation="heed" work in Hugging Face models; a second call changes nothing.

    After it, `AutoModel.from_pretrained(name, attn_implementation="heed")` and
    `model.set_attn_implementation("heed")` run every attention that goes through transformers'
    AttentionInterface on this engine, on the CPU, forward and backward: grouped heads, padding,
    sliding windows, soft caps, sinks, position biases, dropout, caches. Keys are not repeated for
    the heads of a group, and causality, windows and padding never become a [B,1,T,S] matrix.

    A query that sees no key gives 0, as with "sdpa" ("eager" gives the mean of all values).
    `output_attentions=True` gives the weights before dropout, without gradients.

    Raises:
        ImportError: transformers is missing or older than 4.53.
    """
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
    except ImportError as error:
        raise _too_old("register_with_transformers", "4.53") from error
    AttentionInterface.register("heed", attention_forward)
    AttentionMaskInterface.register("heed", attention_mask)


def growing_cache(config: Any = None) -> Any:
    """A DynamicCache of transformers that appends new keys and values in place.

    `model.generate(ids, past_key_values=heed.growing_cache(model.config))`. The cache that models
    make for themselves copies all its keys and values for every token and layer, which with long
    texts or many takes a good part of a step. This one keeps room for twice what it holds.

    It works with every attention implementation, with beams, cropping and copies. The keys and
    values of a layer are views: cropping and appending again overwrites what was cropped.

    Args:
        config: of the model, for layers with sliding windows, which keep their own cache.

    Raises:
        ImportError: transformers is missing or older than 4.56.
    """
    try:
        from heed.transformers_cache import make
    except ImportError as error:
        raise _too_old("growing_cache", "4.56") from error
    return make(config)


def _too_old(function: str, least: str) -> ImportError:
    return ImportError(
        f"[{function}] transformers: expected {least} or newer, got {_version()}; "
        "pip install --upgrade transformers"
    )


def _version() -> str:
    try:
        return metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return "none"


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    head_mask: Tensor | None = None,
    output_attentions: bool | None = False,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """What models call: query [B,H,T,D], key [B,Hkv,S,D], value [B,Hkv,S,Dv] -> out [B,T,H,Dv].

    Args:
        module: the layer; its is_causal counts where is_causal is None.
        attention_mask: None, what `attention_mask` gave, or a tensor that broadcasts to [B,H,T,S]:
            bool, true where seen, or float, added to the scores. Without one, is_causal (from the
            top left, for T > 1) and sliding_window say what is seen.
        s_aux: sinks [H].
        position_bias: added to the scores, broadcasts to [B,H,T,S].
        head_mask: [H] or [B,H,1,1], factors of the heads' weights.

    Returns:
        out, and with output_attentions the weights [B,H,T,S], otherwise None.
    """
    # One query takes less time than Python does, so what is usual passes nothing on.
    D, T, S = query.shape[3], query.shape[2], key.shape[2]
    options: Options = {} if scaling is None or scaling == D**-0.5 else {"scale": scaling}
    added: list[Tensor] = []
    if attention_mask is not None:
        options |= _seen(query, key, attention_mask, added)
    elif T > 1 or sliding_window is not None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        options |= _without_mask(T, S, causal, sliding_window)
    if s_aux is not None:
        options["sinks"] = s_aux.to(query.dtype)
    if position_bias is not None:
        added.append(_matrix("position_bias", position_bias, query, key))
    if softcap is not None or added:
        options |= _program(options, softcap, added)
    drops = {"dropout_p": dropout} if dropout else {}

    out = attend(query, key, value, **drops, **options)
    out = out.transpose(1, 2).contiguous()  # [B,T,H,Dv]
    weights = None
    if output_attentions:
        weights = operators.attention_weights(query, key, **options).to(query.dtype)
    if head_mask is not None:
        factor = head_mask.reshape(-1, query.shape[1], 1, 1)  # [B,H,1,1]
        out = out * factor.transpose(1, 2)
        weights = None if weights is None else weights * factor
    return out, weights


def _seen(query: Tensor, key: Tensor, mask: Tensor, added: list[Tensor]) -> Options:
    """Which keys are seen; a float mask is added to the scores."""
    if isinstance(mask, MaskRule):
        if mask.shape == (query.shape[0], 1, query.shape[2], key.shape[2]):
            return mask.options
        mask = mask.written()
    matrix = _matrix("attention_mask", mask, query, key)
    if matrix.dtype == torch.bool:
        return _masked_by(matrix)
    added.append(matrix)
    return {}


def _without_mask(T: int, S: int, causal: bool, window: int | None) -> Options:
    """A single query is the newest; several begin with the first key."""
    if window is not None and window >= S:
        window = None
    if not causal or (T == 1 and window is None):
        return {}
    corner = {"causal": "top_left" if T > 1 else "bottom_right"}
    return corner if window is None else corner | {"window": [window - 1, -1]}


# Programs.


def _matrix(name: str, matrix: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """As far as there are keys: a static cache's mask may be longer."""
    shape = (*query.shape[:3], key.shape[2])  # [B,H,T,S]
    matrix = matrix[..., : shape[3]]
    for size, whole in zip(reversed(matrix.shape), reversed(shape), strict=False):
        if size not in (1, whole) or matrix.dim() > 4:
            raise RuntimeError(
                f"[heed] {name}: expected a shape that broadcasts to [B,H,T,S] = {list(shape)}, "
                f"got {list(matrix.shape)}"
            )
    return matrix


def _masked_by(seen: Tensor) -> Options:
    text = f"{declaration(0, seen)}\nmask = {element(0, seen)}\n"
    return {"program": text, "tables": [seen]}


def _program(options: Options, softcap: float | None, added: list[Tensor]) -> Options:
    """The mask that options have, and a score: the capped product plus matrices."""
    text, tables = options.get("program", ""), options.get("tables", [])
    score = "dot" if softcap is None else capped_dot(softcap)
    for table, matrix in enumerate(added, start=len(tables)):
        text += f"{declaration(table, matrix)}\n"
        score += f" + {element(table, matrix)}"
    return {"program": f"{text}score = {score}\n", "tables": [*tables, *added]}


# Masks. transformers describes one by a function of positions, lengths and padding.


class MaskRule(Tensor):
    """A bool mask [B,1,T,S] that is known by its rule: `options` say it to the operators.

    Its elements exist only for those who look: a model that slices, joins or inverts masks gets
    the tensor that "sdpa" would have.
    """

    options: Options
    _write: Callable[[], Tensor]
    _written: Tensor | None
    _keys: tuple[Any, Any]  # of the dispatcher, included and excluded where the rule was made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, shape: tuple[int, ...], options: Options, write: Callable) -> "MaskRule":
        rule = Tensor._make_wrapper_subclass(cls, shape, dtype=torch.bool)
        rule.options, rule._write, rule._written = options, write, None
        rule._keys = (
            torch._C._dispatch_tls_local_include_set(),
            torch._C._dispatch_tls_local_exclude_set(),
        )
        return rule

    def written(self) -> Tensor:
        """All elements, [B,1,T,S]."""
        if self._written is None:
            # Below, in __torch_dispatch__, the mask function could not be vmapped.
            with torch._C._ForceDispatchKeyGuard(*self._keys):
                self._written = self._write().contiguous()
        return self._written

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = tree_map_only(cls, cls.written, (args, kwargs or {}))
        return func(*args, **kwargs)


def attention_mask(**request: Any) -> Tensor | None:
    """What transformers calls for each kind of layer in a forward pass, as it calls `sdpa_mask`.

    Returns:
        None where the layer's is_causal says it all, as with "sdpa"; otherwise a `MaskRule`; a
        bool tensor [B,1,T,S] while a graph is traced, and for the single query of a static cache,
        whose step may be compiled.
    """
    from transformers.masking_utils import sdpa_mask

    T, S, q_offset, kv_offset = _sizes(request)
    if _is_traced(request) or (T == 1 and not request.get("allow_is_causal_skip", True)):
        return sdpa_mask(**request)
    offset = int(q_offset) - kv_offset
    rule = _known_rule(request["mask_function"], request.get("local_size"), T, S, offset)
    causal = rule is not None and "causal" in rule
    seen = _seen_keys(request.get("attention_mask"), S, kv_offset, T + offset if causal else S)
    if seen is None and rule in ({}, {"causal": "top_left"}) and _may_skip(request):
        return None
    if rule is None:
        rule = _traced_rule(request, T, S, int(q_offset), kv_offset, seen)
    elif seen is not None:
        rule |= _masked_by(seen[:, None, None, :])
    request |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    if "q_offset" in request:
        request["q_offset"] = int(q_offset)  # a static cache counts on in its tensor
    write = partial(sdpa_mask, **request)
    return write() if rule is None else MaskRule((request["batch_size"], 1, T, S), rule, write)


def _sizes(request: dict[str, Any]) -> tuple[int, int, int | Tensor, int]:
    """T, S, the first query's position and the first key's, by their names of 5.x and of 4.x."""
    positions = request.get("cache_position")
    if positions is None:
        T, q_offset = request["q_length"], request.get("q_offset", 0)
    else:
        T, q_offset = positions.shape[0], positions[0]
    return T, request["kv_length"], q_offset, request.get("kv_offset", 0)


def _may_skip(request: dict[str, Any]) -> bool:
    causal, bidirectional = "allow_is_causal_skip", "allow_is_bidirectional_skip"
    return request.get(causal, True) or request.get(bidirectional, False)


def _is_traced(request: dict[str, Any]) -> bool:
    """While shapes alone are known; other devices' masks are transformers' business as well."""
    padding = request.get("attention_mask")
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined]
        or type(padding) not in (Tensor, type(None))
        or str(request.get("device", "cpu")) != "cpu"
    )


def _seen_keys(padding: Tensor | None, S: int, kv_offset: int, reach: int) -> Tensor | None:
    """Which keys are no padding, bool [B,S]; None if all are, of those that queries may reach."""
    if padding is None or (padding.shape[1] >= kv_offset + S and padding.all()):
        return None
    seen = padding[:, kv_offset : kv_offset + S].bool()
    if seen.shape[1] < S:  # the free places of a static cache
        seen = nn.functional.pad(seen, (0, S - seen.shape[1]))
    return None if seen[:, :reach].all() else seen


def _known_rule(
    function: Callable, window: int | None, T: int, S: int, offset: int
) -> Options | None:
    """Options of transformers' own mask functions, where query t is at key t + offset.

    None for another function, and where a static cache continues.
    """
    from transformers import masking_utils as hf

    both_ways = getattr(hf, "sliding_window_bidirectional_mask_function", None)  # since 5.0
    if function is getattr(hf, "bidirectional_mask_function", None):
        return {}
    if window is not None and both_ways and offset == 0 and _alike(function, both_ways(window)):
        return {"window": [window, window]}
    if function is hf.causal_mask_function:
        window = None
    elif window is None or not _alike(function, hf.sliding_window_causal_mask_function(window)):
        return None
    if window is not None and offset + T <= window:
        window = None
    if T == 1 and offset == S - 1 and window is None:
        return {}
    if offset not in (0, S - T):
        return None
    corner = {"causal": "top_left" if offset == 0 else "bottom_right"}
    return corner if window is None else corner | {"window": [window - 1, -1]}


def _alike(a: Any, b: Any) -> bool:
    """Whether two functions are the same code and captured the same, down to functions and ints."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_alike, a, b))
    if not isinstance(a, FunctionType) or not isinstance(b, FunctionType):
        return type(a) is type(b) is int and a == b
    captured = (tuple(cell.cell_contents for cell in f.__closure__ or ()) for f in (a, b))
    return a.__code__ is b.__code__ and _alike(*captured)


def _traced_rule(
    request: dict[str, Any], T: int, S: int, q_offset: int, kv_offset: int, seen: Tensor | None
) -> Options | None:
    """Of any function of positions; None where a program can't say it."""
    function = request["mask_function"]

    def mask_mod(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        visible = function(b, 0 * h, t + q_offset, s + kv_offset)  # masks have one head
        return visible if seen is None else visible & seen[b, s]

    nothing = torch.empty(request["batch_size"], 1, T, 0)  # [B,1,T,0]
    keys = torch.empty(request["batch_size"], 1, S, 0)  # [B,1,S,0]
    try:
        program = trace_program(None, mask_mod)
        rule = {"program": program.text, "tables": program.tables}
        call(operators.attention, nothing, keys, keys, kind="none", **rule)  # indices proven here
    except ProgramError:
        return None
    return rule
