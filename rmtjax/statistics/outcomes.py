"""What diversity buys: the best share of synthetic data, and measures that rank arms by an outcome."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Float

from rmtjax.errors import InputError
from rmtjax.statistics.corrections import holm
from rmtjax.statistics.doses import by_family, curve
from rmtjax.statistics.intervals import LEVEL, mean_interval
from rmtjax.statistics.study_table import RUN, Samples, samples

_EXACT_ARMS = 7
_SHUFFLES = 10_000


class Optimum(NamedTuple):
    """Whether some share between none and the most is better than both.

    Attributes:
      shares, means: the sweep, share 0 (the baseline) first, and the outcome's mean over seeds at each.
      best: the inner share with the highest mean.
      over_none, over_most: how much better the best inner share is than share 0 and than the largest share:
        (value, low, high) with 95 % t intervals over seeds. The best share is chosen for each seed by the
        other seeds, since a share chosen by the very numbers that judge it would look good by that alone.
      control: 2.5 % and 97.5 % of the smaller of both values when the shares are shuffled within each seed.
      p: how often the shuffled ones reach the observed value.
      seeds: how many.
    """

    shares: tuple[float, ...]
    means: Float[np.ndarray, " D"]
    best: float
    over_none: tuple[float, float, float]
    over_most: tuple[float, float, float]
    control: tuple[float, float]
    p: float
    seeds: int

    @property
    def verdict(self) -> str:
        if self.over_none[1] > 0 and self.over_most[1] > 0:
            return "yes"
        return "no" if self.over_none[2] < 0 or self.over_most[2] < 0 else "cannot tell"


def interior_optimum(
    table: pd.DataFrame, family: str, metric: str = "ood_accuracy", *, shuffles: int = 1000, seed: int = 0
) -> Optimum:
    """A sweep over shares, with the baseline as share 0; higher is better.

    Args:
      table: as `study_table` says; the doses of `family` are its shares.
      metric: of group "run".

    Raises:
      InputError: no such family or metric, or fewer than two shares besides 0, or two seeds that all of them
        and the baseline have.
    """
    found = samples(table)
    place = _place(found, metric)
    names = by_family(found).get(family)
    if names is None:
        raise InputError(
            f"no family {family!r} with a sweep of shares: the table has {', '.join(by_family(found))}"
        )
    values = curve(found, names, with_baseline=True)
    if values is None or values.shape[1] < 3 or values.shape[1] != len(names) + 1:
        raise InputError(
            f"family {family!r} needs two shares or more with two seeds or more that the baseline has as well"
        )
    y = values[:, :, place]
    over = _over_ends(y[None])[0]
    rng = np.random.default_rng(seed)
    shuffled = _over_ends(rng.permuted(np.broadcast_to(y, (shuffles, *y.shape)), axis=2)).mean(-1).min(-1)
    observed = over.mean(-1).min()
    between = y.mean(0)[1:-1]
    shares = (0.0, *(float(found.arms.loc[name, "dose"]) for name in names))
    low, high = np.quantile(shuffled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Optimum(
        shares,
        means=y.mean(0),
        best=shares[1 + int(between.argmax())],
        over_none=_plain_interval(over[0]),
        over_most=_plain_interval(over[1]),
        control=(float(low), float(high)),
        p=float((1 + (shuffled >= observed).sum()) / (1 + shuffles)),
        seeds=len(y),
    )


def rank_agreement(
    table: pd.DataFrame,
    measures: Sequence[str],
    outcome: str = "ood_accuracy",
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Does a measure rank arms by an outcome? Spearman's correlation over arms, their means over seeds.

    Runs of one arm are no independent evidence of how arms rank, so p comes from permuting arms; the interval
    from resampling the seeds of each arm says how well the arms' means are known.

    Args:
      measures, outcome: metrics of group "run". The test accuracy among the measures shows what no measure of
        diversity is needed for.

    Returns a row per measure: measure, outcome, spearman, low, high (95 % over seeds), p (two-sided,
    permuting arms: all orders up to 7 arms, else 10,000), p_holm (over the measures), control: 95 % of
    permuted orders lie within ± this; over_runs: Spearman's over single runs; arms, runs. Arms that lack
    either number are left out; a measure with fewer than four arms, or the same in all, has NaN.

    Raises:
      InputError: an unknown metric.
    """
    found = samples(table)
    y_place = _place(found, outcome)
    rng = np.random.default_rng(seed)
    rows = []
    for measure in measures:
        x_place = _place(found, measure)
        runs = [v[:, [x_place, y_place]] for v in found.values.values()]
        runs = [v[np.isfinite(v).all(1)] for v in runs]
        runs = [v for v in runs if len(v)]
        row: dict[str, object] = {"measure": measure, "outcome": outcome}
        row |= dict.fromkeys(("spearman", "low", "high", "p", "control", "over_runs"), np.nan)
        row |= {"arms": len(runs), "runs": sum(map(len, runs))}
        means = np.array([v.mean(0) for v in runs]).reshape(-1, 2)
        if len(runs) >= 4 and (np.ptp(means, axis=0) > 0).all():
            x, y = _ranks(means.T)
            rho = float(x @ y)
            orders = _orders(len(x), rng)
            shuffled = x[orders] @ y
            resampled = [
                [v[rng.integers(len(v), size=len(v))].mean(0) for v in runs] for _ in range(resamples)
            ]
            ranked = _ranks(np.moveaxis(np.array(resampled), 2, 0))
            tail = (1 - LEVEL) / 2
            low, high = np.quantile((ranked[0] * ranked[1]).sum(-1), [tail, 1 - tail])
            row |= {
                "spearman": rho,
                "low": float(low),
                "high": float(high),
                "p": float((np.abs(shuffled) >= abs(rho) - 1e-9).mean()),
                "control": float(np.quantile(np.abs(shuffled), LEVEL)),
                "over_runs": float(scipy.stats.spearmanr(*np.concatenate(runs).T).statistic),
            }
        rows.append(row)
    out = pd.DataFrame(rows)
    out["p_holm"] = holm(out["p"].to_numpy(np.float64))
    return out


def _over_ends(y: Float[np.ndarray, "R n D"]) -> Float[np.ndarray, "R 2 n"]:
    """Of each seed: the outcome at the inner share that is best for the others, less that at either end."""
    others = y.sum(1, keepdims=True) - y
    best = others[:, :, 1:-1].argmax(-1) + 1
    chosen = np.take_along_axis(y, best[..., None], -1)[..., 0]
    out: np.ndarray = np.stack([chosen - y[:, :, 0], chosen - y[:, :, -1]], axis=1)
    return out


def _plain_interval(values: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    mean, low, high = mean_interval(values)
    return float(mean), float(low), float(high)


def _ranks(x: Float[np.ndarray, "... n"]) -> Float[np.ndarray, "... n"]:
    """Ranks, centred and of length 1: their product is Spearman's correlation."""
    ranks = scipy.stats.rankdata(x, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    norm = np.linalg.norm(ranks, axis=-1, keepdims=True)
    out: np.ndarray = ranks / np.where(norm > 0, norm, 1.0)
    return out


def _orders(n: int, rng: np.random.Generator) -> np.ndarray:
    if n <= _EXACT_ARMS:
        return np.array(list(itertools.permutations(range(n))))
    drawn = rng.permuted(np.tile(np.arange(n), (_SHUFFLES - 1, 1)), axis=1)
    return np.concatenate([np.arange(n)[None], drawn])  # the observed order is one of them


def _place(found: Samples, metric: str) -> int:
    for i, (group, name) in enumerate(found.columns):
        if (group, name) == (RUN, metric):
            return i
    known = ", ".join(name for group, name in found.columns if group == RUN)
    raise InputError(f"{metric!r} is no metric of group 'run': such are {known}")
