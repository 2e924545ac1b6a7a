"""Parts of layouts that nobody recognised: told from weights by what stands beside them."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from rmtjax.checkpoints.contents import Tensor
from rmtjax.checkpoints.quantised_layouts.stored import SCALE, last, module_of

_CODES = (np.int8, np.uint8, np.int16, np.int32, np.uint32)
_NO_CODES = re.compile(r"(?i)mask|bias$|pos|ind(ex|ices)|ids?$|table|shape|size")
# Without the weights beside it: what is called so is a scale all the same.
_SCALE_OF_WEIGHTS = re.compile(
    r"(?i)(^|_)(weight|kernel|w)s?_?(scal(e|es|ing_factor)|zero_points?|scale_(inv|2))$"
    r"|^(scale_weight|qzeros|absmax)$"
)


def refused(plain: Mapping[str, Tensor], without: Iterable[str]) -> dict[str, str]:
    """The reason for each tensor that is a scale, or lies in a module of codes that are not read.

    Codes are tensors that were refused (`without`), and integers of at most 32 bits with two axes or more. At
    the top of a file, where everything lies in one module, only what is called a scale is one.
    """
    integers = (name for name, tensor in plain.items() if tensor.dtype in _CODES and len(tensor.shape) >= 2)
    codes: dict[str, str] = {}
    for name in (*without, *(name for name in integers if not _NO_CODES.search(last(name)))):
        codes.setdefault(module_of(name), name)
    out: dict[str, str] = {}
    for name, tensor in plain.items():
        own, module = last(name), module_of(name)
        if len(tensor.shape) < 2 or tensor.dtype in _CODES:
            continue
        if _SCALE_OF_WEIGHTS.search(own):
            out[name] = "scale or zero point of a quantised layout, not weights"
        elif module in codes and (module or SCALE.search(own)):
            out[name] = f"beside {last(codes[module])!r}, the codes of a quantised layout that is not read"
    return out
