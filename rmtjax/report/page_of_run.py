"""The page of a run: the content of its workdir in one self-contained file."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmtjax import results
from rmtjax.report import (
    curvature,
    depth,
    evaluation,
    images,
    layers,
    matrix_charts,
    page_of_spectra,
    pages,
    png,
    spectral_data,
    training,
    words,
)
from rmtjax.report.chart import Chart, Key
from rmtjax.report.numbers import fraction, interval, metric_name, show
from rmtjax.report.pages import (
    Cards,
    Charts,
    Details,
    Heading,
    Pairs,
    Picture,
    Section,
    Table,
    Text,
    absent,
    text_cell,
)
from rmtjax.results import Run, number
from rmtjax.spectra.metrics import shown

_BRACKETS = (
    "Brackets: bootstrap 95 % intervals. Null: the value for a model that has learned nothing; for a "
    "calibration error, the value for a perfectly calibrated model with the same confidences. Higher is "
    "better for accuracy, lower for all others."
)
_DIVERSITY = (
    "Brackets: 95 % intervals over examples. Vendi score: the effective number of different examples. "
    "Coverage: the share of test examples with an example of the set in their neighbourhood. Weighted "
    "Vendi: the score times the cosine between augmented examples and their originals; unpaired: times the "
    "cosine between the mean of a set and that of the real training split. Fed: an epoch of training "
    "examples, as many as the real training split has. Nulls: isotropic noise (an upper end) for the Vendi "
    "score; as many fresh examples from the distribution of the test set for coverage; random pairs for "
    "weighted Vendi."
)
_CURVATURE = (
    "Of the mean cross-entropy over fixed real training examples, in evaluation mode and without "
    "smoothing or decay, by all parameters. The trace is Hutchinson’s estimate with its 95 % interval "
    "over probes; eigenvalues and densities come from a Lanczos process. The density is broadened as "
    "far as the process resolves it; its 95 % band is for the randomness of the probe. The Gauss-Newton "
    "matrix is the Hessian without the curvature of the network, and has no negative eigenvalue."
)
_TEXTS = {"real": "text", "augmented": "as augmented", "synthetic": "synthetic text"}


def run_page(path: str | os.PathLike[str]) -> pathlib.Path:
    """Draws `report.html` of a workdir and its figures `figures/*.png`; returns the path of the page.

    If a file is missing, a sentence takes the place of its section.

    Raises:
      InputError: there is no such folder, or a file in it is damaged.
    """
    run = results.read(path)
    spectra = spectral_data.load(run.path)
    sections = [
        Section("evaluation", "Evaluation", _evaluation(run)),
        Section("training", "Training", _training(run)),
        Section("spectra", "Spectra of the weights", _spectra(run, spectra)),
        *([Section("curvature", "Curvature of the loss", _curvature(run))] if run.curvature else []),
        Section("diversity", "Diversity of the data", _diversity(run)),
        Section("synthetic", "Synthetic data", _synthetic(run)),
        Section("samples", "Training examples", _samples(run)),
        Section("config", "Config", _config(run)),
        Section("run", "This run", _facts(run)),
    ]
    title = f"Run {run.path.resolve().name}"
    return results.write(run.path / results.PAGE, pages.render(title, _header(run, spectra), sections))


def _header(run: Run, spectra: spectral_data.Spectra | None) -> list[Any]:
    blocks: list[Any] = [Text(words.trained(run), "lead")]
    status = (run.facts or {}).get("status")
    if status and status != "finished":
        step = show(number((run.facts or {}).get("step")))
        blocks.append(Text(f"This run is not finished: {status}, at step {step}.", "warn"))
    if run.gaps:
        blocks.append(Text(f"{run.gaps}.", "warn"))
    cards = _cards_of_evaluation(run) + ([] if spectra is None else _cards_of_spectra(spectra))
    return [*blocks, Cards(cards)] if cards else blocks


def _cards_of_evaluation(run: Run) -> list[tuple[str, str, str]]:
    if run.evaluation is None:
        return []
    whole = evaluation.whole_sets(run.evaluation)
    shifts = list(dict.fromkeys(whole.loc[whole["kind"] == "shift", "set"]))[:2]
    out = []
    for name, metric in (("test", "accuracy"), ("test", "ece"), *((name, "accuracy") for name in shifts)):
        row = evaluation.value_of(run.evaluation, name, metric)
        if row is not None:
            null = f"null {fraction(row.null)}" if np.isfinite(row.null) else ""
            title = f"{name.replace('_', ' ')}, {metric_name(metric)}"
            out.append((title, fraction(row.value), f"{interval(row.low, row.high)}\n{null}"))
    return out


def _cards_of_spectra(spectra: spectral_data.Spectra) -> list[tuple[str, str, str]]:
    out = []
    for line in spectral_data.summary(spectra.table):
        if line.metric not in shown("cards"):
            continue
        title = f"median {depth.title(line.metric)}"
        matrices = f"{line.matrices} {'matrix' if line.matrices == 1 else 'matrices'}"
        if depth.of_update_alone(line.metric):
            out.append((title, show(line.update), matrices))
            continue
        known = [show(value) for value in (line.before, line.after) if np.isfinite(value)]
        noise = f"\nnoise {show(line.after_null)}" if np.isfinite(line.after_null) else ""
        if known:
            out.append(
                (title + (" before, after" if len(known) == 2 else ""), " → ".join(known), matrices + noise)
            )
    return out


def _drawn(
    run: Run,
    name: str,
    charts: Sequence[Chart],
    caption: str = "",
    columns: int = 3,
    keys: Sequence[Key] = (),
) -> Charts:
    """Charts for the page; they are also written to figures/<name>.png."""
    if charts:
        png.save(run.path / results.FIGURES / f"{name}.png", charts, columns, keys)
    return Charts(charts, caption, columns if columns < 4 else 0, keys)


def _training(run: Run) -> list[Any]:
    if run.metrics is None:
        return [absent("There is no metrics.jsonl in this workdir, so there are no training curves.")]
    charts = training.curves(run.metrics)
    if not charts:
        return [absent("metrics.jsonl holds no finite values yet.")]
    caption = (
        "Faint: every step; strong: the running mean. In long runs the band is the range over nearby steps."
    )
    return [_drawn(run, "training", charts, caption, keys=training.KEYS)]


def _evaluation(run: Run) -> list[Any]:
    if run.evaluation is None:
        missing = "There is no evaluation.json in this workdir, so the quality of the model is not known."
        return [absent(missing)]
    whole = evaluation.whole_sets(run.evaluation)
    ood, known = whole[whole["kind"] == "ood"], whole[whole["kind"] != "ood"]
    scaled = known["metric"].str.endswith("_ts")
    keys = [key for key in evaluation.KEYS if scaled.any() or not key.hollow]
    blocks: list[Any] = [Text(_BRACKETS)]
    charts = evaluation.sets_charts(run.evaluation)
    if charts:
        blocks.append(_drawn(run, "evaluation", charts, columns=5, keys=keys))
    if (~scaled).any():
        blocks.append(evaluation.pivot("The model as trained", known[~scaled]))
    if scaled.any():
        temperature = f" {run.temperature:.3g}" if np.isfinite(run.temperature) else ""
        caption = f"After temperature scaling (temperature{temperature}, fitted on validation)"
        blocks.append(evaluation.pivot(caption, known[scaled]))
    if len(ood):
        blocks.append(evaluation.pivot("Detection of examples of other classes (test against each set)", ood))
    severity = evaluation.severity_charts(run.evaluation)
    if severity:
        caption = "Accuracy by severity; 0: no corruption. Faint: the other corruptions; dotted: the null."
        blocks += [Heading("By corruption and severity"), _drawn(run, "severity", severity, caption, 4)]
    reliability = evaluation.reliability_charts(run.reliability)
    if reliability:
        caption = (
            "Accuracy by confidence; the area of a point is its share of the examples; dotted: calibrated."
        )
        blocks += [Heading("Reliability"), _drawn(run, "reliability", reliability, caption, 4)]
    return blocks


def _spectra(run: Run, spectra: spectral_data.Spectra | None) -> list[Any]:
    """The body of the page of spectra; each of its sections has a heading."""
    if spectra is None:
        return [absent("There is no spectra.parquet in this workdir, so nothing is known about the weights.")]
    main = [metric for metric in depth.measured_metrics(spectra.table) if metric in shown("depth")]
    over_depth = depth.charts(spectra.table, main, spectra.names, {})
    if over_depth:
        keys = depth.keys(spectra.table, spectra.compared)
        png.save(run.path / results.FIGURES / "spectra_profile.png", over_depth, 2, keys)
    overview = _overview(spectra)
    if overview:
        note = "eigenvalues λ of WᵀW; dashed: power law above xmin; dotted: upper edge of the MP bulk"
        png.save(run.path / results.FIGURES / "spectra.png", overview, 4, note=note)
    blocks: list[Any] = page_of_spectra.introduction(spectra)
    for section in page_of_spectra.body(spectra):
        blocks += [Heading(section.title), *section.blocks]
    return blocks


def _curvature(run: Run) -> list[Any]:
    step, arrays = list(run.curvature.items())[-1]
    probes = len(arrays["hessian/traces"])
    charts = [] if run.metrics is None else curvature.by_step(run.metrics, probes)
    charts += curvature.densities(arrays, step)
    return [
        Text(_CURVATURE),
        _drawn(run, "curvature", charts, f"Densities: at step {step}.", 2, curvature.KEYS),
        curvature.largest(arrays, step),
    ]


def _overview(spectra: spectral_data.Spectra) -> list[Chart]:
    """Spectra before and after training, for up to eight matrices spread over the model."""
    drawable = {}
    for name in spectra.names:
        of = {which: one for which, one in spectra.curves.get(name, {}).items() if which != "update"}
        if of and all("survival" in one for one in of.values()):
            drawable[name] = of
    short = layers.short_names(spectra.names)
    charts = []
    for name in matrix_charts.overview(list(drawable)):
        rows = {which: spectra.row(which, name) for which in drawable[name]}
        charts.append(matrix_charts.survival(drawable[name], rows, short[name]))
    return charts


def _diversity(run: Run) -> list[Any]:
    if run.diversity is None:
        return [
            absent("There is no diversity.json in this workdir, so the diversity of the data is not known.")
        ]
    rows = run.diversity.copy()
    note = (
        f"Features: {run.feature_model}. " if run.feature_model and (rows["space"] == "feature").any() else ""
    )
    alike = rows[rows["set"] != "fed"] if (rows["set"] == "fed").any() else rows
    if alike["n"].nunique() == 1:
        note += f"All sets {'but fed ' if alike is not rows else ''}are compared at equal n. "
    rows["metric"] = [metric_name(m, space) for m, space in zip(rows["metric"], rows["space"], strict=True)]
    return [Text(note + _DIVERSITY), evaluation.pivot("Diversity by set", rows)]


def _synthetic(run: Run) -> list[Any]:
    if run.synthetic is None and run.synthetic_by_class is None:
        return [absent("There is no synthetic.json in this workdir: this run used no synthetic examples.")]
    facts = run.synthetic or {}
    blocks: list[Any] = []
    items = [*_recognised(facts), *_distances(facts)]
    if items:
        blocks.append(Pairs(items))
    if run.synthetic_by_class is not None and run.synthetic_by_class.get("images", np.zeros(0)).size:
        path = images.synthetic(run.path)
        caption = "Synthetic examples by class."
        blocks.append(Picture(path, "Synthetic examples, a row for each class", caption))
    shown_above = ("recognised", "nearest_", "distance_ratio")
    rest = [(name, value) for name, value in words.all_fields(facts) if not name.startswith(shown_above)]
    if rest:
        blocks.append(Details("The manifest of the set", [Pairs(rest)]))
    return blocks or [absent("synthetic.json is empty.")]


def _recognised(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    judged = facts.get("recognised")
    judged = judged if isinstance(judged, dict) else {"value": judged}
    value, n = number(judged.get("value")), number(judged.get("n"))
    name = "assigned to their class by a judge"
    if np.isfinite(value):
        spread = interval(number(judged.get("low")), number(judged.get("high")))
        of = f" of {n:.0f}" if np.isfinite(n) else ""
        return [(name, f"{fraction(value)} {spread}{of}".strip())]
    return [(name, f"not judged: {judged['reason']}")] if judged.get("reason") else []


def _distances(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    near = number(facts.get("nearest_training_distance"))
    reference = number(facts.get("nearest_test_distance"))
    items = []
    if np.isfinite(near):
        items.append(("median distance to the nearest training example", show(near)))
    if np.isfinite(reference):
        items.append(("the same distance for real test examples", show(reference)))
    if np.isfinite(near) and reference > 0:
        meaning = "1: as far as unseen real examples; near 0: copies"
        items.append(("ratio of these distances", f"{near / reference:.2f} ({meaning})"))
    return items


def _samples(run: Run) -> list[Any]:
    if run.samples is None:
        return [absent("There is no samples.npz in this workdir, so no training examples are shown.")]
    if any(np.asarray(run.samples[name]).dtype.kind == "U" for name in _TEXTS if name in run.samples):
        return _tables_of_texts(run.samples, run.classes or [])
    caption = "Examples as they entered the model, with their classes."
    if len(run.samples.get("augmented", ())):
        caption += " Columns of real and augmented are the same examples."
    return [Picture(images.samples(run.path), "Examples of each source, with their classes", caption)]


def _tables_of_texts(samples: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[Any]:
    """The texts of samples.npz with their classes; real ones beside their augmented versions."""
    blocks = []
    for caption, columns in (("Real texts", ("real", "augmented")), ("Synthetic texts", ("synthetic",))):
        there = [name for name in columns if name in samples]
        if there:
            labels = samples.get(f"{there[0]}_label", np.zeros(0, np.int32))
            names = [classes[k] if 0 <= k < len(classes) else str(k) for k in labels.tolist()]
            texts = zip(names, *(samples[name].tolist() for name in there), strict=True)
            rows = [[text_cell(value) for value in row] for row in texts]
            blocks.append(Table(caption, ["class", *(_TEXTS[name] for name in there)], rows, left=3))
    return blocks


def _config(run: Run) -> list[Any]:
    if run.config is None:
        return [absent("There is no config.json in this workdir.")]
    rows = [[text_cell(part) for part in line] for line in words.changed_fields(run.config)]
    changed = Table("Fields that differ from the defaults", ["field", "value", "default"], rows, left=3)
    every = Details("All fields", [Pairs(words.all_fields(run.config))])
    return [changed if rows else Text("Every field has its default.", ""), every]


def _facts(run: Run) -> list[Any]:
    if run.facts is None:
        return [absent("There is no run.json in this workdir.")]
    return [Pairs(words.facts_list(run))]
