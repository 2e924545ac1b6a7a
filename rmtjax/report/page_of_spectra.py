"""The page of an analysis of one model or two, made from the files of `spectra.Analysis.save`.

The page of a run contains its body.
"""

import os
import pathlib
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rmtjax import results
from rmtjax.errors import InputError
from rmtjax.report import depth, layers, matrix_charts, pages
from rmtjax.report.numbers import show, show_metric
from rmtjax.report.pages import Cell, Charts, Details, Legend, Pairs, Section, Table, Text
from rmtjax.report.spectral_data import Spectra, load
from rmtjax.spectra.metrics import shown
from rmtjax.spectra.table import COMMON_IN_NOISE, LIKE_NOISE

_MOST_MATRICES = 300
_OPEN = 3  # matrices whose charts are unfolded from the start
_WORDS = (
    ("noise", "a matrix of independent Gaussian entries of that shape and size"),
    ("bulk", "the eigenvalues that follow the law of noise, Marchenko and Pastur's"),
    (
        "spikes",
        "eigenvalues beyond the bulk's upper edge, further than Tracy and Widom's law allows to noise",
    ),
    ("α, xmin, D", "the power law λ^-α of the eigenvalues above xmin, and the distance of the fit from them"),
    (
        "ERG tail",
        "the largest eigenvalues that, in units of the mean of all, multiply to one (trace-log condition of "
        "SETOL)",
    ),
    (
        "phase",
        "of Martin and Mahoney (JMLR 22, 2021), by our thresholds: random-like (as noise), bleeding-out "
        "(spikes at the edge), bulk+spikes (spikes apart), bulk-decay (not noise, with a tail as light), "
        "heavy-tailed (an α as low is rare in noise), rank-collapse (half of the rank is gone)",
    ),
    ("stable rank", "the sum of the eigenvalues over the largest of them"),
)
_ABOUT = (
    "Eigenvalues λ are those of WᵀW, not divided by N; W is N × M with N ≥ M. α: exponent of a power law "
    "fitted above xmin by maximum likelihood. Noise of that shape: the value for a matrix of independent "
    "entries; a value near it is no evidence of training. MP: Marchenko-Pastur."
)
_ABOUT_CHARTS = (
    "Left: histogram on linear axes. Middle: histogram with logarithmic bins and axes. Right: α for each "
    "start of the tail, with its standard error; where it is flat, α does not depend on xmin."
)


def spectra_page(directory: str | os.PathLike[str]) -> pathlib.Path:
    """Draws `report.html` in a folder that holds spectra.parquet; returns the path of the page.

    If the table has a column `stage` (before, after, update), curves and eigenvalues are stored under
    `<stage>/<name>`, else under `<name>`. Only columns that exist are shown. Without spectra_curves.npz and
    spectra.npz no spectrum is drawn.

    Raises:
      InputError: there is no such folder, it has no spectra.parquet, or a file is damaged.
    """
    path = results.folder(directory)
    spectra = load(path)
    if spectra is None:
        raise InputError(
            f"no spectra.parquet in {str(path)!r}: give a folder that `python -m rmtjax.spectra --out` has "
            "written to"
        )
    sources = _sources(spectra.attrs)
    names = [_short(source) for source in sources]
    title = f"Spectra of {' against '.join(names[::-1]) if names else path.resolve().name}"
    header = [Text(_lead(spectra), "lead"), *_facts(spectra.attrs, sources), *introduction(spectra)]
    return results.write(path / results.PAGE, pages.render(title, header, body(spectra)))


def body(spectra: Spectra) -> list[Section]:
    """The sections: medians and charts over depth, the table, and the charts of each matrix."""
    drawable = [name for name in spectra.names if spectra.curves.get(name)][:_MOST_MATRICES]
    places = {name: k for k, name in enumerate(spectra.names)}
    links = {name: f"matrix-{places[name]}" for name in drawable}
    return [
        Section("kinds", "By kind of layer", _by_kind(spectra, links)),
        Section("matrices", "Matrix by matrix", [_table(spectra, links), _everything(spectra)]),
        Section("densities", "Spectra", _matrices(spectra, links)),
    ]


def introduction(spectra: Spectra) -> list[Any]:
    """Warnings, the tensors that were left out, and an explanation of the terms."""
    reasons = spectra.attrs.get("left_out")
    without = []
    if isinstance(reasons, dict) and reasons:
        pairs = Pairs([(str(name), str(reason)) for name, reason in reasons.items()])
        without = [Details(f"Tensors without a spectrum ({len(reasons)}), and why", [pairs])]
    return [
        *_warnings(spectra.table),
        *without,
        Text(_ABOUT),
        Details("What these words mean", [Pairs(_WORDS)]),
    ]


def _sources(attrs: Mapping[Any, Any]) -> list[str]:
    """The sources of the weights (of a comparison: before, after); empty if they were not recorded."""
    source = attrs.get("source")
    if isinstance(source, dict):
        source = list(source.values())
    return [str(s) for s in source] if isinstance(source, list | tuple) else [str(source)] if source else []


def _short(source: str) -> str:
    """The last part of a path; of a checkpoint of a run, the run and the step."""
    path = pathlib.PurePath(source)
    if path.name.isdecimal() and path.parent.name == results.CHECKPOINTS:
        return f"{path.parent.parent.name} at step {path.name}"
    return path.name or source


def _lead(spectra: Spectra) -> str:
    kinds = Counter(spectra.table.drop_duplicates("name")["kind"])
    by_kind = ", ".join(f"{n} {depth.words(kind)}" for kind, n in kinds.most_common())
    count = len(spectra.names)
    lead = f"{count} weight {'matrix' if count == 1 else 'matrices'} ({by_kind})"
    return lead + (", before and after training, and the update between them." if spectra.compared else ".")


def _facts(attrs: Mapping[Any, Any], sources: list[str]) -> list[Pairs]:
    labels = ("before", "after") if len(sources) == 2 else ("weights",) * len(sources)
    facts = list(zip(labels, sources, strict=True))
    for name in ("precision", "metrics", "seed"):
        value = attrs.get(name)
        if value is not None:
            facts.append(
                (name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
            )
    return [Pairs(facts)] if facts else []


def _warnings(table: pd.DataFrame) -> list[Text]:
    """Each warning with the number of its matrices; warnings that differ only in numbers count as one."""
    if "warning" not in table:
        return []
    given = table.loc[table["stage"] != "before", ["name", "warning"]]
    first: dict[str, str] = {}
    owners: dict[str, set[str]] = {}
    for name, warning in zip(given["name"], layers.texts(given["warning"]), strict=True):
        for one in set(filter(None, warning.split("; "))) - {LIKE_NOISE}:
            pattern = re.sub(r"\d+", "#", one)
            first.setdefault(pattern, one)
            owners.setdefault(pattern, set()).add(name)
    total, warned = table["name"].nunique(), set().union(*owners.values())
    noise = _like_noise(table)
    if not warned:
        return [*noise, Text("No matrix has a warning.")]
    items = []
    for pattern, names in sorted(owners.items(), key=lambda item: -len(item[1])):
        like = " and the like" if "#" in pattern and len(names) > 1 else ""
        items.append(f"{first[pattern]}{like}: {len(names)} of {total} matrices")
    return [*noise, Text(f"{len(warned)} of {total} matrices have a warning:", "warn", items)]


def _like_noise(table: pd.DataFrame) -> list[Text]:
    """Of how many matrices alpha says something: that is no fault of the others, so it is no warning."""
    newest = "after" if (table["stage"] == "after").any() else "before"
    p = layers.column(table[table["stage"] == newest], "alpha_null_p").dropna()
    if not len(p):
        return []
    few = int((p <= COMMON_IN_NOISE).sum())
    others = "An α as low as theirs" if few == 0 else "An α as low as that of the others"
    said = [f"α tells {few or 'none'} of {len(p)} matrices from noise (p ≤ {COMMON_IN_NOISE:g}"]
    said[0] += f"; of {len(p)} matrices of noise {show(COMMON_IN_NOISE * len(p), 2)} would be told)."
    if few < len(p):
        said.append(f"{others} is common in noise of their shape.")
    spikes = layers.column(table[table["stage"] == newest], "num_spikes").dropna()
    if len(spikes):
        said.append(
            f"{int((spikes > 0).sum()) or 'None'} of {len(spikes)} have spikes, eigenvalues beyond noise."
        )
    return [Text(" ".join(said))]


def _by_kind(spectra: Spectra, links: dict[str, str]) -> list[Any]:
    found, main = depth.measured_metrics(spectra.table), shown("depth")
    first, rest = ([m for m in found if (m in main) is wanted] for wanted in (True, False))
    blocks: list[Any] = [
        depth.medians(spectra.table),
        Legend(depth.keys(spectra.table, spectra.compared)),
        Charts(
            depth.charts(spectra.table, first, spectra.names, links),
            "Matrices are in the order of the model; a click on a mark leads to its matrix.",
            columns=2,
        ),
    ]
    if rest:
        more = Charts(depth.charts(spectra.table, rest, spectra.names, links), columns=2)
        blocks.append(Details(f"{len(rest)} more metrics over depth", [more]))
    return blocks


def _columns(spectra: Spectra) -> list[tuple[str, str]]:
    """(metric, stage) of each column; for the weights before only the metrics of the observer."""
    out = []
    for metric in shown("compared" if spectra.compared else "page"):
        for which, rows in spectra.stages.items():
            known = layers.column(rows, metric).notna().any()
            if known and not (spectra.compared and which == "before" and metric not in shown("observe")):
                out.append((metric, which))
    return out


def _table(spectra: Spectra, links: dict[str, str]) -> Table:
    columns, stages = _columns(spectra), spectra.stages
    labels = [
        (column, said, which)
        for column, said in (("phase", "phase"), ("ww_label", "WeightWatcher label"))
        for which in stages
        if column in stages[which]
    ]
    heads = [
        "matrix",
        "kind",
        *(f"{said} {which}" if spectra.compared else said for _, said, which in labels),
    ]
    about = [""] * len(heads) + [depth.about(metric) for metric, _ in columns]
    for metric, which in columns:
        staged = spectra.compared and not depth.of_update_alone(metric)
        heads.append(depth.title(metric) + (f" {which}" if staged else ""))
    short = layers.short_names(spectra.names)
    kinds = dict(zip(spectra.table["name"], spectra.table["kind"], strict=True))
    # Noise of a shape is the same before and after, so it is shown once for the weights.
    now = [which for which in stages if which != "before" or "after" not in stages]
    lines = []
    for place, name in enumerate(spectra.names):
        rows = {which: spectra.row(which, name) for which in stages}
        below = "; ".join(filter(None, [_shape(spectra, name), _warning(spectra, name)]))
        line = [Cell(short[name], place, below=below, link=links.get(name, ""))]
        line.append(pages.text_cell(depth.words(kinds[name])))
        line += [_label(spectra, which, name, column) for column, _, which in labels]
        line += [_value(rows[which], metric, which in now) for metric, which in columns]
        lines.append(line)
    caption = (
        "Each matrix; below its name: slices × N × M, and warnings. Below a value: noise of that shape (for "
        "α: the range of 90 % of such matrices). WeightWatcher's label: over-trained where α is below 2, "
        "under-trained where it is above 6; below it the label that noise of that shape gets."
    )
    return Table(caption, heads, lines, left=2, about=about)


def _label(spectra: Spectra, which: str, name: str, column: str) -> Cell:
    """A label of a matrix, above the label that noise of its shape gets, where that is known."""
    null = spectra.text(which, name, f"{column}_null")
    return pages.text_cell(spectra.text(which, name, column), f"noise: {null}" if null else "")


def _shape(spectra: Spectra, name: str) -> str:
    return next(filter(None, (layers.shape(spectra.row(which, name)) for which in spectra.stages)), "")


def _value(row: Mapping[str, float], metric: str, with_null: bool) -> Cell:
    """A number of the table, with its standard error beside it and its null below if they exist."""
    ends = ("", "_null", "_se", "_null_low", "_null_high")
    value, null, error, low, high = (row.get(metric + end, np.nan) for end in ends)
    noise = f"{show(low)} – {show(high)}" if np.isfinite(low + high) else show(null)
    return Cell(
        show_metric(metric, value),
        value,
        below="as in noise" if metric == "alpha_null_p" and value > COMMON_IN_NOISE else "",
        error=show(error, 2) if error > 0 else "",
        null=noise if with_null and np.isfinite(null) else "",
    )


def _warning(spectra: Spectra, name: str) -> str:
    """The warnings of a matrix: those of the newest weights, and others that the update has."""
    last = "after" if name in spectra.rows.get("after", {}) else "before"
    # What p says in its own column is no warning here.
    now, update = (
        "; ".join(one for one in spectra.text(which, name, "warning").split("; ") if one != LIKE_NOISE)
        for which in (last, "update")
    )
    return "; ".join(filter(None, [now, f"update: {update}" if update and update != now else ""]))


def _everything(spectra: Spectra) -> Details:
    """All numeric columns of the file, in a folded table."""
    order = {name: place for place, name in enumerate(spectra.names)}
    rows = spectra.table.assign(place=spectra.table["name"].map(order)).sort_values("place", kind="stable")
    columns = [
        str(name)
        for name in spectra.table.columns
        if name not in ("name", "stage", "edge") and layers.column(spectra.table, name).notna().any()
    ]
    numbers = {name: layers.column(rows, name).tolist() for name in columns}
    stages = rows["stage"].tolist()
    lines = []
    for k, name in enumerate(rows["name"]):
        line = [Cell(name, order[name]), *([Cell(stages[k], stages[k])] if spectra.compared else [])]
        lines.append(line + [pages.number_cell(numbers[column][k]) for column in columns])
    heads = ["matrix", *(["stage"] if spectra.compared else []), *columns]
    whole = Table("Every column of spectra.parquet that holds numbers", heads, lines)
    return Details(f"All {len(columns)} columns", [whole])


def _matrices(spectra: Spectra, links: dict[str, str]) -> list[Any]:
    if not spectra.has_eigenvalues:
        return [
            pages.absent(
                "There is no spectra.npz in this folder, so the eigenvalues themselves are not drawn."
            )
        ]
    if not links:
        return [
            pages.absent("No matrix has an eigenvalue that is finite and not zero, so no spectrum is drawn.")
        ]
    blocks: list[Any] = [Legend(matrix_charts.KEYS), Text(_ABOUT_CHARTS)]
    drawable = sum(1 for name in spectra.names if spectra.curves.get(name))
    if drawable > len(links):
        blocks.append(
            Text(f"Only the first {len(links)} of {drawable} matrices are drawn; the table has all.")
        )
    short = layers.short_names(spectra.names)
    for place, (name, anchor) in enumerate(links.items()):
        note = _shape(spectra, name)
        blocks.append(Details(short[name], _matrix(spectra, name), anchor, note, opened=place < _OPEN))
    return blocks


def _matrix(spectra: Spectra, name: str) -> list[Charts]:
    """The charts of one matrix, a row of them for each stage."""
    blocks = []
    for which, curves in spectra.curves[name].items():
        if "density" in curves:
            row = spectra.row(which, name)
            caption = f"{which}: {_fit_in_words(row)}" if spectra.compared else _fit_in_words(row)
            blocks.append(Charts(matrix_charts.charts(curves, row, which, name), caption, columns=3))
        if "shift" in curves:
            blocks.append(
                Charts([matrix_charts.shift(curves["shift"], name)], "after against before", columns=3)
            )
    return blocks


def _fit_in_words(row: dict[str, float]) -> str:
    """The power law and other numbers of a matrix, as far as they are known."""
    alpha, error, low, high = (
        row.get(k, np.nan) for k in ("alpha", "alpha_se", "alpha_null_low", "alpha_null_high")
    )
    parts = []
    if np.isfinite(alpha):
        parts.append(f"α = {show(alpha)}" + (f" ± {show(error, 2)}" if np.isfinite(error) else ""))
    if np.isfinite(low + high):
        parts.append(f"noise {show(low)} – {show(high)}")
    known = [metric for metric in shown("caption") if np.isfinite(row.get(metric, np.nan))]
    return "; ".join(
        [*parts, *(f"{depth.title(metric)} {show_metric(metric, row[metric])}" for metric in known)]
    )
