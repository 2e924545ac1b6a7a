"""What diversity buys: the best share of synthetic data, and measures that rank families by an outcome."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Bool, Float, Int

from rmtjax.errors import InputError
from rmtjax.statistics.corrections import holm
from rmtjax.statistics.doses import by_family, curve
from rmtjax.statistics.intervals import LEVEL
from rmtjax.statistics.study_table import NULL, Samples, noise, place_of_run, samples
from rmtjax.statistics.verdicts import CANNOT_TELL, NO, YES

_EXACT_FAMILIES = 7
_SHUFFLES = 10_000
_ROUNDING = 1e-9


class Optimum(NamedTuple):
    """Whether some share between none and the most is better than both.

    Attributes:
      shares, means: the sweep, share 0 (the baseline) first, and the outcome's mean over seeds at each.
      verdict: "yes", "no" (none or the most is better than every share between) or "cannot tell".
      best: the inner share with the highest mean; where the verdict is "yes", that of those which are clearly
        better than both ends, or NaN if only the mean of all inner shares is.
      over_none, over_most: how much better that is than share 0 and than the largest share: (value, low,
        high). The intervals hold for all candidates at once, since one is chosen.
      control: 2.5 % and 97.5 % of the statistic when the shares are shuffled within each seed.
      statistic, p: the greatest, over the candidates, of the smaller t (of pooled error) against the two
        ends; how often the shuffled shares reach it.
      power: of "yes", if the best share in the middle were one standard deviation of seed noise better than
        both ends, and the curve a parabola.
      seeds: how many.
    """

    shares: tuple[float, ...]
    means: Float[np.ndarray, " D"]
    verdict: str
    best: float
    over_none: tuple[float, float, float]
    over_most: tuple[float, float, float]
    control: tuple[float, float]
    statistic: float
    p: float
    power: float
    seeds: int


def interior_optimum(
    table: pd.DataFrame | Samples,
    family: str,
    metric: str = "ood_accuracy",
    *,
    shuffles: int = 1000,
    seed: int = 0,
) -> Optimum:
    """A sweep over shares, with the baseline as share 0; higher is better.

    Every candidate for the optimum, each inner share and the mean of all of them, is compared with share 0
    and with the largest. "yes" asks that one of them is better than both: that the greatest, over the
    candidates, of the smaller t exceeds what the greatest of as many t against one end exceeds in 5 %, which
    bounds the error also where the curve rises to a plateau. (The end slopes of a fitted parabola, the usual
    contrast, call a plateau an optimum.) "no" asks that each inner share is worse than one and the same end,
    each by a one-sided test at 2.5 %. Each of these must hold with two errors: that pooled over shares after
    each seed's mean is taken off (5 seeds of 4 shares have 12 degrees of freedom), and, since a share may
    spread the seeds more than others do, that of the contrast's own values over seeds.

    Args:
      table: as `study_table` says; the doses of `family` are its shares.
      metric: of group "run".

    Raises:
      InputError: no such family or metric, or fewer than two shares besides 0, or two seeds that all of them
        and the baseline have with a known outcome, or one outcome throughout.
    """
    found = samples(table)
    place = place_of_run(found, metric)
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
    y = y[np.isfinite(y).all(1)]
    if len(y) < 2 or not _pooled_error(y)[0] > _ROUNDING * np.abs(y).max():
        what = "the same over seeds" if len(y) > 1 else "not known in two seeds of all shares"
        raise InputError(f"{metric!r} of family {family!r} is {what}: there is no best share to find")
    n, count = y.shape
    means, contrasts = y.mean(0), _against_ends(count)
    over, reach = contrasts @ means, _reach(y, contrasts, _limits(n, count))
    pooled, freedom = _pooled_error(y)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = over / (pooled * np.linalg.norm(contrasts, axis=-1))
    # The last candidate is the mean of all inner shares.
    inner = slice(count - 2)
    doses = [*(float(found.arms.loc[name, "dose"]) for name in names[:-1]), np.nan]
    best = int(means[1:-1].argmax())
    if _is_optimum(over, reach):
        clear = (over > reach).all(1)
        best = max(np.flatnonzero(clear[inner]), key=lambda place: means[1 + place], default=count - 2)
    one_sided = tuple(float(scipy.stats.t.ppf((1 + LEVEL) / 2, free)) for free in (freedom, n - 1))
    is_worse = (over < -_reach(y, contrasts, one_sided))[inner].all(0).any()
    unit = noise(found, str(found.arms.loc[names[0], "baseline"]))[place]
    if not np.isfinite(unit):  # an outcome of the baseline is unknown, or all are the same
        known = found.values[str(found.arms.loc[names[0], "baseline"])][:, place]
        known = known[np.isfinite(known)]
        spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
        unit = spread if spread > _ROUNDING * np.abs(known).max(initial=0.0) else pooled * np.sqrt(n)
    rng = np.random.default_rng(seed)
    return Optimum(
        (0.0, *(float(found.arms.loc[name, "dose"]) for name in names)),
        means,
        YES if _is_optimum(over, reach) else NO if is_worse else CANNOT_TELL,
        doses[best],
        *((float(x), float(x - r), float(x + r)) for x, r in zip(over[best], reach[best], strict=True)),
        *_shuffled(y, contrasts, float(t.min(1).max()), shuffles, rng),
        _power(n, count, float(unit / pooled)),
        n,
    )


def _reach(
    y: Float[np.ndarray, "*studies n D"],
    contrasts: Float[np.ndarray, "candidates 2 D"],
    limits: tuple[float, ...],
) -> Float[np.ndarray, "*studies candidates 2"]:
    """What each contrast has to exceed: limits times the error pooled over shares, and times its own."""
    n = y.shape[-2]
    pooled = _pooled_error(y)[0][..., None, None] * np.linalg.norm(contrasts, axis=-1)
    each = np.einsum("...nd,ced->...nce", y, contrasts)
    out: np.ndarray = np.maximum(limits[0] * pooled, limits[1] * each.std(-3, ddof=1) / np.sqrt(n))
    return out


def _is_optimum(
    over: Float[np.ndarray, "*studies candidates 2"], reach: Float[np.ndarray, "*studies candidates 2"]
) -> Bool[np.ndarray, "*studies"]:
    """Whether some candidate is better than both ends."""
    return np.asarray((over > reach).all(-1).any(-1))


def _pooled_error(y: Float[np.ndarray, "*studies n D"]) -> tuple[Float[np.ndarray, "*studies"], int]:
    """Standard error of a share's mean, from what seed and share leave, and its degrees of freedom."""
    n, count = y.shape[-2:]
    left = y - y.mean(-2, keepdims=True) - y.mean(-1, keepdims=True) + y.mean((-2, -1), keepdims=True)
    freedom = (n - 1) * (count - 1)
    return np.asarray(np.sqrt(np.square(left).sum((-2, -1)) / freedom / n)), freedom


def _against_ends(count: int) -> Float[np.ndarray, "candidates 2 D"]:
    """Contrasts of each inner share, and of their mean, with the first and with the last share."""
    inner = np.eye(count)[1:-1]
    candidates = np.concatenate([inner, inner.mean(0, keepdims=True)]) if len(inner) > 1 else inner
    return np.stack([candidates - np.eye(count)[end] for end in (0, -1)], axis=1)


@functools.lru_cache(64)
def _limits(seeds: int, count: int) -> tuple[float, float]:
    """What the greatest t of the candidates against one end exceeds in 5 %: of pooled and of own error."""
    contrasts = _against_ends(count)[:, 0]
    one = contrasts / np.linalg.norm(contrasts, axis=-1, keepdims=True)
    rng = np.random.default_rng(0)
    greatest = (rng.standard_normal((20_000, count)) @ one.T).max(1)
    return tuple(  # type: ignore[return-value]
        float(np.quantile(greatest / np.sqrt(rng.chisquare(freedom, 20_000) / freedom), LEVEL))
        for freedom in ((seeds - 1) * (count - 1), seeds - 1)
    )


def _power(seeds: int, count: int, height: float) -> float:
    """Probability of "yes" for a parabola of that height over its ends, in standard errors of a mean."""
    x = np.linspace(-1, 1, count)
    parabola = (1 - x**2) / (1 - x**2).max()
    over, reach = _without_effect(seeds, count)
    shift = height / np.sqrt(seeds) * (_against_ends(count) @ parabola)
    return float(_is_optimum(over + shift, reach).mean())


@functools.lru_cache(16)
def _without_effect(
    seeds: int, count: int
) -> tuple[Float[np.ndarray, "2000 candidates 2"], Float[np.ndarray, "2000 candidates 2"]]:
    """Contrasts, and what they have to exceed, in studies of standard normal outcomes."""
    y = np.random.default_rng(0).standard_normal((2000, seeds, count))
    contrasts = _against_ends(count)
    reach = _reach(y, contrasts, _limits(seeds, count))
    return np.einsum("...d,ced->...ce", y.mean(-2), contrasts), reach


def _shuffled(
    y: Float[np.ndarray, "n D"],
    contrasts: Float[np.ndarray, "candidates 2 D"],
    observed: float,
    shuffles: int,
    rng: np.random.Generator,
) -> tuple[tuple[float, float], float, float]:
    """The statistic's 95 % range with shares shuffled within each seed; the observed one; and its p."""
    drawn = rng.permuted(np.broadcast_to(y, (shuffles, *y.shape)), axis=2)
    # Shuffling keeps what is left of each seed, and so the sum of squares of shares and error together.
    n, count = y.shape
    means = drawn.mean(1)
    whole = np.square(y - y.mean(1, keepdims=True)).sum()
    between = n * np.square(means - means.mean(1, keepdims=True)).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt((whole - between) / ((n - 1) * (count - 1)) / n)
        t = (
            means
            @ np.swapaxes(contrasts / np.linalg.norm(contrasts, axis=-1, keepdims=True), 1, 2)
            / error[:, None]
        )
    statistics = t.min(-1).max(0)
    low, high = np.quantile(statistics, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    p = float((1 + (statistics >= observed - 1e-9).sum()) / (1 + shuffles))
    return (float(low), float(high)), observed, p if np.isfinite(observed) else np.nan


def rank_agreement(
    table: pd.DataFrame | Samples,
    measures: Sequence[str],
    outcome: str = "ood_accuracy",
    *,
    given: str | None = None,
    beside: str | None = None,
    sources: Mapping[str, str | Sequence[str]] = MappingProxyType({}),
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Does a measure rank families by an outcome? Spearman's correlation over families.

    Runs of one arm are no independent evidence of how arms rank, nor are the doses of one family: they are
    made by one generator or one augmentation, and go up and down together. So each family is one point, the
    mean over its arms of their means over seeds. Families that share a source, such as a generator, are one,
    also through a third (what they share moves them together). So are the baselines, the null controls and
    all families of which the measure is the baseline's, since they were fed its data: many ties at one value
    say no more than one. A measure is compared with that of the baseline's runs of the same seeds, so that
    such ties are exact. p comes from permuting families.

    Args:
      measures, outcome: metrics of group "run".
      given: a metric of group "run", such as the accuracy in distribution: the outcome is then the effective
        robustness, what is left of the outcome's logit over the families' line on the logit of `given`.
      beside: a metric of group "run" of which the correlation with the outcome is given too, over the same
        families as each measure's; NaN where some family lacks it. That of the test accuracy shows what no
        measure of diversity is needed for.
      sources: by the name of a family, what it shares with others, or several such things; those that share
        one are one point.

    Returns a row per measure: measure, outcome, spearman, low, high (95 %: the seeds of each arm are drawn
    with replacement, so that it says how well the families' means are known), p (two-sided, permuting
    families: all orders up to 7, else 10,000), p_holm (over the measures), control: 95 % of permuted orders
    lie within ± this; least_p: the smallest p that so many families can give; over_arms: Spearman's over
    arms; beside: Spearman's correlation of `beside`; families, arms, runs. Arms that lack a number are left
    out; a measure with fewer than three families, or the same in all, has NaN.

    Raises:
      InputError: an unknown metric.
    """
    found = samples(table)
    y_places = [place_of_run(found, name) for name in ([outcome] if given is None else [outcome, given])]
    rng = np.random.default_rng(seed)
    rows = []
    for measure in measures:
        places = [place_of_run(found, measure), *y_places]
        runs = {name: _against_baseline(found, name, places) for name in found.values}
        runs = {name: v[np.isfinite(v).all(1)] for name, v in runs.items()}
        runs = {name: v for name, v in runs.items() if len(v)}
        family = _units(found, runs, places[0], sources)
        count = int(family.max()) + 1 if len(family) else 0
        row: dict[str, object] = {"measure": measure, "outcome": outcome}
        unknown = ("spearman", "low", "high", "p", "control", "least_p", "over_arms", "beside")
        row |= dict.fromkeys(unknown, np.nan)
        row |= {"families": count, "arms": len(runs), "runs": sum(map(len, runs.values()))}
        means = np.array([v.mean(0) for v in runs.values()]).reshape(-1, len(places))
        if count >= 3:
            weights = (family == np.arange(count)[:, None]) / np.bincount(family)[:, None]
            if beside is not None:
                known = np.array([_known_mean(found, name, beside) for name in runs])
                has = np.isfinite(known)
                row["beside"] = _spearman(
                    _means_of_units(weights, known, has), _means_of_units(weights, means[:, 1], has)
                )
            points = _points(weights @ means)
            if (np.ptp(points, axis=0) > 0).all():
                row |= _agreement(points, rng)
                resampled = np.stack(
                    [v[rng.integers(len(v), size=(resamples, len(v)))].mean(1) for v in runs.values()], axis=1
                )
                ranked = _ranks(np.moveaxis(_points(weights @ resampled), -1, 0))
                tail = (1 - LEVEL) / 2
                low, high = np.quantile((ranked[0] * ranked[1]).sum(-1), [tail, 1 - tail])
                of_arms = _ranks(_points(means).T)
                row |= {"low": float(low), "high": float(high), "over_arms": float(of_arms[0] @ of_arms[1])}
        rows.append(row)
    out = pd.DataFrame(rows)
    out["p_holm"] = holm(out["p"].to_numpy(np.float64))
    return out


def _means_of_units(
    weights: Float[np.ndarray, "u n"], values: Float[np.ndarray, " n"], has: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " u"]:
    """Means of the units' arms that have a number; NaN for a unit of which none has it."""
    with np.errstate(invalid="ignore"):
        out: np.ndarray = weights[:, has] @ values[has] / weights[:, has].sum(1)
    return out


def _known_mean(found: Samples, arm: str, metric: str) -> float:
    """The mean of a metric of group "run" over the runs of an arm that have it; NaN if none has."""
    values = found.values[arm][:, place_of_run(found, metric)]
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


def _spearman(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Spearman's correlation; NaN where a number is not known, or all are the same."""
    if not np.isfinite(x + y).all() or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    one, other = _ranks(np.stack([x, y]))
    return float(one @ other)


def _against_baseline(found: Samples, arm: str, places: Sequence[int]) -> Float[np.ndarray, "n c"]:
    """Runs of an arm. The measure, the first number, is freed from what its seeds add to it in the baseline.

    So arms that are fed what their baseline is fed are tied, whatever seeds they have. Of an arm that shares
    seeds with its baseline only those count: a run that one of the two lost must not untie them.
    """
    base = str(found.arms.loc[arm, "baseline"])
    out = found.values[arm][:, places]
    known = np.isfinite(found.values[base][:, places[0]])
    others, seeds = found.values[base][known, places[0]], found.seeds[base][known]
    shared = np.isin(found.seeds[arm], seeds)
    if shared.any():
        out = out[shared]
        out[:, 0] = out[:, 0] - others[np.isin(seeds, found.seeds[arm])] + others.mean()
    return out


def _units(
    found: Samples,
    runs: Mapping[str, Float[np.ndarray, "_ c"]],
    place: int,
    sources: Mapping[str, str | Sequence[str]],
) -> Int[np.ndarray, " A"]:
    """The unit of each arm: units are what families, their sources and the baseline's data connect."""
    families = {
        name: NULL if found.arms.loc[name, "baseline"] == name else str(found.arms.loc[name, "family"])
        for name in runs
    }
    of_base = {name: found.values[str(found.arms.loc[name, "baseline"])][:, place] for name in runs}
    usual = {
        name: np.mean(values, where=np.isfinite(values)) if np.isfinite(values).any() else np.nan
        for name, values in of_base.items()
    }
    fed_other_data = {
        families[name]
        for name, measured in runs.items()
        if not np.allclose(measured[:, 0], usual[name], rtol=1e-6, atol=0)
    }
    # Families and sources are told apart though they may have one name.
    names = []
    for family in families.values():
        shared = sources.get(family, ())
        of_family = [("family", family)]
        of_family += [("source", name) for name in ([shared] if isinstance(shared, str) else shared)]
        names.append(of_family if family in fed_other_data else [*of_family, ("family", NULL)])
    # A graph of arms and of what they have names for; of no arms there is none.
    node = {name: len(names) + i for i, name in enumerate(dict.fromkeys(itertools.chain(*names)))}
    ends = [(arm, node[name]) for arm, of in enumerate(names) for name in of]
    links = np.zeros((len(names) + len(node),) * 2, bool)
    links[tuple(np.transpose(ends) if ends else ((), ()))] = True
    unit: np.ndarray = scipy.sparse.csgraph.connected_components(links, directed=False)[1][: len(names)]
    return np.unique(unit, return_inverse=True)[1]


def _points(means: Float[np.ndarray, "... n c"]) -> Float[np.ndarray, "... n 2"]:
    """Measure and outcome; with a third column the outcome is what the line on its logit leaves."""
    measure = means[..., 0].astype(np.float32)  # what differs by rounding alone is tied
    if means.shape[-1] == 2:
        return np.stack([measure, means[..., 1]], -1)
    y, x = (scipy.special.logit(np.clip(means[..., i], 1e-6, 1 - 1e-6)) for i in (1, 2))
    centred = x - x.mean(-1, keepdims=True)
    square = np.square(centred).sum(-1, keepdims=True)
    slope = (centred * y).sum(-1, keepdims=True) / np.where(square > 0, square, 1.0)
    return np.stack([measure, y - y.mean(-1, keepdims=True) - slope * centred], -1)


def _agreement(points: Float[np.ndarray, "n 2"], rng: np.random.Generator) -> dict[str, float]:
    """Spearman's correlation with its permutation test."""
    x, y = _ranks(points.T)
    rho = float(x @ y)
    shuffled = np.abs(x[_orders(len(x), rng)] @ y)
    return {
        "spearman": rho,
        "p": float((shuffled >= abs(rho) - 1e-9).mean()),
        "control": float(np.quantile(shuffled, LEVEL)),
        "least_p": float((shuffled >= shuffled.max() - 1e-9).mean()),
    }


def _ranks(x: Float[np.ndarray, "... n"]) -> Float[np.ndarray, "... n"]:
    """Ranks, centred and of length 1: their product is Spearman's correlation."""
    ranks = scipy.stats.rankdata(x, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    norm = np.linalg.norm(ranks, axis=-1, keepdims=True)
    out: np.ndarray = ranks / np.where(norm > 0, norm, 1.0)
    return out


def _orders(n: int, rng: np.random.Generator) -> np.ndarray:
    if n <= _EXACT_FAMILIES:
        return np.array(list(itertools.permutations(range(n))))
    drawn = rng.permuted(np.tile(np.arange(n), (_SHUFFLES - 1, 1)), axis=1)
    return np.concatenate([np.arange(n)[None], drawn])  # the observed order is one of them
