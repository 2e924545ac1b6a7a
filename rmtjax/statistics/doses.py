"""How effects grow with the dose, and families compared at equal validation loss or norm of the update."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Float

from rmtjax.errors import InputError
from rmtjax.statistics.contrasts import paired
from rmtjax.statistics.corrections import benjamini_hochberg
from rmtjax.statistics.intervals import LEVEL
from rmtjax.statistics.study_table import Samples, noise, place_of_run, samples

_POINTS = 9


def dose_response(table: pd.DataFrame) -> pd.DataFrame:
    """The trend over doses of each family, group and metric: one trend per seed, then their mean.

    Args:
      table: as `study_table` says. Only seeds that all doses of a family have are used. The baseline is
        dose 0 where it has these seeds.

    Returns a row per family, group and metric, with columns
      family, group, metric
      slope, slope_low, slope_high: change per step of the dose (its rank, since doses of decay lie on a
        logarithmic scale and those of dropout on a linear one), in units of the baseline's noise, with its
        95 % t interval over seeds
      spearman, spearman_low, spearman_high: rank correlation of value and dose, mean over seeds with the same
        interval
      p, q: of the slope, two-sided; Benjamini and Hochberg's over the table
      doses, seeds: how many
    Families with fewer than two doses (with the baseline three) or two such seeds are left out.
    """
    found = samples(table)
    rows = []
    for family, names in by_family(found).items():
        values = curve(found, names, with_baseline=True)
        if values is None or values.shape[1] < 3:
            continue
        ranks = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
        unit = noise(found, str(found.arms.loc[names[0], "baseline"]))
        trend = paired(np.tensordot(values, ranks, (1, 0)) / (ranks @ ranks) / unit)
        order = scipy.stats.rankdata(values, axis=1)
        order -= order.mean(1, keepdims=True)
        with np.errstate(invalid="ignore"):
            spearman = np.tensordot(order, ranks, (1, 0)) / np.sqrt((order**2).sum(1) * (ranks @ ranks))
        monotone = paired(spearman)
        slope_low, slope_high = trend.interval()
        spearman_low, spearman_high = monotone.interval()
        rows.append(
            pd.DataFrame(
                {
                    "family": family,
                    "group": found.columns.get_level_values("group"),
                    "metric": found.columns.get_level_values("metric"),
                    "slope": trend.effect,
                    "slope_low": slope_low,
                    "slope_high": slope_high,
                    "spearman": monotone.effect,
                    "spearman_low": np.maximum(spearman_low, -1),
                    "spearman_high": np.minimum(spearman_high, 1),
                    "p": trend.p,
                    "doses": values.shape[1],
                    "seeds": len(values),
                }
            )
        )
    if not rows:
        return pd.DataFrame(columns=_TRENDS)
    out = pd.concat(rows, ignore_index=True)
    out["q"] = benjamini_hochberg(out["p"].to_numpy())
    return out[list(_TRENDS)]


_TRENDS = (
    "family", "group", "metric", "slope", "slope_low", "slope_high", "spearman", "spearman_low",
    "spearman_high", "p", "q", "doses", "seeds",
)  # fmt: skip


def matched(
    table: pd.DataFrame | Samples,
    pairs: Sequence[tuple[str, str]],
    *,
    by: str = "update_norm",
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Two families at doses that lead to the same validation loss, or to an update of the same norm.

    The doses of a family make a curve of the metric over x, the mean of `by` over seeds, with straight lines
    between doses. The two curves are compared at 9 points over the range of x that both reach, and the
    differences are averaged. Where a curve passes the same x twice, its strongest dose there counts. The
    baseline is not part of a curve: at dose 0 all families are the same.

    Args:
      pairs: (family, other).
      by: a metric of group "run" that both families have.
      resamples: how often seeds are drawn with replacement, for all doses at once; percentiles make the
        interval. The range of x stays.
      seed: of the resamples.

    Returns a row per pair, group and metric: family, other, by, low_end, high_end (the common range; NaN if
    there is none, and then nothing can be compared), difference, low, high: family minus other in units of
    the baseline's noise, with the 95 % interval.

    Raises:
      InputError: an unknown family, or one without `by`.
    """
    found = samples(table)
    members = by_family(found)
    place = place_of_run(found, by)
    rows = []
    for pair in pairs:
        for name in pair:
            if name not in members:
                raise InputError(f"no family {name!r} to match: the table has {', '.join(members)}")
        curves = [curve(found, members[name], with_baseline=False) for name in pair]
        rows.append(_matched_pair(found, pair, curves, members[pair[0]][0], place, by, resamples, seed))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def _matched_pair(
    found: Samples,
    pair: tuple[str, str],
    curves: Sequence[Any],
    arm: str,
    place: int,
    by: str,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    count = len(found.columns)
    out = pd.DataFrame(
        {
            "family": pair[0],
            "other": pair[1],
            "by": by,
            "low_end": np.nan,
            "high_end": np.nan,
            "group": found.columns.get_level_values("group"),
            "metric": found.columns.get_level_values("metric"),
            "difference": np.full(count, np.nan),
            "low": np.nan,
            "high": np.nan,
        }
    )
    if any(one is None or one.shape[1] < 2 for one in curves):
        return out
    ends = [(one.mean(0)[:, place].min(), one.mean(0)[:, place].max()) for one in curves]
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    if not low < high:
        return out
    points = np.linspace(low, high, _POINTS)
    unit = noise(found, str(found.arms.loc[arm, "baseline"]))

    def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        at = [_values_at(each.mean(0), place, points) for each in (one, other)]
        return np.asarray((at[0] - at[1]).mean(0) / unit)

    rng = np.random.default_rng(seed)
    same = len(curves[0]) == len(curves[1])  # the same seeds: drawn together, what they share cancels
    resampled = []
    for _ in range(resamples):
        draws = [rng.integers(len(one), size=len(one)) for one in curves]
        resampled.append(difference(curves[0][draws[0]], curves[1][draws[0] if same else draws[1]]))
    out["low_end"], out["high_end"] = low, high
    out["difference"] = difference(*curves)
    tail = (1 - LEVEL) / 2
    out["low"], out["high"] = np.quantile(np.stack(resampled), [tail, 1 - tail], axis=0)
    return out


def _values_at(
    curve: Float[np.ndarray, "doses K"], place: int, points: Float[np.ndarray, " p"]
) -> Float[np.ndarray, "p K"]:
    """The curve at x = points; where no piece of it holds a point (in a resample), the nearest dose."""
    x = curve[:, place]
    out = curve[np.abs(x[:, None] - points).argmin(0)].copy()
    for i in range(len(x) - 1):  # later pieces, of stronger doses, overwrite
        inside = (np.minimum(x[i], x[i + 1]) <= points) & (points <= np.maximum(x[i], x[i + 1]))
        span = x[i + 1] - x[i]
        weight = (points - x[i]) / span if span else np.ones_like(points)
        piece = curve[i] + weight[:, None] * (curve[i + 1] - curve[i])
        out[inside] = piece[inside]
    return out


def by_family(found: Samples) -> dict[str, list[str]]:
    """Arms of each family by rising dose, baselines apart."""
    real = found.arms[found.arms["baseline"] != found.arms.index].sort_values("dose", kind="stable")
    return {str(family): [str(n) for n in part.index] for family, part in real.groupby("family", sort=False)}


def curve(
    found: Samples, names: Sequence[str], with_baseline: bool
) -> Float[np.ndarray, "seeds doses K"] | None:
    """Values at the seeds that all doses have; None if these are fewer than two."""
    doses = list(names)
    base = str(found.arms.loc[doses[0], "baseline"])
    seeds = found.seeds[doses[0]]
    for name in doses[1:]:
        seeds = np.intersect1d(seeds, found.seeds[name])
    if with_baseline and np.isin(seeds, found.seeds[base]).all():
        # The baseline has dose 0, and doses of less diversity are below it.
        doses.insert(int((found.arms.loc[doses, "dose"] < 0).sum()), base)
    if len(seeds) < 2:
        return None
    return np.stack([found.values[name][np.isin(found.seeds[name], seeds)] for name in doses], axis=1)
