"""Weight matrices of a model: which tensors are matrices, and how each is laid out.

A tensor is found by its name, `encoder/block_0/mlp/up/kernel`, in a table of rules (`rules.py`); the first rule whose
regex is found in the name and whose `ndim` fits decides. What comes out is a stack `[slices, N, M]` with N >= M: one
slice for a dense layer, one per tap for a convolution, whose eigenvalues are pooled later. Names, shapes and dtypes
suffice for that: weights are read one by one, when they are needed.

A tensor of more dimensions than two that no rule knows is an error in a live pytree, since a wrong layout
(`kernel.reshape(-1, last)` of an attention output, say) gives a wrong spectrum in silence; in a file, which its reader
cannot change, it is left out and listed.
"""

import functools
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rmtjax.spectra.rules import TABLES, Rule, shape_rules


class Matrix(NamedTuple):
    """A weight matrix that is read when it is needed.

    Attributes:
      name: the parameter's path, with a suffix where a tensor holds several matrices.
      kind: of layer.
      shape: (slices, N, M), N >= M.
      load: gives the weights, `[slices, N, M]`.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    load: Callable[[], np.ndarray]


_VARIABLE = jax.tree_util.GetAttrKey("value")


def named_tensors(params: Any) -> list[tuple[str, Any]]:
    """Leaves of a pytree with their paths, `a/b/kernel`, numbers in natural order (block_2 before block_10).

    Flax NNX keeps each leaf in a Variable: the `value` that then ends every path is no part of a name.
    """
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    if leaves and all(path[-1:] == (_VARIABLE,) for path, _ in leaves):
        leaves = [(path[:-1], leaf) for path, leaf in leaves]
    named = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
    named = [(name or "matrix", leaf) for name, leaf in named]  # the pytree is one bare array
    return sorted(named, key=lambda item: _natural(item[0]))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def weight_matrices(
    params: Any,
    rules: Sequence[Rule] = (),
    conv: str = "slices",
    conv_norm: bool = False,
    num_heads: int = 0,
    num_kv_heads: int = 0,
    lora_scale: float = 1.0,
) -> tuple[list[Matrix], dict[str, str]]:
    """Weight matrices of a model, and what is left out with the reason; no array is read.

    Args:
      params: a pytree of arrays (numpy or JAX), in Flax: `variables["params"]`; or a flat mapping of names to arrays
        that has `specs`, from names to shapes and dtypes, `layout`, "flax", "keras" or "torch", and perhaps `refused`, from
        names to reasons (`rmtjax.checkpoints.open`).
      rules: tried before the table of the layout; the first that matches decides.
      conv: "slices" pools the eigenvalues of one matrix per tap, as WeightWatcher does; "unfold" takes the
        kernel as one matrix.
      conv_norm: multiply the slices of 2-D convolutions by √½, as WeightWatcher does by default.
      num_heads: if not 0, query, key, value and output projections are split into that many matrices.
      num_kv_heads: of keys and values, where several query heads share one; 0: as many as `num_heads`.
      lora_scale: what products of LoRA factors B A are multiplied by, alpha / r: weights alone do not tell it.

    Returns:
      The matrices, in natural order of their names (a pytree) or in the file's order, and a dict from the name of
      each tensor that is left out to the reason.

    Raises:
      ValueError: in a pytree a floating tensor of three or more dimensions that no rule matches (all are listed),
        or a rule's `unfold` that gives something else than matrices.
    """
    stored = hasattr(params, "specs")
    if stored:
        specs, read = dict(params.specs), _one_at_a_time(params)
    else:
        leaves = dict(named_tensors(params))
        specs = {name: leaf if hasattr(leaf, "shape") else np.asarray(leaf) for name, leaf in leaves.items()}
        read = leaves.__getitem__
    torch = stored and params.layout == "torch"
    gates = shape_rules({name: tuple(spec.shape) for name, spec in specs.items()})
    table = (*rules, *gates, *TABLES[params.layout if stored else "flax"](conv))
    found: list[Matrix] = []
    without: dict[str, str] = dict(getattr(params, "refused", {}))
    unknown: list[str] = []
    heads = dict.fromkeys(("attention_key", "attention_value"), num_kv_heads or num_heads)
    heads |= dict.fromkeys(("attention_query", "attention_out"), num_heads)
    for name, spec in specs.items():
        reason = _no_matrix(spec)
        if reason:
            without[name] = reason
            continue
        if "lora_" in name.lower():
            _lora(name, specs, read, lora_scale, torch, found, without)
            continue
        rule = next(
            (r for r in table if r.ndim in (None, len(spec.shape)) and re.search(r.pattern, name)), None
        )
        if rule is None:
            unknown.append(f"{name} {tuple(spec.shape)}")
            without[name] = f"no rule says how shape {tuple(spec.shape)} is laid out as matrices"
            continue
        # All strides are zero: reshapes of it copy nothing, however large the tensor is.
        pieces = rule.unfold(np.broadcast_to(np.zeros((), np.int8), spec.shape))
        logging.getLogger(__name__).debug("%s %s: %s, by %r", name, spec.shape, rule.kind, rule.pattern)
        if isinstance(pieces, str):
            without[name] = pieces
            continue
        factor = (
            0.5**0.5
            if conv_norm and conv == "slices" and rule.kind == "conv" and len(spec.shape) == 4
            else 1.0
        )
        for suffix, piece in pieces.items():
            whole = functools.partial(_piece, read, name, rule.unfold, suffix, factor)
            kind = rule.kind.replace("*", suffix.strip("[]"))
            count = heads.get(kind, 0) if rule.head_axis is not None else 0
            found += _matrices(name + suffix, kind, piece, whole, count, rule.head_axis or 0)
    if unknown and not stored:
        raise ValueError(
            f"no rule says how these tensors are laid out as matrices: {', '.join(unknown)}. Give rules=(Rule(pattern,"
            " kind, unfold), ...) for them (see rmtjax.spectra.default_rules), or leave them out with left_out(reason)"
        )
    _check_heads(found, num_heads, num_kv_heads)
    return found, without


def _check_heads(found: Sequence[Matrix], num_heads: int, num_kv_heads: int) -> None:
    """Heads of keys as wide as those of queries, or the numbers of heads are not the model's."""
    widths = {
        kind: {matrix.shape[2] for matrix in found if matrix.kind == kind and "[head " in matrix.name}
        for kind in ("attention_query", "attention_key")
    }
    query, key = widths.values()
    if query and key and query != key:
        raise ValueError(
            f"num_heads={num_heads}{f', num_kv_heads={num_kv_heads}' if num_kv_heads else ''} makes heads of queries"
            f" {min(query)} wide and of keys {min(key)}: give num_kv_heads, the number of heads of keys and values"
        )


def _no_matrix(spec: Any) -> str:
    if len(spec.shape) < 2:
        return "fewer than two dimensions: no spectrum"
    if 0 in spec.shape:
        return f"empty: shape {tuple(spec.shape)}"
    if not jnp.issubdtype(spec.dtype, jnp.floating):
        return f"{np.dtype(spec.dtype).name}, not real floating point"
    return ""


def _one_at_a_time(weights: Any) -> Callable[[str], np.ndarray]:
    """Reads tensors, and keeps the last: matrices that lie in one tensor come one after another."""
    return functools.lru_cache(maxsize=1)(weights.__getitem__)


def _piece(
    read: Callable[[str], Any], name: str, unfold: Callable[..., Any], suffix: str, factor: float
) -> np.ndarray:
    pieces = unfold(np.asarray(read(name)))
    piece: np.ndarray = pieces[suffix]
    return piece if factor == 1 else piece * np.asarray(factor, piece.dtype)


def _matrices(
    name: str, kind: str, piece: np.ndarray, whole: Callable[[], np.ndarray], num_heads: int, axis: int
) -> Iterator[Matrix]:
    """One matrix, or one a head along `axis`; `piece` has the shape of what `whole` loads, and no numbers."""
    if piece.ndim not in (2, 3) or piece.size == 0:
        raise ValueError(
            f"the rule for {name} unfolds it to shape {piece.shape}: it must give [rows, columns] or"
            " [slices, rows, columns]"
        )
    if not num_heads:
        yield _matrix(name, kind, piece, whole)
        return
    width = piece.shape[axis] // num_heads
    if piece.ndim != 2 or width * num_heads != piece.shape[axis]:
        raise ValueError(f"{name} of shape {piece.shape} cannot be split into {num_heads} heads")
    for head in range(num_heads):
        part = functools.partial(_head, whole, axis, head * width, width)
        yield _matrix(f"{name}[head {head}]", kind, _cut(piece, axis, 0, width), part)


def _head(whole: Callable[[], np.ndarray], axis: int, start: int, width: int) -> np.ndarray:
    return _cut(whole(), axis, start, width)


def _cut(matrix: np.ndarray, axis: int, start: int, width: int) -> np.ndarray:
    return matrix[start : start + width] if axis == 0 else matrix[:, start : start + width]


def _matrix(name: str, kind: str, piece: np.ndarray, whole: Callable[[], np.ndarray]) -> Matrix:
    slices, rows, columns = piece.shape if piece.ndim == 3 else (1, *piece.shape)
    load = functools.partial(_oriented, whole, (slices, rows, columns))
    return Matrix(name, kind, (slices, max(rows, columns), min(rows, columns)), load)


def _oriented(whole: Callable[[], np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    stack = whole().reshape(shape)
    return stack if shape[1] >= shape[2] else stack.swapaxes(1, 2)


def _lora(
    name: str, specs: Mapping[str, Any], read: Callable[[str], Any], scale: float, torch: bool,
    found: list[Matrix], without: dict[str, str],
) -> None:  # fmt: skip
    """The product of a pair of LoRA factors, under the name of its first with `lora_BA`."""
    if "lora_b" in name.lower():
        if name.replace("lora_B", "lora_A").replace("lora_b", "lora_a") not in specs:
            without[name] = "one factor of a LoRA product, without the other"
        return
    other = name.replace("lora_A", "lora_B").replace("lora_a", "lora_b")
    if other not in specs or other == name:
        without[name] = "one factor of a LoRA product, without the other"
        return
    a, b = specs[name].shape, specs[other].shape
    shape = (b[0], a[1]) if torch else (a[0], b[1])
    if len(a) != 2 or len(b) != 2 or (a[0] != b[1] if torch else a[1] != b[0]):
        without[name] = f"factors of a LoRA product that do not fit: {tuple(a)} and {tuple(b)}"
        return

    def product() -> np.ndarray:
        left, right = (
            np.asarray(read(n)).astype(np.float32) for n in ((other, name) if torch else (name, other))
        )
        return scale * (left @ right)

    piece = np.broadcast_to(np.zeros((), np.int8), shape)
    found.append(_matrix(re.sub("lora_a", "lora_BA", name, flags=re.I), "lora", piece, product))
