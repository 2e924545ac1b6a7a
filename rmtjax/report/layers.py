"""Matrices of a model as rows of a table: their order, their groups, and what was measured on each."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

STAGES = ("before", "after", "update")

# WeightWatcher writes -1 where a fit failed; these cannot be -1.
_FAILED = ("alpha", "xmin", "D", "mp_softrank", "sigma", "alpha_se")
_EDGES = ("bulk_max", "lambda_plus", "mp_edge", "bulk_edge")


def measured(table: pd.DataFrame, eigenvalues: dict[str, np.ndarray] | None = None) -> pd.DataFrame:
    """The table of spectra made fit to draw.

    Failed fits and infinities are NaN. Names and kinds of layer are text; without a column `kind` the kinds
    are those that the names tell. `edge` is the upper edge of the Marchenko-Pastur bulk. The update's rows
    have the size of the update as `norm_ratio` wherever the files tell it.
    """
    rows = table.copy()
    rows["name"], rows["stage"] = rows["name"].astype(str), rows["stage"].astype(str).replace("", "after")
    if "kind" not in rows:
        kinds = groups(list(dict.fromkeys(rows["name"])))
        rows["kind"] = rows["name"].map({name: kind for kind, names in kinds.items() for name in names})
    rows["kind"] = rows["kind"].astype(object).where(rows["kind"].notna(), "layer").astype(str)
    for name in rows.columns.difference(["name", "stage", "kind"]):
        if pd.api.types.is_numeric_dtype(rows[name]) and not pd.api.types.is_bool_dtype(rows[name]):
            rows[name] = rows[name].astype(float).replace([np.inf, -np.inf], np.nan)
    for name in _FAILED:
        if name in rows:
            rows[name] = rows[name].where(rows[name] > 0)
    if "alpha" in rows:
        rows["alpha"] = rows["alpha"].where(rows["alpha"] > 1)
    rows = rows.copy()  # in one piece again: after many columns were set pandas complains
    edges = [name for name in _EDGES if name in rows]
    rows["edge"] = rows[edges[0]].where(rows[edges[0]] > 0) if edges else np.nan
    size = relative_update(rows, eigenvalues)
    if size.notna().any():
        updates = rows["stage"] == "update"
        rows["norm_ratio"] = rows["name"].map(size).where(updates)
    return rows


def stage(table: pd.DataFrame, which: str) -> pd.DataFrame:
    """The rows of a stage by name of matrix, each name once."""
    return table[table["stage"] == which].drop_duplicates("name").set_index("name")


def column(rows: pd.DataFrame, name: str) -> pd.Series:
    """A column as floats, all NaN where there is none."""
    if name in rows and pd.api.types.is_numeric_dtype(rows[name]):
        return rows[name].astype(float)
    return pd.Series(np.nan, index=rows.index, dtype=float)


def relative_update(table: pd.DataFrame, eigenvalues: dict[str, np.ndarray] | None) -> pd.Series:
    """||W_after - W_before||_F / ||W_before||_F by name of matrix, NaN where it is not known.

    From a column `norm_ratio` of the update's rows if there is one.
    """
    update, before = stage(table, "update"), stage(table, "before")
    known = frobenius(before, "before", eigenvalues).reindex(update.index)
    ratio = frobenius(update, "update", eigenvalues) / known.where(known > 0)
    return column(update, "norm_ratio").fillna(ratio)


def frobenius(rows: pd.DataFrame, which: str, eigenvalues: dict[str, np.ndarray] | None) -> pd.Series:
    """||W||_F by name of matrix, for the rows of a stage.

    From the eigenvalues of W^T W, whose sum is its square; else from `log_norm`, WeightWatcher's log10 of
    that sum (its column `norm` is the square too, others' is not, and is not used).
    """
    stored = [(eigenvalues or {}).get(f"{which}/{name}") for name in rows.index]
    squares = pd.Series(
        [np.nan if e is None else float(np.sum(e)) for e in stored], index=rows.index, dtype=float
    )
    return np.sqrt(squares.fillna(10.0 ** column(rows, "log_norm")))


def shape(row: Mapping[str, float]) -> str:
    """Slices, N and M of a matrix as text, empty where they are not known."""
    n, m = (row.get(name, float("nan")) for name in "NM")
    if not np.isfinite(n * m):
        return ""
    known = [row[name] for name in ("slices", "rf") if np.isfinite(row.get(name, float("nan")))]
    return (f"{known[0]:.0f} × " if known and known[0] > 1 else "") + f"{n:.0f} × {m:.0f}"


def texts(values: pd.Series) -> list[str]:
    """A column of text, empty where it has none."""
    return ["" if value is None or value != value else str(value) for value in values]


def ordered_names(table: pd.DataFrame) -> list[str]:
    """Names in the table's order, but with numbers counted: block_2 before block_10.

    A tree's keys come sorted as text. Only matrices of the same pattern change places among themselves, since
    the order of different ones (stem, stages, head) cannot be told from their names.
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


def groups(names: list[str]) -> dict[str, list[str]]:
    """Matrices that repeat over depth, by a short label: {"attention/query": [block 0's, ...], ...}."""
    patterns: dict[str, list[str]] = {}
    for name in names:
        patterns.setdefault(_pattern(name), []).append(name)
    labels = {pattern: _label(pattern) for pattern in patterns}
    out: dict[str, list[str]] = {}
    for pattern, members in patterns.items():
        twins = sum(label == labels[pattern] for label in labels.values())
        out[labels[pattern] if twins == 1 else pattern.strip("/.")] = members
    return out


def short_names(names: list[str]) -> dict[str, str]:
    """Names without what they share: a trailing `/kernel`, a leading `params/`. All stay different."""
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


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _counted(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _label(pattern: str) -> str:
    """The parts of a name after its last number, without the word that only says it is a weight."""
    parts = [part for part in re.split(r"[/.]", pattern) if part]
    if len(parts) > 1 and parts[-1] in ("kernel", "weight", "w", "embedding"):
        parts = parts[:-1]
    numbered = [place for place, part in enumerate(parts) if "#" in part]
    rest = parts[numbered[-1] + 1 :] if numbered else parts
    if not rest:
        rest = [re.sub(r"[_-]?#", "", parts[-1]) or pattern]
    return "/".join(rest[-2:])
