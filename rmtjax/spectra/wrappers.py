"""Names of parameters that a wrapper around the model has made longer.

`DistributedDataParallel` adds `module.`, `torch.compile` adds `_orig_mod.`, Lightning and Hugging Face add
`model.` or `backbone.`, one around another. To compare such weights with others, or to load them, whatever
all names share is removed step by step, as far as it makes more names fit.
"""

import itertools
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

# These stand inside names too, around the layer that was wrapped, and no model has layers of such names.
_INSIDE = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}


class Renamed(Mapping[str, Any]):
    """Weights of a file under other names.

    Attributes:
      specs, layout, refused, source, adapter, tied: as those of the weights.
    """

    def __init__(self, weights: Any, names: Mapping[str, str]) -> None:
        self._weights = weights
        self._old = {names[old]: old for old in weights.specs}
        self.specs = {new: weights.specs[old] for new, old in self._old.items()}
        self.refused = {names.get(old, old): reason for old, reason in weights.refused.items()}
        self.layout = weights.layout
        self.source = weights.source
        self.adapter = getattr(weights, "adapter", {})
        tied: Mapping[str, str] = getattr(weights, "tied", {})
        self.tied = {names[one]: names[other] for one, other in tied.items()}

    def __getitem__(self, name: str) -> Any:
        return self._weights[self._old[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._old)

    def __len__(self) -> int:
        return len(self._old)


def forms(names: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """What can be removed from names, and the new name of each: first nothing, last all that they share.

    Names without a separator, such as the `n_averaged` of an average of weights, keep theirs.

    >>> for removed, new in forms(["model.a.w", "model.b._orig_mod.w"]):
    ...     print([removed], list(new.values()))
    [''] ['model.a.w', 'model.b._orig_mod.w']
    ['_orig_mod.'] ['model.a.w', 'model.b.w']
    ['_orig_mod.model.'] ['a.w', 'b.w']
    """
    separator = "/" if any("/" in name for name in names) else "."
    removed, new = "", {name: name for name in names}
    yield removed, dict(new)
    plain = {name: separator.join(p for p in name.split(separator) if p not in _INSIDE) for name in names}
    if plain != new and len(set(plain.values())) == len(plain):
        inside = sorted(_INSIDE & {part for name in names for part in name.split(separator)})
        new = plain
        removed = "".join(part + separator for part in inside)
        yield removed, dict(new)
    while True:
        first = {name.split(separator)[0] for name in new.values() if separator in name}
        if len(first) != 1:
            return
        prefix = first.pop() + separator
        new = {old: name.removeprefix(prefix) for old, name in new.items()}
        if len(set(new.values())) < len(new):
            return
        removed += prefix
        yield removed, dict(new)


def fitting(weights: Any, fits: Callable[[Collection[str]], int]) -> Any:
    """The weights of a file under the longest names of which the most fit; says what was removed."""
    removed, names = max(forms(weights.specs), key=lambda form: fits(form[1].values()))
    return _without(weights, removed, names)


def aligned(before: Any, after: Any) -> tuple[Any, Any]:
    """Two sides under the longest names of which both have the most; says what was removed.

    Pytrees, whose names are the caller's own, stay as they are.
    """
    if not (hasattr(before, "specs") and hasattr(after, "specs")) or set(before.specs) == set(after.specs):
        return before, after
    pairs = itertools.product(enumerate(forms(before.specs)), enumerate(forms(after.specs)))
    least = sorted(pairs, key=lambda pair: pair[0][0] + pair[1][0])
    (_, old), (_, new) = max(least, key=lambda pair: len(_values(pair[0]) & _values(pair[1])))
    return _without(before, *old), _without(after, *new)


def _values(form: tuple[int, tuple[str, dict[str, str]]]) -> set[str]:
    return set(form[1][1].values())


def _without(weights: Any, removed: str, names: Mapping[str, str]) -> Any:
    if all(old == new for old, new in names.items()):
        return weights
    message = "%r: %r, which a wrapper around the model adds to its names, is removed"
    logging.getLogger(__name__).warning(message, weights.source, removed)
    return Renamed(weights, names)
