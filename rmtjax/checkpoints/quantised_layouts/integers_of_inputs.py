"""GPTQ and AWQ: integers in int32, with a scale and a zero point for each output and group of inputs.

The weights are `(q - zero) * scale` of shape [inputs, outputs], transposed as torch has them. GPTQ packs 4 or
8 bits of successive inputs into a number, and the zero points of successive outputs, less 1 in its first
format; `g_idx` gives the group of each input. AWQ packs 4 bits of eight outputs, in an order of its own.
Which of these a file has is told by `quantization_config` of the config.json beside it.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from rmtjax.checkpoints.contents import Tensor, Verdict
from rmtjax.checkpoints.quantised_layouts.stored import Stored, last

_PARTS = ("qzeros", "scales", "g_idx")
_OUTPUTS_OF_AWQ = np.array([0, 2, 4, 6, 1, 3, 5, 7])  # that the bits of a number hold, from the lowest on


def judge(name: str, tensors: Stored, layout: str) -> Verdict | None:
    """Dequantises `qweight` by `qzeros` and `scales` beside it, or says what is not known for sure."""
    before = name.removesuffix("qweight")
    parts = {part: tensors[before + part] for part in _PARTS if before + part in tensors}
    if last(name) != "qweight" or not {"qzeros", "scales"} <= parts.keys():
        return None
    told = tensors.config.get("quantization_config")
    told = told if isinstance(told, Mapping) else {}
    method = told.get("quant_method", told.get("method"))
    if method == "gptq":
        made = _gptq(tensors[name], parts, told)
    elif method == "awq":
        made = _awq(tensors[name], parts, told)
    else:
        made = "which of them, is told by a config.json with quantization_config, which is not beside it"
    if isinstance(made, str):
        return Verdict(None, f"quantised layout that is not read (GPTQ or AWQ: {made})")
    return Verdict(made, parts=frozenset(before + part for part in parts), name=f"{before}weight")


def _gptq(codes: Tensor, parts: Mapping[str, Tensor], told: Mapping[str, Any]) -> Tensor | str:
    kind = _format(told, "checkpoint_format", "format") or ("gptq" if "quant_method" in told else "none")
    if kind not in ("gptq", "gptq_v2") or told.get("pack_dtype", "int32") != "int32":
        return f"the format {kind!r} of GPTQ is not known"
    zeros, scales = parts["qzeros"], parts["scales"]
    groups, outputs = scales.shape if len(scales.shape) == 2 else (0, 0)
    bits = next((b for b in (4, 8) if outputs and zeros.shape == (groups, outputs * b // 32)), 0)
    inputs = 32 * codes.shape[0] // max(bits, 1) if len(codes.shape) == 2 else 0
    order = parts.get("g_idx")
    if not bits or not inputs or codes.shape != (inputs * bits // 32, outputs):
        return _unfit(codes, parts, "4 or 8")
    if order is None and (told.get("desc_act") or inputs % groups):
        return "the order of its groups, g_idx, is missing"
    if order is not None and (order.shape != (inputs,) or order.dtype.kind not in "iu"):
        return _unfit(codes, parts, "4 or 8")
    if {codes.dtype, zeros.dtype} != {np.dtype(np.int32)}:
        return _unfit(codes, parts, "4 or 8")
    doubt = _doubt(_unpacked(zeros.read(), bits), bits, kind == "gptq", told.get("sym") is True)
    if doubt:
        return doubt
    read = functools.partial(_of_gptq, codes, zeros, scales, order, bits, kind == "gptq")
    return Tensor((outputs, inputs), np.dtype(np.float32), read)


def _awq(codes: Tensor, parts: Mapping[str, Tensor], told: Mapping[str, Any]) -> Tensor | str:
    kind = _format(told, "version", "format", "checkpoint_format")
    if kind != "gemm" or told.get("bits", told.get("w_bit")) != 4 or told.get("zero_point") is not True:
        return "AWQ is read in its version 'gemm', of 4 bits with zero points, and config.json tells another"
    zeros, scales = parts["qzeros"], parts["scales"]
    inputs, outputs = (codes.shape[0], 8 * codes.shape[1]) if len(codes.shape) == 2 else (0, 0)
    groups = scales.shape[0] if scales.shape[1:] == (outputs,) else 0
    fits = groups and inputs and inputs % groups == 0 and zeros.shape == (groups, outputs // 8)
    if not fits or {codes.dtype, zeros.dtype} != {np.dtype(np.int32)}:
        return _unfit(codes, parts, "4")
    return Tensor((outputs, inputs), np.dtype(np.float32), functools.partial(_of_awq, codes, zeros, scales))


def _format(told: Mapping[str, Any], *keys: str) -> str:
    """What a config calls the format, in lower case; "several" if it has different names for it."""
    named = {str(told[key]).lower() for key in keys if told.get(key) is not None}
    return "several" if len(named) > 1 else next(iter(named), "")


def _unfit(codes: Tensor, parts: Mapping[str, Tensor], bits: str) -> str:
    others = ", ".join(f"{part} {tensor.dtype}{tensor.shape}" for part, tensor in parts.items())
    return f"{codes.dtype}{codes.shape} with {others} are no groups of {bits} bits"


def _doubt(zeros: np.ndarray, bits: int, less_one: bool, symmetric: bool) -> str:
    """Why the zero points do not fit the format that is told; empty if they do."""
    if symmetric and not (zeros == 2 ** (bits - 1) - less_one).all():
        return "its zero points are not those of symmetric groups in the format that config.json tells"
    if less_one and (zeros == 2**bits - 1).any():
        return f"its zero points, stored less 1, have {2**bits - 1}, which stands for 0 or for {2**bits}"
    return ""


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """`[rows, columns, 32 / bits]` numbers, from the lowest bits on."""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    return (packed.view(np.uint32)[..., None] >> shifts & np.uint32(2**bits - 1)).astype(np.uint8)


def _of_gptq(
    codes: Tensor, zeros: Tensor, scales: Tensor, order: Tensor | None, bits: int, less_one: bool
) -> np.ndarray:
    numbers = np.swapaxes(_unpacked(codes.read(), bits), 1, 2).reshape(-1, codes.shape[1])
    factors = scales.read().astype(np.float32)
    middle = _unpacked(zeros.read(), bits).reshape(factors.shape).astype(np.float32) + less_one
    groups, inputs = len(factors), len(numbers)
    group = np.arange(inputs) * groups // inputs if order is None else order.read()
    if group.min() < 0 or group.max() >= groups:
        raise ValueError(f"g_idx names other groups than {groups}")
    return _weights(numbers, middle[group], factors[group])


def _of_awq(codes: Tensor, zeros: Tensor, scales: Tensor) -> np.ndarray:
    numbers, middle = (_in_order(_unpacked(part.read(), 4)) for part in (codes, zeros))
    size = len(numbers) // len(middle)
    factors = scales.read().astype(np.float32)
    return _weights(numbers, np.repeat(middle, size, 0), np.repeat(factors, size, 0))


def _in_order(numbers: np.ndarray) -> np.ndarray:
    """`[rows, outputs]` from eight numbers in the order of AWQ."""
    ordered = np.empty_like(numbers)
    ordered[..., _OUTPUTS_OF_AWQ] = numbers
    return ordered.reshape(len(numbers), -1)


def _weights(numbers: np.ndarray, middle: np.ndarray, factors: np.ndarray) -> np.ndarray:
    weights: np.ndarray = (numbers.astype(np.float32) - middle) * factors
    return np.ascontiguousarray(weights.T)
