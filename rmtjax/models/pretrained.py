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
    """How an array of a file becomes one of ours, given our shape, and back."""

    ours: Callable[[np.ndarray, Shape], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


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
    "position": Layout(lambda x, shape: resized_positions(x, shape[1]), lambda x: x),
    "position_rows": Layout(lambda x, shape: resized_positions(x[None], shape[1]), lambda x: x[0]),
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
    weights: Mapping[str, np.ndarray], variables: Any, table: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A file's arrays as parameters and model state under our names.

    Such as `encoder/norm/scale` and `batch_stats/norm/mean`.

    Nothing is judged here: a variable that the file lacks is absent, an array that no row names is among the
    parameters under its own name, a shape that differs stays. `checkpoints.merge` lists all three.

    Args:
      weights: arrays by their names in the file.
      variables: our model's collections, of which names and shapes are read.
      table: its name in `TABLES`.

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
                x = x if row.part is None or len(x) % 3 else np.split(x, 3)[row.part]
                with contextlib.suppress(ValueError, IndexError):  # of other dimensions: it stays as it is
                    x = LAYOUTS[row.layout].ours(x, tuple(leaf.shape))
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


def resized_positions(x: np.ndarray, tokens: int) -> np.ndarray:
    """Position embeddings `(1, T, D)` of a square grid, for another grid.

    If T is no square, the first is that of a class token. Bicubic with a = -0.75, edges repeated, no
    smoothing where the grid shrinks: torch's `interpolate`, as Hugging Face's ViT and CLIP use it. What is
    not of this kind stays as it is.
    """
    given = x.shape[1]
    if given == tokens:
        return x
    first, old = _class_tokens(given), math.isqrt(given)
    if first != _class_tokens(tokens) or None in (first, _class_tokens(tokens)):
        return x
    new = _cubic(math.isqrt(tokens), old)
    grid = x[:, first:].astype(np.float64).reshape(old, old, -1)
    grid = np.einsum("ai,bj,ijd->abd", new, new, grid).reshape(1, -1, x.shape[-1])
    return np.concatenate([x[:, :first], grid.astype(x.dtype)], 1)


def _class_tokens(tokens: int) -> int | None:
    """0 if so many tokens are a square grid, 1 if all but one are, else None."""
    return next((n for n in (0, 1) if tokens > n and math.isqrt(tokens - n) ** 2 == tokens - n), None)


def _cubic(new: int, old: int, a: float = -0.75) -> np.ndarray:
    """`[new, old]` weights of cubic convolution (Keys 1981) between pixel centres."""
    weights = np.zeros((new, old))
    for i in range(new):
        place = (i + 0.5) * old / new - 0.5
        for j in range(math.floor(place) - 1, math.floor(place) + 3):
            d = abs(place - j)
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            weights[i, min(max(j, 0), old - 1)] += near if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)
    return weights


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
