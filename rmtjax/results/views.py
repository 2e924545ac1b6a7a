"""Views of the long table: results.csv, summary.csv, differences.csv, the printed overview, and study.csv."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rmtjax.errors import InputError
from rmtjax.results.curvature import CURVATURE, OBSERVED
from rmtjax.results.densities import DENSITY
from rmtjax.results.layers import ACTIVATION, BACKBONE, GROUPS, HEAD, PRODUCTS
from rmtjax.results.long_table import DIVERSITY, EVALUATION, RUN, TRAINING
from rmtjax.spectra.metrics import shown
from rmtjax.statistics import COLUMNS, Arm
from rmtjax.statistics.intervals import mean_interval

_TEST, TRAIN_SET = "test", "train"  # all other sets are shifted, or out of distribution
_PART = (
    "corrupted_without_noise"  # a part of the set "corrupted", which the mean over shifted sets counts once
)
# The groups of layers in results.csv, and what they are called there.
_WEIGHTS = {BACKBONE: "weights", HEAD: "head", **dict(zip(PRODUCTS, PRODUCTS, strict=True))}
_OF_MODEL = ("alpha_spread", "alpha_spread_null")


def results_table(table: pd.DataFrame) -> pd.DataFrame:
    """results.csv: columns config (the arm's name), seed, set, metric, value.

    A set is a set of the evaluation; in diversity `<set>/<space>`; in the spectra `weights/<stage>`, the mean
    over the layers of the backbone, `head/<stage>`, `qk/<stage>` or `vo/<stage>`; `run` has the curvature of
    the loss, where it was observed. `norm_ratio` is ||update|| / ||before|| in Frobenius norms,
    `alpha_spread` the standard deviation of alpha over the layers. All arms of the first seed come first,
    then those of the next.
    """
    stage, group = table["stage"], table["group"]
    of_runs = stage.isin([EVALUATION, DIVERSITY])
    others = [EVALUATION, DIVERSITY, TRAINING, DENSITY, OBSERVED]
    of_weights = ~stage.isin(others) & group.isin(list(_WEIGHTS))
    of_model = table["metric"].isin(_OF_MODEL) & (group == BACKBONE)
    of_loss = (stage == TRAINING) & table["metric"].isin(CURVATURE)
    kept = table[of_runs | of_loss | (of_weights & table["metric"].isin(shown("results"))) | of_model]
    named = kept["group"].map(_WEIGHTS) + "/" + kept["stage"]
    sets = kept["group"].where(kept["stage"].isin([EVALUATION, DIVERSITY, TRAINING]), named)
    out = kept.rename(columns={"arm": "config"}).assign(set=sets)
    return out.sort_values("seed", kind="stable", ignore_index=True)[
        ["config", "seed", "set", "metric", "value"]
    ]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """summary.csv: the mean of each number over seeds with its 95 % t interval (NaN with one seed).

    Args:
      table: the long table, `results_table`, or any table with columns seed and value.

    Returns a row per number: its other columns (but for run), then mean, low, high and seeds.
    """
    keys = [name for name in table.columns if name not in ("run", "seed", "value")]
    rows = []
    for names, values in table.groupby(keys, sort=False)["value"]:
        rows.append((*names, *mean_interval(values.to_numpy(float)), len(values)))
    return pd.DataFrame(rows, columns=[*keys, "mean", "low", "high", "seeds"])


def differences(results: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """differences.csv: `summary` of arm minus other, paired by seed; config reads `arm - other`.

    Args:
      results: `results_table`.
      pairs: (arm, other).
    """
    keys = ["seed", "set", "metric"]
    parts = []
    for arm, other in pairs:
        both = results[results["config"] == arm].merge(
            results[results["config"] == other], on=keys, suffixes=("", "_other")
        )
        parts.append(both.assign(config=f"{arm} - {other}", value=both["value"] - both["value_other"]))
    return summary(pd.concat(parts)[["config", *keys, "value"]])


def overview(results: pd.DataFrame) -> pd.DataFrame:
    """The most telling columns of `results_table` as text, a row an arm, to be printed.

    It has accuracy and ECE of whole sets, and of the update's backbone the metrics that are shown in
    "overview": means over seeds, with their 95 % intervals where there are several seeds.
    """
    whole = ~results["set"].str.startswith("corrupted/") & (results["set"] != TRAIN_SET)
    whole &= results["metric"].isin(["accuracy", "ece"])
    update = (results["set"] == "weights/update") & results["metric"].isin(shown("overview"))
    lines = summary(results[whole | update])
    cells = [
        f"{row.mean:.3g}" + (f" [{row.low:.3g}, {row.high:.3g}]" if np.isfinite(row.low) else "")
        for row in lines.itertuples(index=False)
    ]
    columns = lines["set"].str.replace("weights/", "") + " " + lines["metric"].str.replace("_", " ")
    long = pd.DataFrame({"config": lines["config"], "column": columns, "cell": cells})
    wide = long.pivot(index="config", columns="column", values="cell").fillna("")
    wide = wide.loc[list(dict.fromkeys(long["config"])), list(dict.fromkeys(columns))]
    return wide.rename_axis(columns=None).reset_index()


def study_table(table: pd.DataFrame, arms: Mapping[str, Arm]) -> pd.DataFrame:
    """study.csv: the table that all statistics take (`statistics.samples`).

    Groups of layers have the metrics that are shown in "study", for the weights after training and for the
    update, and those that are shown in "update" for the update. The group "run" has validation_loss;
    training_loss and training_accuracy of the real training examples, without augmentation and dropout;
    accuracy, nll and ece of the test set; <set>_accuracy and <set>_ece of each shifted set; ood_accuracy, the
    mean over the shifted sets, in which all corruptions count as one; ood_auroc, by the largest probability,
    the mean over the sets of other classes; <metric>_<space> of the data that the
    run was fed, such as vendi_score_feature; update_norm; and the metrics of `CURVATURE`.

    Raises:
      InputError: the table has no run.
    """
    if table.empty:
        raise InputError(f"no run of {', '.join(arms)} is finished: run the study first")
    parts = []
    for (arm, seed), run in table.groupby(["arm", "seed"], sort=False):
        labels = {"arm": arm, **arms[str(arm)]._asdict(), "seed": seed}
        parts.append(pd.concat([_of_layers(run), _of_whole_run(run)]).assign(**labels))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _of_layers(run: pd.DataFrame) -> pd.DataFrame:
    """Rows group, metric, value of a run's layers: by stage, group and metric, in the order of display."""
    metrics = {"after": shown("study"), "update": list(dict.fromkeys([*shown("study"), *shown("update")]))}
    groups = [group for group in GROUPS if group != ACTIVATION]  # the statistics are of weights
    numbers = [(stage, group, name) for stage, names in metrics.items() for group in groups for name in names]
    values = run.set_index(["stage", "group", "metric"])["value"].to_dict()
    rows = [
        (group, f"{stage}/{metric}", values[stage, group, metric])
        for stage, group, metric in numbers
        if (stage, group, metric) in values
    ]
    return pd.DataFrame(rows, columns=["group", "metric", "value"])


def _of_whole_run(run: pd.DataFrame) -> pd.DataFrame:
    """Rows group, metric, value of what is one number of a run."""
    values = {
        key: part.set_index(["group", "metric"])["value"].to_dict() for key, part in run.groupby("stage")
    }
    evaluation, training = values.get(EVALUATION, {}), values.get(TRAINING, {})
    out = {"validation_loss": training.get((RUN, "validation_loss"))}
    out |= {metric: evaluation.get((_TEST, metric)) for metric in ("accuracy", "nll", "ece")}
    learnt = (evaluation.get((TRAIN_SET, metric)) for metric in ("nll", "accuracy"))
    out |= dict(zip(("training_loss", "training_accuracy"), learnt, strict=True))
    for metric in ("accuracy", "ece"):
        out |= {f"{name}_{metric}": value for name, value in _shifted(evaluation, metric).items()}
    whole = [value for name, value in _shifted(evaluation, "accuracy").items() if name != _PART]
    out["ood_accuracy"] = sum(whole) / len(whole) if whole else None
    told_apart = [value for (_, metric), value in evaluation.items() if metric == "auroc_max_softmax"]
    out["ood_auroc"] = sum(told_apart) / len(told_apart) if told_apart else None
    for (group, metric), value in values.get(DIVERSITY, {}).items():
        if group.startswith("fed/"):
            out[f"{metric}_{group.removeprefix('fed/')}"] = value
    out |= {metric: training.get((RUN, metric)) for metric in ("update_norm", *CURVATURE)}
    rows = [(RUN, metric, value) for metric, value in out.items() if value is not None]
    return pd.DataFrame(rows, columns=["group", "metric", "value"])


def _shifted(evaluation: Mapping[tuple[str, str], float], metric: str) -> dict[str, float]:
    """A metric of each whole set but the test set, by set."""
    return {
        name: value
        for (name, of), value in evaluation.items()
        if of == metric and name not in (_TEST, TRAIN_SET) and "/" not in name
    }
