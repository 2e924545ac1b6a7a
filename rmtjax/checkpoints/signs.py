"""How files of each format are recognised: first by their content, last by the ending of their name."""

import fnmatch
import importlib
import pathlib
import re
import zipfile
from typing import NamedTuple

from rmtjax.checkpoints.contents import Contents
from rmtjax.errors import InputError


class Sign(NamedTuple):
    """The signs of a format.

    Attributes:
      module: the file in rmtjax/checkpoints/formats whose `read` reads them.
      words: what people call the format.
      start: pattern of the first bytes of a file.
      member: pattern of the name of a file inside, for formats that are zip archives.
      endings: endings of names, for files whose content does not decide.
      likely: pattern of the first bytes, for files whose ending says nothing.
      shards: patterns of the names of the files that hold the weights of a folder.
    """

    module: str
    words: str
    start: bytes = b""
    member: str = ""
    endings: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()
    likely: bytes = b""

    def read(self, path: pathlib.Path) -> Contents:
        contents: Contents = importlib.import_module(f"rmtjax.checkpoints.formats.{self.module}").read(path)
        return contents


# One entry for each format; if several fit, the first counts.
SIGNS = (
    Sign(
        "safetensors_files", "safetensors", rb".{8}\{", endings=(".safetensors",), shards=("*.safetensors",)
    ),
    Sign(
        "torch_files",
        "torch",
        member="*data.pkl",
        endings=(".pt", ".pth", ".th", ".bin", ".ckpt"),
        shards=("*pytorch_model*.bin", "adapter_model*.bin"),
    ),
    Sign(
        "msgpack_files",
        "msgpack",
        endings=(".msgpack",),
        shards=("*.msgpack",),
        likely=rb"([\x81-\x8f]|\xde..|\xdf....)[\xa0-\xbf\xd9\xda]",  # a map whose first key is text
    ),
    Sign("keras_files", "Keras", rb"\x89HDF", member="model.weights.h5", shards=("*.h5",)),
    Sign("npz_files", "npz", member="*.npy"),
    Sign("npy_files", "npy", rb"\x93NUMPY"),
    Sign("gguf_files", "GGUF", b"GGUF", shards=("*.gguf",)),
    Sign("onnx_files", "ONNX", endings=(".onnx",), shards=("*.onnx",)),
    # Its files of numbers may begin with anything, so the index decides by its ending.
    Sign(
        "tensorflow_files",
        "TensorFlow",
        endings=(".index",),
        shards=("variables/variables.index", "*.index"),
    ),
)
_KINDS = (
    "an Orbax checkpoint or a run's folder, safetensors, torch, npz, npy, msgpack, GGUF, ONNX or Keras "
    "weights, a SavedModel or the .index of a TensorFlow checkpoint, or a folder of safetensors or torch "
    "shards"
)


def of_file(path: pathlib.Path) -> Sign:
    """The format of a file. Raises InputError, with the reason, if it is none of these."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise InputError(f"{str(path)!r} is empty")
    if start.startswith(b"PK"):
        return _of_zip(path)
    _refuse_known(path, start)
    ending = path.suffix.lower()
    for fits in (
        lambda sign: sign.start and re.match(sign.start, start, re.DOTALL),
        lambda sign: ending in sign.endings,
        lambda sign: sign.likely and re.match(sign.likely, start, re.DOTALL),
    ):
        for sign in SIGNS:
            if fits(sign):
                return sign
    if start[0] == 0x80 and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise InputError(
            f"{str(path)!r} is a pickle, which could run any program, so it is not opened: "
            "save the weights as safetensors"
        )
    raise InputError(f"{str(path)!r} is not of a kind that can be read: {_KINDS}")


def is_likely(path: pathlib.Path) -> bool:
    """Whether a file whose name has no ending is of a format that has none."""
    if path.suffix or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(64)
    return any(sign.likely and re.match(sign.likely, start, re.DOTALL) for sign in SIGNS)


def _refuse_known(path: pathlib.Path, start: bytes) -> None:
    """Raises InputError for files of a known kind that is not read."""
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{str(path)!r} is a pointer of Git LFS, not the file itself: fetch it with git lfs pull"
        )


def _of_zip(path: pathlib.Path) -> Sign:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise InputError(f"{str(path)!r} is truncated or damaged: {error}") from error
    for sign in SIGNS:
        if sign.member and any(fnmatch.fnmatchcase(member, sign.member) for member in members):
            return sign
    raise InputError(f"{str(path)!r} is a zip archive of another kind: {_KINDS} can be read")
