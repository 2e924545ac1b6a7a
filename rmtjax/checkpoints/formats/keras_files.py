"""Files of Keras: `.keras`, `.weights.h5` and `.h5`, with the names that Keras gives to variables.

`.keras` and `.weights.h5` number the variables of a layer, as in `layers/conv2d_1/vars/0`. What they are
follows from the class of the layer. The class is in the config; if there is none, the path or the name of
the layer gives it, since Keras derives both from the class.
"""

import functools
import io
import json
import pathlib
import re
import types
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rmtjax.checkpoints import guard
from rmtjax.checkpoints.contents import Contents, Tensor, named_bits

# Class in lower case, without underscores -> its variables in order. `cell` is part of a recurrent layer;
# `querydense` and the like are parts of attention.
_VARIABLES = {
    r"(lstm|gru|simplernn|convlstm[123]d)?cell": ("kernel", "recurrent_kernel", "bias"),
    r"separableconv[12]d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    r"depthwiseconv[12]d": ("depthwise_kernel", "bias"),
    r"(einsum|query|key|value|output)?dense|conv[123]d(transpose)?": ("kernel", "bias"),
    r"embedding": ("embeddings",),
}


def read(path: pathlib.Path) -> Contents:
    """Reads variables in the order of the layers in the config, then of names; skips the optimiser's."""
    with guard.optional(path, "a Keras file", "h5py", "formats"):
        import h5py
    source: Any = path
    config: Any = {}
    found: dict[str, Any] = {}
    refused: dict[str, str] = {}

    def visit(name: str, node: Any) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        reason = _elsewhere(node)
        if reason:
            refused[name] = reason
        else:
            found[name] = node

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            source = io.BytesIO(_inside(archive, "model.weights.h5"))
            if "config.json" in archive.namelist():
                config = json.loads(_inside(archive, "config.json"))
    file = h5py.File(source, "r")
    file.visititems(visit)
    stored_config = file.attrs.get("model_config", "{}")
    config = config or (json.loads(stored_config) if isinstance(stored_config, str | bytes) else {})
    classes = dict(_classes(config))
    order = {layer: i for i, layer in enumerate(classes)}
    layers = {name: _layers(name, node) for name, node in found.items()}

    def place(name: str) -> tuple[int, list[str | int]]:
        natural = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
        return next((order[layer] for layer in layers[name] if layer in order), len(order)), natural

    tensors: dict[str, Tensor] = {}
    for stored in sorted(found, key=place):
        node, dtype = found[stored], named_bits(found[stored].dtype)
        if stored.startswith(("optimizer", "_optimizer")):
            refused["optimizer"] = "state of the optimiser, not weights"
            continue
        own = layers[stored][:2] if "/vars/" in stored else layers[stored]
        cls = _known_class(own, classes)
        name = _name(stored, cls)
        reason = _why_not(cls, node.ndim, dtype)
        if reason:
            refused[name] = reason
        else:
            tensors[name] = Tensor(node.shape, dtype, functools.partial(_variable, node, dtype))
    return Contents(tensors, "keras", refused)


def of_model(model: Any) -> Contents:
    """The weights of a model of Keras, by the paths of its variables. Each is read when it is asked for."""
    try:
        config = {"class_name": type(model).__name__, "config": model.get_config()}
    except NotImplementedError:  # a model of one's own, whose layers have the names that Keras gives
        config = {}
    classes = dict(_classes(config))
    tensors: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    for variable in model.weights:
        dtype = np.dtype(getattr(variable.dtype, "name", variable.dtype))
        path = getattr(variable, "path", variable.name)
        name, reason = name_and_reason(path, len(variable.shape), dtype, classes)
        if reason:
            refused[name] = reason
        else:
            # not .numpy(), which the backend of torch refuses for variables that are trained
            read = functools.partial(np.asarray, variable)
            tensors[name] = Tensor(tuple(variable.shape), dtype, read)
    return Contents(tensors, "keras", refused)


def name_and_reason(
    path: str, ndim: int, dtype: np.dtype, classes: Mapping[str, str] = types.MappingProxyType({})
) -> tuple[str, str]:
    """The name of a variable that Keras calls `path`, and why it is not read; the latter is empty if it is.

    Args:
      classes: the class of a layer by its name, where a config tells it; else the name does.
    """
    cls = _known_class(path.split("/")[:-1][::-1], classes)
    return _name(path, cls), _why_not(cls, ndim, dtype)


def _why_not(cls: str, ndim: int, dtype: np.dtype) -> str:
    """Why a variable of a layer of this class is not read; empty if it is."""
    if cls.startswith("einsum") and ndim > 2:
        return "kernel of an EinsumDense: only its equation says which axes are inputs"
    if dtype.kind in "iu" and ndim > 1:
        return f"{dtype.name}: quantised layouts of Keras are not read"
    return ""


def _inside(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file inside an archive. Raises ValueError if it claims far more bytes than it has."""
    member = archive.getinfo(name)
    guard.check_expansion(name, member.file_size, member.compress_size)
    return archive.read(member)


def _elsewhere(node: Any) -> str:
    """Why a variable is not read, if its numbers are in another file, which may be any of the machine."""
    if node.external:
        return "stored outside of the file (external storage of HDF5), which is not read"
    if node.is_virtual:
        return "stored in other files (a virtual data set of HDF5), which are not read"
    if node.shape is None or node.dtype.hasobject:
        return "not an array of numbers"
    return ""


def _variable(node: Any, dtype: np.dtype) -> np.ndarray:
    return np.asarray(node[()]).view(dtype)


def _classes(config: Any) -> Iterator[tuple[str, str]]:
    """Name and class of every layer of a config, in order."""
    if isinstance(config, dict):
        inner = config.get("config")
        if isinstance(inner, dict) and "class_name" in config and "name" in inner:
            yield str(inner["name"]), str(config["class_name"])
        for child in config.values():
            yield from _classes(child)
    elif isinstance(config, list):
        for child in config:
            yield from _classes(child)


def _layers(stored: str, node: Any) -> list[str]:
    """Names that the layer of a variable, or a layer around it, may have; the likeliest first."""
    folders = stored.split("/")[:-1][::-1]
    if folders[:1] != ["vars"]:
        return folders
    import h5py

    names, group = [], node.parent.parent
    for folder in folders[1:]:
        # A link could lead to another file.
        inside = group.get("vars", getlink=True)
        own = group["vars"].attrs.get("name") if isinstance(inside, h5py.HardLink) else None
        names += [str(own), folder] if own else [folder]
        group = group.parent
    return names


def _known_class(layers: list[str], classes: Mapping[str, str]) -> str:
    for layer in layers:
        cls = re.sub(r"_\d+$|_", "", classes.get(layer, layer)).lower()
        if any(re.fullmatch(pattern, cls) for pattern in _VARIABLES):
            return cls
    return ""


def _name(stored: str, cls: str) -> str:
    """The name without `:0` and outer groups; if the class is known, a number becomes the variable's name."""
    name = stored.removeprefix("model_weights/").removesuffix(":0")
    variables = next(
        (names for pattern, names in _VARIABLES.items() if re.fullmatch(pattern, cls)), ("kernel",)
    )
    folder, _, number = name.rpartition("/vars/")
    if folder and number.isdigit():
        return f"{folder}/{variables[int(number)]}" if int(number) < len(variables) else name
    if name.endswith("/kernel") and variables[0] == "depthwise_kernel":
        return name.removesuffix("kernel") + "depthwise_kernel"
    return name
