"""The tensors of a file by name, and what stands beside each."""

import functools
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from rmtjax.checkpoints.contents import Tensor

# Names of the scale of tensor `X`: added to X, or beside it in the module whose only 8-bit matrix is X.
_AFTER = (
    "_scale", "_scale_inv", "_scales", "_scaling_factor", "_scale_factor", "_qscale",
    ".scale", "/scale", ".scale_inv", "/scale_inv", "._scale",
)  # fmt: skip
_BESIDE = (
    "scale", "scales", "_scale", "scale_inv", "scale_weight", "weight_scale", "weight_scale_inv",
    "weight_scales", "weight_scaling_factor", "weights_scaling_factor", "kernel_scale", "w_scale", "qscale",
    "_weight_scale",
)  # fmt: skip
# The last part of names of tensors that hold the codes of the weights that are named before it.
_CODES = re.compile(r"[./](_data|data|qdata|_qdata|qvalue|int_data|float8_data)$|(?<=[./])_(?=weight_qdata$)")
SCALE = re.compile(r"(?i)scal(e|ing)|scb$|absmax|amax|zero|shift|_zp$|codebook")
_ACTIVATIONS = re.compile(r"(?i)(^|_)(input|in|act\w*|output|out|x|[qkv]|kv|prob)s?_|_(input|output|act\w*)$")
_MODULE = 100  # in a module of more tensors only names tell what belongs together
# What only files of quantised weights have. A layer norm's `scale` and a `layer_scale` are not meant.
_QUANTISED = re.compile(
    r"(?i)(weight|kernel|(^|[._/])w)s?_?q?scal(e|ing)|scale_(weight|inv)|scaled_fp8|_extra_state$|absmax|scb$"
)


def module_of(name: str) -> str:
    """The name up to its last dot or slash, which it includes; empty if there is none."""
    return name[: max(name.rfind("."), name.rfind("/")) + 1]


def last(name: str) -> str:
    """The part of a name behind its last dot or slash."""
    return name[len(module_of(name)) :]


class Stored(dict[str, Tensor]):
    """All tensors of a file by name.

    Attributes:
      inside: a module, with its last dot or slash, -> the names of the tensors directly inside.
      config: the content of the config.json beside the file, empty if there is none.
    """

    def __init__(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        super().__init__(tensors)
        self.config = config
        self.inside: dict[str, list[str]] = defaultdict(list)
        for name in tensors:
            self.inside[module_of(name)].append(name)

    def beside(self, name: str) -> list[str]:
        """Names of the other tensors of the module of a tensor, and of those inside a module of its name."""
        inside = [*self.inside.get(f"{name}.", ()), *self.inside.get(f"{name}/", ())]
        return [other for other in self.inside[module_of(name)] if other != name] + inside

    def scale_of(self, name: str) -> str | None:
        """The name of the tensor that holds the scale of 8-bit tensor `name`; None if there is none."""
        after = next((name + end for end in _AFTER if name + end in self), None)
        if after or not self.is_alone(name):
            return after
        beside = (module_of(name) + end for end in _BESIDE)
        return next((scale for scale in beside if scale in self and scale != name), None)

    def is_alone(self, name: str) -> bool:
        """Whether the module of a tensor has no other codes, so that its scale needs no name of its own."""
        others = self.inside[module_of(name)]
        return not any(
            is_eight_bits(self[other]) and not SCALE.search(last(other)) for other in others if other != name
        )

    def other_scales(self, name: str, known: frozenset[str]) -> list[str]:
        """Names beside a tensor that look like scales of its weights, without those that are known."""
        beside = self.beside(name)
        scales = [other for other in beside if SCALE.search(last(other)) and other not in known]
        scales = [scale for scale in scales if not _ACTIVATIONS.search(last(scale))]
        if len(beside) > _MODULE:
            return [scale for scale in scales if scale.startswith(name)]
        rest = tuple(other for other in beside if not SCALE.search(last(other)) and other != name)
        return [scale for scale in scales if scale.startswith(name) or not scale.startswith(rest)]

    def has_scale_of(self, name: str) -> bool:
        """Whether a tensor anywhere in the file is called a scale of this one, or of its module."""
        return bool(self._scaled & {name.replace("/", "."), module_of(name)[:-1].replace("/", ".")} - {""})

    @functools.cached_property
    def _scaled(self) -> set[str]:
        """What is left of the names of scales without the parts of names that say so."""
        parts = (re.split(r"[./]", name) for name in self if SCALE.search(name))
        return {".".join(part for part in of_name if not SCALE.search(part)) for of_name in parts}

    @functools.cached_property
    def quantised(self) -> bool:
        """Whether the file has scales of weights, so that every tensor of 8 bits must have one."""
        eight = (name for name, tensor in self.items() if is_eight_bits(tensor))
        return any(map(_QUANTISED.search, self)) or any(self.scale_of(name) for name in eight)


def is_eight_bits(tensor: Tensor) -> bool:
    """Whether a tensor has at least two axes and is int8, uint8 or float8, but not of powers of two."""
    eight = tensor.dtype in (np.int8, np.uint8) or tensor.dtype.name.startswith("float8")
    return eight and len(tensor.shape) >= 2 and tensor.dtype != ml_dtypes.float8_e8m0fnu


def weights_of(name: str) -> str:
    """The name of the weights whose codes a tensor holds: `fc.weight` for `fc.weight._data`."""
    return _CODES.sub("", name).removesuffix("_qdata")


def is_powers(tensor: Tensor) -> bool:
    """Whether a scale is stored as E8M0, which is powers of two: also as the bytes alone."""
    return tensor.dtype in (ml_dtypes.float8_e8m0fnu, np.uint8)


def factors(scale: Tensor) -> np.ndarray:
    """The numbers of a scale as float32; bytes are exponents, as in E8M0: 2^(e - 127), and 255 is NaN."""
    numbers = scale.read()
    if numbers.dtype == np.uint8:
        numbers = numbers.view(ml_dtypes.float8_e8m0fnu)
    return numbers.astype(np.float32)
