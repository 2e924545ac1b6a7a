"""8-bit weights without a known scale: refused, except float8, which needs no scale to be a number."""

from collections.abc import Mapping

import numpy as np

from rmtjax.checkpoints.contents import Tensor, Verdict
from rmtjax.checkpoints.quantised_layouts import eight_bits


def judge(name: str, tensors: Mapping[str, Tensor], layout: str) -> Verdict | None:
    """Refuses int8, and uint8 that packs two 4-bit numbers of bitsandbytes."""
    tensor = tensors[name]
    four_bits = tensor.dtype == np.uint8 and f"{name}.absmax" in tensors
    if not eight_bits.is_matrix(tensor) or not (tensor.dtype == np.int8 or four_bits):
        return None
    missing = f"no {name}_scale, {name}_scale_inv or SCB"
    return Verdict(None, f"{tensor.dtype} without a known scale: {missing}")
