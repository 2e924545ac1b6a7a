"""Tables of studies that were never run: what is true of them is known."""

import numpy as np
import pandas as pd

COLUMNS = ["arm", "family", "dose", "baseline", "seed", "group", "metric", "value"]
NUMBERS = [
    (group, f"{stage}/{metric}")
    for group in ("q", "k", "v", "o", "mlp")
    for stage in ("after", "update")
    for metric in ("alpha", "stable_rank", "log_norm")
]


def noise(rng, runs, numbers=NUMBERS):
    """Correlated over the numbers, standard deviation near 1."""
    common = rng.standard_normal((6, len(numbers))) / np.sqrt(6)
    return 0.8 * rng.standard_normal((runs, 6)) @ common + 0.6 * rng.standard_normal((runs, len(numbers)))


def rows(arm, family, dose, seeds, values, numbers=NUMBERS, baseline="none"):
    return pd.DataFrame(
        [
            (arm, family, dose, baseline, seed, group, metric, value)
            for seed, run in zip(seeds, values, strict=True)
            for (group, metric), value in zip(numbers, run, strict=True)
        ],
        columns=COLUMNS,
    )


def study(rng, arms, baseline_seeds=20, shared=0.5, numbers=NUMBERS):
    """A baseline "none" and arms name -> (family, dose, effect, seeds), whose runs share half the noise of
    the same seed's baseline.
    """
    base = noise(rng, baseline_seeds, numbers)
    parts = [rows("none", "none", 0.0, range(baseline_seeds), base, numbers)]
    for name, (family, dose, effect, seeds) in arms.items():
        own = noise(rng, len(seeds), numbers)
        twin = np.array([base[s] if s < baseline_seeds else own[i] for i, s in enumerate(seeds)])
        values = effect + np.sqrt(shared) * twin + np.sqrt(1 - shared) * own
        parts.append(rows(name, family, dose, seeds, values, numbers))
    return pd.concat(parts, ignore_index=True)
