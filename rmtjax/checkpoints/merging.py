"""Puts loaded weights into a model's parameters; refuses if any parameter is left unaccounted for."""

import re
from collections.abc import Mapping
from typing import Any

import jax

from rmtjax.checkpoints.digests import named_leaves
from rmtjax.errors import InputError


def merge(params: Any, loaded: Any, reinit: str = "") -> Any:
    """The parameters of a model with the values of `loaded` in place of their own.

    Args:
        params: the model's fresh parameters (or their `ShapeDtypeStruct`s), a pytree.
        loaded: the weights that were read, a pytree; names and shapes must agree, dtypes need not.
        reinit: a regular expression that must match whole names such as "head/kernel". A parameter that
            matches keeps its fresh value if the file lacks it or stores another shape. A weight of the
            file that matches is left out if the model has no such parameter.

    Returns:
        A pytree of the structure of `params`; its leaves are those of `loaded`, except where `reinit`
        says otherwise.

    Raises:
        InputError: a mismatch that `reinit` does not allow; the message lists both sides.
    """
    try:
        pattern = re.compile(reinit)
    except re.error as error:
        raise InputError(f"reinit={reinit!r} is not a regular expression: {error}") from error
    fresh, given = named_leaves(params), named_leaves(loaded)
    missing, extra, reshaped = mismatch(fresh, given)
    allowed = {name for name in (*missing, *extra, *reshaped) if pattern.fullmatch(name)}
    report = describe_mismatch(
        [name for name in missing if name not in allowed],
        [name for name in extra if name not in allowed],
        [f"{name}: {shapes}" for name, shapes in reshaped.items() if name not in allowed],
    )
    if report:
        raise InputError(
            f"the weights do not fit the model: {report}; model.reinit={reinit!r} allows none of these"
        )
    leaves = [leaf if name in allowed else given[name] for name, leaf in fresh.items()]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def mismatch(
    fresh: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[list[str], list[str], dict[str, str]]:
    """Names only in `fresh`, names only in `given`, and for each name of two shapes a phrase with both."""
    missing = [name for name in fresh if name not in given]
    extra = [name for name in given if name not in fresh]
    reshaped = {
        name: f"{tuple(leaf.shape)} in the model, {tuple(given[name].shape)} in the file"
        for name, leaf in fresh.items()
        if name in given and tuple(leaf.shape) != tuple(given[name].shape)
    }
    return missing, extra, reshaped


def describe_mismatch(missing: list[str], extra: list[str], differing: list[str]) -> str:
    """Both sides of a mismatch in one phrase, of each the first names; empty if there is none."""
    parts = [("missing in the file", missing), ("extra in the file", extra), ("different", differing)]
    return "; ".join(f"{title}: {_first(names)}" for title, names in parts if names)


def _first(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
