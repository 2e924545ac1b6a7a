"""Weights that a file holds as the parts of a product: weight norm, spectral norm, masks of pruning.

They are multiplied out, under the name of the weights, as torch does when the model runs. torch has two ways
to name the parts of `fc.weight`: `fc.weight_g` and the like, and `fc.parametrizations.weight.original0`.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rmtjax.checkpoints.contents import Tensor

_PARAMETRISED = re.compile(r"^(.*?)parametrizations\.([^.]+)\.(original\d*|\d+\..+)$")

_WEIGHT = re.compile(r"(^|[./])([^./]*_)?weight[^./]*$")  # names that torch gives to weights


def multiplied_out(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors with weights in place of their parts, and the reason for each part of an unknown kind."""
    groups: dict[str, dict[str, str]] = {}  # name of the weights -> part -> its name
    for name in tensors:
        found = _PARAMETRISED.match(name)
        if found:
            groups.setdefault(found[1] + found[2], {})[found[3]] = name
    for name in tensors:
        for end, others in (("_g", ("_v",)), ("_orig", ("_u", "_v", "_mask"))):
            of = name.removesuffix(end)
            parts = {other: of + other for other in others if of + other in tensors}
            if of != name and _WEIGHT.search(of) and of not in tensors and of not in groups and parts:
                groups[of] = {end: name} | parts
    kept, refused = dict(tensors), dict[str, str]()
    instead: dict[str, tuple[str, Tensor]] = {}  # the first part -> the weights
    for name, parts in groups.items():
        made = None if name in tensors else _made({part: tensors[place] for part, place in parts.items()})
        first, *rest = parts.values()
        if made is not None:
            instead[first] = name, made
            for place in rest:
                del kept[place]
        elif "parametrizations." in first or name.endswith("weight"):
            reason = f"a part of {name!r}, which is parametrised in a way that is not read"
            refused |= dict.fromkeys((first, *rest), reason)
    read = (instead.get(name, (name, tensor)) for name, tensor in kept.items() if name not in refused)
    return dict(read), refused


def _made(parts: Mapping[str, Tensor]) -> Tensor | None:
    """The weights that the parts give; None if the parts are of no known kind, or do not fit."""
    named = {re.sub(r"^0\.", "", part).removeprefix("_"): tensor for part, tensor in parts.items()}
    for kinds, function in _KINDS:
        for names in kinds:
            if set(names) == named.keys():
                return function([named[name] for name in names])
    return None


def _weight_norm(parts: Sequence[Tensor]) -> Tensor | None:
    """`g v / |v|`, the norm over the axes along which `g` has length 1."""
    g, v = parts
    axes = tuple(range(len(v.shape)))
    if int(np.prod(g.shape)) != 1:
        own = tuple(i for i in axes if g.shape[i : i + 1] == v.shape[i : i + 1] != (1,))
        if len(own) != 1 or len(g.shape) != len(v.shape) or int(np.prod(g.shape)) != v.shape[own[0]]:
            return None
        axes = tuple(i for i in axes if i not in own)
    if not any(v.shape[i] > 1 for i in axes):
        return None

    def read() -> np.ndarray:
        direction = v.read().astype(np.float32)
        size = g.read().astype(np.float32)
        weights: np.ndarray = size * direction / np.sqrt(np.square(direction).sum(axes, keepdims=True))
        return weights.reshape(v.shape)

    return Tensor(v.shape, np.dtype(np.float32), read)


def _spectral_norm(parts: Sequence[Tensor]) -> Tensor | None:
    """`W / (u W v)`: u and v are the singular vectors that training kept, W a matrix [outputs, the rest]."""
    weight, u, v = parts
    rest = int(np.prod(weight.shape)) // max(int(np.prod(u.shape)), 1)
    axes = [i for i in (0, 1) if len(weight.shape) > 1 and u.shape == weight.shape[i : i + 1]]
    if not axes or v.shape != (rest,):
        return None

    def read() -> np.ndarray:
        array, left, right = (part.read().astype(np.float32) for part in (weight, u, v))
        values = [left @ np.moveaxis(array, axis, 0).reshape(len(left), -1) @ right for axis in axes]
        # Transposed convolutions have their outputs along axis 1. Vectors of the other axis give less.
        scaled: np.ndarray = array / max(values, key=abs)
        return scaled

    return Tensor(weight.shape, np.dtype(np.float32), read)


def _pruned(parts: Sequence[Tensor]) -> Tensor | None:
    """The weights where the mask is 1, and 0 elsewhere."""
    weight, mask = parts
    if weight.shape != mask.shape:
        return None

    def read() -> np.ndarray:
        array = weight.read()
        return array * mask.read().astype(array.dtype)

    return Tensor(weight.shape, weight.dtype, read)


_KINDS: tuple[tuple[tuple[tuple[str, ...], ...], Callable[[Sequence[Tensor]], Tensor | None]], ...] = (
    ((("g", "v"), ("original0", "original1")), _weight_norm),
    ((("orig", "u", "v"), ("original", "u", "v")), _spectral_norm),
    ((("orig", "mask"), ("original", "mask")), _pruned),
)
