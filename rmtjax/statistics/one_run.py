"""From which arms of a study may one run have come? All else here is about arms; this is about one model.

If a run came from an arm, then among all runs of the arm, and itself, each is the strangest with the same
probability. So p is the share of these runs that are at least as strange as the run itself, which is a test
without any assumption but that they differ in their seeds alone (conformal prediction: Vovk, Gammerman and
Shafer, Algorithmic Learning in a Random World, 2005, chapter 2). Its smallest value is 1/(n + 1): of an arm
with fewer than 19 runs no run can be told at 5 %. Arms that are not in the study are never named: a run that
comes from none of its arms can be like one of them by chance, or since the numbers do not show what it did.

A run is strange if it is far from the mean of the others. The distance is Mahalanobis's, by the covariance of
the runs of all *other* arms about the means of their arms and of the seeds that the arm has too, shrunk
towards equal variances without correlations (oracle approximating shrinkage: Chen, Wiesel, Eldar and Hero,
IEEE Transactions on Signal Processing 58, 2010, equation 23).
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from rmtjax.errors import InputError
from rmtjax.statistics.study_table import RUN, Samples, samples
from rmtjax.statistics.verdicts import CANNOT_TELL, NO

LEVEL = 0.05
POSSIBLE = "possible"
_LEFT_OUT = (RUN, "head", "backbone")


def membership(
    table: pd.DataFrame | Samples, run: pd.DataFrame | Samples, stage: str = "update"
) -> pd.DataFrame:
    """From which arms of a study one run, made by the study's config, may have come.

    The numbers are those of the kinds of layer but the head ("q", "mlp", ...; not their mean), as far as the
    run and all runs of the study have them.

    Args:
      table: of the study, as `study_table` says.
      run: the same of one arm with one seed, such as `results.study_table` of the rows of a run's folder.
      stage: "update" or "after": of which weights.

    Returns a row per arm, the nearest first: arm, family, dose, runs (n), verdict ("no" where p is at most
    .05, else "possible"; "cannot tell" where n is below 19), p, distance (of the run from the arm's mean, as
    root mean square over the numbers; of the order of 1 if it is one of its runs) and numbers.

    Raises:
      InputError: `run` is not one run, has no such number, or the other arms have too few runs.
    """
    found, one = samples(table), samples(run)
    if sum(map(len, one.values.values())) != 1:
        raise InputError(
            f"membership is of one run, and the table has {sum(map(len, one.values.values()))}: give it the "
            "rows of one arm and seed"
        )
    values, own = _numbers(found, one, stage)
    (seed,) = (int(seeds[0]) for seeds in one.seeds.values())
    rows = []
    for arm, runs in values.items():
        n = len(runs)
        whitened = np.vstack([runs, own]) @ _whitening(values, found.seeds, arm, seed).T
        # From each to the mean of the n others.
        strange = np.square((whitened - whitened.mean(0)) * (1 + 1 / n)).mean(1)
        p = float(np.mean(strange >= strange[-1] * (1 - 1e-9)))
        verdict = CANNOT_TELL if 1 / (n + 1) > LEVEL else NO if p <= LEVEL else POSSIBLE
        rows.append(
            {
                "arm": arm,
                **found.arms.loc[arm, ["family", "dose"]].to_dict(),
                "runs": n,
                "verdict": verdict,
                "p": p,
                "distance": float(np.sqrt(strange[-1] / (1 + 1 / n))),
                "numbers": whitened.shape[1],
            }
        )
    return pd.DataFrame(rows).sort_values("distance", kind="stable", ignore_index=True)


def _numbers(
    found: Samples, one: Samples, stage: str
) -> tuple[dict[str, Float[np.ndarray, "_ K"]], Float[np.ndarray, " K"]]:
    """The numbers of each arm's runs, and of the run, that all of them have and that differ between runs."""
    wanted = [
        (group, metric)
        for group, metric in found.columns.intersection(one.columns, sort=False)
        if group not in _LEFT_OUT and metric.startswith(f"{stage}/")
    ]
    at, at_one = found.columns.get_indexer(wanted), one.columns.get_indexer(wanted)
    (own,) = (runs[0, at_one] for runs in one.values.values())
    values = {arm: runs[:, at] for arm, runs in found.values.items()}
    whole = np.concatenate(list(values.values()))
    keep: Bool[np.ndarray, " K"] = np.isfinite(whole).all(0) & np.isfinite(own)
    inside = np.concatenate([runs - runs.mean(0) for runs in values.values()])
    keep &= np.square(inside).sum(0) > 1e-12 * np.square(whole).sum(0)
    if not keep.any():
        raise InputError(f"the study and the run have no number of {stage!r} in common that differs by seeds")
    return {arm: runs[:, keep] for arm, runs in values.items()}, own[keep]


def _whitening(
    values: dict[str, Float[np.ndarray, "_ K"]], seeds: dict[str, Int[np.ndarray, " _"]], arm: str, own: int
) -> Float[np.ndarray, "K K"]:
    """Turns differences of runs of an arm into such with variance 1 and no correlations, as far as known.

    It must not depend on which of these runs is which. So the covariance is that of the runs of all other
    arms about the means of their arms and, since a seed moves all arms alike, of the seeds in question.
    """
    others = [name for name in values if name != arm]
    at = np.concatenate([seeds[name] for name in others]) if others else np.zeros(0, int)
    of_arm = np.repeat(np.arange(len(others)), [len(seeds[name]) for name in others])
    shared = np.union1d(seeds[arm], own)
    means = np.hstack([of_arm[:, None] == np.arange(len(others)), at[:, None] == shared]).astype(np.float64)
    freedom = len(at) - (np.linalg.matrix_rank(means) if means.size else 0)
    if freedom < 1:
        raise InputError(
            f"beside arm {arm!r} the study has too few runs to know the noise: run more arms or seeds"
        )
    runs = np.concatenate([values[name] for name in others])
    inside = runs - means @ np.linalg.lstsq(means, runs, rcond=None)[0]
    scale = np.sqrt(np.square(inside).sum(0) / freedom)
    scale[scale <= 1e-9 * np.abs(runs).max(0)] = np.inf  # the same in all these runs: its noise is unknown
    correlation = (inside / scale).T @ (inside / scale) / freedom
    k = len(scale)
    of_squares, squared = np.square(correlation).sum(), np.trace(correlation) ** 2
    share = (1 - 2 / k) * of_squares + squared
    rest = (freedom + 1 - 2 / k) * (of_squares - squared / k)
    shrink = min(1.0, share / rest) if rest > 0 else 1.0
    shrunk = (1 - shrink) * correlation + shrink * np.trace(correlation) / k * np.eye(k)
    out: np.ndarray = np.linalg.inv(np.linalg.cholesky(shrunk)) / scale
    return out
