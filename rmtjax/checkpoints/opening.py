"""The one door to weights: any checkpoint as a flat mapping of names to arrays, read one by one.

The content of a file decides its format. Nothing is unpickled, except by torch with `weights_only=True`.
Names are those of the file; in Flax's names dots become slashes, and groups around the parameters (`params/`)
are removed. What is not read (an unknown quantised layout, the state of an optimiser) is listed with the
reason.
"""

import fnmatch
import importlib
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
from absl import logging

from rmtjax.checkpoints import quantised_layouts, reparametrised, weights_inside
from rmtjax.checkpoints.contents import Contents, Reader, Tensor
from rmtjax.checkpoints.digests import CHECKSUMS
from rmtjax.errors import InputError
from rmtjax.results import CHECKPOINTS


class Sign(NamedTuple):
    """How files of a format are recognised: first by their content, last by the ending of their name.

    Attributes:
      module: the file in rmtjax/checkpoints/formats whose `read` reads them.
      start: bytes that a file has at the position `at`.
      member: pattern of the name of a file inside, for formats that are zip archives.
      endings: endings of names, for files whose content does not decide.
      shards: pattern of the names of the files that together hold the weights of a folder.
    """

    module: str
    start: bytes = b""
    at: int = 0
    member: str = ""
    endings: tuple[str, ...] = ()
    shards: str = ""


# One entry for each format; if several fit, the first counts.
SIGNS = (
    Sign("safetensors_files", start=b"{", at=8, endings=(".safetensors",), shards="*.safetensors"),
    Sign(
        "torch_files",
        member="*data.pkl",
        endings=(".pt", ".pth", ".th", ".bin", ".ckpt"),
        shards="pytorch_model*.bin",
    ),
    Sign("msgpack_files", endings=(".msgpack",), shards="*.msgpack"),
    Sign("keras_files", start=b"\x89HDF", member="model.weights.h5", shards="*.h5"),
    Sign("npz_files", member="*.npy"),
    Sign("onnx_files", endings=(".onnx",), shards="*.onnx"),
)
_SETTINGS = 2**24  # bytes of a config.json, at most
_KINDS = (
    "an Orbax checkpoint or a run's folder, safetensors, torch, npz, msgpack, ONNX or Keras weights, or a "
    "folder of safetensors or torch shards"
)


class Weights(Mapping[str, np.ndarray]):
    """Arrays by name. Each is read anew whenever it is asked for.

    Attributes:
      specs: name -> shape and dtype, known without reading the array, in the order of the file.
      layout: "flax" or "keras" (dense `(in, out)`, convolution `(*window, in, out)`), or "torch"
        (`(out, in)`, `(out, in, *window)`).
      adapter: the content of the adapter_config.json beside the weights, which PEFT writes; else empty.
      tied: name of a tensor -> the name before it that has the same storage, as tied embeddings do.
      refused: name of a tensor, or of a group beside the weights -> the reason why it is not read.
      source: the path that was opened.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], layout: str, refused: dict[str, str], source: str
    ) -> None:
        tensors, moments = weights_inside.without_moments(tensors)
        config = _settings_beside(source, "config.json")
        tensors, quantised = quantised_layouts.dequantised(tensors, layout, config)
        self._tensors, unknown = reparametrised.multiplied_out(tensors)
        self.refused = refused | moments | quantised | unknown
        self.adapter = _settings_beside(source, "adapter_config.json")
        self.tied = _tied(self._tensors)
        self.specs = {
            name: jax.ShapeDtypeStruct(tensor.shape, tensor.dtype) for name, tensor in self._tensors.items()
        }
        self.layout = layout
        self.source = source

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def open(
    path: str | os.PathLike[str],
    *,
    step: int | None = None,
    item: str = "params",
    say: Callable[[str], None] = logging.warning,
) -> Weights:
    """Opens weights that any of the usual programs wrote, and changes nothing on disk.

    Args:
      path: the folder of a run (its newest good checkpoint is opened, damaged ones are skipped) or one of
        its checkpoints; an Orbax checkpoint, or a folder of several; a `.safetensors` file, a torch file, an
        `.npz`, a Flax `.msgpack`, an `.onnx` file, Keras `.h5`, `.weights.h5` or `.keras`; a folder of
        safetensors or torch shards, as Hugging Face stores them.
      step: which checkpoint of a folder of several; None is the newest.
      item: "params", or "model_state" for what the model of a run keeps beside its parameters (batch
        statistics). All other formats hold parameters alone, so that their model state is empty.
      say: called with one sentence for every damaged checkpoint that is skipped.

    Raises:
      InputError: nothing is there, it is of another kind, it is damaged, an optional library is missing, or
        there is no such step. The files of a run are verified here, each of its arrays when it is read.
    """
    path = pathlib.Path(os.path.abspath(path))
    if not path.exists():
        raise InputError(f"there are no weights at {str(path)!r}: no such file or directory")
    if path.is_file() and step is not None:
        raise InputError(f"step={step} is given, but {str(path)!r} is a file, not a folder of checkpoints")
    if item != "params" and not is_own(path):
        return Weights({}, "flax", {}, str(path))
    contents = _file(path) if path.is_file() else _folder(path, step, item, say)
    if not contents.tensors and item == "params":
        without = "".join(f"; {name}: {reason}" for name, reason in list(contents.refused.items())[:3])
        kind = " that are weights" if contents.refused else ""
        raise InputError(f"{str(path)!r} holds no arrays{kind}{without}")
    return Weights(contents.tensors, contents.layout or "torch", contents.refused, str(path))


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


def layout_from_names(names: Mapping[str, Tensor]) -> str:
    """The layout, for formats that any framework writes: Flax's names have slashes or end in `kernel`."""
    flax = any("/" in name or name.endswith("kernel") for name in names)
    return "flax" if flax else "torch"


def _tied(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    first: dict[Hashable, str] = {}
    stored = [(name, first.setdefault(x.storage, name)) for name, x in tensors.items() if x.storage]
    return {name: other for name, other in stored if name != other}


def _settings_beside(source: str, name: str) -> dict[str, Any]:
    """The content of a JSON file of a folder, or beside a file; empty if there is none that can be read."""
    path = pathlib.Path(source)
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


def _file(path: pathlib.Path) -> Contents:
    return _weights_of(_reader(_module_for(path))(path))


def _weights_of(contents: Contents) -> Contents:
    """Sets the layout if only the names decide it; keeps only the weights if the layout is Flax's."""
    tensors, refused = contents.tensors, contents.refused
    layout = contents.layout or layout_from_names(tensors)
    if layout == "flax":
        if not any("/" in name for name in tensors):
            tensors = {name.replace(".", "/"): tensor for name, tensor in tensors.items()}
        tensors, beside = weights_inside.of_flax(tensors)
        refused = refused | beside
    return Contents(tensors, layout, refused)


def _reader(module: str) -> Reader:
    return importlib.import_module(f"rmtjax.checkpoints.formats.{module}").read


def _module_for(path: pathlib.Path) -> str:
    """The module that reads a file. Raises InputError, with the reason, if none does."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise InputError(f"{str(path)!r} is empty")
    if start.startswith(b"PK"):
        return _module_for_zip(path)
    _refuse_known(path, start)
    for sign in SIGNS:
        if sign.start and start[sign.at :].startswith(sign.start):
            return sign.module
    for sign in SIGNS:
        if path.suffix.lower() in sign.endings:
            return sign.module
    if start[0] == 0x80 and start[1] in (2, 3, 4, 5):
        raise InputError(
            f"{str(path)!r} is a pickle, which could run any program, so it is not opened: "
            "save the weights as safetensors"
        )
    raise InputError(f"{str(path)!r} is not of a kind that can be read: {_KINDS}")


def _refuse_known(path: pathlib.Path, start: bytes) -> None:
    """Raises InputError for files of a known kind that is not read."""
    if start.startswith(b"GGUF"):
        raise InputError(
            f"{str(path)!r} is a GGUF file, whose quantised layouts are not read: "
            "use the safetensors files it was made from"
        )
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{str(path)!r} is a pointer of Git LFS, not the file itself: fetch it with git lfs pull"
        )


def _module_for_zip(path: pathlib.Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except zipfile.BadZipFile as error:
        raise InputError(f"{str(path)!r} is truncated or damaged: {error}") from error
    for sign in SIGNS:
        if sign.member and any(fnmatch.fnmatchcase(member, sign.member) for member in members):
            return sign.module
    raise InputError(f"{str(path)!r} is a zip archive of another kind: {_KINDS} can be read")


def _folder(path: pathlib.Path, step: int | None, item: str, say: Callable[[str], None]) -> Contents:
    """A run of this project, shards that belong together, or Orbax checkpoints of another program."""
    if not is_own(path) and step is None:
        for sign in SIGNS:
            shards = sorted(path.glob(sign.shards)) if sign.shards else []
            shards = [shard for shard in shards if not shard.name.startswith(".")]
            if shards:
                return _weights_of(_joined(path, shards, _reader(sign.module)))
    from rmtjax.checkpoints import checkpoint_folders

    return checkpoint_folders.read(path, step, item, say)


def _joined(path: pathlib.Path, shards: list[pathlib.Path], reader: Reader) -> Contents:
    """All tensors of the shards of a folder, shard by shard in the order of their names."""
    missing = _missing_shard(path, shards)
    if missing:
        raise InputError(f"{str(path)!r} lacks the shard {missing!r} that its index names")
    tensors: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    layout = None
    for shard in shards:
        more, layout, not_read = reader(shard)
        twice = tensors.keys() & more.keys()
        if twice:
            raise InputError(
                f"{str(path)!r} has {sorted(twice)[0]!r} in more than one file: "
                f"name one of {[s.name for s in shards]}"
            )
        tensors |= more
        refused |= not_read
    return Contents(tensors, layout, refused)


def _missing_shard(folder: pathlib.Path, shards: list[pathlib.Path]) -> str:
    """The first file that an index of the folder names and that is missing; empty if none is."""
    present = {shard.name for shard in shards}
    for index in folder.glob("*.index.json"):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{str(index)!r} is not an index of shards: it is truncated, or not JSON with a weight_map"
            ) from error
        missing = sorted(name for name in named - present if name.endswith(shards[0].suffix))
        if missing:
            return missing[0]
    return ""
