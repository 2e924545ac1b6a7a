"""The table of spectra, whose rows are the matrices of a model: how it is read, ordered and named."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

STAGES = ("before", "after", "update")

# These are -1 if a fit failed (WeightWatcher's convention), and cannot be -1 otherwise.
_FAILED = ("alpha", "xmin", "D", "mp_softrank", "sigma", "alpha_se")


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """The table of spectra, prepared for drawing.

    Failed fits and infinities become NaN; names, stages and kinds of layer become text. The column `edge` is
    the upper edge of the Marchenko-Pastur bulk.
    """
    rows = table.copy()
    rows["name"], rows["stage"] = rows["name"].astype(str), rows["stage"].astype(str).replace("", "after")
    kind = rows["kind"] if "kind" in rows else pd.Series(None, rows.index, object)
    rows["kind"] = kind.astype(object).where(kind.notna(), "layer").astype(str)
    for name in rows.columns.difference(["name", "stage", "kind"]):
        if pd.api.types.is_numeric_dtype(rows[name]) and not pd.api.types.is_bool_dtype(rows[name]):
            rows[name] = rows[name].astype(float).replace([np.inf, -np.inf], np.nan)
    for name in _FAILED:
        if name in rows:
            rows[name] = rows[name].where(rows[name] > 0)
    if "alpha" in rows:
        rows["alpha"] = rows["alpha"].where(rows["alpha"] > 1)
    rows = rows.copy()  # one block of memory again, or pandas warns after so many new columns
    edge = column(rows, "bulk_max")
    return rows.assign(edge=edge.where(edge > 0))


def stage(table: pd.DataFrame, which: str) -> pd.DataFrame:
    """The rows of a stage, indexed by the name of the matrix; each name occurs once."""
    return table[table["stage"] == which].drop_duplicates("name").set_index("name")


def column(rows: pd.DataFrame, name: str) -> pd.Series:
    """A column as floats; all NaN if the table has no such column."""
    if name in rows and pd.api.types.is_numeric_dtype(rows[name]):
        return rows[name].astype(float)
    return pd.Series(np.nan, index=rows.index, dtype=float)


def shape(row: Mapping[str, float]) -> str:
    """Slices, N and M of a matrix as text; empty if they are not known."""
    n, m = (row.get(name, float("nan")) for name in "NM")
    if not np.isfinite(n * m):
        return ""
    known = [row[name] for name in ("slices", "rf") if np.isfinite(row.get(name, float("nan")))]
    return (f"{known[0]:.0f} × " if known and known[0] > 1 else "") + f"{n:.0f} × {m:.0f}"


def texts(values: pd.Series) -> list[str]:
    """A column of text; missing values become empty."""
    return ["" if value is None or value != value else str(value) for value in values]


def ordered_names(table: pd.DataFrame) -> list[str]:
    """Names in the order of the table, except that numbers count as numbers: block_2 before block_10.

    The keys of a tree are sorted as text. Only matrices whose names differ in numbers alone change places
    among themselves, since names do not reveal the order of different ones (stem, stages, head).
    """
    names = list(dict.fromkeys(table["name"]))
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(_pattern(name), []).append(place)
    out = list(names)
    for spots in places.values():
        for spot, name in zip(spots, sorted((names[s] for s in spots), key=_counted), strict=True):
            out[spot] = name
    return out


def short_names(names: list[str]) -> dict[str, str]:
    """Names without common parts, such as a trailing `/kernel` or a leading `params/`; all stay distinct."""
    if len(names) < 2:
        return {name: name for name in names}
    plain = {name: re.sub(r"[/.](kernel|weight)$", "", name) for name in names}
    if len(set(plain.values())) < len(names):
        plain = {name: name for name in names}
    split = {name: re.split(r"(?<=[/.])", text) for name, text in plain.items()}
    head = 0
    while (
        all(len(parts) > head + 1 for parts in split.values()) and len({p[head] for p in split.values()}) == 1
    ):
        head += 1
    tail = 0
    while (
        all(len(parts) > head + tail + 1 for parts in split.values())
        and len({p[-1 - tail] for p in split.values()}) == 1
    ):
        tail += 1
    return {name: "".join(p[head : len(p) - tail]).rstrip("/.") for name, p in split.items()}


def role(name: str) -> str:
    """What a matrix is in its block: its name without the numbers of blocks.

    >>> role("layer3.0.conv1.weight"), role("block_2/mlp/up/kernel")
    ('layer#.#.conv1.weight', 'block_#/mlp/up/kernel')
    """
    parts = re.split(r"([/.])", name)
    own = len(parts) - 3 if re.fullmatch(r"kernel|weight", parts[-1]) else len(parts) - 1
    return "".join(
        part if place >= own and not part.isdigit() else re.sub(r"\d+", "#", part)
        for place, part in enumerate(parts)
    )


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _counted(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]
