"""Groups of metrics, as `metrics=` names them."""

from collections.abc import Iterable

# What `metrics="default"` computes; the others come on request. "alignment" needs two sides to compare.
DEFAULT = ("scale", "tail", "bulk", "correlation")
GROUPS = (*DEFAULT, "local", "vectors", "bootstrap", "farms", "fingers", "shuffles", "nulls", "alignment")


def chosen(metrics: str | Iterable[str]) -> frozenset[str]:
    """The groups that "default", "all" or names mean.

    Raises:
      ValueError: a name that is no group.
    """
    names = [part.strip() for part in metrics.split(",")] if isinstance(metrics, str) else list(metrics)
    groups: set[str] = set()
    for name in names:
        if name not in ("default", "all", *GROUPS):
            raise ValueError(
                f"metrics has {name!r}: it must be default, all, or of {', '.join(GROUPS)}, with commas between"
            )
        groups |= set(DEFAULT) if name == "default" else set(GROUPS) if name == "all" else {name}
    return frozenset(groups)
