"""The page of a run: everything its workdir holds, in one file that needs nothing else."""

import os
import pathlib

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rmtjax import results
from rmtjax.report import (
    evaluation,
    images,
    layers,
    panels,
    spectra,
    style,
    tables,
    template,
    texts,
    training,
    words,
)
from rmtjax.report.tables import Cell, escape, fraction, show
from rmtjax.report.template import Section, absent, picture
from rmtjax.results import Run, number


def run_page(path: str | os.PathLike[str]) -> pathlib.Path:
    """Draws `report.html` of a workdir, and its figures once more as `figures/*.png`; returns the page's path.

    A part whose file is missing is left out, with a sentence that says so.

    Raises:
      InputError: no such folder, or a damaged file in it.
    """
    run = results.read(path)
    with style.drawing():
        sections = [
            Section("evaluation", "Evaluation", _evaluation(run)),
            Section("training", "Training", _training(run)),
            Section("spectra", "Spectra of the weights", _spectra(run)),
            Section("diversity", "Diversity of the data", _diversity(run)),
            Section("synthetic", "Synthetic data", _synthetic(run)),
            Section("samples", "What the model saw", _samples(run)),
            Section("config", "Config", _config(run)),
            Section("run", "This run", _facts(run)),
        ]
    title = f"Run {run.path.resolve().name}"
    return results.write(run.path / results.PAGE, template.page(title, _header(run), sections).encode())


def _header(run: Run) -> str:
    lead = escape(words.trained(run))
    status = (run.facts or {}).get("status")
    warning = ""
    if status and status != "finished":
        step = show(number((run.facts or {}).get("step")))
        warning = f'<p class="warn">This run is not finished: {escape(status)}, at step {step}.</p>'
    cards = "".join(
        f"<li><span>{escape(name)}</span><b>{escape(value)}</b><small>{escape(note)}</small></li>"
        for name, value, note in _cards(run)
    )
    cards = f'<ul class="cards">{cards}</ul>' if cards else ""
    return f'<p class="lead">{lead}</p>{warning}{cards}'


def _cards(run: Run) -> list[tuple[str, str, str]]:
    out = []
    shifts = []
    if run.evaluation is not None:
        whole = evaluation.whole_sets(run.evaluation)
        shifts = list(dict.fromkeys(whole.loc[whole["kind"] == "shift", "set"]))[:2]
    for name, metric in (("test", "accuracy"), ("test", "ece"), *((name, "accuracy") for name in shifts)):
        row = evaluation.value_of(run.evaluation, name, metric)
        if row is not None:
            null = f"null {fraction(row.null)}" if np.isfinite(row.null) else ""
            title = f"{name.replace('_', ' ')}, {tables.metric_name(metric)}"
            out.append((title, fraction(row.value), f"{tables.interval(row.low, row.high)}\n{null}"))
    for line in spectra.summary(run.spectra, run.eigenvalues) if run.spectra is not None else []:
        if line.metric == "alpha" and np.isfinite([line.before, line.after]).any():
            known = [show(v) for v in (line.before, line.after) if np.isfinite(v)]
            noise = f"\nnoise {show(line.after_null)}" if np.isfinite(line.after_null) else ""
            title = "median α before, after" if len(known) == 2 else "median α"
            out.append((title, " → ".join(known), f"{line.matrices} matrices{noise}"))
        if line.metric == "relative_update":
            out.append(("median size of update", show(line.update), "‖update‖ / ‖before‖"))
    return out


def _figure(run: Run, drawn: Figure | None, name: str, alt: str, caption: str = "") -> str:
    """A figure in the page, and as figures/<name>.png beside it."""
    if drawn is not None:
        style.save_png(drawn, run.path / results.FIGURES / f"{name}.png")
    return picture(drawn, alt, name, caption)


def _training(run: Run) -> str:
    if run.metrics is None:
        return absent("There is no metrics.jsonl in this workdir, so there are no training curves.")
    drawn = training.curves(run.metrics)
    if drawn is None:
        return absent("metrics.jsonl holds no finite values yet.")
    caption = (
        "Faint: every step; strong: the running mean. In long runs the band is the range of the steps in it."
    )
    steps = f"{len(run.metrics)} steps"
    return _figure(
        run, drawn, "training", f"Training curves over {steps}: loss, accuracy and more by step", caption
    )


def _evaluation(run: Run) -> str:
    if run.evaluation is None:
        return absent(
            "There is no evaluation.json in this workdir, so nothing is known about how good the model is."
        )
    whole = evaluation.whole_sets(run.evaluation)
    ood = whole[whole["kind"] == "ood"]
    known = whole[whole["kind"] != "ood"]
    scaled = known["metric"].str.endswith("_ts")
    parts = [
        '<p class="note">Brackets: bootstrap 95 % intervals. Null: what a model of no merit would show; for a '
        "calibration error, what a perfectly calibrated model with the same confidences would. Accuracy: higher is better; the others: lower.</p>"
    ]
    parts.append(_figure(run, evaluation.sets_figure(run.evaluation), "evaluation",
                         "Accuracy, NLL, Brier score and calibration errors of each set with 95 % intervals and nulls"))  # fmt: skip
    if (~scaled).any():
        parts.append(evaluation.pivot("The model as trained", known[~scaled]))
    if scaled.any():
        temperature = f" {run.temperature:.3g}" if np.isfinite(run.temperature) else ""
        parts.append(evaluation.pivot(f"After temperature scaling (temperature{temperature}, fitted on validation)", known[scaled]))  # fmt: skip
    if len(ood):
        parts.append(evaluation.pivot("Telling examples of other classes apart (test against each set)", ood))
    severity = evaluation.severity_figure(run.evaluation)
    if severity is not None:
        parts.append("<h3>By corruption and severity</h3>")
        caption = "Accuracy with 95 % intervals; faint: the other corruptions; dotted: the null."
        parts.append(_figure(run, severity, "severity", "Accuracy by severity for each corruption", caption))
    reliability = evaluation.reliability_figure(run.reliability)
    if reliability is not None:
        parts.append("<h3>Reliability</h3>")
        caption = (
            "Accuracy by confidence; the area of a point is its share of the examples; dotted: calibrated."
        )
        parts.append(_figure(run, reliability, "reliability", "Accuracy by confidence for each set", caption))
    return "\n".join(parts)


def _spectra(run: Run) -> str:
    if run.spectra is None:
        return absent("There is no spectra.parquet in this workdir, so nothing is known about the weights.")
    return spectra_body(run, run.spectra)


def spectra_body(run: Run, table: pd.DataFrame) -> str:
    """Profile over depth, table and a panel for each matrix, of a workdir that holds spectra."""
    parts = [
        '<p class="note">Eigenvalues λ are of WᵀW, not divided by N. α: exponent of a power law fitted above xmin by '
        "maximum likelihood. Noise of that shape: what a matrix of independent entries shows; a value near it says "
        "nothing about training.</p>",
    ]
    profile = spectra.profile_figure(table, run.eigenvalues)
    alt = (
        "Spectral measures of each matrix over depth, before and after training and of the update, with nulls"
    )
    parts.append(_figure(run, profile, "spectra_profile", alt, "Matrices of a kind stand side by side, from the first layer to the last. Grey: noise of that shape, its median and 90 % range."))  # fmt: skip
    if not run.eigenvalues:
        parts.append(spectra.matrix_table(table, run.eigenvalues, linked=()))
        parts.append(
            absent("There is no spectra.npz in this workdir, so the eigenvalues themselves are not drawn.")
        )
        return "\n".join(parts)
    drawn = panels.panels(table, run.eigenvalues)
    parts.append(spectra.matrix_table(table, run.eigenvalues, linked=tuple(panel.anchor for panel in drawn)))
    parts.append(_panels(drawn, layers.measured(table)["name"].nunique()))
    parts.append(spectra.left_out(table))
    overview = panels.overview_figure(table, run.eigenvalues)
    if overview is not None:
        style.save_png(overview, run.path / results.FIGURES / "spectra.png")
    return "\n".join(parts)


def _panels(drawn: list[panels.Panel], count: int) -> str:
    key = "".join(
        f'<span class="swatch" style="border-color:var(--{s})"></span>{s} &ensp;' for s in layers.STAGES
    )
    parts = [
        "<h3>Matrix by matrix</h3>",
        f'<p class="note">{key} Share of eigenvalues ≥ λ, against λ. Dashed: the power law, from xmin (upright mark) '
        "on. Dotted: upper edge of the Marchenko-Pastur bulk.</p>",
    ]
    if len(drawn) < count:
        parts.append(f'<p class="note">{len(drawn)} of {count} matrices are drawn; the table has all.</p>')
    step = 36
    for start in range(0, len(drawn), step):
        part = drawn[start : start + step]
        shown = "".join(
            f'<figure id="{panel.anchor}"><figcaption>{tables.breakable(panel.name)}<br>{_exponents(panel)}</figcaption>'
            f"{style.to_svg(panel.drawn, panel.alt, panel.anchor)}</figure>"
            for panel in part
        )
        single = " single" if all(len(panel.drawn.axes) == 1 for panel in part) else ""
        grid = f'<div class="panels{single}">{shown}</div>'
        if start:
            last = start + len(part)
            grid = f"<details><summary>Matrices {start + 1} to {last}</summary>{grid}</details>"
        parts.append(grid)
    return "\n".join(parts)


def _exponents(panel: panels.Panel) -> str:
    return "".join(
        f'<small style="color:var(--{which})">{which} α {show(alpha)}</small>'
        for which, alpha in panel.alphas.items()
    )


def _diversity(run: Run) -> str:
    if run.diversity is None:
        return absent(
            "There is no diversity.json in this workdir, so the diversity of the data is not known."
        )
    rows = run.diversity.copy()
    spaces = list(dict.fromkeys(rows["space"]))
    rows["metric"] = [f"{tables.metric_name(m)}, {s}s" if s in ("pixel", "feature", "unigram") else f"{tables.metric_name(m)} {s}".strip()
                      for m, s in zip(rows["metric"], rows["space"], strict=True)]  # fmt: skip
    note = f"Features: {run.feature_model}. " if run.feature_model and "feature" in spaces else ""
    alike = rows[rows["set"] != "fed"] if (rows["set"] == "fed").any() else rows
    if alike["n"].nunique() == 1:
        note += f"All sets {'but fed ' if alike is not rows else ''}are compared at equal n. "
    return (
        f'<p class="note">{escape(note)}Brackets: 95 % '
        "intervals over examples. Vendi score: the effective number of different examples. Coverage: the share of "
        "test examples with an example of the set in their neighbourhood. Weighted Vendi: the score times the cosine between "
        "augmented examples and those they were made from; unpaired: times the cosine between the mean of a set and that of the real training "
        "split. Fed: an epoch as it is trained on, at the size of the real training split. Nulls: isotropic noise, an upper end, for the Vendi score; as many "
        "fresh examples of the test set’s own law for coverage; pairs at random for weighted Vendi.</p>"
    ) + evaluation.pivot("Diversity by set", rows)


def _synthetic(run: Run) -> str:
    if run.synthetic is None and run.synthetic_by_class is None:
        return absent("There is no synthetic.json in this workdir: this run used no synthetic examples.")
    parts = []
    facts = run.synthetic or {}
    judged = facts.get("recognised")
    judged = judged if isinstance(judged, dict) else {"value": judged}
    recognised = number(judged.get("value"))
    items = []
    if np.isfinite(recognised):
        spread = tables.interval(number(judged.get("low")), number(judged.get("high")))
        n = number(judged.get("n"))
        of = f" of {n:.0f}" if np.isfinite(n) else ""
        items.append(("recognised as their class by a judge", f"{fraction(recognised)} {spread}{of}".strip()))
    elif judged.get("reason"):
        items.append(("recognised as their class by a judge", f"not judged: {judged['reason']}"))
    near, reference = (
        number(facts.get("nearest_training_distance")),
        number(facts.get("nearest_test_distance")),
    )
    if np.isfinite(near):
        items.append(("median distance to the nearest training example", show(near)))
    if np.isfinite(reference):
        items.append(("the same of real test examples", show(reference)))
    if np.isfinite(near) and reference > 0:
        ratio = near / reference
        items.append(
            ("ratio of these distances", f"{ratio:.2f} (1: as far as unseen real examples; near 0: copies)")
        )
    if items:
        parts.append(tables.pairs(items))
    if run.synthetic_by_class is not None and run.synthetic_by_class.get("images", np.zeros(0)).size:
        path = images.synthetic(run.path)
        parts.append(
            template.image(path, "Synthetic examples, a row for each class", "Synthetic examples by class.")
        )
    rest = [
        (k, v)
        for k, v in words.all_fields(facts)
        if not k.startswith(("recognised", "nearest_", "distance_ratio"))
    ]
    if rest:
        parts.append(f"<details><summary>The set’s manifest</summary>{tables.pairs(rest)}</details>")
    return "\n".join(parts) or absent("synthetic.json is empty.")


def _samples(run: Run) -> str:
    if run.samples is None:
        return absent("There is no samples.npz in this workdir, so what the model saw is not shown.")
    if texts.are_texts(run.samples):
        return texts.samples_tables(run.samples, run.classes or [])
    path = images.samples(run.path)
    caption = "Examples as they entered the model, with their classes. Columns of real and augmented are the same examples."
    return template.image(path, "Examples of each source, with their classes", caption)


def _config(run: Run) -> str:
    if run.config is None:
        return absent("There is no config.json in this workdir.")
    changed = words.changed_fields(run.config)
    rows = [
        [Cell(f"<code>{escape(n)}</code>", n), tables.text_cell(v), tables.text_cell(d)]
        for n, v, d in changed
    ]
    parts = [tables.table("What differs from the defaults", ["field", "value", "default"], rows, left=3)]
    if not rows:
        parts = ["<p>Every field has its default.</p>"]
    every = tables.pairs(words.all_fields(run.config))
    parts.append(f"<details><summary>All fields</summary>{every}</details>")
    return "\n".join(parts)


def _facts(run: Run) -> str:
    if run.facts is None:
        return absent("There is no run.json in this workdir.")
    return tables.pairs(words.facts_list(run))
