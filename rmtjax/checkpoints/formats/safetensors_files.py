"""safetensors files: arrays with flat names, and no code."""

import functools
import json
import math
import pathlib

import ml_dtypes
import numpy as np
import safetensors

from rmtjax.checkpoints.contents import Contents, Tensor

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "C64": np.complex64,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}


def read(path: pathlib.Path) -> Contents:
    """Maps the file into memory, so that reading a tensor loads only its own pages."""
    with safetensors.safe_open(path, framework="np") as file:  # checks that the file is whole
        file.keys()
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    tensors, refused = {}, {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"][0]):
        if entry["dtype"] not in _DTYPES:
            refused[name] = f"stored as {entry['dtype']}, a dtype that is not read"
            continue
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        start = 8 + size + entry["data_offsets"][0]
        tensors[name] = Tensor(shape, dtype, functools.partial(_mapped, path, start, dtype, shape))
    return Contents(tensors, None, refused)


def _mapped(path: pathlib.Path, start: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    count = math.prod(shape)
    if not count:
        return np.zeros(shape, dtype)
    raw = np.memmap(path, np.uint8, "r", start, (count * dtype.itemsize,))
    return raw.view(np.ndarray).view(dtype).reshape(shape)
