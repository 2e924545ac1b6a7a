"""Equivalence of two arms to within one standard deviation of seed noise, by two one-sided tests.

"Not significantly different" is no evidence of sameness. Schuirmann's two one-sided tests (TOST, 1987) are:
both "the difference is at or below -margin" and "at or above +margin" must be rejected, each at 5 %. With few
seeds that is out of reach whatever the truth is, and the power beside each verdict says so.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Float

from rmtjax.errors import InputError
from rmtjax.statistics.contrasts import Difference, independent, paired
from rmtjax.statistics.corrections import holm
from rmtjax.statistics.study_table import Samples, noise, same_seeds, samples

ALPHA = 0.05
LEAST_POWER = 0.5
EQUIVALENT = "equivalent"
DIFFERENT = "differs from 0"
WITHIN = "differs from 0, but within the margin"
CANNOT_TELL = "cannot tell"


def tost_power(
    error: Float[np.ndarray, " K"] | float | int,
    freedom: Float[np.ndarray, " K"] | float | int,
    margin: Float[np.ndarray, " K"] | float | int,
    difference: Float[np.ndarray, " K"] | float | int = 0.0,
    alpha: float = ALPHA,
) -> Float[np.ndarray, " K"]:
    """Exact probability that both one-sided t-tests reject (Phillips 1990; there by Owen's Q).

    Given the estimated error S, both reject if the estimate lies within ±(margin - t S), which is normal;
    that is averaged over S² ~ error² χ²/freedom, by 4,000 equally likely values of χ² (errs by less than
    1e-4).

    Args:
      error: true standard error of the estimated difference.
      freedom: degrees of freedom of its estimate.
      margin: of equivalence, symmetric about 0.
      difference: the true one.
    """
    error, freedom, margin, difference = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(value, np.float64)) for value in (error, freedom, margin, difference))
    )
    grid = (np.arange(4000) + 0.5) / 4000
    freedoms, which = np.unique(freedom, return_inverse=True)
    ratio = np.sqrt(scipy.stats.chi2.ppf(grid, freedoms[:, None]) / freedoms[:, None])[which]
    room = margin[:, None] / error[:, None] - scipy.stats.t.ppf(1 - alpha, freedom)[:, None] * ratio
    shift = (difference / error)[:, None]
    inside = scipy.stats.norm.cdf(room - shift) - scipy.stats.norm.cdf(-room - shift)
    return np.asarray(np.where(room > 0, inside, 0.0).mean(1))


def tost_p(difference: Difference, margin: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """The larger p of the two one-sided t-tests."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (margin - np.abs(difference.effect)) / difference.error
    exactly = (difference.error == 0) & (np.abs(difference.effect) < margin)
    return np.asarray(np.where(exactly, 0.0, scipy.stats.t.sf(t, difference.freedom)))


def equivalence(
    table: pd.DataFrame, pairs: Sequence[tuple[str, str]], *, groups: Sequence[str] | None = None
) -> pd.DataFrame:
    """Two one-sided tests of each pair of arms, in each layer group and metric.

    Args:
      table: as `study_table` says.
      pairs: (arm, other). They are paired by the seeds that both have; if these are fewer than two, they are
        compared as independent groups.
      groups: layer groups; None: all.

    Returns a row per pair, group and metric, with columns
      arm, other, group, metric
      difference, low, high: arm minus other in units of the baseline's noise (of the first arm's baseline),
        and the 90 % interval, which lies within ±1 exactly if the test passes at 5 %
      p_tost: of the two one-sided tests, margin 1. The margin is taken as known though the noise is
        estimated: with 20 baseline seeds a true difference of exactly one standard deviation passes in 5.5 to
        6.5 % of cases instead of 5 (simulated).
      p, p_holm: of any difference, alone and after Holm's correction over the numbers of the pair
      seeds, paired
      power: of the two one-sided tests if there were no difference at all, with these seeds and the larger of
        the observed spread and that of independent runs (√2 times the noise), so that a spread
        of few seeds which is small by luck earns no trust. With 5 pairs it is at most .09, with 12 .49, with
        20 .84.
      verdict: "equivalent" (the test passes and the power is at least .5), "differs from 0" (p_holm < .05,
        which does not say by how much), "differs from 0, but within the margin" (both), else "cannot tell".
        The claim that all of several numbers are equivalent needs no correction, since each must pass
        (intersection-union test). The claim that a certain one is holds at level .05 for that one alone.

    Raises:
      InputError: an arm that the table does not have.
    """
    found = samples(table)
    rows = []
    for arm, other in pairs:
        for name in (arm, other):
            if name not in found.values:
                raise InputError(f"no arm {name!r} to compare: the table has {', '.join(found.values)}")
        rows.append(_tests_of_pair(found, arm, other, groups))
    return pd.concat(rows, ignore_index=True)[list(_COLUMNS)] if rows else pd.DataFrame(columns=_COLUMNS)


_COLUMNS = (
    "arm", "other", "group", "metric", "difference", "low", "high", "p_tost", "p", "p_holm", "seeds",
    "paired", "power", "verdict",
)  # fmt: skip


def _tests_of_pair(found: Samples, arm: str, other: str, groups: Sequence[str] | None) -> pd.DataFrame:
    unit = noise(found, str(found.arms.loc[arm, "baseline"]))
    both = same_seeds(found, arm, other)
    x, y = both or (found.values[arm], found.values[other])
    difference = paired(x - y) if both else independent(x, y)
    p_tost = tost_p(difference, unit)
    # The spread of independent runs, with noise of one in each.
    expected = np.sqrt(1 / len(x) + 1 / len(y)) * unit
    known = np.isfinite(difference.error) & np.isfinite(unit)
    power = np.full(len(unit), np.nan)
    power[known] = tost_power(
        np.maximum(difference.error, expected)[known], difference.freedom[known], unit[known]
    )
    low, high = difference.interval(1 - 2 * ALPHA)
    out = pd.DataFrame(
        {
            "arm": arm,
            "other": other,
            "group": found.columns.get_level_values("group"),
            "metric": found.columns.get_level_values("metric"),
            "difference": difference.effect / unit,
            "low": low / unit,
            "high": high / unit,
            "p_tost": np.where(known, p_tost, np.nan),
            "p": difference.p,
            "seeds": len(x),
            "paired": both is not None,
            "power": power,
        }
    )
    if groups is not None:
        out = out[out["group"].isin(groups)].reset_index(drop=True)
    out["p_holm"] = holm(out["p"].to_numpy())
    same = (out["p_tost"] < ALPHA) & (out["power"] >= LEAST_POWER)
    differs = out["p_holm"] < ALPHA
    choices = [same & differs, same, differs]
    out["verdict"] = np.select(choices, [WITHIN, EQUIVALENT, DIFFERENT], CANNOT_TELL)
    return out
