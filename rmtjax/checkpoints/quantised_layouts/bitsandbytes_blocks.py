"""The 4-bit layouts of bitsandbytes (NF4, FP4): codes of a book, with a scale for each block."""

import functools
import json
from typing import Any

import numpy as np

from rmtjax.checkpoints.contents import Tensor, Verdict
from rmtjax.checkpoints.quantised_layouts.stored import Stored

_PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
_STATE = 2**16  # bytes, at most


def judge(name: str, tensors: Stored, layout: str) -> Verdict | None:
    """Dequantises `X` by `X.absmax`, `X.quant_map` and the state beside them, which tells shape and blocks.

    Codes may be stored as any dtype, of which only the bytes count. The scales may themselves be quantised
    (`nested_`). What lacks a part is left to be refused.
    """
    found = {part: f"{name}.{part}" for part in _PARTS if f"{name}.{part}" in tensors}
    states = [other for other in tensors.inside.get(f"{name}.quant_state.", ()) if "bitsandbytes" in other]
    if "absmax" not in found or "quant_map" not in found or len(states) != 1:
        return None
    state = _state(tensors[states[0]])
    if state is None or ("nested_offset" in state) != ("nested_absmax" in found):
        return None
    codes, shape = tensors[name], tuple(state["shape"])
    parts = {part: tensors[place] for part, place in found.items()}
    sizes = {part: int(np.prod(tensor.shape)) for part, tensor in parts.items()}
    count, size = int(np.prod(shape)), int(np.prod(codes.shape)) * codes.dtype.itemsize
    blocks = -(-count // state["blocksize"])
    nested = "nested_absmax" in found and sizes["nested_absmax"] * state["nested_blocksize"] < blocks
    if size != -(-count // 2) or sizes["absmax"] != blocks or sizes["quant_map"] != 16 or nested:
        return None
    read = functools.partial(_decoded, codes, parts, state)
    tensor = Tensor(shape, np.dtype(np.float32), read)
    return Verdict(tensor, parts=frozenset({*found.values(), *states}))


def _state(stored: Tensor) -> dict[str, Any] | None:
    """The state, a JSON text in bytes; None if it is not whole."""
    if int(np.prod(stored.shape)) > _STATE:
        return None
    try:
        state = json.loads(stored.read().tobytes())
        whole = all(isinstance(n, int) and n > 0 for n in (state["blocksize"], *state["shape"]))
        whole &= "nested_offset" not in state or int(state["nested_blocksize"]) > 0
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return state if whole and state["shape"] else None


def _decoded(codes: Tensor, parts: dict[str, Tensor], state: dict[str, Any]) -> np.ndarray:
    """The first of two weights is in the high half of a byte."""
    packed = np.ascontiguousarray(codes.read()).view(np.uint8).ravel()
    numbers = parts["quant_map"].read().astype(np.float32)[np.stack([packed >> 4, packed & 15], -1).ravel()]
    scales = parts["absmax"].read().ravel()
    if "nested_absmax" in parts:
        outer = np.repeat(parts["nested_absmax"].read().ravel(), state["nested_blocksize"])[: len(scales)]
        scales = parts["nested_quant_map"].read()[scales] * outer + np.float32(state["nested_offset"])
    count = int(np.prod(state["shape"]))
    wide = np.repeat(scales.astype(np.float32), state["blocksize"])[:count]
    weights: np.ndarray = (numbers[:count] * wide).reshape(state["shape"])
    return weights
