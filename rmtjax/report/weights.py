"""The page of an analysis: what `spectra.Analysis.save` wrote, of one model or of two, in one file."""

import os
import pathlib
import re
from collections import Counter

import numpy as np
import pandas as pd

from rmtjax import results
from rmtjax.errors import InputError
from rmtjax.report import densities, layers, profile, spectra, tables, template
from rmtjax.report.tables import Cell, breakable, escape, number_cell, show
from rmtjax.report.template import Section, absent

_MOST_MATRICES = 300
_OPEN = 3  # panels that are open from the start
_TABLE = (
    "norm_ratio", "cosine", "alpha", "alpha_null_p", "gof_p", "D", "num_pl_spikes", "stable_rank", "entropy",
    "mp_softrank", "num_spikes", "tw_p", "ks_mp", "matrix_rank", "log_norm", "log_spectral_norm",
)  # fmt: skip
_TABLE_COMPARED = ("norm_ratio", "cosine", "alpha", "alpha_null_p", "gof_p", "stable_rank", "entropy", "num_spikes", "ks_mp")  # fmt: skip
_HEADS = {
    "norm_ratio": "size of update", "alpha": "α", "alpha_null_p": "p in noise", "gof_p": "p of fit", "mp_softrank": "MP soft rank",
    "num_spikes": "spikes", "num_pl_spikes": "tail size", "tw_p": "Tracy-Widom p", "ks_mp": "KS to MP", "matrix_rank": "rank",
    "log_norm": "log norm", "log_spectral_norm": "log λ max",
}  # fmt: skip
_MEDIANS = ("norm_ratio", "alpha", "alpha_null_p", "gof_p", "stable_rank", "entropy", "mp_softrank", "num_spikes", "ks_mp")  # fmt: skip


def spectra_page(directory: str | os.PathLike[str]) -> pathlib.Path:
    """Draws `report.html` of a folder that holds spectra.parquet and spectra.npz; returns the page's path.

    The table may have a column `stage` (before, after, update), with eigenvalues under `<stage>/<name>`, or none,
    with eigenvalues under `<name>`. Only columns that exist are shown; without spectra.npz no spectrum is drawn.

    Raises:
      InputError: no such folder, no spectra.parquet in it, or a damaged file.
    """
    path = results.folder(directory)
    table, eigenvalues, compared = results.read_spectra(path)
    if table is None:
        raise InputError(
            f"no spectra.parquet in {str(path)!r}: give a folder that `python -m rmtjax.spectra --out` has written to"
        )
    measured = layers.measured(table)
    measured["stage"] = measured["stage"].replace("", "after")
    names = layers.ordered_names(measured)
    anchors = {name: f"matrix-{k}" for k, name in enumerate(names)}
    drawn = _drawable(measured, eigenvalues, names)
    linked = {name: anchors[name] for name in list(drawn)[:_MOST_MATRICES]}
    sections = [
        Section("kinds", "By kind of layer", _kinds(measured, names, linked, compared)),
        Section("spectra", "Matrix by matrix", _table(measured, names, linked, compared)),
        Section("densities", "Spectra", _densities(measured, drawn, linked, compared, eigenvalues)),
    ]  # fmt: skip
    title = _title(table, path)
    header = _header(table, measured, compared)
    return results.write(path / results.PAGE, template.page(title, header, sections).encode())


def _title(table: pd.DataFrame, path: pathlib.Path) -> str:
    sources = _sources(table)
    names = [pathlib.PurePath(source).name or source for source in sources]
    return f"Spectra of {' against '.join(names[::-1]) if names else path.resolve().name}"


def _sources(table: pd.DataFrame) -> list[str]:
    """Where the weights came from, of a comparison before and after; empty where nobody wrote it down."""
    source = table.attrs.get("source")
    if isinstance(source, dict):
        source = list(source.values())
    return [str(s) for s in source] if isinstance(source, list | tuple) else [str(source)] if source else []


def _header(table: pd.DataFrame, measured: pd.DataFrame, compared: bool) -> str:
    count = measured["name"].nunique()
    found = Counter(profile.kind_of(measured.drop_duplicates("name")))
    by_kind = ", ".join(f"{n} {profile.words(kind)}" for kind, n in found.most_common())
    lead = f"{count} weight {'matrix' if count == 1 else 'matrices'}"
    lead += f" ({by_kind})" if "kind" in measured else ""
    lead += ", before and after training, and the update between them." if compared else "."
    facts = []
    sources = _sources(table)
    labels = ("before", "after") if len(sources) == 2 else ("weights",) * len(sources)
    facts += list(zip(labels, sources, strict=True))
    for name, said in (("precision", "precision"), ("metrics", "metrics"), ("seed", "seed")):
        value = table.attrs.get(name)
        if value is not None:
            facts.append(
                (said, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
            )
    parts = [f'<p class="lead">{escape(lead)}</p>', tables.pairs(facts) if facts else ""]
    parts.append(_warnings(measured))
    parts.append(spectra.left_out(table))
    parts.append(
        '<p class="note">Eigenvalues λ are of WᵀW, not divided by N; W is N × M with N ≥ M. α: exponent of a power law '
        "fitted above xmin by maximum likelihood. Noise of that shape: what a matrix of independent entries shows; a "
        "value near it says nothing about training. MP: Marchenko-Pastur.</p>"
    )
    return "\n".join(part for part in parts if part)


def _warnings(measured: pd.DataFrame) -> str:
    """How often each warning was given: those that differ in their numbers count as one, and the first is quoted."""
    if "warning" not in measured:
        return ""
    said = measured.loc[measured["stage"] != "before", ["name", "warning"]]
    first: dict[str, str] = {}
    owners: dict[str, set[str]] = {}
    for name, warning in zip(said["name"], _texts(said["warning"]), strict=True):
        for one in filter(None, warning.split("; ")):
            pattern = re.sub(r"\d+", "#", one)
            first.setdefault(pattern, one)
            owners.setdefault(pattern, set()).add(name)
    total, warned = measured["name"].nunique(), set().union(*owners.values())
    if not warned:
        return '<p class="note">No matrix has a warning.</p>'
    items = "".join(
        f"<li>{escape(first[pattern])}{' and the like' if '#' in pattern and len(names) > 1 else ''}: {len(names)} of {total} matrices</li>"
        for pattern, names in sorted(owners.items(), key=lambda item: -len(item[1]))
    )
    return f'<div class="warn">{len(warned)} of {total} matrices have a warning:<ul>{items}</ul></div>'


def _texts(column: pd.Series) -> list[str]:
    return ["" if value is None or value != value else str(value) for value in column]


def _kinds(measured: pd.DataFrame, names: list[str], linked: dict[str, str], compared: bool) -> str:
    stages = [which for which in layers.STAGES if (measured["stage"] == which).any()]
    found = profile.metrics(measured)
    main = [metric for metric in found if metric in profile.MAIN]
    rest = [metric for metric in found if metric not in profile.MAIN]
    parts = [
        profile.medians(measured, list(_MEDIANS), stages),
        profile.legend(profile.kinds(measured), compared),
        profile.charts(measured, main, names, linked),
    ]
    if rest:
        shown = profile.charts(measured, rest, names, linked)
        parts.append(f"<details><summary>{len(rest)} more metrics over depth</summary>{shown}</details>")
    return "\n".join(parts)


def _table(measured: pd.DataFrame, names: list[str], linked: dict[str, str], compared: bool) -> str:
    stages = {which: layers.stage(measured, which) for which in layers.STAGES}
    stages = {which: rows for which, rows in stages.items() if len(rows)}
    columns = [
        (metric, which)
        for metric in (_TABLE_COMPARED if compared else _TABLE)
        for which in stages
        if layers.column(stages[which], metric).notna().any()
        and not (compared and which == "before" and metric not in ("alpha", "stable_rank", "num_spikes"))
    ]
    phases = [which for which in stages if "phase" in stages[which]]
    heads = ["matrix", *(["kind"] if "kind" in measured else [])]
    heads += [f"phase {which}" if compared else "phase" for which in phases]
    single = ("norm_ratio", "cosine")  # only the update has them
    heads += [
        _HEADS.get(m, m.replace("_", " ")) + (f" {which}" if compared and m not in single else "")
        for m, which in columns
    ]
    short = layers.short_names(names)
    shapes = measured.drop_duplicates("name").set_index("name")
    kinds = profile.kind_of(shapes)
    lines = []
    for place, name in enumerate(names):
        said = breakable(short[name])
        said = f'<a href="#{linked[name]}">{said}</a>' if name in linked else said
        below = "; ".join(filter(None, [spectra.shape(measured, name), _warning(stages, name)]))
        line = [Cell(f"{said}<small>{escape(below)}</small>", place)]
        line += [tables.text_cell(profile.words(kinds[name]))] if "kind" in measured else []
        line += [tables.text_cell(_phase(stages[which], name)) for which in phases]
        line += [
            spectra.value(stages[which], name, metric, with_null=which != "before")
            for metric, which in columns
        ]
        lines.append(line)
    note = "Each matrix; below its name: slices × N × M, and warnings. Below a value: noise of that shape (α: 90 % of such matrices)"
    return tables.table(note, heads, lines) + _everything(measured, names, compared)


def _warning(stages: dict[str, pd.DataFrame], name: str) -> str:
    """The warnings of a matrix: of the weights as they are, and those that the update has besides."""
    said = {
        which: _texts(rows.loc[[name], "warning"])[0]
        for which, rows in stages.items()
        if "warning" in rows and name in rows.index
    }
    now = said.get("after") or ("" if "after" in said else said.get("before", ""))
    update = said.get("update", "")
    return "; ".join(filter(None, [now, f"update: {update}" if update and update != now else ""]))


def _phase(rows: pd.DataFrame, name: str) -> str:
    return _texts(rows.loc[[name], "phase"])[0] if name in rows.index else ""


def _everything(measured: pd.DataFrame, names: list[str], compared: bool) -> str:
    """All numeric columns of the file, folded away."""
    order = {name: place for place, name in enumerate(names)}
    rows = measured.assign(place=measured["name"].map(order)).sort_values("place", kind="stable")
    columns = [
        str(c)
        for c in measured.columns
        if c not in ("name", "stage", "edge") and layers.column(measured, c).notna().any()
    ]
    numbers = {column: layers.column(rows, column).tolist() for column in columns}
    stages = rows["stage"].tolist()
    lines = []
    for k, name in enumerate(rows["name"]):
        line = [Cell(breakable(name), order[name])]
        line += [Cell(stages[k], stages[k])] if compared else []
        lines.append(line + [number_cell(numbers[column][k]) for column in columns])
    heads = ["matrix", *(["stage"] if compared else []), *columns]
    whole = tables.table("Every column of spectra.parquet that holds numbers", heads, lines)
    return f'<details class="everything"><summary>All {len(columns)} columns</summary>{whole}</details>'


def _drawable(
    measured: pd.DataFrame, eigenvalues: dict[str, np.ndarray] | None, names: list[str]
) -> dict[str, dict[str, np.ndarray]]:
    """Positive finite eigenvalues by name and stage, of matrices that have any."""
    out: dict[str, dict[str, np.ndarray]] = {}
    for name in names:
        stored = {
            which: layers.positive((eigenvalues or {}).get(f"{which}/{name}")) for which in layers.STAGES
        }
        stored = {which: values for which, values in stored.items() if len(values)}
        if stored:
            out[name] = stored
    return out


def _densities(
    measured: pd.DataFrame,
    drawn: dict[str, dict[str, np.ndarray]],
    linked: dict[str, str],
    compared: bool,
    eigenvalues: dict[str, np.ndarray] | None,
) -> str:
    if eigenvalues is None:
        return absent("There is no spectra.npz in this folder, so the eigenvalues themselves are not drawn.")
    if not drawn:
        return absent("No matrix has an eigenvalue that is finite and not zero, so no spectrum is drawn.")
    rows = {which: layers.stage(measured, which) for which in layers.STAGES}
    short = layers.short_names(list(dict.fromkeys(measured["name"])))
    parts = [
        '<p class="note">'
        f"{_key('ink', 'Marchenko-Pastur law of the noise, dotted its upper edge')}{_key('second', 'spikes: eigenvalues beyond noise')}"
        f"{_key('fit', 'power law from xmin on; the chosen xmin')}{_key('null', 'start of the ERG tail; noise’s α, 90 %')}</p>"
        '<p class="note">Left: histogram on linear axes. Middle: in logarithmic bins on logarithmic axes. Right: what α '
        "would be for each start of the tail, with its standard error; where it is flat, α does not hang on xmin.</p>"
    ]
    if len(drawn) > len(linked):
        parts.append(f'<p class="note">The first {len(linked)} of {len(drawn)} matrices are drawn; the table has all.</p>')  # fmt: skip
    for place, (name, anchor) in enumerate(linked.items()):
        body = ""
        for which, values in drawn[name].items():
            numbers = _numbers(rows[which], name)
            what = f"{which}: " if compared else ""
            body += f'<figure class="three"><figcaption>{escape(what + _said(numbers))}</figcaption>'
            body += f"{densities.charts(values, numbers, which, name)}</figure>"
        body += _shift(eigenvalues, name) if compared else ""
        opened = " open" if place < _OPEN else ""
        shape = spectra.shape(measured, name)
        parts.append(
            f'<details class="matrix" id="{anchor}"{opened}><summary>{breakable(short[name])} <small>{escape(shape)}</small></summary>{body}</details>'
        )
    return "\n".join(parts)


def _shift(eigenvalues: dict[str, np.ndarray], name: str) -> str:
    before, after = (eigenvalues.get(f"{which}/{name}") for which in ("before", "after"))
    if before is None or after is None or len(before) != len(after):
        return ""
    if not (np.isfinite([before, after]).all() and before[-1] > 0):
        return ""
    return f'<figure class="three"><figcaption>after against before</figcaption>{densities.shifts(before, after, name)}</figure>'


def _key(colour: str, text: str) -> str:
    return f'<span class="mark"><span class="swatch" style="border-color:var(--{colour})"></span>{escape(text)}</span>'


def _numbers(rows: pd.DataFrame, name: str) -> dict[str, float]:
    if name not in rows.index:
        return {}
    return {str(column): results.number(value) for column, value in rows.loc[name].items()}


def _said(row: dict[str, float]) -> str:
    """The fit in words: only what is known."""
    nan = float("nan")
    parts = []
    alpha, error, low, high = (
        row.get(k, nan) for k in ("alpha", "alpha_se", "alpha_null_low", "alpha_null_high")
    )
    if np.isfinite(alpha):
        parts.append(f"α = {show(alpha)}" + (f" ± {show(error, 2)}" if np.isfinite(error) else ""))
    if np.isfinite(low + high):
        parts.append(f"noise {show(low)} – {show(high)}")
    for name, said in (("alpha_null_p", "p of so small an α in noise"), ("gof_p", "p of the fit"), ("D", "D"), ("num_pl_spikes", "eigenvalues in the tail"),
                       ("num_spikes", "spikes"), ("tw_p", "Tracy-Widom p"), ("ks_mp", "KS of the bulk to MP"), ("noise_std", "noise σ")):  # fmt: skip
        if np.isfinite(row.get(name, nan)):
            parts.append(f"{said} {show(row[name])}")
    return "; ".join(parts)
