"""The aggregation of Ba, Mancenido and Pan (arXiv 2410.14602), for comparison with their numbers.

It is here for contrast and not to be relied on. Layers are its sample, though the layers of one run are not
replicates of an experiment. Every arm is one run, and all subtract the same single baseline run, whose noise
they then share, so that families look alike by that alone. The mean over all layers is driven by the new
head, and "not significant" is read as "similar". The other files of this folder have what this package relies
on.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import scipy

from rmtjax.errors import InputError

METRICS = ("alpha", "entropy", "log_norm", "log_spectral_norm")  # those of the paper's plots
_KEYS = ("longname", "layer_id", "name")


class PaperAggregation(NamedTuple):
    """What the paper plots and prints.

    Attributes:
      layers: columns layer, family, metric, value: change of the arm minus change of the baseline, mean over
        a family's arms.
      means: columns family, metric, value: mean of `layers` over the layers.
      anova: columns metric, F, p, layers: one-way, families as groups and layers as samples.
      pairs: columns metric, family, other, t, p, pearson: t-test of equal variances over layers, and
        correlation over layers.
    """

    layers: pd.DataFrame
    means: pd.DataFrame
    anova: pd.DataFrame
    pairs: pd.DataFrame


def paper_aggregation(
    pretrained: pd.DataFrame | Mapping[str, pd.DataFrame],
    baseline: pd.DataFrame,
    arms: Mapping[str, Mapping[str, pd.DataFrame]],
    metrics: Sequence[str] = METRICS,
) -> PaperAggregation:
    """The paper's numbers, from one table per model with a row per layer.

    WeightWatcher and `rmtjax.spectra` make such tables.

    For every layer and metric: (arm - pre-trained) - (baseline - pre-trained), mean over the arms of a
    family, then over layers; one-way ANOVA and pairwise t-tests with layers as samples; Pearson's
    correlation across layers between families. A layer in which no metric of `metrics` changed in training
    is left out, run by run, as the authors do with frozen layers.

    The authors' tables (github.com/YangBa78/Data-Diversity-as-Implicit-Regularization) have one folder per
    data set, with `bs_<end>.csv` before and `bs_<end>_ft.csv` after training for the baseline, and `div*`,
    `dp*` and `wd*` for the arms; the scratch folder has `<arm>.csv` and `ft_<arm>.csv`. Each arm has its own
    table before training, because the new head is drawn anew:

        read = lambda arm, end: pd.read_csv(f"cf10/ww-df/{arm}_cf10{end}.csv")
        names = {p.name.split("_cf10")[0] for p in pathlib.Path("cf10/ww-df").glob("*_ft.csv")}
        families = {f: {a: read(a, "_ft") for a in names if a.startswith(f)} for f in ("div", "dp", "wd")}
        pretrained = {a: read(a, "") for a in names - {"bs"}} | {"baseline": read("bs", "")}
        found = paper_aggregation(pretrained, read("bs", "_ft"), families)

    Their figures are means over four data sets: `pooled([found.layers, ...])`.

    Args:
      pretrained: before training: one table for all (it then cancels, but for frozen layers), or by the arm's
        name, with that of the baseline under "baseline".
      baseline: after training without a regulariser.
      arms: after training, by family and arm.
      metrics: columns of the tables.

    Layers are joined by `longname`, `layer_id` or `name`, the first that every table has without repetition;
    a layer that the arm or the baseline lacks is left out.

    Raises:
      InputError: no arm, a table without a metric, no key that names the layers, or no layer in common.
    """
    if not any(arms.values()):
        raise InputError("paper_aggregation needs at least one arm of one family, and arms has none")
    after = {"baseline": baseline} | {
        name: table for family in arms.values() for name, table in family.items()
    }
    if len(after) != 1 + sum(len(family) for family in arms.values()):
        raise InputError("arms of two families have the same name, or one is called 'baseline': rename it")
    if isinstance(pretrained, pd.DataFrame):
        pretrained = dict.fromkeys(after, pretrained)
    missing = [name for name in after if name not in pretrained]
    if missing:
        raise InputError(
            f"pretrained has no table for {missing[0]!r}: give one for each arm and for 'baseline'"
        )
    tables = [*after.values(), *(pretrained[name] for name in after)]
    key = _key(tables)
    for metric in metrics:
        if any(metric not in table for table in tables):
            raise InputError(f"a table has no column {metric!r}: take metrics that every table has")
    changes = {name: _change(pretrained[name], table, key, metrics) for name, table in after.items()}
    parts = []
    for family, members in arms.items():
        if not members:
            continue
        relative = [(changes[name] - changes["baseline"]).dropna(how="all") for name in members]
        mean = pd.concat(relative).groupby(level=0, sort=False).mean()
        long = mean.rename_axis("layer").reset_index().melt("layer", var_name="metric")
        parts.append(long.assign(family=family))
    layers = pd.concat(parts, ignore_index=True)[["layer", "family", "metric", "value"]]
    if layers["value"].isna().all():
        raise InputError(f"no arm has a trained layer in common with the baseline, by {key!r}")
    return pooled([layers])


def pooled(layers: Sequence[pd.DataFrame]) -> PaperAggregation:
    """The same for several data sets: their `PaperAggregation.layers` are averaged layer by layer first.

    Layers must have the same keys in all: the authors' head has another `layer_id` in one data set, but one
    `longname`.
    """
    together = pd.concat(layers, ignore_index=True)
    keys = ["layer", "family", "metric"]
    mean = together.groupby(keys, sort=False)["value"].mean().reset_index()
    means = mean.groupby(["family", "metric"], sort=False)["value"].mean().reset_index()
    anova, pairs = [], []
    for metric, part in mean.groupby("metric", sort=False):
        wide = part.pivot(index="layer", columns="family", values="value")
        wide = wide[list(dict.fromkeys(part["family"]))]
        samples = {family: column.dropna() for family, column in wide.items()}
        if len(samples) > 1:
            F, p = scipy.stats.f_oneway(*samples.values())
            anova.append({"metric": metric, "F": float(F), "p": float(p), "layers": len(wide)})
        for one, two in itertools.combinations(samples, 2):
            t, p = scipy.stats.ttest_ind(samples[one], samples[two])
            row = {"metric": metric, "family": one, "other": two, "t": float(t), "p": float(p)}
            pairs.append(row | {"pearson": float(wide[one].corr(wide[two]))})
    return PaperAggregation(
        mean,
        means,
        pd.DataFrame(anova, columns=["metric", "F", "p", "layers"]),
        pd.DataFrame(pairs, columns=["metric", "family", "other", "t", "p", "pearson"]),
    )


def _key(tables: Sequence[pd.DataFrame]) -> str:
    for key in _KEYS:
        if all(key in table and table[key].is_unique for table in tables):
            return key
    raise InputError(
        f"the tables share no column that names each layer once: one of {', '.join(_KEYS)} is needed"
    )


def _change(before: pd.DataFrame, after: pd.DataFrame, key: str, metrics: Sequence[str]) -> pd.DataFrame:
    columns = list(metrics)
    change = after.set_index(key)[columns] - before.set_index(key)[columns]
    change = change.reindex(after[key])  # in the order of the layers
    return change[~(change == 0).all(axis=1)]
