"""What a field of the config may hold. A check takes a value and says what is wrong with it, or None."""

import re
from collections.abc import Callable
from typing import Any

Check = Callable[[Any], str | None]


def in_range(holds: Callable[[Any], bool], wanted: str) -> Check:
    """A check that passes values for which `holds` is true; `wanted` ends the sentence "it must be ..."."""
    return lambda value: None if holds(value) else f"is out of range: it must be {wanted}"


def one_of(*choices: str) -> Check:
    return in_range(lambda value: value in choices, f"one of {', '.join(choices)}")


def some_of(choices: tuple[str, ...]) -> Check:
    return in_range(lambda values: set(values) <= set(choices), f"among {', '.join(choices)}")


SHARE = in_range(lambda value: 0 <= value <= 1, "between 0 and 1")
BELOW_ONE = in_range(lambda value: 0 <= value < 1, "at least 0 and below 1")
AT_LEAST_ZERO = in_range(lambda value: value >= 0, "0 or more")
AT_LEAST_ONE = in_range(lambda value: value >= 1, "1 or more")
ABOVE_ZERO = in_range(lambda value: value > 0, "above 0")
ABOVE_ZERO_TO_ONE = in_range(lambda value: 0 < value <= 1, "above 0 and at most 1")
TOKENS = in_range(lambda value: value >= 3, "3 or more: one stands before a text and one after it")
MESH_AXIS = in_range(lambda value: value == -1 or value >= 1, "1 or more, or -1 for all that are left")


def regex(value: str) -> str | None:
    try:
        re.compile(value)
    except re.error as error:
        return f"is not a regular expression: {error}"
    return None


def quantile(select: str) -> float | None:
    """The quantile that a value of `data.select` means; None for `random`.

    Raises:
      KeyError, ValueError: it is none of its values.
    """
    return {"random": None, "least": 0.0, "most": 1.0}[select] if select.isalpha() else float(select)


def selection(value: str) -> str | None:
    try:
        share = quantile(value)
        good = share is None or 0 <= share <= 1
    except (ValueError, KeyError):
        good = False
    return None if good else "is out of range: it must be random, least, most or a number between 0 and 1"


def severities(value: Any) -> str | None:
    good = bool(value) and list(value) == sorted(set(value) & {1, 2, 3, 4, 5})
    return None if good else "is out of range: it must be some of 1, 2, 3, 4, 5, rising"


def sharding_rules(value: Any) -> str | None:
    try:
        good = all(re.compile(pattern) and rule in ("fsdp", "replicate") for pattern, rule in value)
    except (ValueError, TypeError, re.error):
        good = False
    return (
        None
        if good
        else "is out of range: it must be pairs of a regular expression and 'fsdp' or 'replicate'"
    )


def steps(value: Any) -> str | None:
    first_and_last = value if isinstance(value, tuple) else (1, value)
    whole = all(isinstance(step, int) and not isinstance(step, bool) for step in first_and_last)
    if whole and len(first_and_last) == 2 and 1 <= first_and_last[0] <= first_and_last[1]:
        return None
    return "is out of range: it must be a number of steps, or (first, last)"


def channels(value: Any) -> tuple[Any, ...]:
    """The numbers of a field that has one number, or one number a channel."""
    return value if isinstance(value, tuple) else (value,)


def per_channel(value: Any) -> str | None:
    numbers = channels(value)
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        return "is out of range: it must be a number, or a list of one number a channel"
    if len(numbers) not in (1, 3):
        return "is out of range: it must be one number, or three, one a channel"
    return None


def positive_per_channel(value: Any) -> str | None:
    return per_channel(value) or (None if min(channels(value)) > 0 else "is out of range: it must be above 0")


def widths(value: Any) -> str | None:
    whole = isinstance(value, tuple) and all(type(width) is int and width >= 1 for width in value)
    return None if whole else "is out of range: it must be a tuple of whole numbers of 1 or more"
