"""Readers, one a format: names, shapes and dtypes at once, numbers when they are asked for.

Each takes a file. Optional libraries are imported where they are needed.
"""

import functools
import json
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from rmtjax.checkpoints import weights_inside
from rmtjax.errors import InputError


class Tensor(NamedTuple):
    """An array on disk: its shape and dtype, and how to read it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


class Contents(NamedTuple):
    """What a reader gives.

    Attributes:
      tensors: by name, in the file's order.
      layout: "flax", "keras" or "torch"; None: only the names tell.
      refused: name of a tensor, or of a group that holds no weights -> why it is not read.
    """

    tensors: dict[str, Tensor]
    layout: str | None
    refused: dict[str, str] = {}  # noqa: RUF012 (never changed)


def _whole(array: np.ndarray) -> Tensor:
    """An array that is in memory already."""
    return Tensor(array.shape, array.dtype, lambda: array)


_SAFETENSORS = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def safetensors(path: pathlib.Path) -> Contents:
    """The file stays mapped: reading a tensor costs its own pages alone, which the system may drop."""
    import safetensors as library

    try:
        with library.safe_open(path, framework="np") as file:  # checks that the file is whole
            file.keys()
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
    except (library.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} is not a whole safetensors file: {error}") from error
    header.pop("__metadata__", None)
    tensors, refused = {}, {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"][0]):
        if entry["dtype"] not in _SAFETENSORS:
            refused[name] = f"stored as {entry['dtype']}, a dtype that is not read"
            continue
        dtype, shape = np.dtype(_SAFETENSORS[entry["dtype"]]), tuple(entry["shape"])
        start = 8 + size + entry["data_offsets"][0]
        tensors[name] = Tensor(shape, dtype, functools.partial(_mapped, path, start, dtype, shape))
    return Contents(tensors, None, refused)


def _mapped(path: pathlib.Path, start: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    if not count:
        return np.zeros(shape, dtype)
    raw = np.memmap(path, np.uint8, "r", start, (count * dtype.itemsize,))
    return raw.view(np.ndarray).view(dtype).reshape(shape)


def missing_shards(folder: pathlib.Path, shards: list[pathlib.Path]) -> str:
    """The first file that an index of the folder names and that is not there; empty if none."""
    present = {shard.name for shard in shards}
    for index in folder.glob("*.index.json"):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{str(index)!r} is not an index of shards: it is truncated, or no JSON with a weight_map"
            ) from error
        missing = sorted(name for name in named - present if name.endswith(shards[0].suffix))
        if missing:
            return missing[0]
    return ""


def torch(path: pathlib.Path) -> Contents:
    """State dicts, alone or inside a checkpoint of a training run; only tensors are unpickled (`weights_only`)."""
    try:
        import torch as library
    except ImportError as error:
        raise InputError(
            f"{str(path)!r} is a torch file and torch is not installed: pip install 'rmtjax[formats]', or save it as safetensors"
        ) from error
    import pickle

    loaded: Any = None
    for mmap in (True, False):  # the old format cannot be mapped
        try:
            loaded = library.load(path, map_location="cpu", weights_only=True, mmap=mmap)
            break
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{str(path)!r} holds more than tensors, or is no torch file: it is not opened, since unpickling could run any program; save its state_dict"
            ) from error
        except Exception as error:  # torch raises all kinds for files that are cut or of another kind
            if not mmap:
                raise InputError(
                    f"{str(path)!r} is not a whole torch file: it is truncated, or of another kind than its name says"
                ) from error
    flat, refused = weights_inside.of_torch(loaded, library.Tensor)
    tensors = {}
    for name, tensor in flat.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        known = getattr(ml_dtypes, dtype, None) or getattr(np, {"bool": "bool_"}.get(dtype, dtype), None)
        if tensor.is_quantized or tensor.layout != library.strided or known is None:
            stored = dtype if tensor.layout == library.strided else str(tensor.layout).removeprefix("torch.")
            refused[name] = f"stored as {stored}, which is not read"
            continue
        read = functools.partial(_from_torch, tensor, np.dtype(known))
        tensors[name] = Tensor(tuple(tensor.shape), np.dtype(known), read)
    return Contents(tensors, "torch", refused)


def _from_torch(tensor: Any, dtype: np.dtype) -> np.ndarray:
    import torch as library

    tensor = tensor.detach().contiguous()
    if dtype.kind == "V" or hasattr(ml_dtypes, dtype.name):  # numpy knows no such dtype: its bits
        size = {1: library.uint8, 2: library.int16}[dtype.itemsize]
        return tensor.view(size).numpy().view(dtype)
    return tensor.numpy()


def npz(path: pathlib.Path) -> Contents:
    """Of numpy; an array of objects, which only unpickling could read, is an error."""
    tensors = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read(file)
                if dtype.hasobject:
                    raise InputError(
                        f"{str(path)!r} holds {member!r} as Python objects, which could run any program: it is not opened"
                    )
                name = member.removesuffix(".npy")
                tensors[name] = Tensor(shape, named_bits(dtype), functools.partial(_from_npz, path, name))
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)!r} is not a whole npz file: {error}") from error
    return Contents(tensors, None)


def named_bits(dtype: np.dtype) -> np.dtype:
    """bfloat16 as numpy stores it: two bytes without a name."""
    return np.dtype(ml_dtypes.bfloat16) if dtype.kind == "V" and dtype.itemsize == 2 else dtype


def _from_npz(path: pathlib.Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        array = file[name]
    return array.view(named_bits(array.dtype))


def msgpack(path: pathlib.Path) -> Contents:
    """Of `flax.serialization`: arrays are extension type 1, numpy scalars 3, and large arrays come in chunks."""
    import msgpack as library

    def extension(code: int, data: bytes) -> Any:
        if code not in (1, 3):
            return complex(*library.unpackb(data)) if code == 2 else None
        shape, name, raw = library.unpackb(data, raw=True)
        name = name.decode()
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        return np.frombuffer(raw, dtype).reshape(shape)

    try:
        tree = library.unpackb(path.read_bytes(), ext_hook=extension, raw=False, strict_map_key=False)
    except (ValueError, TypeError, library.UnpackException) as error:
        raise InputError(f"{str(path)!r} is not a whole msgpack file: {error}") from error
    flat: dict[str, np.ndarray] = {}
    _unpacked(tree, "", flat)
    return Contents({name: _whole(array) for name, array in flat.items()}, "flax")


def _unpacked(node: Any, prefix: str, out: dict[str, np.ndarray]) -> None:
    if isinstance(node, dict) and node.get("__msgpack_chunked_array__"):
        parts = [node["chunks"][str(i)] for i in range(len(node["chunks"]))]
        shape = [node["shape"][str(i)] for i in range(len(node["shape"]))]
        out[prefix] = np.concatenate(parts).reshape(shape)
    elif isinstance(node, dict):
        for key, child in node.items():
            _unpacked(child, f"{prefix}/{key}" if prefix else str(key), out)
    elif isinstance(node, np.ndarray):
        out[prefix] = node


def onnx(path: pathlib.Path) -> Contents:
    """Initializers and constants of the graph itself; convolutions are `(out, in, *window)`, as in torch."""
    try:
        import onnx as library
        from onnx import numpy_helper
    except ImportError as error:
        raise InputError(
            f"{str(path)!r} is an ONNX file and onnx is not installed: pip install 'rmtjax[formats]'"
        ) from error
    from google.protobuf.message import DecodeError

    try:
        model = library.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise InputError(f"{str(path)!r} is not a whole ONNX file: {error}") from error
    found = {given.name: given for given in model.graph.initializer}
    refused = {
        given.values.name: "a sparse tensor, which is not read" for given in model.graph.sparse_initializer
    }
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                found[node.output[0]] = attribute.t
            elif attribute.HasField("g") or attribute.graphs:
                refused[node.name or node.op_type] = "a graph inside the graph, whose weights are not read"
    tensors = {}
    for name, given in found.items():
        dtype = np.dtype(library.helper.tensor_dtype_to_np_dtype(given.data_type))
        read = functools.partial(numpy_helper.to_array, given, str(path.parent))
        tensors[name] = Tensor(tuple(given.dims), dtype, read)
    return Contents(tensors, "torch", refused)
