"""Any checkpoint as a flat mapping of names to arrays, read one by one.

The format is told by the content; nothing is unpickled but by torch with `weights_only=True`. Names are the file's
own; in Flax's dots become slashes, and what is around the parameters falls away. What is not read (a quantised layout
that is not known, an optimiser's state) is refused by name.
"""

import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from rmtjax.checkpoints import formats, keras_files, weights_inside
from rmtjax.checkpoints.formats import Contents, Tensor
from rmtjax.checkpoints.quantised import dequantised
from rmtjax.errors import InputError

_KINDS = (
    "an Orbax checkpoint or a run's folder, safetensors, torch, npz, msgpack, ONNX or Keras weights, or a folder of"
    " safetensors or torch shards"
)


class Weights(Mapping[str, np.ndarray]):
    """Arrays by name; each is read when it is asked for, and not kept.

    Attributes:
      specs: name -> shape and dtype, known without reading, in the file's order.
      layout: "flax" or "keras" (dense `(in, out)`, convolution `(*window, in, out)`), or "torch" (`(out, in)`,
        `(out, in, *window)`).
      refused: name of a tensor, or of a group beside the weights -> why it is not read.
      source: what was opened.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], layout: str, refused: dict[str, str], source: str
    ) -> None:
        self._tensors, quantised = dequantised(tensors, layout)
        self.refused = refused | quantised
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


def open(path: str | os.PathLike[str], *, step: int | None = None) -> Weights:
    """Opens weights that any of the usual programs wrote.

    Args:
      path: a run's folder or one of its checkpoints; an Orbax checkpoint, or a folder of several; a
        `.safetensors` file, a torch file, an `.npz`, a Flax `.msgpack`, an `.onnx` file, Keras `.h5`, `.weights.h5`
        or `.keras`; a folder of safetensors or torch shards, such as Hugging Face's.
      step: of a folder with several checkpoints; None: the newest.

    Raises:
      InputError: nothing there, not one of these, damaged, an optional library is missing, or no such step.
    """
    path = pathlib.Path(os.path.abspath(path))
    if not path.exists():
        raise InputError(f"there are no weights at {str(path)!r}: no such file or directory")
    if path.is_file():
        if step is not None:
            raise InputError(
                f"step={step} is given, but {str(path)!r} is a file, not a folder of checkpoints"
            )
        tensors, layout, refused = _reader(path)(path)
    else:
        tensors, layout, refused = _folder(path, step)
    layout = layout or told_by_names(tensors)
    if layout == "flax":
        if not any("/" in name for name in tensors):
            tensors = {name.replace(".", "/"): tensor for name, tensor in tensors.items()}
        tensors, beside = weights_inside.of_flax(tensors)
        refused = refused | beside
    if not tensors:
        without = "".join(f"; {name}: {reason}" for name, reason in list(refused.items())[:3])
        raise InputError(f"{str(path)!r} holds no arrays{' that are weights' if refused else ''}{without}")
    return Weights(tensors, layout, refused, str(path))


def told_by_names(names: Mapping[str, Tensor]) -> str:
    """The layout of files that any framework writes: Flax's names have slashes or end in `kernel`."""
    flax = any("/" in name or name.endswith("kernel") for name in names)
    return "flax" if flax else "torch"


Reader = Callable[[pathlib.Path], Contents]


def _reader(path: pathlib.Path) -> Reader:
    with path.open("rb") as file:
        start = file.read(64)
    suffix = path.suffix.lower()
    if not start:
        raise InputError(f"{str(path)!r} is empty")
    if start.startswith(b"GGUF"):
        raise InputError(
            f"{str(path)!r} is a GGUF file: its quantised layouts are not read; take the safetensors it was made of"
        )
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{str(path)!r} is a pointer of Git LFS, not the file itself: fetch it with git lfs pull"
        )
    if start.startswith(b"\x89HDF"):
        return keras_files.keras
    if start.startswith(b"PK"):
        return _zipped(path)
    if suffix == ".safetensors" or start[8:9] == b"{":
        return formats.safetensors
    if suffix == ".onnx":
        return formats.onnx
    if suffix == ".msgpack":
        return formats.msgpack
    if suffix in (".pt", ".pth", ".th", ".bin", ".ckpt"):
        return formats.torch
    if start[0] == 0x80 and start[1] in (2, 3, 4, 5):
        raise InputError(
            f"{str(path)!r} is a pickle, which could run any program: it is not opened; save the weights as safetensors"
        )
    raise InputError(f"{str(path)!r} is not of a kind that can be read: {_KINDS}")


def _zipped(path: pathlib.Path) -> Reader:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise InputError(f"{str(path)!r} is truncated or damaged: {error}") from error
    if any(name.endswith("data.pkl") for name in names):
        return formats.torch
    if "model.weights.h5" in names:
        return keras_files.keras
    if any(name.endswith(".npy") for name in names):
        return formats.npz
    raise InputError(f"{str(path)!r} is a zip archive of another kind: {_KINDS} can be read")


def _folder(path: pathlib.Path, step: int | None) -> Contents:
    for pattern, reader in (
        ("*.safetensors", formats.safetensors),
        ("pytorch_model*.bin", formats.torch),
        ("*.msgpack", formats.msgpack),
        ("*.h5", keras_files.keras),
        ("*.onnx", formats.onnx),
    ):
        shards = sorted(shard for shard in path.glob(pattern) if not shard.name.startswith("."))
        if shards and step is None:
            return _joined(path, shards, reader)
    from rmtjax.checkpoints import orbax_trees

    return Contents(orbax_trees.tensors(path, step), "flax")


def _joined(path: pathlib.Path, shards: list[pathlib.Path], reader: Reader) -> Contents:
    """All tensors of a folder's shards, in the order of their names' numbers where shards are numbered."""
    missing = formats.missing_shards(path, shards)
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
                f"{str(path)!r} has {sorted(twice)[0]!r} in more than one file: name one of {[s.name for s in shards]}"
            )
        tensors |= more
        refused |= not_read
    return Contents(tensors, layout, refused)
