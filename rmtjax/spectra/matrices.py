"""The weight matrices of a model: which tensors are matrices, and how each is laid out.

`rules.py` has tables of rules. The first rule whose regex is found in a tensor's name
(`encoder/block_0/mlp/up/kernel`) and whose `ndim` fits decides. The result is a stack `[slices, N, M]` with
N >= M: one slice for a dense layer, one per tap for a convolution, whose eigenvalues are pooled later. Only
names, shapes and dtypes are needed for this: weights are read one by one, when they are used.

In a live pytree, a tensor of more than two dimensions without a rule is an error, because a wrong layout
(`kernel.reshape(-1, last)` of an attention output, for example) would silently give a wrong spectrum. In a
file, which its reader cannot change, such a tensor is left out and listed.
"""

import functools
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rmtjax.spectra.layouts import conv_slices, conv_unfold, dense, from_axis, from_torch
from rmtjax.spectra.lora import Adapters, Delta
from rmtjax.spectra.products import Product, Projection, heads_by_shape, within_attention
from rmtjax.spectra.rules import TABLES, Rule, shape_rules, stack_axes


class Matrix(NamedTuple):
    """A weight matrix that is read when it is needed.

    Attributes:
      name: the parameter's path, with a suffix where a tensor holds several matrices.
      kind: of layer.
      shape: (slices, N, M), N >= M.
      load: reads the weights, `[slices, N, M]`.
      product: the factors, where this is a small matrix with the nonzero singular values of their product.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    load: Callable[[], np.ndarray]
    product: Product | None = None


def of_product(product: Product) -> Matrix:
    """The small matrix of a product of two factors."""
    return Matrix(product.name, product.kind, (1, *product.sides), product.small, product)


_VARIABLE = jax.tree_util.GetAttrKey("value")


def named_tensors(params: Any) -> list[tuple[str, Any]]:
    """Leaves of a pytree with their paths, `a/b/kernel`, in natural order (block_2 before block_10).

    Flax NNX keeps each leaf in a Variable. The `value` that then ends every path is not part of the name.

    >>> [name for name, _ in named_tensors({"block_10": {"kernel": 1}, "block_2": {"kernel": 2}})]
    ['block_2/kernel', 'block_10/kernel']
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
    lora_scale: float | None = None,
    products: bool = False,
) -> tuple[list[Matrix], dict[str, str]]:
    """The weight matrices of a model, and which tensors are left out. No array is read.

    Args:
      params: a pytree of arrays (numpy or JAX), in Flax `variables["params"]`; or a flat mapping from names
        to arrays, as `rmtjax.checkpoints.open` gives it. Such a mapping has `specs` (from names to shapes and
        dtypes), `layout` ("flax", "keras" or "torch") and perhaps `refused` (from names to reasons) and
        `tied` (from names to those of the same storage).
      rules: tried before the table of the layout; the first that matches decides.
      conv: "slices" pools the eigenvalues of one matrix per tap, as WeightWatcher does; "unfold" takes the
        kernel as one matrix.
      conv_norm: multiply the slices of 2-D convolutions by √½, as WeightWatcher does by default.
      num_heads: if not 0, query, key, value and output projections are split into that many matrices.
      num_kv_heads: number of heads of keys and values, where several query heads share one; 0: `num_heads`.
      lora_scale: factor of products of LoRA factors B A. None: alpha / r, as `alpha` beside the factors tells
        it or the `adapter` of a mapping (the content of adapter_config.json); or else 1, which is logged for
        a mapping.
      products: add the products of query and key and of value and output, a matrix a head (`products`). This
        needs `num_heads`, where no tensor has an axis of heads.

    Returns:
      The matrices, in natural order of their names (a pytree) or in the file's order; and a dict from the
      name of each tensor that is left out to the reason.

    Raises:
      ValueError: no rule matches a floating-point tensor of three or more dimensions in a pytree (all are
        listed), the `unfold` of a rule gives something other than matrices, or the number of heads is wrong,
        or missing for `products`.

    >>> params = {"conv": {"kernel": np.zeros((3, 3, 8, 16)), "bias": np.zeros(16)}}
    >>> matrices, left_out = weight_matrices(params)
    >>> [(matrix.name, matrix.kind, matrix.shape) for matrix in matrices], left_out
    ([('conv/kernel', 'conv', (9, 16, 8))], {'conv/bias': 'fewer than two dimensions: no spectrum'})
    """
    stored = hasattr(params, "specs")
    if stored:
        specs, read = dict(params.specs), _few_at_a_time(params, 2 if products else 1)
    else:
        leaves = dict(named_tensors(params))
        specs = {name: leaf if hasattr(leaf, "shape") else np.asarray(leaf) for name, leaf in leaves.items()}
        read = leaves.__getitem__
    torch = stored and params.layout == "torch"
    layout = params.layout if stored else "flax"
    shapes = {name: tuple(spec.shape) for name, spec in specs.items()}
    table = (*rules, *shape_rules(shapes, num_heads, num_kv_heads), *TABLES[layout](conv))
    adapters = Adapters(specs, read, torch, lora_scale, getattr(params, "adapter", {}))
    axes = stack_axes(shapes) if layout == "flax" else {}
    found: list[Matrix] = []
    projections: list[Projection] = []
    without: dict[str, str] = dict(getattr(params, "refused", {}))
    tied: Mapping[str, str] = getattr(params, "tied", {})
    unknown: list[str] = []
    heads = dict.fromkeys(("attention_key", "attention_value"), num_kv_heads or num_heads)
    heads |= dict.fromkeys(("attention_query", "attention_out"), num_heads)
    for name, spec in specs.items():
        reason = _why_no_matrix(spec) or (f"the same storage as {tied[name]!r}" if name in tied else "")
        if reason:
            without[name] = reason
            continue
        if adapters.have(name):
            delta = adapters.delta(name)
            if isinstance(delta, str):
                without[name] = delta
            elif delta is not None:
                found.append(_of_adapter(delta, conv))
            continue
        fitting = (rule for rule in table if rule.ndim in (None, len(spec.shape)))
        rule = next((rule for rule in fitting if re.search(rule.pattern, name)), None)
        if rule is None:
            unknown.append(f"{name} {tuple(spec.shape)}")
            without[name] = f"no rule says how shape {tuple(spec.shape)} is laid out as matrices"
            continue
        axis = 0 if rule in rules else axes.get(name, 0)
        unfold = from_axis(rule.unfold, axis) if axis else rule.unfold
        layer = tuple(np.delete(spec.shape, axis).tolist()) if axis else spec.shape
        # All strides are zero: a reshape copies nothing, however large the tensor is.
        pieces = unfold(np.broadcast_to(np.zeros((), np.int8), spec.shape))
        logging.getLogger(__name__).debug("%s %s: %s, by %r", name, spec.shape, rule.kind, rule.pattern)
        if isinstance(pieces, str):
            without[name] = pieces
            continue
        normed = conv_norm and conv == "slices" and rule.kind == "conv" and len(spec.shape) == 4
        factor = 0.5**0.5 if normed else 1.0
        for suffix, piece in pieces.items():
            load = functools.partial(_load_piece, read, name, unfold, suffix, factor)
            kind = rule.kind.replace("*", suffix.strip("[]"))
            count = heads.get(kind, 0) if rule.head_axis is not None else 0
            if kind in heads and rule.head_axis is not None and len(piece.shape) == 2:
                known = count or heads_by_shape(layer, kind, piece.shape[rule.head_axis])
                projections.append(Projection(name + suffix, kind, piece.shape, rule.head_axis, known, load))
            found += _split_into_heads(name + suffix, kind, piece.shape, load, count, rule.head_axis or 0)
    if unknown and not stored:
        raise ValueError(
            f"no rule says how these tensors are laid out as matrices: {', '.join(unknown)}. Give"
            " rules=(Rule(pattern, kind, unfold), ...) for them (see rmtjax.spectra.default_rules), or leave"
            " them out with left_out(reason)"
        )
    if stored and adapters.unscaled:
        message = (
            "%r: neither an alpha in the file nor an adapter_config.json beside it tells the factor on "
            "products of LoRA factors (%d), so it is taken as 1: --lora_scale (lora_scale=) sets it"
        )
        source = getattr(params, "source", "the weights")
        logging.getLogger(__name__).warning(message, source, len(adapters.unscaled))
    _check_heads(found, num_heads, num_kv_heads)
    if products:
        of_heads, without_product = within_attention(projections)
        found += map(of_product, of_heads)
        without |= without_product
    return found, without


def _of_adapter(delta: Delta, conv: str) -> Matrix:
    """The matrix of what an adapter adds; a convolution is laid out as the weights of one are."""
    unfold = from_torch(conv_slices if conv == "slices" else conv_unfold) if len(delta.shape) > 2 else dense
    shape = np.shape(unfold(np.broadcast_to(np.zeros((), np.int8), delta.shape))[""])  # type: ignore[index]
    load = functools.partial(_load_piece, lambda _: delta.load(), delta.name, unfold, "", 1.0)
    return _matrix(delta.name, "lora", shape, load)


def _check_heads(found: Sequence[Matrix], num_heads: int, num_kv_heads: int) -> None:
    """Raises ValueError where heads of keys and queries differ in width: the numbers of heads are wrong."""
    widths = {
        kind: {matrix.shape[2] for matrix in found if matrix.kind == kind and "[head " in matrix.name}
        for kind in ("attention_query", "attention_key")
    }
    query, key = widths.values()
    if query and key and query != key:
        numbers = f"num_heads={num_heads}" + (f", num_kv_heads={num_kv_heads}" if num_kv_heads else "")
        raise ValueError(
            f"{numbers} makes heads of queries {min(query)} wide and heads of keys {min(key)} wide: give"
            " num_kv_heads, the number of heads of keys and values"
        )


def _why_no_matrix(spec: Any) -> str:
    if len(spec.shape) < 2:
        return "fewer than two dimensions: no spectrum"
    if 0 in spec.shape:
        return f"empty: shape {tuple(spec.shape)}"
    if not jnp.issubdtype(spec.dtype, jnp.floating):
        return f"{np.dtype(spec.dtype).name}, not real floating point"
    return ""


def _few_at_a_time(weights: Any, few: int) -> Callable[[str], np.ndarray]:
    """Reads tensors and keeps the last few, because the matrices of one tensor, or of the two factors of a
    product, are read one after another.
    """
    return functools.lru_cache(maxsize=few)(weights.__getitem__)


def _load_piece(
    read: Callable[[str], Any], name: str, unfold: Callable[..., Any], suffix: str, factor: float
) -> np.ndarray:
    pieces = unfold(np.asarray(read(name)))
    piece: np.ndarray = pieces[suffix]
    return piece if factor == 1 else piece * np.asarray(factor, piece.dtype)


def _split_into_heads(
    name: str, kind: str, shape: tuple[int, ...], load: Callable[[], np.ndarray], num_heads: int, axis: int
) -> Iterator[Matrix]:
    """One matrix of this shape, or one per head along `axis`."""
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(
            f"the rule for {name} unfolds it to shape {shape}: it must give [rows, columns] or"
            " [slices, rows, columns]"
        )
    if not num_heads:
        yield _matrix(name, kind, shape, load)
        return
    width = shape[axis] // num_heads
    if len(shape) != 2 or width * num_heads != shape[axis]:
        raise ValueError(f"{name} of shape {shape} cannot be split into {num_heads} heads")
    of_head = (width, shape[1]) if axis == 0 else (shape[0], width)
    for head in range(num_heads):
        places = slice(head * width, (head + 1) * width)
        part = places if axis == 0 else (slice(None), places)
        yield _matrix(f"{name}[head {head}]", kind, of_head, functools.partial(_load_part, load, part))


def _load_part(load: Callable[[], np.ndarray], part: slice | tuple[slice, ...]) -> np.ndarray:
    return load()[part]


def _matrix(name: str, kind: str, shape: Sequence[int], load: Callable[[], np.ndarray]) -> Matrix:
    slices, rows, columns = shape if len(shape) == 3 else (1, *shape)

    def load_oriented() -> np.ndarray:
        stack = load().reshape(slices, rows, columns)
        return stack if rows >= columns else stack.swapaxes(1, 2)

    return Matrix(name, kind, (slices, max(rows, columns), min(rows, columns)), load_oriented)
