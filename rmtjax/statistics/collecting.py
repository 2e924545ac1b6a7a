"""From the folders of finished runs to the one table of `samples.samples`."""

import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.stats

from rmtjax import results
from rmtjax.errors import InputError
from rmtjax.statistics.samples import COLUMNS, RUN

# Of each layer, from spectra.parquet, where the run has them. Those without a scale of their own say most.
METRICS = (
    "alpha", "alpha_hill", "stable_rank", "effective_rank", "entropy", "log_norm", "log_spectral_norm", "mp_softrank",
    "num_spikes", "ks_mp",
)  # fmt: skip
OF_UPDATE = (
    "norm_ratio", "spectral_ratio", "cosine", "update_energy_top", "update_energy_bottom", "overlap_left", "overlap_right",
    "intruders_left", "intruders_right",
)  # fmt: skip
_KINDS = {
    "attention_query": "q", "attention_key": "k", "attention_value": "v", "attention_out": "o", "mlp": "mlp", "conv": "conv",
    "conv_depthwise": "conv", "embedding": "embedding", "position_embedding": "embedding", "patch_embedding": "embedding",
    "head": "head",
}  # fmt: skip


class Arm(NamedTuple):
    """What an arm is in the design; see `samples.samples`."""

    family: str
    dose: float
    baseline: str


def collect(
    out: str | os.PathLike[str], arms: Mapping[str, Arm], seeds: Mapping[str, Sequence[int]] | None = None
) -> pd.DataFrame:
    """The table of a study, from `<out>/<arm>/<seed>/` of each arm; runs that are not finished are left out.

    Args:
      out: folder of the runs, as `rmtjax.study` makes it.
      arms: by name; a baseline has itself as baseline.
      seeds: of each arm; None: all that are there.

    Raises:
      InputError: no finished run at all.
    """
    parts = []
    for name, arm in arms.items():
        for folder in _finished(pathlib.Path(out) / name, seeds and seeds[name]):
            labels = {"arm": name, **arm._asdict(), "seed": int(folder.name)}
            parts.append(of_run(folder).assign(**labels))
    if not parts:
        raise InputError(f"{str(out)!r} holds no finished run of {', '.join(arms)}: run the study first")
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _finished(folder: pathlib.Path, seeds: Sequence[int] | None) -> list[pathlib.Path]:
    """Folders of an arm's finished runs, by seed."""
    there = [f for f in folder.glob("*") if f.name.isdigit() and (seeds is None or int(f.name) in seeds)]
    return [
        f
        for f in sorted(there, key=lambda f: int(f.name))
        if _read(f / results.RECORD).get("status") == "finished"
    ]


def of_run(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Columns group, metric, value of one run's folder: of its layers (means over those of a group) and of the run.

    Groups of layers: "head"; "backbone", which is all else; and in it "q", "k", "v", "o", "mlp", "conv" and "embedding" by the kind
    of layer. Metrics are `after/...` and `update/...`, of the weights after training and of the update.
    Of the run ("run"): validation_loss (the last one), update_norm (Frobenius norm of all of the update's matrices), accuracy, ece
    and nll of the test set; ood_accuracy (mean over the shifted sets, corruptions counting as one), <set>_accuracy and <set>_ece of each; and
    of the diversity of what it was fed <metric>_<space>, such as vendi_score_feature.
    """
    path = pathlib.Path(folder)
    rows = _of_run(path)
    if (path / results.SPECTRA).exists():
        layers = pd.read_parquet(path / results.SPECTRA)
        rows |= {(RUN, "update_norm"): _update_norm(layers)}
        rows = _of_layers(layers) | rows
    known = {key: value for key, value in rows.items() if value is not None and np.isfinite(value)}
    return pd.DataFrame(
        [(group, metric, float(value)) for (group, metric), value in known.items()],
        columns=["group", "metric", "value"],
    )


def spectra_by_arm(
    out: str | os.PathLike[str],
    arms: Mapping[str, Arm],
    seeds: Mapping[str, Sequence[int]] | None = None,
    bins: int = 60,
) -> pd.DataFrame:
    """How the eigenvalues of the update's backbone matrices lie, by arm: densities over the run's matrices together, mean over seeds.

    Each matrix's eigenvalues of W^T W are divided by their mean, so that sizes of matrices and of updates drop out.

    Returns columns arm, family, dose, baseline, log10_eigenvalue (middle of a bin), density (per unit of log10), low, high (95 % t
    interval over seeds; NaN with one seed), seeds. Runs without spectra are left out.
    """
    edges = np.linspace(-4, 2, bins + 1)
    middles, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    parts = []
    for name, arm in arms.items():
        lines = []
        for folder in _finished(pathlib.Path(out) / name, seeds and seeds[name]):
            if not (folder / results.EIGENVALUES).exists():
                continue
            with np.load(folder / results.EIGENVALUES, allow_pickle=False) as stored:
                of_update = [
                    stored[key] for key in stored if key.startswith("update/") and not re.match(r"update/head(/|$)", key)
                ]  # fmt: skip
            changed = [x / x.mean() for x in of_update if x.mean() > 0]
            if not changed:  # a frozen backbone
                continue
            scaled = np.concatenate(changed)
            logs = np.log10(np.clip(scaled, 10 ** edges[0], 10 ** edges[-1]))
            lines.append(np.histogram(logs, edges)[0] / (len(logs) * width))
        if lines:
            found, n = np.array(lines), len(lines)
            half = scipy.stats.t.ppf(0.975, n - 1) * found.std(0, ddof=1) / n**0.5 if n > 1 else np.nan
            mean = found.mean(0)
            columns = {"log10_eigenvalue": middles, "density": mean, "low": mean - half, "high": mean + half}
            parts.append(pd.DataFrame(columns | {"seeds": n}).assign(arm=name, **arm._asdict()))
    columns = ["arm", "family", "dose", "baseline", "log10_eigenvalue", "density", "low", "high", "seeds"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def groups_of(layers: pd.DataFrame) -> pd.Series:
    """The group of each row of a spectral table: "head", "q", ...; "other" for kinds without one, which are in the backbone alone."""
    group = layers["kind"].map(_KINDS).fillna("other")
    return group.mask(layers["name"].str.fullmatch(r"head(/.*)?"), "head")


def _of_layers(layers: pd.DataFrame) -> dict[tuple[str, str], float]:
    group = groups_of(layers)
    out: dict[tuple[str, str], float] = {}
    for stage, metrics in (("after", METRICS), ("update", METRICS + OF_UPDATE)):
        here = layers["stage"] == stage
        columns = [name for name in metrics if name in layers]
        for name in ("backbone", *dict.fromkeys(_KINDS.values())):
            part = layers.loc[here & ((group != "head") if name == "backbone" else (group == name)), columns]
            means = part.mean()  # of the layers in which the metric is defined
            out |= {(name, f"{stage}/{metric}"): value for metric, value in means.items()}
    return out


def _update_norm(layers: pd.DataFrame) -> float:
    update = layers[layers["stage"] == "update"]
    return float(np.sqrt((10 ** update["log_norm"]).sum()))


def _of_run(path: pathlib.Path) -> dict[tuple[str, str], Any]:
    out: dict[str, Any] = {"validation_loss": _last_validation_loss(path / results.METRICS)}
    evaluation = pd.DataFrame(_read(path / results.EVALUATION).get("rows", []))
    if len(evaluation):
        value = evaluation.drop_duplicates(["set", "metric"]).set_index(["set", "metric"])["value"]
        out |= {name: value.get(("test", name)) for name in ("accuracy", "nll", "ece")}
        shifted = evaluation[(evaluation["kind"] == "shift") & ~evaluation["set"].str.contains("/")]
        by_metric = shifted.pivot_table(index="set", columns="metric", values="value", sort=False)
        for metric in (name for name in ("accuracy", "ece") if name in by_metric):
            out |= {f"{name}_{metric}": value for name, value in by_metric[metric].items()}
        of_set = by_metric["accuracy"] if len(by_metric) else by_metric
        whole = of_set.drop("corrupted_without_noise", errors="ignore")  # a part of "corrupted"
        out["ood_accuracy"] = whole.mean() if len(whole) else None
    diversity = pd.DataFrame(_read(path / results.DIVERSITY).get("rows", []))
    if len(diversity):
        for row in diversity[diversity["set"] == "fed"].to_dict("records"):
            out[f"{row['metric']}_{row['space']}"] = row["value"]
    return {(RUN, name): value for name, value in out.items()}


def _last_validation_loss(path: pathlib.Path) -> float | None:
    if not path.exists():
        return None
    last = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if '"validation/loss"' in line:
            last = json.loads(line)["validation/loss"]
    return last


def _read(path: pathlib.Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
