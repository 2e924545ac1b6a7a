"""Effects by a mixed model: all arms of a number at once, with the seed as a random intercept."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy

from rmtjax.statistics.corrections import holm
from rmtjax.statistics.intervals import LEVEL
from rmtjax.statistics.study_table import RUN, noise, samples


def mixed_effects(table: pd.DataFrame, *, groups: Sequence[str] = ("backbone", "head", RUN)) -> pd.DataFrame:
    """value ~ arm + (1 | seed), by REML (statsmodels' MixedLM): one model for each group and metric of a
    baseline and its arms.

    Against `effects` it uses all runs together: the spread is pooled over arms, and the part that a seed has
    in common in every arm (initialisation, data order) is estimated and taken out. It assumes equal normal
    spread in all arms, which `effects` does not.

    Args:
      table: as `study_table` says.
      groups: layer groups; a model takes some tenths of a second.

    Returns a row per arm, group and metric: arm, family, dose, group, metric; effect, low, high in units of
    the baseline's noise; p by t with runs - arms - seeds + 1 degrees of freedom (statsmodels' own normal p is
    too small with few seeds), p_holm over the numbers of an arm; seed_share: share of the variance that is
    the seed's; converged.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM  # slow to import, and needed here alone

    found = samples(table)
    rows = []
    for base in found.arms["baseline"].unique():
        unit = noise(found, str(base))
        names = [str(base), *(str(n) for n, b in found.arms["baseline"].items() if b == base and n != base)]
        seeds = np.concatenate([found.seeds[name] for name in names])
        arm = np.repeat(np.arange(len(names)), [len(found.seeds[name]) for name in names])
        design = (arm[:, None] == np.arange(len(names))).astype(float)
        design[:, 0] = 1.0
        values = np.concatenate([found.values[name] for name in names])
        freedom = max(len(seeds) - len(names) - len(np.unique(seeds)) + 1, 1)
        for k, (group, metric) in enumerate(found.columns):
            if group not in groups or not np.isfinite(unit[k]) or not np.isfinite(values[:, k]).all():
                continue
            centred = (values[:, k] - values[:, k].mean()) / unit[k]
            with warnings.catch_warnings():
                # A seed's variance of zero, on the boundary, is a result and no fault; statsmodels warns
                # there.
                warnings.simplefilter("ignore")
                model = MixedLM(centred, design, groups=seeds)
                try:
                    fit = model.fit(reml=True, method="lbfgs")
                except np.linalg.LinAlgError:  # nor has it gradients there
                    fit = model.fit(reml=True, method="powell")
            variance = float(np.asarray(fit.cov_re)[0, 0])
            for i, name in enumerate(names[1:], 1):
                effect, error = float(fit.fe_params[i]), float(fit.bse_fe[i])
                half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
                rows.append(
                    {
                        "arm": name,
                        "family": found.arms.loc[name, "family"],
                        "dose": found.arms.loc[name, "dose"],
                        "group": group,
                        "metric": metric,
                        "effect": effect,
                        "low": effect - half,
                        "high": effect + half,
                        "p": float(2 * scipy.stats.t.sf(abs(effect) / error, freedom)),
                        "seed_share": variance / (variance + float(fit.scale)),
                        "converged": bool(fit.converged),
                    }
                )
    out = pd.DataFrame(rows, columns=_COLUMNS)
    out["p_holm"] = out.groupby("arm")["p"].transform(lambda p: holm(p.to_numpy()))
    return out


_COLUMNS = (
    "arm", "family", "dose", "group", "metric", "effect", "low", "high", "p", "p_holm", "seed_share",
    "converged",
)  # fmt: skip
