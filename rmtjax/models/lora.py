"""Low-rank adaptation (LoRA; Hu et al. 2021, 2106.09685) of any model, in the space of its parameters.

Beside a kernel W stand two leaves of the same module, `kernel_lora_a` A and `kernel_lora_b` B, and the model
runs with W + (alpha / rank) A B. So no model knows of LoRA, and a spectrum of the tree has W and, under
`kernel_lora_BA`, the product A B (times `lora_scale=alpha / rank`).

What is trained is the optimiser's to say: all that matches `FREEZE` is frozen, which leaves the factors and
the head, and what matches `optim.freeze` as well.
"""

import dataclasses
import math
import re
import zlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from rmtjax.errors import InputError

ATTENTION = r".*/(query|value)/kernel"  # the kernels that Hu et al. adapt by default
FACTORS = r".*_lora_[ab]"
FREEZE = r"(?!.*_lora_[ab]$)(?!head/).*"  # matches all parameters but the factors and the head

_A, _B = "_lora_a", "_lora_b"


@dataclasses.dataclass(frozen=True)
class Lora:
    """A model with low-rank factors beside some of its kernels; `init` and `apply` as the model's own.

    Attributes:
      model: a linen module, of whose parameters only names and shapes matter here.
      rank: of the products A B, at least 1.
      alpha: the products are multiplied by alpha / rank.
      targets: regex of the kernels' whole names, `encoder/block_0/attention/query/kernel`.
    """

    model: Any
    rank: int
    alpha: float
    targets: str = ATTENTION

    @property
    def separate(self) -> bool:
        """Does the model keep statistics of synthetic examples apart?"""
        return bool(getattr(self.model, "separate", False))

    def init(self, key: jax.Array, inputs: Any, **kwargs: Any) -> dict[str, Any]:
        """The model's own variables from the same key, and the factors: A normal / sqrt(rows), B zero.

        B = 0 makes the first step that of the model itself, exactly. Each A has a key of its own, made of
        `key` and its name: other targets leave it as it is.

        Raises:
          InputError: rank below 1, or `targets` matches no parameter or one that is no kernel.
        """
        variables = dict(self.model.init(key, inputs, **kwargs))
        return variables | {"params": self.adapted(variables["params"], key)}

    def adapted(self, params: Any, key: jax.Array) -> Any:
        """The model's parameters, e.g. pre-trained, with fresh factors beside them; errors as in `init`."""
        if self.rank < 1:
            raise InputError(f"LoRA's rank={self.rank} is out of range: it must be 1 or more")
        named = traverse_util.flatten_dict(params, sep="/")
        chosen = [name for name in named if re.fullmatch(self.targets, name)]
        if not chosen:
            raise InputError(
                f"LoRA's targets={self.targets!r} matches no parameter: "
                f"there are names like {next(iter(named))!r}"
            )
        factors = {}
        for name in chosen:
            rows, columns = _matrix_shape(name, named[name].shape)
            dtype = named[name].dtype
            normal = jax.random.normal(jax.random.fold_in(key, zlib.crc32(name.encode())), (rows, self.rank))
            factors[name + _A] = (normal / math.sqrt(rows)).astype(dtype)
            factors[name + _B] = jnp.zeros((self.rank, columns), dtype)
        return traverse_util.unflatten_dict(named | factors, sep="/")

    def apply(self, variables: Any, inputs: Any, **kwargs: Any) -> Any:
        """What the model puts out with the merged parameters; `kwargs` are those of its own `apply`."""
        return self.model.apply({**variables, "params": self.merged(variables["params"])}, inputs, **kwargs)

    def merged(self, params: Any) -> Any:
        """The model's own parameters, W + (alpha / rank) A B for each W that has factors; differentiable."""
        named = traverse_util.flatten_dict(params, sep="/")
        merged = {name: leaf for name, leaf in named.items() if not name.endswith((_A, _B))}
        for name, kernel in merged.items():
            if name + _A in named:
                product = jnp.matmul(named[name + _A], named[name + _B], precision="highest")
                merged[name] = kernel + (self.alpha / self.rank) * product.reshape(kernel.shape)
        return traverse_util.unflatten_dict(merged, sep="/")


def _matrix_shape(name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of a kernel as one matrix.

    Query, key and value projections are `(D, H, Dh)`: one axis of inputs. Every other kernel has one of
    outputs: dense `(in, out)`, attention's out `(H, Dh, D)`, a convolution `(*window, in, out)`.
    """
    if len(shape) < 2:
        raise InputError(
            f"LoRA's targets match {name} of shape {tuple(shape)}, which is no matrix: name kernels alone"
        )
    split = 1 if re.search(r"(^|/)(query|key|value)/kernel$", name) else len(shape) - 1
    return math.prod(shape[:split]), math.prod(shape[split:])
