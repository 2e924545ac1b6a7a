"""Weights stored with fewer bits: dequantised if the layout is known, refused with the reason if not.

To read another layout, add one file here and one entry to `_LAYOUTS`. The file has one function,

    def judge(name: str, tensors: Stored, layout: str) -> Verdict | None

which decides what a tensor is (see rmtjax/checkpoints/contents.py) and returns None if it does not recognise
it. `tensors` are all tensors of the file; `layout` is "flax", "keras" or "torch".
"""

from collections.abc import Mapping
from typing import Any

from rmtjax.checkpoints.contents import Tensor
from rmtjax.checkpoints.quantised_layouts import (
    bitsandbytes_blocks,
    bitsandbytes_rows,
    four_bit_floats,
    integers,
    integers_of_inputs,
    leftovers,
    packed,
    scales,
    unscaled,
    zero_points,
)
from rmtjax.checkpoints.quantised_layouts.stored import Stored

# The first one to decide counts.
_LAYOUTS = (
    four_bit_floats,
    integers,
    integers_of_inputs,
    bitsandbytes_blocks,
    packed,
    zero_points,
    bitsandbytes_rows,
    scales,
    unscaled,
)


def dequantised(
    tensors: Mapping[str, Tensor], layout: str, config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that can be read, known layouts as float32, and the reason for each that cannot.

    Scales and other parts of a layout that is read, or refused as a whole, are in neither, since they are not
    weights. `config` is the content of the config.json beside the file.
    """
    kept: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    plain: dict[str, Tensor] = {}
    parts: set[str] = set()
    stored = Stored(tensors, config)
    for name, tensor in tensors.items():
        verdicts = (module.judge(name, stored, layout) for module in _LAYOUTS)
        verdict = next((verdict for verdict in verdicts if verdict is not None), None)
        if verdict is None:
            kept[name] = plain[name] = tensor
            continue
        parts |= verdict.parts
        if verdict.tensor is None:
            refused[name] = verdict.reason
        else:
            kept[verdict.name if verdict.name and verdict.name not in tensors else name] = verdict.tensor
    refused = {name: reason for name, reason in refused.items() if name not in parts}
    plain = {name: tensor for name, tensor in plain.items() if name not in parts}
    refused |= leftovers.refused(plain, refused)
    return {name: t for name, t in kept.items() if name not in parts and name not in refused}, refused
