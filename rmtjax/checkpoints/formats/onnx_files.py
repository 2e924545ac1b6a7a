"""ONNX files: the initializers and constants of their graph."""

import functools
import pathlib

import numpy as np

from rmtjax.checkpoints.contents import Contents, Tensor
from rmtjax.errors import InputError


def read(path: pathlib.Path) -> Contents:
    """Reads the arrays of the outer graph; convolutions are `(out, in, *window)`, as in torch."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise InputError(
            f"{str(path)!r} is an ONNX file, and onnx is not installed: pip install 'rmtjax[formats]'"
        ) from error
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
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
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(given.data_type))
        as_numpy = functools.partial(numpy_helper.to_array, given, str(path.parent))
        tensors[name] = Tensor(tuple(given.dims), dtype, as_numpy)
    return Contents(tensors, "torch", refused)
