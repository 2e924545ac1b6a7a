"""Weights stored with fewer bits: dequantised if the layout is known, refused with the reason if not.

To read another layout, add one file here and one entry to `_LAYOUTS`. The file has one function,

    def judge(name: str, tensors: Mapping[str, Tensor], layout: str) -> Verdict | None

which decides what a tensor is (see rmtjax/checkpoints/contents.py) and returns None if it does not recognise
it. `tensors` are all tensors of the file; `layout` is "flax", "keras" or "torch".
"""

from collections.abc import Mapping

from rmtjax.checkpoints.contents import Tensor
from rmtjax.checkpoints.quantised_layouts import bitsandbytes_rows, packed, scales, unscaled, zero_points

_LAYOUTS = (packed, zero_points, bitsandbytes_rows, scales, unscaled)  # the first one to decide counts


def dequantised(tensors: Mapping[str, Tensor], layout: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that can be read, known layouts as float32, and the reason for each that cannot.

    Scales and other parts of a layout are in neither, since they are not weights.
    """
    kept: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    parts: set[str] = set()
    for name, tensor in tensors.items():
        verdicts = (module.judge(name, tensors, layout) for module in _LAYOUTS)
        verdict = next((verdict for verdict in verdicts if verdict is not None), None)
        if verdict is None:
            kept[name] = tensor
            continue
        parts |= verdict.parts
        if verdict.tensor is None:
            refused[name] = verdict.reason
        else:
            kept[name] = verdict.tensor
    return (
        {name: tensor for name, tensor in kept.items() if name not in parts},
        {name: reason for name, reason in refused.items() if name not in parts},
    )
