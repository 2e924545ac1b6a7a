"""Functions that lay a tensor out as matrices `[rows, columns]` or stacks `[slices, rows, columns]`.

Tensors have Flax's layouts, dense `(in, out)` and convolution `(*window, in, out)`, unless the name of a
function says torch. The functions only reshape, index and transpose, so that a tensor's shape is enough to
plan with.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Shaped

Unfold = Callable[[np.ndarray], Mapping[str, np.ndarray] | str]


def dense(kernel: Shaped[np.ndarray, "rows columns"]) -> dict[str, np.ndarray]:
    """The tensor itself."""
    return {"": kernel}


def heads_out(kernel: Shaped[np.ndarray, "width heads head_width"]) -> dict[str, np.ndarray]:
    """Query, key or value projection: `(D, H, Dh) -> (D, H * Dh)`."""
    return {"": kernel.reshape(kernel.shape[0], -1)}


def heads_in(kernel: Shaped[np.ndarray, "heads head_width width"]) -> dict[str, np.ndarray]:
    """Output projection of attention: `(H, Dh, D) -> (H * Dh, D)`."""
    return {"": kernel.reshape(-1, kernel.shape[-1])}


def conv_unfold(kernel: Shaped[np.ndarray, "*window inputs outputs"]) -> dict[str, np.ndarray]:
    """Convolution as the matrix that acts on patches: `(*window, in, out) -> (taps * in, out)`.

    >>> conv_unfold(np.zeros((3, 3, 16, 32)))[""].shape
    (144, 32)
    """
    return {"": kernel.reshape(-1, kernel.shape[-1])}


def conv_slices(kernel: Shaped[np.ndarray, "*window inputs outputs"]) -> dict[str, np.ndarray]:
    """Convolution as one matrix per tap: `(*window, in, out) -> (taps, in, out)`.

    With one input channel (grey images; depthwise kernels `(*window, 1, channels)`) a tap is a single row.
    Then all taps together are one matrix `(taps, out)`.

    >>> conv_slices(np.zeros((3, 3, 16, 32)))[""].shape, conv_slices(np.zeros((3, 3, 1, 32)))[""].shape
    ((9, 16, 32), (9, 32))
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
    """`unfold` for each layer of a stack `(layers, ...)` made by `nn.scan`; names end in `[i]`.

    >>> {name: matrix.shape for name, matrix in scanned(dense)(np.zeros((2, 8, 4))).items()}
    {'[0]': (8, 4), '[1]': (8, 4)}
    """

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
    """Leaves the tensor out, for this reason."""
    return lambda tensor: reason


def split_columns(*names: str) -> Unfold:
    """Matrices fused side by side, `(D, n * D')`: one for each name, `[query]`, `[key]`, ..."""
    return lambda kernel: _split(kernel, names, 1, "columns")


def split_rows(*names: str) -> Unfold:
    """Matrices fused one below the other, `(n * D', D)`, as in torch: one for each name."""
    return lambda weight: _split(weight, names, 0, "rows")


def _split(
    matrix: np.ndarray, names: tuple[str, ...], axis: int, word: str
) -> Mapping[str, np.ndarray] | str:
    size = matrix.shape[axis]
    if size % len(names):
        return f"its {size} {word} are not {len(names)} matrices: give a rule for it"
    parts = np.split(matrix, len(names), axis)
    return {f"[{name}]": part for name, part in zip(names, parts, strict=True)}


def split_axis_one(*names: str) -> Unfold:
    """Projections fused along their own axis, `(D, n, ...)`: `(D, 3, H, Dh)` gives three `(D, H * Dh)`."""

    def unfold(kernel: np.ndarray) -> Mapping[str, np.ndarray] | str:
        if kernel.shape[1] != len(names):
            return f"its second axis has length {kernel.shape[1]}, not {len(names)}: give a rule for it"
        return {f"[{name}]": kernel[:, i].reshape(len(kernel), -1) for i, name in enumerate(names)}

    return unfold


def grouped(groups: int, conv: str = "slices") -> Unfold:
    """A convolution in groups, `(*window, in / groups, out)`: one slice per group (and tap).

    Its operator is block-diagonal. The kernel's shape does not tell the number of groups: the tables of rules
    take it for a convolution without groups.

    >>> grouped(4)(np.zeros((3, 3, 8, 32)))[""].shape
    (36, 8, 8)
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
    """`unfold`, made for Flax, for a torch convolution `(out, in, *window)`."""
    return lambda weight: unfold(np.moveaxis(weight, (1, 0), (-2, -1)))
