"""What the 8-bit layouts have in common."""

from collections.abc import Mapping

import numpy as np

from rmtjax.checkpoints.contents import Tensor


def is_matrix(tensor: Tensor) -> bool:
    """Whether a tensor has at least two axes and is int8, uint8 or float8."""
    eight = tensor.dtype in (np.int8, np.uint8) or tensor.dtype.name.startswith("float8")
    return eight and len(tensor.shape) >= 2


def scale_of(name: str, tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the tensor that holds the scale of tensor `name`; None if there is none."""
    return next((scale for scale in (f"{name}_scale", f"{name}_scale_inv") if scale in tensors), None)
