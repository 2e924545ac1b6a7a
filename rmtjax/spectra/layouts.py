"""How a tensor is laid out as matrices: functions from a tensor to `[rows, columns]` or `[slices, rows, columns]`.

Layouts of Flax unless a name says torch: dense `(in, out)`, convolution `(*window, in, out)`. They reshape, index and
transpose alone, so that a plan can be made from shapes, without a tensor's numbers.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Shaped

Unfold = Callable[[np.ndarray], Mapping[str, np.ndarray] | str]


def dense(kernel: Shaped[np.ndarray, "rows columns"]) -> dict[str, np.ndarray]:
    """The tensor as it is."""
    return {"": kernel}


def heads_out(kernel: Shaped[np.ndarray, "width heads head_width"]) -> dict[str, np.ndarray]:
    """Query, key or value projection: `(D, H, Dh) -> (D, H * Dh)`."""
    return {"": kernel.reshape(kernel.shape[0], -1)}


def heads_in(kernel: Shaped[np.ndarray, "heads head_width width"]) -> dict[str, np.ndarray]:
    """Output projection of attention: `(H, Dh, D) -> (H * Dh, D)`."""
    return {"": kernel.reshape(-1, kernel.shape[-1])}


def conv_unfold(kernel: Shaped[np.ndarray, "*window inputs outputs"]) -> dict[str, np.ndarray]:
    """Convolution as one matrix of patches: `(*window, in, out) -> (taps * in, out)`."""
    return {"": kernel.reshape(-1, kernel.shape[-1])}


def conv_slices(kernel: Shaped[np.ndarray, "*window inputs outputs"]) -> dict[str, np.ndarray]:
    """Convolution as one matrix per tap: `(*window, in, out) -> (taps, in, out)`.

    With one input channel (grey images; depthwise kernels, whose layout is `(*window, 1, channels)`) a tap
    is a single row, so the taps together make the matrix: `(taps, out)`.
    """
    if kernel.shape[-2] == 1:
        return conv_unfold(kernel)
    return {"": kernel.reshape(-1, *kernel.shape[-2:])}


def leading_one(tensor: Shaped[np.ndarray, "1 rows columns"]) -> dict[str, np.ndarray] | str:
    """A matrix behind an axis of length 1, as in position embeddings `(1, tokens, width)`."""
    if tensor.shape[0] != 1:
        return f"its first axis has length {tensor.shape[0]}, not 1: give a rule for it"
    return {"": tensor[0]}


def scanned(unfold: Unfold) -> Unfold:
    """The rule `unfold` on each layer of a stack `(layers, ...)` made by `nn.scan`: names end in `[i]`."""

    def unfold_each(tensor: np.ndarray) -> Mapping[str, np.ndarray] | str:
        pieces: dict[str, np.ndarray] = {}
        for i, layer in enumerate(tensor):
            unfolded = unfold(layer)
            if isinstance(unfolded, str):
                return unfolded
            pieces |= {f"[{i}]{suffix}": piece for suffix, piece in unfolded.items()}
        return pieces

    return unfold_each


def left_out(reason: str) -> Unfold:
    """A rule that leaves the tensor out, for `reason`."""
    return lambda tensor: reason


def split_columns(*names: str) -> Unfold:
    """Matrices fused side by side, `(D, n * D')`: one for each name, `[query]`, `[key]`, ..."""

    def unfold(kernel: np.ndarray) -> Mapping[str, np.ndarray] | str:
        if kernel.shape[1] % len(names):
            return f"its {kernel.shape[1]} columns are not {len(names)} matrices: give a rule for it"
        parts = np.split(kernel, len(names), axis=1)
        return {f"[{name}]": part for name, part in zip(names, parts, strict=True)}

    return unfold


def split_rows(*names: str) -> Unfold:
    """Matrices fused one below the other, `(n * D', D)`, as torch has them."""

    def unfold(weight: np.ndarray) -> Mapping[str, np.ndarray] | str:
        if weight.shape[0] % len(names):
            return f"its {weight.shape[0]} rows are not {len(names)} matrices: give a rule for it"
        parts = np.split(weight, len(names), axis=0)
        return {f"[{name}]": part for name, part in zip(names, parts, strict=True)}

    return unfold


def split_axis_one(*names: str) -> Unfold:
    """Fused projections with an axis of their own, `(D, n, ...)`: `(D, 3, H, Dh)` gives three of `(D, H * Dh)`."""

    def unfold(kernel: np.ndarray) -> Mapping[str, np.ndarray] | str:
        if kernel.shape[1] != len(names):
            return f"its second axis has length {kernel.shape[1]}, not {len(names)}: give a rule for it"
        return {f"[{name}]": kernel[:, i].reshape(len(kernel), -1) for i, name in enumerate(names)}

    return unfold


def grouped(groups: int, conv: str = "slices") -> Unfold:
    """A convolution in groups, `(*window, in / groups, out)`: a block-diagonal operator, one slice per group (and tap).

    The kernel's shape does not tell the number of groups; without this rule it is taken for one matrix.
    """

    def unfold(kernel: np.ndarray) -> Mapping[str, np.ndarray] | str:
        inputs, outputs = kernel.shape[-2:]
        if outputs % groups:
            return f"its {outputs} outputs are not {groups} groups"
        blocks = np.moveaxis(kernel.reshape(-1, inputs, groups, outputs // groups), 2, 0)
        if conv == "unfold":
            return {"": blocks.reshape(groups, -1, outputs // groups)}
        return {"": blocks.reshape(-1, inputs, outputs // groups)}

    return unfold


def from_torch(unfold: Unfold) -> Unfold:
    """A Flax rule for a torch convolution `(out, in, *window)`."""
    return lambda weight: unfold(np.moveaxis(weight, (1, 0), (-2, -1)))
