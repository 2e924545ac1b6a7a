"""ONNX files: the initializers and constants of their graph."""

import functools
import math
import pathlib
from typing import Any

import numpy as np

from rmtjax.checkpoints import guard
from rmtjax.checkpoints.contents import Contents, Tensor
from rmtjax.errors import InputError


def read(path: pathlib.Path) -> Contents:
    """Reads the arrays of the outer graph; convolutions are `(out, in, *window)`, as in torch."""
    with guard.optional(path, "an ONNX file", "onnx", "formats"):
        import onnx
        from onnx import numpy_helper
    model = onnx.load(str(path), load_external_data=False)
    given = [(tensor.name, tensor) for tensor in model.graph.initializer]
    refused = {
        sparse.values.name: "a sparse tensor, which is not read" for sparse in model.graph.sparse_initializer
    }
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                given += [(name, attribute.t) for name in node.output]
            elif attribute.HasField("g") or attribute.graphs:
                refused[node.name or node.op_type] = "a graph inside the graph, whose weights are not read"
    tensors: dict[str, Tensor] = {}
    beside: dict[pathlib.Path, int] = {}
    for name, tensor in given:
        if name in tensors:
            raise ValueError(f"two tensors are called {name!r}")
        shape, dtype = tuple(tensor.dims), np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        whole = math.prod(shape) * dtype.itemsize == len(tensor.raw_data)
        # Narrower kinds (V) may share bytes.
        if min(shape, default=0) < 0 or (tensor.raw_data and dtype.kind != "V" and not whole):
            raise ValueError(f"{name!r} claims the shape {shape} and has {len(tensor.raw_data):,} bytes")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            file = _data_beside(path, name, tensor)
            beside[file] = file.stat().st_size
        as_numpy = functools.partial(_array, numpy_helper.to_array, tensor, path.parent, shape)
        tensors[name] = Tensor(shape, dtype, as_numpy)
    return Contents(tensors, "torch", refused, sum(beside.values()))


def _data_beside(path: pathlib.Path, name: str, tensor: Any) -> pathlib.Path:
    """The file that holds a tensor. It may only lie in the folder of the model or in a folder below."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, folder = entries.get("location", ""), path.parent
    file = folder / location
    stored, parts = f"{str(path)!r} stores {name!r} in {location!r}", pathlib.PurePath(location).parts
    if not location or pathlib.PurePath(location).is_absolute() or ".." in parts:
        raise InputError(f"{stored}, outside of its folder: it is not read")
    if not file.is_file():
        raise InputError(f"{stored}, which is not there: put that file into {str(folder)!r}")
    if not {folder.resolve(), path.resolve().parent} & set(file.resolve().parents):
        raise InputError(f"{stored}, a link that leads outside of its folder: it is not read")
    return file


def _array(to_array: Any, tensor: Any, folder: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
    array: np.ndarray = to_array(tensor, str(folder))
    if array.size != math.prod(shape):
        raise ValueError(f"it has {array.size} numbers, not those of the shape {shape}")
    return array
