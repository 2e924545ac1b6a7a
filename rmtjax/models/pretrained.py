"""Weights of other programs as variables of our models, and back, by the tables of `name_tables`.

One table both loads and exports, and all that it does not name is said, never passed over in silence. Arrays
come as a mapping of names (`checkpoints.open`); nothing here reads a file.
"""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from rmtjax.errors import InputError
from rmtjax.models.name_tables import TABLES, Row, Table

Shape = tuple[int, ...]
_SYNTHETIC = "_synthetic"  # ends the names of statistics of synthetic examples


class Layout(NamedTuple):
    """How an array of a file becomes one of ours, given our shape, and back.

    Attributes:
      ours, theirs: the two ways.
      positions: the array has a row for each token, and `ours` takes the grid of the patches too.
    """

    ours: Callable[..., np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]
    positions: bool = False


def _reshaped(x: np.ndarray, shape: Shape) -> np.ndarray:
    """Of another size it stays as it is, and whoever merges it says so."""
    return x.reshape(shape) if x.size == np.prod(shape) else x


LAYOUTS = {
    "same": Layout(lambda x, shape: x, lambda x: x),
    "dense": Layout(lambda x, shape: x.T, lambda x: x.T),  # (out, in) there
    "conv": Layout(lambda x, shape: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)),
    # Attention: (H * Dh, D) there is (D, H, Dh) here, for the output (D, H * Dh) is (H, Dh, D).
    "project": Layout(lambda x, shape: _reshaped(x.T, shape), lambda x: x.reshape(len(x), -1).T),
    "merge": Layout(lambda x, shape: _reshaped(x.T, shape), lambda x: x.reshape(-1, x.shape[-1]).T),
    "vector": Layout(_reshaped, lambda x: x.reshape(-1)),
    "position": Layout(lambda x, shape, grid: resized_positions(x, shape[1], grid), lambda x: x, True),
    "position_rows": Layout(
        lambda x, shape, grid: resized_positions(x[None], shape[1], grid), lambda x: x[0], True
    ),
    "position_smooth": Layout(
        lambda x, shape, grid: resized_positions(x, shape[1], grid, smooth=True), lambda x: x, True
    ),
    # timm's: also without rows for the tokens that are no patches.
    "position_timm": Layout(
        lambda x, shape, grid: resized_positions(_with_first(x, shape[1], grid), shape[1], grid, smooth=True),
        lambda x: x,
        True,
    ),
}


def recognise(names: Sequence[str], variables: Any) -> str:
    """The table under which a file's names give most of a model's variables.

    Raises:
      InputError: none gives any.
    """
    found = {name: known(names, variables, name) for name in TABLES}
    best = max(found, key=found.__getitem__)
    if not found[best]:
        raise InputError(
            f"names such as {names[0]!r} are in no table for this model: the tables are {', '.join(TABLES)}"
        )
    return best


def known(names: Collection[str], variables: Any, table: str) -> int:
    """How many of a model's variables a file's names give by a table. Raises InputError if it is unknown."""
    _known(table)
    there = set(names)
    return sum(any(t in there for t, _ in _sources(TABLES[table], ours)) for ours in flat(variables))


def convert(
    weights: Mapping[str, np.ndarray], variables: Any, table: str, grid: tuple[int, int] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A file's arrays as parameters and model state under our names.

    Such as `encoder/norm/scale` and `batch_stats/norm/mean`.

    Nothing is judged here: a variable that the file lacks is absent, an array that no row names is among the
    parameters under its own name, a shape that differs stays. `checkpoints.merge` lists all three.

    Args:
      weights: arrays by their names in the file.
      variables: our model's collections, of which names and shapes are read.
      table: its name in `TABLES`.
      grid: rows and columns of patches of our model's inputs, to which positions are interpolated; None: as
        many rows as columns.

    Raises:
      InputError: no such table.
    """
    _known(table)
    out: dict[str, np.ndarray] = {}
    used = set()
    for ours, leaf in flat(variables).items():
        for theirs, row in _sources(TABLES[table], ours):
            if theirs in weights:
                x = weights[theirs]
                x = x if row.part is None or len(x) % row.parts else np.split(x, row.parts)[row.part]
                layout, shape = LAYOUTS[row.layout], tuple(leaf.shape)
                with contextlib.suppress(ValueError, IndexError):  # of other dimensions: it stays as it is
                    x = layout.ours(x, shape, grid) if layout.positions else layout.ours(x, shape)
                out[ours] = x
                used.add(theirs)
                break
    for name in weights:
        if name not in used and not re.fullmatch(TABLES[table].unused, name):
            out[f"params/{name}"] = weights[name]
    params = {name.removeprefix("params/"): x for name, x in out.items() if name.startswith("params/")}
    return params, {name: x for name, x in out.items() if not name.startswith("params/")}


def export(params: Any, model_state: Any, table: str) -> dict[str, np.ndarray]:
    """Parameters and model state under another program's names and in its layouts: the inverse of `convert`.

    Statistics of synthetic examples stay behind where only ours have any. Of torch's batch norms the counters
    are there as 0, so that `load_state_dict` finds all it asks for.

    Raises:
      InputError: no such table, or it has no name for a variable.
    """
    _known(table)
    stacked: dict[str, dict[int, np.ndarray]] = {}
    for ours, leaf in flat({"params": params} | dict(model_state)).items():
        if ours.endswith(_SYNTHETIC) and table != "rmtjax":
            continue
        candidates = _sources(TABLES[table], ours)
        if not candidates:
            raise InputError(f"the names of {table} have none for {ours}: it cannot be exported so")
        name, row = candidates[0]
        stacked.setdefault(name, {})[row.part or 0] = LAYOUTS[row.layout].theirs(np.asarray(leaf))
    out = {name: np.concatenate([parts[k] for k in sorted(parts)]) if len(parts) > 1 else parts[0]
           for name, parts in stacked.items()}  # fmt: skip
    counters = [
        name.replace("running_var", "num_batches_tracked") for name in out if name.endswith(".running_var")
    ]
    return out | dict.fromkeys(counters, np.zeros((), np.int64))


def resized_positions(
    x: np.ndarray, tokens: int, grid: tuple[int, int] | None = None, smooth: bool = False
) -> np.ndarray:
    """Position embeddings `(1, T, D)` of a square grid, for another grid.

    If T is no square, the first are those of a class token, or of two tokens. Bicubic, as torch's
    `interpolate` does it: with a = -0.75, edges repeated, no smoothing where the grid shrinks, as Hugging
    Face's ViT, CLIP, DeiT, SigLIP and DINOv2 use it. `smooth`: with a = -0.5, edges cut off, and wider where
    the grid shrinks (`antialias`), as timm and Hugging Face's DINOv2 with registers use it. Narrow floats
    become float32. What is not of this kind stays as it is.

    Args:
      tokens: how many the new grid has, with those that are no patches.
      grid: rows and columns of the new grid; None: it is square.
    """
    given, old, new = x.shape[1], _square(x.shape[1]), grid or _square(tokens)
    if old is None or new is None or old == new:
        return x
    first = tokens - new[0] * new[1]
    if first != given - old[0] * old[1]:
        return x
    down, across = (_cubic(new[axis], old[axis], smooth) for axis in (0, 1))
    patches = x[:, first:].astype(np.float64).reshape(*old, -1)
    patches = np.einsum("ai,bj,ijd->abd", down, across, patches).reshape(1, -1, x.shape[-1])
    precise = np.promote_types(x.dtype, np.float32)
    return np.concatenate([x[:, :first], patches.astype(precise)], 1)


def _square(tokens: int) -> tuple[int, int] | None:
    """The square grid that leaves the fewest of so many tokens over, at most two; else None."""
    side = math.isqrt(tokens)
    return (side, side) if tokens - side**2 <= 2 else None


def _with_first(x: np.ndarray, tokens: int, grid: tuple[int, int] | None) -> np.ndarray:
    """Positions of patches alone, with zeros before them for the tokens of ours that have one too."""
    new = grid or _square(tokens)
    first = tokens - new[0] * new[1] if new else 0
    if math.isqrt(x.shape[1]) ** 2 != x.shape[1]:
        return x
    return np.concatenate([np.zeros((1, first, x.shape[2]), x.dtype), x], 1)


def _cubic(new: int, old: int, smooth: bool) -> np.ndarray:
    """`[new, old]` weights of cubic convolution (Keys 1981) between pixel centres."""
    places = (np.arange(new) + 0.5) * old / new - 0.5
    if smooth:
        weights = _keys((places[:, None] - np.arange(old)) / max(old / new, 1), -0.5)
        return weights / weights.sum(1, keepdims=True)
    weights = np.zeros((new, old))
    for row, place in zip(weights, places, strict=True):
        for j in range(math.floor(place) - 1, math.floor(place) + 3):
            row[min(max(j, 0), old - 1)] += _keys(place - j, -0.75)
    return weights


def _keys(distance: Any, a: float) -> Any:
    """The kernel of cubic convolution."""
    d = np.minimum(np.abs(distance), 2)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    return np.where(d <= 1, near, a * (d**3 - 5 * d**2 + 8 * d - 4))


def _known(table: str) -> None:
    if table not in TABLES:
        raise InputError(f"the names {table!r} are unknown: the tables are {', '.join(TABLES)}")


def flat(variables: Any) -> dict[str, Any]:
    return traverse_util.flatten_dict(variables, sep="/")


def _sources(table: Table, ours: str) -> list[tuple[str, Row]]:
    """What a variable of ours may be called there, most complete name first."""
    if ours.endswith(_SYNTHETIC):  # begun from the real ones, where a file has none
        return _sources_of(table, ours) + _sources_of(table, ours.removesuffix(_SYNTHETIC))
    return _sources_of(table, ours)


def _sources_of(table: Table, ours: str) -> list[tuple[str, Row]]:
    found = []
    for row in table.rows:
        match = _regex(row.ours).fullmatch(ours)
        if match:
            found += [(name, row) for name in _names(row.theirs, match.groupdict())]
    return found


_FIELD = re.compile(r"\{(\w+)(\*|\+\d+)?\}")
_OPTION = re.compile(r"\[([^\]]*)\]")


@functools.cache
def _regex(pattern: str) -> re.Pattern[str]:
    """Of a pattern of ours, which has no options and counts from 0."""
    text, last = "", 0
    for field in _FIELD.finditer(pattern):
        text += re.escape(pattern[last : field.start()])
        text += f"(?P<{field[1]}>{'.+' if field[2] else '[0-9]+'})"
        last = field.end()
    return re.compile(text + re.escape(pattern[last:]))


def _names(pattern: str, fields: Mapping[str, str]) -> list[str]:
    """The names of a pattern of theirs with its options, and without."""

    def value(field: re.Match[str]) -> str:
        found, how = fields[field[1]], field[2]
        return str(int(found) + int(how)) if how and how != "*" else found

    full = _FIELD.sub(value, pattern)
    with_options, without = _OPTION.sub(r"\1", full), _OPTION.sub("", full)
    return [with_options, without] if without != with_options else [full]
