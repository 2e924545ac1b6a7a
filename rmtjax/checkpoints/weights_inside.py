"""Picks the weights among the arrays of a checkpoint; gives the reason why each other group is left out."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rmtjax.checkpoints.contents import Tensor
from rmtjax.checkpoints.reparametrised import OF_SPECTRAL_NORM

# opt, opt_state, optimizer, optimizer_states, optim, opt_g, g_optimizer
_OPTIMISER = re.compile(r"(?i)(.*_)?opt(im|imi[sz]er)?s?(_.*)?")
_COUNTERS = re.compile(r"step|count|rngs?")  # each is one array, except rngs
# Parts of names that only moments of an optimiser have, and ends of names that they have beside the weights.
_MOMENTS = re.compile(
    r"(?i)^optim(izer)?(_states?)?[./]|[./](adam|adam_1|momentum|rmsprop|rmsprop_1)$"
    r"|(^|[./])(([^./]*_)?adam_?[mv]|(max_)?exp_avg(_sq)?|exp_inf|momentum_buffer|square_avg)([./]|$)"
)
_SLOT = re.compile(r"(?i)_(m|v|adam|adam_1|rmsprop(_1)?|momentum(_buffer)?|ema|exp_avg(_sq)?)$")
_TWIN = {"m": "v", "v": "m", "mu": "nu", "nu": "mu"}  # one by itself may be the values of an attention
_FIRST = re.compile(r"(?i)m|v|mu|nu|adam.*|momentum.*|exp_avg.*|ema")
# Keys under which programs that use torch store weights.
_TORCH = ("state_dict", "model_state_dict", "model", "module", "net", "params", "weights")


def of_run(tensors: Mapping[str, Any], item: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays of one item of the state of a run, such as "params", and the reason for each other item."""
    groups = Counter(name.split("/")[0] for name in tensors)
    refused = {key: _reason(key, count, item) for key, count in groups.items() if key != item}
    prefix = f"{item}/"
    kept = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
    return kept, refused


def of_flax(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The weights among arrays with names such as `params/head/kernel`, and the reason for each other group.

    Weights are what is below `params`, which may be nested several times, and `batch_stats` beside it, or
    another collection that only holds the variables of spectral norms, which tell the weights. If there is no
    `params`, they are everything except the optimiser's state, counters and random keys; if all
    of that is below `model`, this prefix is removed. The suffix `value` of a name is removed where it is a
    box around a parameter: in a state of NNX, and in partitioned parameters of linen.
    """
    kept, refused, above = dict(tensors), dict[str, str](), ""
    while (nested := any(name.startswith("params/") for name in kept)) or not above:
        groups = Counter(name.split("/")[0] for name in kept)
        chosen = f"{above}params" if nested else ""
        statistics = {"batch_stats", *groups} - {name.split("/")[0] for name in kept if not _of_norm(name)}
        others = {
            key: _reason(key, count, chosen)
            for key, count in groups.items()
            if (key not in ("params", *statistics) if nested else _no_weights(key, key in kept))
        }
        refused |= {above + key: reason for key, reason in others.items()}
        kept = {name: tensor for name, tensor in kept.items() if name.split("/")[0] not in others}
        if not nested:
            break
        kept = {name.removeprefix("params/"): tensor for name, tensor in kept.items()}
        above += "params/"
    if not above and refused and all(name.startswith("model/") for name in kept):
        kept = {name.removeprefix("model/"): tensor for name, tensor in kept.items()}
    boxed = _boxed(kept)
    return {name.removesuffix("/value") if name in boxed else name: x for name, x in kept.items()}, refused


def _of_norm(name: str) -> bool:
    """Whether an array may be a variable of a spectral norm, or is among the statistics of batches."""
    first, *_, last = name.split("/") if "/" in name else (name, "")
    return first == "batch_stats" or last in OF_SPECTRAL_NORM


def _boxed(names: Iterable[str]) -> set[str]:
    """Names of the arrays that lie in a box: alone under `value`, as Flax stores partitioned parameters."""
    above = Counter(folder for name in names for folder in _folders(name))
    return {name for name in names if name.endswith("/value") and above[name.removesuffix("/value")] == 1}


def _folders(name: str) -> Iterator[str]:
    """`a`, `a/b` for `a/b/c`."""
    parts = name.split("/")[:-1]
    return ("/".join(parts[: i + 1]) for i in range(len(parts)))


def _no_weights(key: str, single: bool) -> bool:
    """Whether a group of arrays, or a single array, is no weights.

    A module may be called `step`, but none is called `rngs`.
    """
    if single:
        return _COUNTERS.fullmatch(key) is not None
    return key == "rngs" or _OPTIMISER.fullmatch(key) is not None


def of_torch(loaded: Any, leaf: type | tuple[type, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """The weights by name in what `torch.load` returns, and the reason for each other group of tensors.

    Weights are what is below the first of the usual keys. If there is none, they are everything except the
    optimiser's state.
    """
    refused: dict[str, str] = {}
    inside = loaded
    if isinstance(loaded, dict):
        groups = {str(key): node for key, node in loaded.items() if isinstance(node, dict | list | tuple)}
        chosen = next((key for key in _TORCH if isinstance(loaded.get(key), dict)), "")
        inside = loaded[chosen] if chosen else loaded
        for key in loaded if chosen else filter(_OPTIMISER.fullmatch, groups):
            count = len(dict(_leaves(loaded[key], str(key), leaf)))
            if key != chosen and count:
                refused[str(key)] = _reason(str(key), count, chosen)
        if not chosen:
            inside = {key: node for key, node in loaded.items() if str(key) not in refused}
    flat = dict(_leaves(inside, "", leaf))
    if flat and all(name.startswith("module.") for name in flat):
        flat = {name.removeprefix("module."): tensor for name, tensor in flat.items()}
    return flat, refused


def without_moments(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors without the moments of an optimiser among them, and the reason for each of those.

    Moments have a name that says so, such as `exp_avg`, or the shape and the name of a matrix with one part
    more: `kernel/Adam` or `mu/kernel` beside `kernel`.
    """
    refused: dict[str, str] = {}
    for name, tensor in tensors.items():
        ends = [end.start() for end in re.finditer(r"[./]", name)]
        others = [name[:end] for end in ends] + [_without_slot(name, tensors)]
        first, rest = (name[: ends[0]], name[ends[0] + 1 :]) if ends else ("", name)
        twin = _TWIN.get(first, "")
        if _FIRST.fullmatch(first) and (not twin or name.replace(first, twin, 1) in tensors):
            others.append(rest)
        of = next((other for other in others if other != name and other in tensors), "")
        if of and tensors[of].shape == tensor.shape and len(tensor.shape) > 1:
            refused[name] = f"of the shape of {of!r}, with its name: state of the optimiser, not weights"
        elif _MOMENTS.search(name):
            refused[name] = "state of the optimiser, not weights, by its name"
    return {name: tensor for name, tensor in tensors.items() if name not in refused}, refused


def _without_slot(name: str, tensors: Mapping[str, Tensor]) -> str:
    """`kernel` for `kernel_m` and `kernel_v`, of which there are both, and for `kernel_ema`."""
    slot = _SLOT.search(name)
    twin = _TWIN.get(slot[1]) if slot else None
    if slot is None or (twin and f"{name[: slot.start()]}_{twin}" not in tensors):
        return name
    return name[: slot.start()]


def _leaves(node: Any, name: str, leaf: type | tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(node, leaf):
        yield name or "tensor", node
    elif isinstance(node, dict | list | tuple):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(child, f"{name}.{key}" if name else str(key), leaf)


def _reason(key: str, count: int, chosen: str) -> str:
    arrays = f"{count} array{'s' if count > 1 else ''}"
    if _OPTIMISER.fullmatch(key):
        return f"state of the optimiser, not weights ({arrays})"
    if _COUNTERS.fullmatch(key):
        return f"counter or random state, not weights ({arrays})"
    return f"beside {chosen!r}, and only that is read as weights ({arrays})"
