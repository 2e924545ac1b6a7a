"""Weights that a file holds as the parts of a product: weight norm, spectral norm, masks of pruning.

They are multiplied out, under the name of the weights, as torch does when the model runs. torch has two ways
to name the parts of `fc.weight`: `fc.weight_g` and the like, and `fc.parametrizations.weight.original0`.
Flax keeps the weights under their own name, and the rest in the wrapper, under a key that repeats their path:
`WeightNorm_0/Dense_1/kernel/scale`, and `batch_stats/SpectralNorm_0/Dense_1/kernel/u` for `Dense_1/kernel`;
in NNX `a/scales/('kernel',)` and `a/batch_stats/('kernel', 'u')` for `a/layer_instance/kernel`. Where a file
lacks these arrays, nothing tells that the weights were normalised.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rmtjax.checkpoints.contents import Tensor

_PARAMETRISED = re.compile(r"^(.*?)parametrizations\.([^.]+)\.(original\d*|\d+\..+)$")

_WEIGHT = re.compile(r"(^|[./])([^./]*_)?weight[^./]*$")  # names that torch gives to weights
_NNX = re.compile(r"(?P<module>(?:.*/)?)(?P<of>scales|batch_stats)/\((?P<path>.*)\)")
OF_SPECTRAL_NORM = ("u", "sigma")  # what Flax calls the variables of a matrix
_EPSILON = 1e-12  # that Flax adds to a squared norm


def multiplied_out(tensors: Mapping[str, Tensor], flax: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors with weights in place of their parts, and the reason for each part of an unknown kind.

    The parts of Flax's wrappers are only sought with `flax`.
    """
    groups = _torch_groups(tensors) | (_flax_groups(tensors) if flax else {})
    kept, refused = dict(tensors), dict[str, str]()
    instead: dict[str, tuple[str, Tensor]] = {}  # the first part -> the weights
    for name, parts in groups.items():
        first, *rest = parts.values()
        taken = name in tensors and name != first
        made = None if taken else _made({part: tensors[place] for part, place in parts.items()})
        if made is not None:
            instead[first] = name, made
            for place in rest:
                del kept[place]
        elif "parametrizations." in first or name.endswith("weight") or name == first:
            reason = f"a part of {name!r}, which is parametrised in a way that is not read"
            refused |= dict.fromkeys((first, *rest), reason)
    read = (instead.get(name, (name, tensor)) for name, tensor in kept.items() if name not in refused)
    return dict(read), refused


def _torch_groups(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, str]]:
    """Name of the weights -> part -> its name."""
    groups: dict[str, dict[str, str]] = {}
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
    return groups


def _flax_groups(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, str]]:
    """The same for the wrappers of Flax, where the weights themselves are the first part."""
    groups: dict[str, dict[str, str]] = {}
    names = {name.replace(".", "/"): name for name in tensors}
    for path, name in names.items():
        above, _, part = path.rpartition("/")
        nnx = _NNX.fullmatch(path)
        if nnx:
            keys = re.findall(r"[^\s,']+", nnx["path"])
            *keys, part = [*keys, "scale"] if nnx["of"] == "scales" else keys or [""]
            candidates = [f"{nnx['module']}layer_instance/{'/'.join(keys)}"]
        elif part == "scale":
            candidates = _without_wrapper(above)
        else:  # in a collection of variables, whose name comes first
            candidates = _without_wrapper(above.partition("/")[2])
        of = next((names[candidate] for candidate in candidates if candidate in names), "")
        if of and part in ("scale", *OF_SPECTRAL_NORM):
            groups.setdefault(of, {"weights": of})[part] = name
    return groups


def _without_wrapper(path: str) -> list[str]:
    """Where the weights of `a/WeightNorm_0/Dense_0/kernel` may be: there, or at `a/Dense_0/kernel`.

    Which part of the path is the wrapper, its name does not tell: the user may have given it.
    """
    parts = path.split("/")
    return [path, *("/".join(parts[:i] + parts[i + 1 :]) for i in reversed(range(len(parts) - 1)))]


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
    return _of_norm(v, g, axes, 0.0)


def _flax_weight_norm(parts: Sequence[Tensor]) -> Tensor | None:
    """`scale v / |v|`, with a scale for each index of some axes; of axes of one length, the last is taken."""
    v, scale = parts
    axes = range(len(v.shape))
    fitting = [
        own
        for own in itertools.combinations(axes, len(scale.shape))
        if tuple(v.shape[i] for i in own) == scale.shape
    ]
    fitting = [own for own in fitting if own[-1:] == (axes[-1],)] or fitting
    if len(fitting) != 1:
        return None
    return _of_norm(v, scale, tuple(i for i in axes if i not in fitting[0]), _EPSILON)


def _of_norm(v: Tensor, size: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    """`v` divided by its norm over `axes`, times `size`, which has the shape of the other axes."""

    def read() -> np.ndarray:
        direction = v.read().astype(np.float32)
        squares = np.square(direction).sum(axes, keepdims=True) + np.float32(epsilon)
        weights: np.ndarray = direction * (
            size.read().astype(np.float32).reshape(squares.shape) / np.sqrt(squares)
        )
        return weights

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


def _flax_spectral_norm(parts: Sequence[Tensor]) -> Tensor | None:
    """`W / sigma` of matrices [the rest, outputs], stacked or not, from the vector `u` that training kept.

    The layer itself does not use the `sigma` that is stored: it makes a step of the power iteration anew
    (`n_steps`, of which a file tells nothing; with more of them sigma differs as far as u has not converged).
    """
    weight, u = parts[:2]
    stack, outputs = u.shape[:-2], weight.shape[-1:]
    if u.shape != (*stack, 1, *outputs) or weight.shape[: len(stack)] != stack:
        return None
    if len(weight.shape) < len(stack) + 2:
        return None

    def read() -> np.ndarray:
        array = weight.read().astype(np.float32)
        matrices = array.reshape(*stack, -1, *outputs)
        left = u.read().astype(np.float32) @ np.swapaxes(matrices, -1, -2)
        left /= np.sqrt(np.square(left).sum(-1, keepdims=True) + np.float32(_EPSILON))
        sigma = np.linalg.norm(left @ matrices, axis=-1, keepdims=True)
        scaled: np.ndarray = matrices / np.where(sigma == 0, 1, sigma)
        return scaled.reshape(array.shape)

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
    ((("weights", "scale"),), _flax_weight_norm),
    ((("weights", "u", "sigma"), ("weights", "u")), _flax_spectral_norm),
)
