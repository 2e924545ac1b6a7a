"""Arms of a study, from a function of a user's Python file."""

import importlib.util
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from ml_collections import ConfigDict

from rmtjax.errors import InputError


def load_arms(path: str, config: ConfigDict) -> dict[str, list[str]]:
    """The arms of a Python file: its `get_arms(config)` gives the `field=value` overrides of each arm by its
    name.

    Raises:
      InputError: no such file or function, or a name that cannot be a folder's.
    """
    get_arms = function_of_file(path, "get_arms", "give --arms a Python file with get_arms(config)")
    arms = {name: list(overrides) for name, overrides in get_arms(config).items()}
    check_names(arms, f"get_arms(config) of {path!r}")
    return arms


def function_of_file(path: str, name: str, mend: str) -> Callable[[ConfigDict], Any]:
    """A function of a user's Python file. Raises InputError, which ends in `mend`: no such file or
    function.
    """
    file = pathlib.Path(path)
    spec = importlib.util.spec_from_file_location(f"rmtjax_{name}", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise InputError(f"no Python file {path!r}: {mend}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise InputError(f"{path!r} defines no {name}(config): {mend}")
    function: Callable[[ConfigDict], Any] = getattr(module, name)
    return function


def check_names(arms: Iterable[str], where: str) -> None:
    """Raises InputError: there are no arms, or a name cannot be a folder's."""
    names = list(arms)
    if not names:
        raise InputError(f"{where} gives no arms")
    for name in names:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise InputError(
                f"arm name {name!r} is to be a folder's name: use letters, digits, '_', '-', '+' and '.'"
            )
