"""8-bit weights without a known scale: refused, except float8 in a file that has no scales at all."""

import ml_dtypes
import numpy as np

from rmtjax.checkpoints.contents import Verdict
from rmtjax.checkpoints.quantised_layouts.stored import SCALE, Stored, is_eight_bits, last


def judge(name: str, tensors: Stored, layout: str) -> Verdict | None:
    """Refuses int8, and float8 whose scale may be among the tensors under a name that is not known.

    float8 needs no scale to be a number: numbers that were only rounded to it are read.
    """
    tensor = tensors[name]
    if tensor.dtype == ml_dtypes.float8_e8m0fnu:
        return Verdict(None, "powers of two (E8M0): scales, not weights")
    if not is_eight_bits(tensor) or tensor.dtype == np.uint8:
        return None
    beside = [other for other in tensors.beside(name) if SCALE.search(last(other))]
    if tensor.dtype == np.int8 or beside or tensors.quantised or tensors.has_scale_of(name):
        found = f", but {last(beside[0])!r} is beside it" if beside else ""
        missing = f"no {name}_scale, {name}_scale_inv or SCB{found}"
        return Verdict(None, f"{tensor.dtype} without a known scale: {missing}")
    return None
