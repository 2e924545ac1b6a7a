"""Null controls: what the statistics find between baseline runs that differ in nothing but their seeds."""

import numpy as np
import pandas as pd

from rmtjax.errors import InputError
from rmtjax.statistics.contrasts import independent, paired
from rmtjax.statistics.effect_similarity import FAKE, SPLITS, similarity
from rmtjax.statistics.study_table import RUN, noise, samples
from rmtjax.statistics.tost import ALPHA, tost_p

_DRAWS_AT_ONCE = 100


def null_control(
    table: pd.DataFrame, draws: int = 2000, size: tuple[int, int] = (5, 8), *, seed: int = 0
) -> pd.DataFrame:
    """How often the tests of `effects` and `equivalence` reject at 5 % between two groups of one baseline.

    Args:
      table: as `study_table` says, of one arm (of several: of the first baseline), with many seeds.
      draws: of two disjoint groups of runs.
      size: runs in the one and in the other. With 5 and 8, 5 and 20 or 8 and 8 the test of independent groups
        is the exact permutation test; its size is then right whatever the distribution, up to the steps of p.

    Returns a row per group and metric, with columns
      independent: share of draws with p < .05, as `effects` tests arms whose seeds the baseline lacks
      paired: the same with runs of the two groups in pairs, as `effects` tests arms that share seeds
      tost: share in which the paired equivalence test, margin one standard deviation of all runs, passes; its
        power
      standard_error: of a share of .05, √(.05 · .95 / draws); the runs are few and drawn again and again, so
        that it is a guide.
    A row of group "all", metric "any (Holm)": share of draws in which Holm's correction leaves anything.

    Raises:
      InputError: fewer runs than the groups need.
    """
    found = samples(table)
    base = str(found.arms["baseline"].iloc[0])
    values = found.values[base]
    n, m = size
    if min(n, m) < 2 or n + m > len(values):
        raise InputError(
            f"size={size} does not fit {len(values)} runs of {base!r}: take two groups of 2 or more, "
            f"{len(values)} at most together"
        )
    rng = np.random.default_rng(seed)
    columns = values.shape[1]
    unit = noise(found, base)
    rejected = {"independent": np.zeros(columns), "paired": np.zeros(columns), "tost": np.zeros(columns)}
    any_left = 0
    for start in range(0, draws, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, draws - start)
        order = np.stack([rng.permutation(len(values))[: n + m] for _ in range(count)])
        # [runs, draws * columns]: the tests work column by column.
        x, y = (values[part.T].reshape(part.shape[1], -1) for part in (order[:, :n], order[:, n:]))
        p = independent(x, y).p.reshape(count, columns)
        k = min(n, m)
        both = paired(x[:k] - y[:k])
        rejected["independent"] += (p < ALPHA).sum(0)
        rejected["paired"] += (both.p.reshape(count, columns) < ALPHA).sum(0)
        rejected["tost"] += (tost_p(both, np.tile(unit, count)).reshape(count, columns) < ALPHA).sum(0)
        known = np.isfinite(p)
        any_left += int((np.where(known, p, 1.0).min(1) * known.sum(1) < ALPHA).sum())
    out = pd.DataFrame({name: count / draws for name, count in rejected.items()})
    out.insert(0, "group", found.columns.get_level_values("group"))
    out.insert(1, "metric", found.columns.get_level_values("metric"))
    out = out[np.isfinite(unit)]  # what is the same in every run is no number to test
    together = {"group": "all", "metric": "any (Holm)", "independent": any_left / draws}
    out = pd.concat([out, pd.DataFrame([together])], ignore_index=True)
    out["standard_error"] = np.sqrt(ALPHA * (1 - ALPHA) / draws)
    return out


def null_similarity(
    table: pd.DataFrame, draws: int = 200, size: int = 5, *, splits: int = SPLITS, seed: int = 0
) -> pd.DataFrame:
    """Similarities where there is nothing: baseline runs play three families, which `similarity` compares.

    Args:
      table, seed: as for `null_control`; splits: as for `similarity`.
      draws: of three groups of `size` runs as arms, and all the others as their common baseline.

    Returns a row per draw: cosine and spearman of the first two; contrast, low, high of sim(first, second) -
    sim(first, third). Means of the former are near 0, and 95 % of the intervals hold 0, if all is well.

    Raises:
      InputError: fewer than 3 size + 6 runs.
    """
    found = samples(table)
    base = str(found.arms["baseline"].iloc[0])
    rows = table[(table["arm"] == base) & (table["group"] != RUN)]
    seeds = found.seeds[base]
    if len(seeds) < 3 * size + 6:
        raise InputError(
            f"size={size} needs {3 * size + 6} runs of {base!r}, and there are {len(seeds)}: choose a "
            "smaller size"
        )
    rng = np.random.default_rng(seed)
    out = []
    for draw in range(draws):
        order = rng.permutation(seeds)
        arm = pd.Series(base, index=seeds)
        for k, name in enumerate("abc"):
            arm[order[k * size : (k + 1) * size]] = name
        names = rows["seed"].map(arm)
        drawn = rows.assign(arm=names, family=names, baseline=base)
        one = similarity(drawn, {name: (name,) for name in "abc"}, splits=splits, seed=draw)
        contrast = one.contrast("a", "b", "c")
        cosines = {
            "cosine": one.cosine[0, 1],
            "spearman": one.spearman[0, 1],
            "fake": one.cosine[0, one.families.index(FAKE)],
        }
        out.append(cosines | {"contrast": contrast.value, "low": contrast.low, "high": contrast.high})
    return pd.DataFrame(out)
