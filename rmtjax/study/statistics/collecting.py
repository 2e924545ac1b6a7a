"""From the folders of finished runs to the one table of `samples.samples`."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rmtjax.errors import InputError
from rmtjax.study.statistics.samples import COLUMNS, RUN

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
# Of what a run was fed, the set that holds all of it.
_FED = ("mixed", "augmented", "real", "synthetic")


class Arm(NamedTuple):
    """What an arm is in the design; see `samples.samples`."""

    family: str
    dose: float
    baseline: str


def collect(out: str | os.PathLike[str], arms: Mapping[str, Arm]) -> pd.DataFrame:
    """The table of a study, from `<out>/<arm>/<seed>/` of each arm; runs that are not finished are left out.

    Args:
      out: folder of the runs, as `rmtjax.study` makes it.
      arms: by name; a baseline has itself as baseline.

    Raises:
      InputError: no finished run at all.
    """
    parts = []
    for name, arm in arms.items():
        folders = [f for f in (pathlib.Path(out) / name).glob("*") if f.name.isdigit()]
        for folder in sorted(folders, key=lambda f: int(f.name)):
            if _read(folder / "run.json").get("status") != "finished":
                continue
            labels = {"arm": name, **arm._asdict(), "seed": int(folder.name)}
            parts.append(of_run(folder).assign(**labels))
    if not parts:
        raise InputError(f"{str(out)!r} holds no finished run of {', '.join(arms)}: run the study first")
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def of_run(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Columns group, metric, value of one run's folder: of its layers (means over those of a group) and of the run.

    Groups of layers: "head"; "backbone", which is all else; and in it "q", "k", "v", "o", "mlp", "conv" and "embedding" by the kind
    of layer. Metrics are `after/...` and `update/...`, of the weights after training and of the update.
    Of the run ("run"): validation_loss (the last one), update_norm (Frobenius norm of all of the update's matrices), accuracy, ece
    and nll of the test set; ood_accuracy (mean over the shifted sets, corruptions counting as one) and <set>_accuracy of each; and
    of the diversity of what it was fed <metric>_<space>, such as vendi_score_feature.
    """
    path = pathlib.Path(folder)
    rows = _of_run(path)
    if (path / "spectra.parquet").exists():
        layers = pd.read_parquet(path / "spectra.parquet")
        rows |= {(RUN, "update_norm"): _update_norm(layers)}
        rows = _of_layers(layers) | rows
    known = {key: value for key, value in rows.items() if value is not None and np.isfinite(value)}
    return pd.DataFrame(
        [(group, metric, float(value)) for (group, metric), value in known.items()],
        columns=["group", "metric", "value"],
    )


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
    out: dict[str, Any] = {"validation_loss": _last_validation_loss(path / "metrics.jsonl")}
    evaluation = pd.DataFrame(_read(path / "evaluation.json").get("rows", []))
    if len(evaluation):
        value = evaluation.drop_duplicates(["set", "metric"]).set_index(["set", "metric"])["value"]
        out |= {name: value.get(("test", name)) for name in ("accuracy", "nll", "ece")}
        shifted = evaluation[(evaluation["kind"] == "shift") & (evaluation["metric"] == "accuracy")]
        of_set = shifted[~shifted["set"].str.contains("/")].set_index("set")["value"]
        out |= {f"{name}_accuracy": value for name, value in of_set.items()}
        whole = of_set.drop("corrupted_without_noise", errors="ignore")  # a part of "corrupted"
        out["ood_accuracy"] = whole.mean() if len(whole) else None
    diversity = pd.DataFrame(_read(path / "diversity.json").get("rows", []))
    if len(diversity):
        fed = next((name for name in _FED if (diversity["set"] == name).any()), None)
        for row in diversity[diversity["set"] == fed].to_dict("records"):
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
