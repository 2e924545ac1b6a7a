"""Loaded weights into a model's parameters: every parameter is accounted for, or the merge is refused."""

import re
from collections.abc import Mapping
from typing import Any

import jax

from rmtjax.checkpoints.digests import named_leaves
from rmtjax.errors import InputError


def merge(params: Any, loaded: Any, reinit: str = "") -> Any:
    """The parameters with the values of `loaded` in the place of their own.

    Args:
        params: the model's fresh parameters (or their `ShapeDtypeStruct`s), a pytree.
        loaded: the weights that were read, a pytree; only names and shapes must agree, not dtypes.
        reinit: a regular expression matched against whole names such as "head/kernel". A parameter that
            matches keeps its fresh value if the file lacks it or has another shape; a weight of the file
            that matches and has no place in the model is left out.

    Returns:
        A pytree of the structure of `params`, leaves from `loaded` except where `reinit` says otherwise.

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
    """Names only in `fresh`, names only in `given`, and "(2, 3) here, (3, 3) there" where shapes differ."""
    missing = [name for name in fresh if name not in given]
    extra = [name for name in given if name not in fresh]
    reshaped = {
        name: f"{tuple(leaf.shape)} in the model, {tuple(given[name].shape)} in the file"
        for name, leaf in fresh.items()
        if name in given and tuple(leaf.shape) != tuple(given[name].shape)
    }
    return missing, extra, reshaped


def describe_mismatch(missing: list[str], extra: list[str], differing: list[str]) -> str:
    """Both sides of a mismatch in one phrase; empty if there is none."""
    parts = [("missing in the file", missing), ("extra in the file", extra), ("different", differing)]
    return "; ".join(f"{title}: {', '.join(names)}" for title, names in parts if names)
