"""Weight matrices of a pytree: which tensors are matrices, and how each is laid out.

A tensor is found by its path, `encoder/block_0/mlp/up/kernel`, in a table of rules `(pattern, kind, unfold,
ndim)`; the first rule whose regex is found in the path and whose `ndim` fits decides. What comes out is a
stack `[slices, N, M]` with N >= M: one slice for a dense layer, one per tap for a convolution, whose
eigenvalues are pooled later. A tensor of two or more dimensions that no rule knows is an error, since a
wrong layout (`kernel.reshape(-1, last)` of an attention output, say) gives a wrong spectrum in silence.

Layouts are those of Flax: dense `(in, out)`, convolution `(*window, in, out)`, attention projections
`(width, heads, head width)` in and `(heads, head width, width)` out.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

# Below here the first axis of a kernel may count layers: `layers/mlp/kernel`, but not `layers/3/mlp/kernel`.
_STACK = r"(^|/)(layers|blocks)(?=/)(?!/\d)"

Unfold = Callable[[np.ndarray], Mapping[str, np.ndarray] | str]


class Rule(NamedTuple):
    """One row of the table.

    Attributes:
      pattern: regex, searched for in the tensor's path.
      kind: of layer, as it stands in the table of results: "dense", "conv", "attention_query", "mlp", ...
      unfold: tensor -> `{suffix of the name: [rows, columns] or [slices, rows, columns]}`, or a sentence
        that says why this tensor has no matrix. A tensor that is one matrix has the suffix "".
      ndim: the number of dimensions that the rule is for; None: any.
    """

    pattern: str
    kind: str
    unfold: Unfold
    ndim: int | None = None


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


def default_rules(conv: str = "slices") -> tuple[Rule, ...]:
    """The table for Flax trees.

    Args:
      conv: "slices" pools the eigenvalues of the taps' matrices, as WeightWatcher does; "unfold" takes the
        kernel as one matrix of `taps * inputs` rows.

    A stack made by `nn.scan` is told from a single layer by its extra dimension: always in an MLP and for
    attention with split heads, elsewhere below a module called `layers` or `blocks` without a number.
    """
    if conv not in ("slices", "unfold"):
        raise ValueError(f"conv is {conv!r}: it must be 'slices' or 'unfold'")
    convolution = conv_slices if conv == "slices" else conv_unfold
    attention: list[Rule] = []
    for name, pattern, unfold in (
        ("query", r"(^|/)query/kernel$", heads_out),
        ("key", r"(^|/)key/kernel$", heads_out),
        ("value", r"(^|/)value/kernel$", heads_out),
        ("out", r"(^|/)[^/]*[Aa]tt[^/]*/out/kernel$", heads_in),
    ):
        kind = f"attention_{name}"
        attention += [
            Rule(pattern, kind, dense, 2),
            Rule(_STACK + ".*" + pattern, kind, scanned(dense), 3),
            Rule(pattern, kind, unfold, 3),
            Rule(pattern, kind, scanned(unfold), 4),
        ]
    mlp = r"(?i)(^|/)[^/]*(mlp|ffn|feed_?forward)[^/]*/(.*/)?kernel$"
    position = r"(?i)(^|[/_])pos(ition)?([_-]?emb[^/]*)?(_?\d+)?(/embedding)?$"
    return (
        Rule(r"(^|/)(bias|scale|mean|var)$", "bias", left_out("bias or scale: vectors, not a matrix")),
        Rule(r"(?i)(^|/)(cls|class|mask|dist)(_?token)?$", "token", left_out("a token: one vector")),
        Rule(position, "position_embedding", leading_one, 3),
        Rule(position, "position_embedding", dense, 2),
        Rule(r"(^|/)embedding$", "embedding", dense, 2),
        Rule(r"(?i)(^|/)[^/]*patch[^/]*/kernel$", "patch_embedding", conv_unfold),
        Rule(r"(^|/)embed[^/]*/kernel$", "patch_embedding", conv_unfold, 4),
        *attention,
        Rule(r"(?i)(^|/)([^/]*head|classifier|logits)/kernel$", "head", dense, 2),
        Rule(mlp, "mlp", dense, 2),
        Rule(mlp, "mlp", scanned(dense), 3),
        Rule(r"(?i)(^|/)[^/]*(depth_?wise|dw_?conv)[^/]*/kernel$", "conv_depthwise", conv_unfold),
        Rule(r"(?i)(^|/)[^/]*conv[^/]*/kernel$", "conv", convolution, 3),
        Rule(r"(^|/)kernel$", "conv", convolution, 4),
        Rule(_STACK + r".*/kernel$", "conv", scanned(convolution), 5),
        Rule(r"(^|/)kernel$", "conv", convolution, 5),
        Rule(_STACK + r".*/kernel$", "dense", scanned(dense), 3),
        Rule(r"", "dense", dense, 2),
    )


def named_tensors(params: Any) -> list[tuple[str, Any]]:
    """Leaves of a pytree with their paths, `a/b/kernel`, numbers in natural order (block_2 before block_10)."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    named = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
    named = [(name or "matrix", leaf) for name, leaf in named]  # the pytree is one bare array
    return sorted(named, key=lambda item: _natural(item[0]))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def weight_matrices(
    params: Any, rules: Sequence[Rule] = (), conv: str = "slices"
) -> tuple[list[Matrix], dict[str, str]]:
    """Weight matrices of a pytree of arrays, and what is left out with the reason; no array is read.

    Args:
      params: a pytree of arrays (numpy or JAX), in Flax: `variables["params"]`.
      rules: tried before `default_rules(conv)`; the first that matches decides.
      conv: how the default rules treat convolutions.

    Returns:
      The matrices in natural order of their names, and a dict from the path of each tensor that is left out to
      the reason.

    Raises:
      ValueError: a floating tensor of two or more dimensions that no rule matches, or a rule's `unfold`
        that gives something else than matrices; all such tensors are listed.
    """
    table = (*rules, *default_rules(conv))
    found: list[Matrix] = []
    without: dict[str, str] = {}
    unknown: list[str] = []
    for name, leaf in named_tensors(params):
        spec = leaf if hasattr(leaf, "shape") else np.asarray(leaf)
        reason = _no_matrix(spec)
        if reason:
            without[name] = reason
            continue
        rule = next(
            (r for r in table if r.ndim in (None, len(spec.shape)) and re.search(r.pattern, name)), None
        )
        if rule is None:
            unknown.append(f"{name} {spec.shape}")
            continue
        # All strides are zero: reshapes of it copy nothing, however large the tensor is.
        pieces = rule.unfold(np.broadcast_to(np.zeros((), np.int8), spec.shape))
        logging.getLogger(__name__).debug("%s %s: %s, by %r", name, spec.shape, rule.kind, rule.pattern)
        if isinstance(pieces, str):
            without[name] = pieces
        else:
            found += _oriented(name, rule, pieces, leaf)
    if unknown:
        raise ValueError(
            f"no rule says how these tensors are laid out as matrices: {', '.join(unknown)}. Give rules=(Rule(pattern,"
            " kind, unfold), ...) for them (see rmtjax.spectra.default_rules), or leave them out with left_out(reason)"
        )
    return found, without


def _no_matrix(spec: Any) -> str:
    if len(spec.shape) < 2:
        return "fewer than two dimensions: no spectrum"
    if 0 in spec.shape:
        return f"empty: shape {spec.shape}"
    if not jnp.issubdtype(spec.dtype, jnp.floating):
        return f"{spec.dtype.name}, not real floating point"
    return ""


def _oriented(name: str, rule: Rule, pieces: Mapping[str, np.ndarray], leaf: Any) -> Iterator[Matrix]:
    for suffix, piece in pieces.items():
        if piece.ndim not in (2, 3) or piece.size == 0:
            raise ValueError(
                f"the rule for {name} unfolds it to shape {piece.shape}: it must give [rows, columns] or"
                " [slices, rows, columns]"
            )
        slices, rows, columns = piece.shape if piece.ndim == 3 else (1, *piece.shape)

        def load(
            suffix: str = suffix, slices: int = slices, rows: int = rows, columns: int = columns
        ) -> np.ndarray:
            unfolded = rule.unfold(np.asarray(leaf))
            assert not isinstance(unfolded, str)
            stack = unfolded[suffix].reshape(slices, rows, columns)
            return stack if rows >= columns else stack.swapaxes(1, 2)

        shape = (slices, max(rows, columns), min(rows, columns))
        yield Matrix(name + suffix, rule.kind, shape, load)
