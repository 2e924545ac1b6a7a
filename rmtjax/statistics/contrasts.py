"""Effects: each arm against the seeds of its own baseline. The seed is the unit of replication."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Float

from rmtjax.statistics.corrections import benjamini_hochberg, holm
from rmtjax.statistics.intervals import LEVEL
from rmtjax.statistics.study_table import Samples, is_paired, noise, same_seeds, samples

# p comes from all arrangements of the seeds where there are so many. With fewer no p is small enough to
# survive a correction; more cost too much, and there t serves.
EXACT = (1_000, 60_000)
_COLUMNS_AT_ONCE = 32


class Difference(NamedTuple):
    """A difference of means, column by column.

    Attributes:
      effect, error, freedom: the difference, its standard error and the t distribution's degrees of freedom.
      p: two-sided.
      test: "paired t", "sign flips" (exact), "Welch" or "permutation" (exact).
    """

    effect: Float[np.ndarray, " K"]
    error: Float[np.ndarray, " K"]
    freedom: Float[np.ndarray, " K"]
    p: Float[np.ndarray, " K"]
    test: str

    def interval(self, level: float = LEVEL) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """The ends of the t interval of the difference."""
        half = self.error * scipy.stats.t.ppf((1 + level) / 2, self.freedom)
        return self.effect - half, self.effect + half


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """Each arm against its baseline, in each layer group and metric.

    Args:
      table: as `study_table` says.

    Returns a row per arm (baselines apart), group and metric, with columns
      arm, family, dose, baseline, group, metric
      effect: mean over the arm's seeds minus mean over the baseline's. Where the baseline has each of the
        arm's seeds, the runs are paired and its other seeds do not count: initialisation and data order
        cancel.
      low, high: its 95 % t interval (Welch's where not paired)
      noise: standard deviation over the baseline's seeds (`study_table.noise`)
      standardised, standardised_low, standardised_high: effect, low and high in units of noise
      seeds, baseline_seeds, test
      p: two-sided. By all arrangements of the seeds where these are 1,000 to 60,000: sign flips of paired
        differences, permutations of Welch's t (Janssen 1997, which allows unequal spread) for independent
        groups; else by t.
      p_holm: after Holm's correction over all numbers of the arm, which asks whether it does anything at all.
      q: Benjamini and Hochberg's over the whole table: of the rows with q < .05, 5 % are expected to be
        false.
    """
    found = samples(table)
    rows = [
        _effects_of_arm(found, str(name)) for name, arm in found.arms.iterrows() if arm["baseline"] != name
    ]
    if not rows:
        return pd.DataFrame(columns=_EFFECTS)
    out = pd.concat(rows, ignore_index=True)
    out["p_holm"] = out.groupby("arm")["p"].transform(lambda p: holm(p.to_numpy()))
    out["q"] = benjamini_hochberg(out["p"].to_numpy())
    return out[list(_EFFECTS)]


_EFFECTS = (
    "arm", "family", "dose", "baseline", "group", "metric", "effect", "low", "high", "noise", "standardised",
    "standardised_low", "standardised_high", "seeds", "baseline_seeds", "test", "p", "p_holm", "q",
)  # fmt: skip


def _effects_of_arm(found: Samples, name: str) -> pd.DataFrame:
    arm = found.arms.loc[name]
    baseline = str(arm["baseline"])
    difference = against(found, name, baseline)
    unit = noise(found, baseline)
    low, high = difference.interval()
    ends = {"": difference.effect, "_low": low, "_high": high}
    n = len(found.seeds[name])
    paired = is_paired(found.seeds[name], found.seeds[baseline])
    columns = {
        "arm": name, "family": arm["family"], "dose": arm["dose"], "baseline": baseline,
        "group": found.columns.get_level_values("group"), "metric": found.columns.get_level_values("metric"),
        "effect": ends[""], "low": ends["_low"], "high": ends["_high"], "noise": unit,
        "seeds": n, "baseline_seeds": n if paired else len(found.seeds[baseline]),
        "test": difference.test, "p": difference.p,
    }  # fmt: skip
    return pd.DataFrame(columns | {f"standardised{end}": value / unit for end, value in ends.items()})


def against(found: Samples, arm: str, other: str) -> Difference:
    """`arm` minus `other`: paired by seed where `other` has each seed of `arm`, else independent groups."""
    if is_paired(found.seeds[arm], found.seeds[other]):
        both = same_seeds(found, arm, other)
        assert both is not None
        return paired(_without_rounding(*both))
    return independent(found.values[arm], found.values[other])


def _without_rounding(x: Float[np.ndarray, "n K"], y: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "n K"]:
    """x - y, and 0 where that is mere rounding, which a paired test would take for an effect."""
    difference = x - y
    return np.where(np.abs(difference) <= 1e-12 * np.maximum(np.abs(x), np.abs(y)), 0.0, difference)


def paired(differences: Float[np.ndarray, "n K"]) -> Difference:
    """Mean of paired differences, tested against 0."""
    n = len(differences)
    effect = differences.mean(0)
    error = np.sqrt(_variance(differences) / n)
    freedom = np.full(effect.shape, n - 1.0)
    if EXACT[0] <= 2**n <= EXACT[1]:
        return Difference(effect, error, freedom, _sign_flips(differences), "sign flips")
    return Difference(effect, error, freedom, _t_p(effect, error, freedom), "paired t")


def independent(x: Float[np.ndarray, "n K"], y: Float[np.ndarray, "m K"]) -> Difference:
    """Mean of x minus mean of y, of independent groups; NaN but for the effect where both have one row."""
    n, m = len(x), len(y)
    effect = x.mean(0) - y.mean(0)
    parts = _variance(x) / n, _variance(y) / m
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(parts[0] + parts[1])
        freedom = (parts[0] + parts[1]) ** 2 / (parts[0] ** 2 / max(n - 1, 1) + parts[1] ** 2 / max(m - 1, 1))
    freedom = np.where(np.isfinite(freedom), freedom, n + m - 2.0)
    if min(n, m) > 1 and EXACT[0] <= math.comb(n + m, n) <= EXACT[1]:
        return Difference(effect, error, freedom, _permutations(x, y), "permutation")
    return Difference(effect, error, freedom, _t_p(effect, error, freedom), "Welch")


def _variance(x: Float[np.ndarray, "n K"]) -> Float[np.ndarray, " K"]:
    if len(x) < 2:
        return np.full(x.shape[1], np.nan)
    out: np.ndarray = x.var(0, ddof=1)
    return out


def _t_p(effect: np.ndarray, error: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where((effect == 0) & (error == 0), 0.0, np.abs(effect) / error)
    return np.asarray(2 * scipy.stats.t.sf(t, freedom))


def _sign_flips(differences: Float[np.ndarray, "n K"]) -> Float[np.ndarray, " K"]:
    # The sum of squares is the same under every flip, so t orders the flips as |sum| does. Half of the flips
    # mirror the other half and need not be tried.
    n = len(differences)
    signs = 1.0 - 2.0 * (np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1)
    sums = np.abs(signs @ differences)
    out: np.ndarray = (sums >= sums[0] - 1e-9 * np.abs(differences).sum(0)).mean(0)
    return np.where(np.isfinite(differences).all(0), out, np.nan)


@functools.lru_cache(4)
def _choices(n: int, m: int) -> Float[np.ndarray, "arrangements _"]:
    """Rows of 0 and 1: every choice of n out of n + m, that of the first n coming first."""
    chosen = np.array(list(itertools.combinations(range(n + m), n)))
    out = np.zeros((len(chosen), n + m))
    np.put_along_axis(out, chosen, 1.0, axis=1)
    return out


def _permutations(x: Float[np.ndarray, "n K"], y: Float[np.ndarray, "m K"]) -> Float[np.ndarray, " K"]:
    n, m = len(x), len(y)
    choices = _choices(n, m)
    if n == m:
        choices = choices[: len(choices) // 2]  # the second half exchanges the two groups of the first
    together = np.concatenate([x, y])
    together = together - together.mean(0)
    known = np.isfinite(together).all(0)
    out = np.full(together.shape[1], np.nan)
    columns = np.flatnonzero(known)
    for start in range(0, len(columns), _COLUMNS_AT_ONCE):
        part = columns[start : start + _COLUMNS_AT_ONCE]
        z = together[:, part]
        total = np.square(z).sum(0)
        sums, squares = choices @ z, choices @ np.square(z)
        within_x = squares - sums**2 / n
        within_y = total - squares - sums**2 / m  # the sum over all is 0
        variance = within_x / (n * (n - 1)) + within_y / (m * (m - 1))
        t = np.abs(sums) / np.sqrt(np.maximum(variance, 1e-18 * total + 1e-300))
        out[part] = (t >= t[0] * (1 - 1e-9)).mean(0)
    return out
