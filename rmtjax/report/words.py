"""A run and its results in sentences and in plain text."""

import json
import os
from typing import Any

import numpy as np
import pandas as pd

from rmtjax import results
from rmtjax.report import depth, layers, spectral_data
from rmtjax.report.evaluation import whole_sets
from rmtjax.report.numbers import aligned, fraction, metric_name, show
from rmtjax.results import Run, number

_NO_STRENGTHS = ("proportion", "synonyms", "synonym_cosine")  # fields of augment.text
_MODELS = {
    "vit": "vision transformer",
    "resnet": "residual network",
    "mlp": "multilayer perceptron",
    "bert": "text encoder (BERT)",
}


def trained(run: Run) -> str:
    """A few sentences about what was trained, on which data and how, from the files of the run."""
    config, facts = run.config or {}, run.facts or {}
    model, data = config.get("model", {}), config.get("data", {})
    size = number(facts.get("parameters"))
    subject = f"A {_MODELS.get(model.get('name'), model.get('name') or 'model')}"
    subject += f" of {_count(size)} parameters" if np.isfinite(size) else ""
    origin = model.get("init_from")
    start = f", starting from {origin!r}," if origin else ", from scratch,"
    train, optim = config.get("train", {}), config.get("optim", {})
    examples = facts.get("examples") or {}
    amount = examples.get("train", data.get("train_examples"))
    on = f"{amount} examples of {data['source']}" if amount and data.get("source") else "its training data"
    steps = number(facts.get("step"))
    length = f" for {steps:.0f} steps" if np.isfinite(steps) else ""
    length += f" of {train['batch_size']} examples" if length and train.get("batch_size") else ""
    verb = "was trained" if facts.get("status", "finished") == "finished" else "has so far been trained"
    text = f"{subject}{start if model else ''} {verb} on {on}{length}"
    text += f" by {optim['name']}. " if optim.get("name") else ". "
    return text + _regularisation(config, examples)


def _regularisation(config: dict[str, Any], examples: dict[str, Any]) -> str:
    if not config:
        return ""
    held, synthetic = config.get("regularization", {}), config.get("synthetic", {})
    penalties = ("dropout", "weight_decay", "label_smoothing")
    parts = [f"{name.replace('_', ' ')} {held[name]:g}" for name in penalties if held.get(name)]
    strengths = dict(config.get("augment", {}))
    of_texts = strengths.pop("text", {})
    strengths |= {name: value for name, value in of_texts.items() if name not in _NO_STRENGTHS}
    augment = [f"{name.replace('_', ' ')} {value:g}" for name, value in strengths.items() if value]
    if augment and of_texts.get("proportion", 1) < 1:
        augment.append(f"of {of_texts['proportion']:.0%} of the texts")
    if augment:
        parts.append(f"augmentation ({', '.join(augment)})")
    if synthetic.get("share"):
        many = examples.get("synthetic")
        count = f"{many} synthetic examples" if many else "synthetic examples"
        parts.append(f"{count} (share {synthetic['share']:g}, mode {synthetic.get('mode')})")
    if not parts:
        return "No regulariser, augmentation or synthetic data."
    return "With " + ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1] + "."


def _count(value: float) -> str:
    for size, unit in ((1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{show(value / size)} {unit}"
    return f"{value:,.0f}"


def changed_fields(config: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(field, value, default) of each field that differs from its default; "-" if there is no default."""
    from rmtjax import config as config_lib  # whose ml_collections a page of spectra does without

    defaults = config_lib.flat(json.loads(config_lib.to_json(config_lib.base())))
    mine = config_lib.flat(config)
    changed = {name: value for name, value in mine.items() if name not in defaults or value != defaults[name]}
    return [(name, _plain(value), _plain(defaults.get(name, "-"))) for name, value in changed.items()]


def all_fields(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Every field of a config and its value."""
    from rmtjax import config as config_lib

    return [(name, _plain(value)) for name, value in config_lib.flat(config).items()]


def _plain(value: Any) -> str:
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def final_table(path: str | os.PathLike[str]) -> str:
    """The text that a run prints at its end: evaluation with intervals and nulls, spectra, path of the page.

    It is made from the files of the workdir alone. A null is the value of a model that has learned nothing
    (for a calibration error: of a perfectly calibrated model with the same confidences; for spectra: of
    noise of the same shape).
    """
    run = results.read(path)
    evaluated = "" if run.evaluation is None else _evaluation_text(run.evaluation, run.temperature)
    parts = [evaluated, _spectra_text(run)]
    parts = [part for part in parts if part] or [f"nothing has been evaluated in {run.path} yet"]
    if run.gaps:
        parts.append(f"WARNING: {run.gaps}")
    page = run.path / results.PAGE
    if page.exists():
        parts.append(f"report: {page}")
    return "\n\n".join(parts)


def evaluation_table(content: dict[str, Any]) -> str:
    """The first part of the final table, from the content of evaluation.json."""
    rows = results.rows(content, "the evaluation")
    if rows is None:
        return ""
    text = _evaluation_text(rows, results.number(content.get("temperature")))
    if content.get("reference"):
        text += f"\nmCE: the errors of {content['reference']} are 1"
    if content.get("baselines"):
        count = len(content["baselines"])
        text += f"\neffective robustness: above the line of {count} baseline runs, logit scale"
    return text


def _evaluation_text(evaluation: pd.DataFrame, temperature: float) -> str:
    rows, last = [], ""
    for row in whole_sets(evaluation).itertuples():
        spread = (
            f"[{_ascii(fraction(row.low))}, {_ascii(fraction(row.high))}]" if np.isfinite(row.low) else ""
        )
        null = f"({_ascii(fraction(row.null))})" if np.isfinite(row.null) else ""
        n = f"{row.n:.0f}" if np.isfinite(row.n) else ""
        shown = (str(row.set), n) if row.set != last else ("", "")
        rows.append((shown[0], metric_name(row.metric), _ascii(fraction(row.value)), spread, null, shown[1]))
        last = str(row.set)
    table = aligned(("set", "metric", "value", "95 % interval", "(null)", "n"), rows)
    if np.isfinite(temperature):
        table += f"\nscaled: with temperature {temperature:.3g}, fitted on validation"
    return table


def _spectra_text(run: Run) -> str:
    if run.spectra is None:
        return ""
    lines = spectral_data.summary(layers.measured(run.spectra))
    if not lines:
        return ""
    rows = []
    for line in lines:
        title = depth.title(line.metric)
        before, after, after_null, update, null = (_known(value) for value in line[1:6])
        rows.append(
            (
                title if title.isascii() else line.metric.replace("_", " "),
                before,
                after,
                after_null and f"({after_null})",
                update,
                null and f"({null})",
            )
        )
    heads = (f"median of {lines[0].matrices} matrices", "before", "after", "(null)", "update", "(null)")
    return aligned(heads, rows, left=1)


def _known(value: float) -> str:
    return _ascii(show(value)) if np.isfinite(value) else ""


def _ascii(text: str) -> str:
    return text.replace("−", "-").replace("–", "-").replace("∞", "inf")


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours, whichever reads best."""
    if not np.isfinite(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.1f} min" if hours < 2 else f"{hours:.1f} h"


def facts_list(run: Run) -> list[tuple[str, str]]:
    """The content of run.json as names and values."""
    facts = run.facts or {}
    out = [("workdir", str(run.path))]
    for key, value in facts.items():
        if key == "classes" or value is None:
            continue
        if key == "wall_seconds":
            out.append(("wall time", duration(number(value))))
        elif isinstance(value, dict):
            out.append((key.replace("_", " "), ", ".join(f"{k} {v}" for k, v in value.items())))
        else:
            out.append((key.replace("_", " "), _plain(value)))
    return out
