"""The one door to weights: any checkpoint as a flat mapping of names to arrays, read one by one.

The content of a file decides its format. Nothing is unpickled, except by torch with `weights_only=True`.
Names are those of the file; in Flax's names dots become slashes, and groups around the parameters (`params/`)
are removed; control characters are escaped. What is not read (an unknown quantised layout, the state of an
optimiser) is listed with the reason.
"""

import functools
import json
import os
import pathlib
import types
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np
from absl import logging

from rmtjax import files
from rmtjax.checkpoints import (
    guard,
    hub,
    quantised_layouts,
    reparametrised,
    shards,
    signs,
    weights_inside,
)
from rmtjax.checkpoints.contents import Contents, Tensor, layout_from_names
from rmtjax.checkpoints.names import CHECKPOINTS, CHECKSUMS
from rmtjax.errors import InputError, printable

_SETTINGS = 2**24  # bytes of a config.json, at most


class Weights(Mapping[str, np.ndarray]):
    """Arrays by name. Each is read anew whenever it is asked for.

    Attributes:
      specs: name -> shape and dtype, known without reading the array, in the order of the file.
      layout: "flax" or "keras" (dense `(in, out)`, convolution `(*window, in, out)`), or "torch"
        (`(out, in)`, `(out, in, *window)`).
      adapter: what PEFT tells of an adapter, as its adapter_config.json has it; empty if there is none.
      tied: name of a tensor -> the name before it that has the same storage, as tied embeddings do.
      refused: name of a tensor, or of a group beside the weights -> the reason why it is not read.
      source: the path that was opened, or what the weights were taken from, in words.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        layout: str,
        refused: dict[str, str],
        source: str,
        *,
        in_parts: bool = False,
        config: Mapping[str, Any] = types.MappingProxyType({}),
        adapter: Mapping[str, Any] = types.MappingProxyType({}),
    ) -> None:
        tensors, moments = weights_inside.without_moments(tensors)
        tensors, quantised = quantised_layouts.dequantised(tensors, layout, config)
        flax = layout == "flax" and not in_parts
        self._tensors, unknown = reparametrised.multiplied_out(tensors, flax)
        self.refused = refused | moments | quantised | unknown
        self.adapter = dict(adapter)
        self.tied = _tied(self._tensors)
        self.specs = {
            name: jax.ShapeDtypeStruct(tensor.shape, tensor.dtype) for name, tensor in self._tensors.items()
        }
        self.layout = layout
        self.source = source

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        with guard.one_sentence(self.source, f"is damaged: {name!r} cannot be read"):
            return tensor.read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def open(
    path: str | os.PathLike[str],
    *,
    step: int | None = None,
    item: str = "params",
    in_parts: bool = False,
    say: Callable[[str], None] = logging.warning,
) -> Weights:
    """Opens weights that any of the usual programs wrote, and changes nothing on disk.

    Args:
      path: the folder of a run (its newest good checkpoint is opened, damaged ones are skipped) or one of
        its checkpoints; an Orbax checkpoint, or a folder of several; a `.safetensors` file, a torch file, an
        `.npz` or `.npy`, a Flax msgpack, a `.gguf` or `.onnx` file, Keras `.h5`, `.weights.h5` or `.keras`; a
        SavedModel, or the `.index` of a TensorFlow checkpoint; a folder of safetensors or torch shards, as
        Hugging Face stores them, or of diffusers; a model in the cache of Hugging Face, by its name
        (`owner/model`) or folder (`models--*`). `data:PATH` is below the folder that RMTJAX_DATA names.
      step: which checkpoint of a folder of several; None is the newest.
      item: "params", or "model_state" for what the model of a run keeps beside its parameters (batch
        statistics). All other formats hold parameters alone, so that their model state is empty.
      in_parts: leave what Flax's WeightNorm and SpectralNorm normalise as the file has it, as these modules
        take it, and not as they use it.
      say: called with one sentence for every damaged checkpoint that is skipped.

    Raises:
      InputError: nothing is there, it is of another kind, it is damaged, an optional library is missing, or
        there is no such step. The files of a run are verified here, each of its arrays when it is read.
    """
    path = _found(os.fspath(path))
    if path.is_file() and step is not None:
        raise InputError(f"step={step} is given, but {str(path)!r} is a file, not a folder of checkpoints")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{str(path)!r} is neither a file nor a folder, so it is not opened")
    if item != "params" and not is_own(path):
        return Weights({}, "flax", {}, str(path))
    with guard.one_sentence(path, "cannot be read"):
        return _opened(path, step, item, in_parts, say)


def _found(name: str) -> pathlib.Path:
    """The file or folder that a path, or a name in the cache of Hugging Face, means."""
    path = pathlib.Path(os.path.abspath(files.located(name)))
    if path.exists():
        return hub.snapshot(path)
    model = hub.cached(name)
    if model is not None:
        return hub.snapshot(model)
    missing = f"there are no weights at {str(path)!r}: no such file or directory"
    if hub.is_name(name):
        missing += f", and no model of that name in {str(hub.cache())!r}: `hf download {name}` puts one there"
    raise InputError(missing)


def _opened(
    path: pathlib.Path, step: int | None, item: str, in_parts: bool, say: Callable[[str], None]
) -> Weights:
    contents = _of_file(path) if path.is_file() else _of_folder(path, step, item, say)
    contents = _numbers(path, contents)
    guard.check_claims(path, contents.tensors, _size(path) + contents.beside)
    if not contents.tensors and item == "params":
        without = "".join(f"; {name}: {reason}" for name, reason in list(contents.refused.items())[:3])
        kind = " that are weights" if contents.refused else ""
        raise InputError(f"{str(path)!r} holds no arrays{kind}{without}")
    return Weights(
        contents.tensors,
        contents.layout or "torch",
        contents.refused,
        str(path),
        in_parts=in_parts,
        config=_settings_beside(path, "config.json"),
        adapter=_settings_beside(path, "adapter_config.json"),
    )


def nest(weights: Weights) -> dict[str, Any]:
    """Reads all weights into a nested dict of numpy arrays in host memory.

    Names are split at "/", or at "." if no name has a "/". float16 and bfloat16 are returned as float32,
    other dtypes as they are stored.

    Raises:
      InputError: an array is damaged, or one name is both an array and a folder of others.
    """
    arrays = {name: widened(_owned(array)) for name, array in weights.items()}
    return _nested(arrays, weights.source)


def widened(array: Any) -> Any:
    """Converts an array (numpy or JAX) of float16 or bfloat16 to float32; returns others unchanged."""
    return array.astype(np.float32) if array.dtype in (np.float16, ml_dtypes.bfloat16) else array


def is_own(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the folder of a run or one of its checkpoints, which also hold model state."""
    path = pathlib.Path(path)
    return (path / CHECKSUMS).is_file() or any((path / CHECKPOINTS).glob(f"[0-9]*/{CHECKSUMS}"))


def _size(path: pathlib.Path) -> int:
    """Bytes on disk of a file, or of all files of a folder."""
    found = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_size for one in found if one.is_file())


def _tied(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    first: dict[Hashable, str] = {}
    stored = [(name, first.setdefault(x.storage, name)) for name, x in tensors.items() if x.storage]
    return {name: other for name, other in stored if name != other}


def _settings_beside(path: pathlib.Path, name: str) -> dict[str, Any]:
    """The content of a JSON file of a folder, or beside a file; empty if there is none that can be read."""
    path = (path if path.is_dir() else path.parent) / name
    try:
        small = path.is_file() and path.stat().st_size < _SETTINGS
        settings = json.loads(path.read_bytes()) if small else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _owned(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy if it is a read-only view of a mapped file."""
    return array if array.flags.writeable else array.copy()


def _nested(flat: dict[str, Any], source: str) -> dict[str, Any]:
    separator = "/" if any("/" in name for name in flat) else "."
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, last = name.split(separator)
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise InputError(f"{source!r} names both {folder!r} and {name!r}: they cannot be nested")
        if last in node:
            raise InputError(f"{source!r} names both {name!r} and something inside it: they cannot be nested")
        node[last] = value
    return tree


def _of_file(path: pathlib.Path) -> Contents:
    sign = signs.of_file(path)
    with guard.one_sentence(path, f"is not a whole {sign.words} file"):
        return _weights_of(sign.read(path))


def _weights_of(contents: Contents) -> Contents:
    """Sets the layout if only the names decide it; keeps only the weights if the layout is Flax's."""
    tensors, refused = contents.tensors, contents.refused
    layout = contents.layout or layout_from_names(tensors)
    if layout == "flax":
        if not any("/" in name for name in tensors):
            tensors = {name.replace(".", "/"): tensor for name, tensor in tensors.items()}
        tensors, beside = weights_inside.of_flax(tensors)
        refused = refused | beside
    return contents._replace(tensors=tensors, layout=layout, refused=refused)


def _of_folder(path: pathlib.Path, step: int | None, item: str, say: Callable[[str], None]) -> Contents:
    """A run of this project, shards that belong together, or Orbax checkpoints of another program."""
    if not is_own(path) and step is None:
        contents = shards.read(path) or shards.read_parts(path)
        if contents is not None:
            return _weights_of(contents)
    from rmtjax.checkpoints import checkpoint_folders

    return checkpoint_folders.read(path, step, item, say, _of_file)


def _numbers(path: pathlib.Path, contents: Contents) -> Contents:
    """Names that a terminal and an archive can hold, and tensors of dtypes that numpy and JAX compute with.

    Raises:
      InputError: two tensors have the same name.
    """
    tensors: dict[str, Tensor] = {}
    refused = {printable(name): reason for name, reason in contents.refused.items()}
    for stored, tensor in contents.tensors.items():
        name, dtype = printable(stored), tensor.dtype
        if name in tensors:
            raise InputError(
                f"{str(path)!r} has two tensors called {name!r}, of which only one could be read"
            )
        if dtype.kind not in "biufc" and not _is_narrow_float(dtype):
            refused[name] = f"stored as {dtype}, which names no kind of numbers"
            continue
        # Types wider than 64 bits differ from machine to machine, and JAX has no other byte order.
        wide = {np.longdouble: np.dtype(np.float64), np.clongdouble: np.dtype(np.complex128)}
        plain = wide.get(dtype.type, dtype).newbyteorder("=")
        if plain != dtype:
            tensor = tensor._replace(dtype=plain, read=functools.partial(_converted, tensor.read, plain))
        tensors[name] = tensor
    return contents._replace(tensors=tensors, refused=refused)


def _is_narrow_float(dtype: np.dtype) -> bool:
    return dtype.names is None and hasattr(ml_dtypes, dtype.name)


def _converted(read: Callable[[], np.ndarray], dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity is reported with the analysis
        return read().astype(dtype)
