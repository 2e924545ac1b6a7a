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


def position_grid(tensor: Shaped[np.ndarray, "1 ..."]) -> dict[str, np.ndarray] | str:
    """Embeddings of a square grid, `(1, h, h, D)` or `(1, D, h, h)`, as the matrix `(h * h, D)`.

    >>> position_grid(np.zeros((1, 14, 14, 32)))[""].shape, position_grid(np.zeros((1, 32, 7, 7)))[""].shape
    ((196, 32), (49, 32))
    """
    _, first, second, third = tensor.shape
    if tensor.shape[0] != 1 or (first == second) == (second == third):
        return f"shape {tensor.shape} does not tell which axes are the grid of positions: give a rule for it"
    grid = tensor[0] if first == second else np.moveaxis(tensor[0], 0, -1)
    return {"": grid.reshape(-1, grid.shape[-1])}


def of_channels(unfold: Unfold) -> Unfold:
    """`unfold`, made for a torch convolution, if the shape is not that of a mask or a scale."""

    def unfold_convolution(weight: np.ndarray) -> Mapping[str, np.ndarray] | str:
        if max(weight.shape) == weight.size:
            return f"shape {weight.shape}: one vector"
        if weight.shape[0] == 1:
            return f"shape {weight.shape} with one output: a mask or a table, no convolution"
        return unfold(weight)

    return unfold_convolution


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


def cut(names: tuple[str, ...], sizes: tuple[int, ...], axis: int) -> Unfold:
    """Matrices of these sizes fused along an axis, such as queries with more heads than keys and values."""

    def unfold(matrix: np.ndarray) -> Mapping[str, np.ndarray] | str:
        parts = np.split(matrix, np.cumsum(sizes)[:-1], axis)
        return {f"[{name}]": part for name, part in zip(names, parts, strict=True)}

    return unfold


def from_axis(unfold: Unfold, axis: int) -> Unfold:
    """`unfold`, made for a stack along the first axis, for one along another."""
    return lambda tensor: unfold(np.moveaxis(tensor, axis, 0))


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
