"""Weights of other programs as variables of our models, and back: one table of names a program and model.

A row of a table pairs a name there with a name here, in a small language that reads in both directions: `{i}` is a
number, `{i+1}` the same number as it is counted there, `{name*}` any text, `[...]` may be absent there. A name here
begins with its collection, `params` or `batch_stats`. The layout says how the array turns from one into the other. So one table both
loads and exports, and all that it does not name is said, never passed over in silence.

Arrays come as a mapping of names (`checkpoints.open`); nothing here reads a file.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from rmtjax.errors import InputError

Shape = tuple[int, ...]


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
}


class Row(NamedTuple):
    theirs: str
    ours: str
    layout: str = "same"


class Table(NamedTuple):
    """The names of one program for one of our models.

    Attributes:
      rows: as the module's docstring says.
      unused: regex of names there that our models have no use for.
    """

    rows: Sequence[Row]
    unused: str = r"(?!)"


def _norm(theirs: str, ours: str) -> list[Row]:
    return [Row(f"{theirs}.weight", f"params/{ours}/scale"), Row(f"{theirs}.bias", f"params/{ours}/bias")]


def _batch_norm(theirs: str, ours: str) -> list[Row]:
    return [
        *_norm(theirs, ours),
        Row(f"{theirs}.running_mean", f"batch_stats/{ours}/mean"),
        Row(f"{theirs}.running_var", f"batch_stats/{ours}/var"),
    ]


def _conv(theirs: str, ours: str) -> list[Row]:
    return [Row(f"{theirs}.weight", f"params/{ours}/kernel", "conv")]


def _dense(theirs: str, ours: str) -> list[Row]:
    return [
        Row(f"{theirs}.weight", f"params/{ours}/kernel", "dense"),
        Row(f"{theirs}.bias", f"params/{ours}/bias"),
    ]


_RESNET_BLOCKS = (
    *_conv("layer{s+1}.{b}.conv{c}", "stage_{s}_block_{b}/conv_{c}"),
    *_batch_norm("layer{s+1}.{b}.bn{c}", "stage_{s}_block_{b}/norm_{c}"),
    *_conv("layer{s+1}.{b}.downsample.0", "stage_{s}_block_{b}/shortcut"),
    *_batch_norm("layer{s+1}.{b}.downsample.1", "stage_{s}_block_{b}/norm_shortcut"),
)

TABLES = {
    "rmtjax": Table((Row("{name*}", "params/{name*}"), Row("batch_stats/{name*}", "batch_stats/{name*}"))),
    # akamaster/pytorch_resnet_cifar10
    "resnet_cifar": Table(
        (*_conv("conv1", "stem"), *_batch_norm("bn1", "norm_stem"), *_RESNET_BLOCKS, *_dense("linear", "head")),
        unused=r".*\.num_batches_tracked",
    ),
    "torchvision": Table(
        (*_conv("conv1", "stem"), *_batch_norm("bn1", "norm_stem"), *_RESNET_BLOCKS, *_dense("fc", "head")),
        unused=r".*\.num_batches_tracked",
    ),
}  # fmt: skip


def recognise(names: Sequence[str], variables: Any) -> str:
    """The table under which a file's names give most of a model's variables.

    Raises:
      InputError: none gives any.
    """
    wanted, there = flat(variables), set(names)
    found = {
        name: sum(any(t in there for t, _ in _sources(table, ours)) for ours in wanted)
        for name, table in TABLES.items()
    }
    best = max(found, key=found.__getitem__)
    if not found[best]:
        raise InputError(
            f"names such as {names[0]!r} are in no table for this model: the tables are {', '.join(TABLES)}"
        )
    return best


def convert(
    weights: Mapping[str, np.ndarray], variables: Any, table: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A file's arrays as parameters and model state under our names, `encoder/norm/scale` and `batch_stats/norm/mean`.

    Nothing is judged here: a variable that the file lacks is absent, an array that no row names is among the parameters
    under its own name, a shape that differs stays. `checkpoints.merge` lists all three.

    Args:
      weights: arrays by their names in the file.
      variables: our model's collections, of which names and shapes are read.
      table: its name in `TABLES`.

    Raises:
      InputError: no such table.
    """
    if table not in TABLES:
        raise InputError(f"the names {table!r} are unknown: the tables are {', '.join(TABLES)}")
    out: dict[str, np.ndarray] = {}
    used = set()
    for ours, leaf in flat(variables).items():
        for theirs, row in _sources(TABLES[table], ours):
            if theirs in weights:
                out[ours] = LAYOUTS[row.layout].ours(weights[theirs], tuple(leaf.shape))
                used.add(theirs)
                break
    for name in weights:
        if name not in used and not re.fullmatch(TABLES[table].unused, name):
            out[f"params/{name}"] = weights[name]
    params = {name.removeprefix("params/"): x for name, x in out.items() if name.startswith("params/")}
    return params, {name: x for name, x in out.items() if not name.startswith("params/")}


def flat(variables: Any) -> dict[str, Any]:
    return traverse_util.flatten_dict(variables, sep="/")


def _sources(table: Table, ours: str) -> list[tuple[str, Row]]:
    """What a variable of ours may be called there, most complete name first."""
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
