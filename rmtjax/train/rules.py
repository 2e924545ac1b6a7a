"""Rules that pick parameters: a regular expression on names such as `a/b/kernel`; the first match wins.

Decay, freezing, learning rates and sharding all use them.
"""

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

LOG = logging.getLogger(__name__)


def name_of(path: tuple[Any, ...]) -> str:
    """The name of a tree path: its dictionary keys, as in `a/b/kernel`. An optimiser's tuples are skipped."""
    return "/".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))


def map_named(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Maps `function(name, leaf)` over a pytree."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(name_of(path), leaf), tree)


def first_match(rules: Sequence[tuple[str, Any]], default: Any, tree: Any, what: str) -> Any:
    """A tree that gives each leaf the value of the first rule `(regex, value)` that matches its whole name.

    Args:
      what: what the rules decide, to be named in the log.
    """

    def value(name: str, _: Any) -> Any:
        for regex, chosen in rules:
            if re.fullmatch(regex, name):
                LOG.debug("%s: %s matches %r: %s", what, name, regex, chosen)
                return chosen
        return default

    return map_named(value, tree)


def mask(regex: str | None, tree: Any, what: str) -> Any:
    """A tree of booleans: whether the whole name matches. None matches nothing."""
    return first_match([(regex, True)] if regex else [], False, tree, what)
