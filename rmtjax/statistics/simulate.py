"""Whole studies of which the truth is known, and how often each verdict is given in them.

A study is what the statistics take. Its effects are directions in a few dimensions, spread over the numbers by
random loadings; its noise is correlated over the numbers and shared by the runs of one seed.

    rates(SCENARIOS["three unrelated interventions"], studies=200)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from rmtjax.statistics.paper import METRICS as PAPER
from rmtjax.statistics.study_table import Samples

NUMBERS = tuple((group, f"after/{metric}") for group in ("q", "k", "v", "o", "mlp") for metric in PAPER)
SHARED = 0.5  # of the variance of a run, by the runs of the same seed in other arms
_COMMON = 6  # dimensions of the noise that numbers have in common
_COMMON_SHARE = 0.64


class Family(NamedTuple):
    """A family of a simulated study.

    Attributes:
      direction: of its effects, of length 1; None: it has none.
      sizes: of its doses: root mean square over the numbers, in standard deviations of seed noise; below 0:
        the other way.
      seeds: of each dose.
    """

    direction: Float[np.ndarray, " d"]
    sizes: Sequence[float]
    seeds: Sequence[int]


def random_direction(rng: np.random.Generator, spread: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """A random direction, of which the mean square of each coordinate grows with its `spread`."""
    drawn = rng.standard_normal(len(spread)) * np.sqrt(spread)
    out: np.ndarray = drawn / np.linalg.norm(drawn)
    return out


def at_cosine(
    rng: np.random.Generator, axis: Float[np.ndarray, " d"], cosine: float
) -> Float[np.ndarray, " d"]:
    """A random direction at a given cosine to another."""
    drawn = rng.standard_normal(len(axis))
    drawn -= (drawn @ axis) * axis
    out: np.ndarray = cosine * axis + np.sqrt(1 - cosine**2) * drawn / np.linalg.norm(drawn)
    return out


def spread_of(dimensions: int, ratio: float) -> Float[np.ndarray, " d"]:
    """Falling weights of so many dimensions, with sum 1 and a given participation ratio."""
    low, high = 0.0, 1.0
    for _ in range(60):
        factor = (low + high) / 2
        weights = factor ** np.arange(dimensions)
        low, high = (factor, high) if weights.sum() ** 2 / (weights**2).sum() < ratio else (low, factor)
    out: np.ndarray = weights / weights.sum()
    return out


def weights_study(
    rng: np.random.Generator,
    families: dict[str, Family],
    *,
    baseline_seeds: int = 20,
    shared: float = SHARED,
    numbers: Sequence[tuple[str, str]] = NUMBERS,
) -> Samples:
    """A study of weights: a baseline "none" and the doses of families, whose seeds are the baseline's first."""
    count = len(numbers)
    common = rng.standard_normal((_COMMON, count))
    common *= np.sqrt(_COMMON_SHARE) / np.linalg.norm(common, axis=0)

    def noise(runs: int) -> np.ndarray:
        own = np.sqrt(1 - _COMMON_SHARE) * rng.standard_normal((runs, count))
        return np.asarray(rng.standard_normal((runs, _COMMON)) @ common + own)

    dimensions = max(len(family.direction) for family in families.values())
    loadings = np.sqrt(count) * np.linalg.qr(rng.standard_normal((count, dimensions)))[0]
    base = noise(baseline_seeds)
    values, arms = {"none": base}, {"none": ("none", 0.0, "none")}
    for name, family in families.items():
        effect = loadings @ family.direction
        for dose, (size, seeds) in enumerate(zip(family.sizes, family.seeds, strict=True), 1):
            arm = f"{name}_{dose}"
            own = np.sqrt(1 - shared) * noise(seeds)
            values[arm] = size * effect + np.sqrt(shared) * base[:seeds] + own
            arms[arm] = (name, float(dose), "none")
    return _samples(numbers, values, arms)


def _samples(
    numbers: Sequence[tuple[str, str]],
    values: dict[str, np.ndarray],
    arms: dict[str, tuple[str, float, str]],
) -> Samples:
    return Samples(
        pd.MultiIndex.from_tuples(list(numbers), names=["group", "metric"]),
        values,
        {name: np.arange(len(runs)) for name, runs in values.items()},
        pd.DataFrame.from_dict(arms, orient="index", columns=["family", "dose", "baseline"]),
    )
