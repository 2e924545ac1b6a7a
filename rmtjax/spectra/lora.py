"""Products of low-rank adapters (LoRA; Hu et al. 2021, arXiv 2106.09685), of which files hold the factors.

Names are those of PEFT (`lora_A`, `lora_embedding_A`), Kohya (`lora_down`), diffusers (`lora.down`) and this
package (`kernel_lora_a`). Where a model runs with W + s B A, the matrix that is analysed is s B A.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

_FACTOR = re.compile(
    r"(?P<form>lora_embedding_|lora_|lora\.|lora/)(?P<side>[AaBb]|down|up)(?=[./]|$)(?!.*lora[_./])"
)
_OTHER = {"A": "B", "B": "A", "a": "b", "b": "a", "down": "up", "up": "down"}
_MAGNITUDE = re.compile(r"[._/]?(lora_magnitude_vector|dora_scale)\b.*$")
_UNKNOWN = re.compile(
    r"(^|[._/])(hada_|lokr_|ia3_|b?oft_|vera_)|lora_magnitude_vector|dora_scale|lora_mid|lora_|lora\d+[._/]"
)


class Delta(NamedTuple):
    """What an adapter adds to a weight.

    Attributes:
      name: that of factor A, with `BA` in its place.
      shape: of the matrix, or of the convolution `(out, in, *window)` of torch.
      load: reads and multiplies the factors.
    """

    name: str
    shape: tuple[int, ...]
    load: Callable[[], np.ndarray]


class Adapters:
    """The adapters of a file.

    Args:
      specs: name of each tensor -> shape and dtype.
      read: reads a tensor.
      torch: factors are (r, in) and (out, r), so that the product is B A; in Flax they are (in, r) and
        (r, out), and it is A B.
      scale: s for all products; None: as `alpha` beside the factors or the config tells, or else 1.
      config: the content of PEFT's adapter_config.json: s is alpha / r, of rsLoRA alpha / √r.

    Attributes:
      unscaled: names of the products so far whose s nothing tells, so that it is taken as 1.
    """

    def __init__(
        self,
        specs: Mapping[str, Any],
        read: Callable[[str], Any],
        torch: bool,
        scale: float | None,
        config: Mapping[str, Any],
    ) -> None:
        self._specs, self._read, self._torch, self._scale, self._config = specs, read, torch, scale, config
        self.unscaled: list[str] = []
        self._dora = {_MAGNITUDE.sub("", name) for name in specs if _MAGNITUDE.search(name)}

    def have(self, name: str) -> bool:
        """Whether a tensor is a factor, or another part of an adapter."""
        return _FACTOR.search(name) is not None or _UNKNOWN.search(name) is not None

    def delta(self, name: str) -> Delta | str | None:
        """The product if `name` is factor A, None if it is another factor, or why there is none."""
        found = _FACTOR.search(name)
        if found is None:
            return None if "lora_mid" in name else "a part of an adapter that is not read"
        side = found["side"]
        other = f"{name[: found.start('side')]}{_OTHER[side]}{name[found.end('side') :]}"
        if other not in self._specs:
            return "one factor of a LoRA product, without the other"
        module = name[: found.start()].rstrip("._/")
        if module in self._dora or self._config.get("use_dora"):
            return "LoRA with a magnitude (DoRA), which acts on the weights of the base model: not read"
        if side in ("B", "b", "up"):
            return None
        a, b = tuple(self._specs[name].shape), tuple(self._specs[other].shape)
        middle = re.sub("lora_down", "lora_mid", name) if "lora_down" in name else ""
        middle = middle if middle in self._specs else ""
        shape = self._shape(a, b, tuple(self._specs[middle].shape) if middle else None)
        if shape is None:
            return f"factors of a LoRA product that do not fit: {a} and {b}"
        rank = a[0 if self._torch else -1]
        load = functools.partial(self._multiplied, name, other, middle, shape, module, rank)
        own = f"{name[: found.start('side')]}BA{name[found.end('side') :]}"
        told = self._alpha_of(module) or self._config.get("lora_alpha") or self._config.get("alpha_pattern")
        if self._scale is None and not told:
            self.unscaled.append(own)
        return Delta(own, shape, load)

    def _shape(
        self, a: tuple[int, ...], b: tuple[int, ...], middle: tuple[int, ...] | None
    ) -> tuple[int, ...] | None:
        """The shape of the product; None if the factors do not fit."""
        if not self._torch:
            return (a[0], b[1]) if len(a) == len(b) == 2 and a[1] == b[0] else None
        if len(a) < 2 or len(b) not in (2, len(a)) or any(n != 1 for n in b[2:]):
            return None
        if middle is None:
            return (b[0], *a[1:]) if b[1] == a[0] else None
        fits = len(middle) == len(a) and middle[:2] == (b[1], a[0]) and all(n == 1 for n in a[2:])
        return (b[0], a[1], *middle[2:]) if fits else None

    def _multiplied(
        self, a: str, b: str, middle: str, shape: tuple[int, ...], module: str, rank: int
    ) -> np.ndarray:
        one, other = (np.asarray(self._read(name)).astype(np.float32) for name in (a, b))
        scale = self._factor(module, rank)
        if not self._torch:
            return scale * (one @ other)
        if middle:
            core = np.asarray(self._read(middle)).astype(np.float32)
            inner = np.tensordot(core, one.reshape(rank, -1), (1, 0))  # (up rank, *window, in)
            one = np.moveaxis(inner, -1, 1)
        out, inputs = shape[0], math.prod(shape[1:])
        product: np.ndarray = other.reshape(out, -1) @ one.reshape(-1, inputs)
        return scale * product.reshape(shape)

    def _factor(self, module: str, rank: int) -> float:
        """s: the factor on the product of a module, whose factors have this rank."""
        if self._scale is not None:
            return self._scale
        stored = self._alpha_of(module)
        if stored:
            return float(np.asarray(self._read(stored)).astype(np.float64).item()) / rank
        patterns = self._config.get("alpha_pattern")
        try:
            own = [a for key, a in dict(patterns or {}).items() if re.match(rf"(.*\.)?({key})$", module)]
        except (re.error, TypeError, ValueError) as error:
            raise ValueError(f"adapter_config.json has an alpha_pattern that is none: {error}") from error
        alpha = own[0] if own else self._config.get("lora_alpha")
        if alpha is None:
            return 1.0
        if isinstance(alpha, bool) or not isinstance(alpha, int | float):
            raise ValueError(f"adapter_config.json has the alpha {alpha!r} for {module}: make it a number")
        return alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank)

    def _alpha_of(self, module: str) -> str:
        """The name of the tensor that holds the alpha of a module; empty if there is none."""
        names = (f"{module}.alpha", f"{module}.lora.alpha", f"{module}/alpha")
        return next((n for n in names if n in self._specs and math.prod(self._specs[n].shape) == 1), "")
