"""Whole studies of which the truth is known, and how often each verdict is given in them.

A study is what the statistics take. Its effects are directions in a few dimensions, spread over the numbers
by random loadings; its noise is correlated over the numbers and shared by the runs of one seed.

    rates(SCENARIOS["T1: three unrelated interventions in six dimensions"], studies=200)
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from rmtjax.statistics.directions import Cast, likeness_row
from rmtjax.statistics.distance import distance_of_arms
from rmtjax.statistics.intervals import share_interval
from rmtjax.statistics.outcomes import interior_optimum, rank_agreement
from rmtjax.statistics.paper import METRICS as PAPER
from rmtjax.statistics.study_table import Samples

NUMBERS = tuple((group, f"after/{metric}") for group in ("q", "k", "v", "o", "mlp") for metric in PAPER)
SHARED = 0.5  # of the variance of a run, by the runs of the same seed in other arms
COMMON = (6, 0.64)  # factors that the noise of all numbers has in common, and their share of its variance


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
    common: tuple[int, float] = COMMON,
) -> Samples:
    """A study of weights: a baseline "none" and the doses of families, whose seeds are the baseline's
    first. `common`: how many factors the noise of all numbers has in common, and their share of its variance.
    """
    count = len(numbers)
    factors, share = common
    loading = rng.standard_normal((factors, count))
    loading *= np.sqrt(share) / np.linalg.norm(loading, axis=0)

    def noise(runs: int) -> np.ndarray:
        own = np.sqrt(1 - share) * rng.standard_normal((runs, count))
        return np.asarray(rng.standard_normal((runs, factors)) @ loading + own)

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


def run_study(
    rng: np.random.Generator,
    means: dict[tuple[str, int], Float[np.ndarray, " K"]],
    metrics: Sequence[str],
    *,
    seeds: int = 5,
    shared: float = SHARED,
) -> Samples:
    """A study of numbers of whole runs: by (family, dose), their means; the baseline is ("none", 0)."""
    base = rng.standard_normal((seeds, len(metrics)))
    values, arms = {}, {}
    for (family, dose), mean in means.items():
        name = "none" if family == "none" else f"{family}_{dose}"
        own = np.sqrt(1 - shared) * rng.standard_normal(base.shape)
        values[name] = mean + np.sqrt(shared) * base + own
        arms[name] = (family, float(dose), "none")
    return _samples([("run", metric) for metric in metrics], values, arms)


class Scenario(NamedTuple):
    """A kind of study whose truth is known.

    Attributes:
      verdict: draws a study and answers it.
      wrong: verdicts that are false of it.
    """

    verdict: Callable[[np.random.Generator], str]
    wrong: tuple[str, ...] = ()


def rates(scenario: Scenario, studies: int, seed: int = 0) -> pd.DataFrame:
    """A row per verdict: verdict, rate, low, high (Wilson's 95 % interval), wrong; the last row, "any wrong",
    is of all false verdicts together.
    """
    rng = np.random.default_rng(seed)
    counts = Counter(scenario.verdict(rng) for _ in range(studies))
    counts_of = {name: counts[name] for name in sorted(counts)}
    counts_of["any wrong"] = sum(counts[name] for name in scenario.wrong)
    rows = []
    for name, count in counts_of.items():
        rows.append((name, *share_interval(count, studies), name in scenario.wrong))
    return pd.DataFrame(rows, columns=["verdict", "rate", "low", "high", "wrong"])


_PLACEBOS, _OTHERS = 5, 4
_CAST = Cast("diversity", "dropout", "decay", tuple(f"placebo {i}" for i in range(_PLACEBOS)))
_ELSEWHERE = 10  # dimensions
_CURVE = (0.5, 1.0, 1.5)
SATURATING, REVERSED = (0.8, 1.0, 1.0), (0.5, 1.0, -3.0)


def likeness_verdict(
    rng: np.random.Generator,
    *,
    cosine: float | None = None,
    placebo: float | None = None,
    placebo_sizes: Sequence[float] = (1.0,),
    size: float = 1.0,
    curve: Sequence[float] = _CURVE,
    dimensions: int = 6,
    ratio: float | None = None,
    own: float = 0.0,
    others_elsewhere: bool = False,
    axes: bool = False,
    is_placebo: bool = False,
    seeds: tuple[int, int] = (20, 5),
) -> str:
    """T1's verdict in a study of diversity, dropout, decay, four other families and five placebos; of the
    latter two kinds there is one dose.

    Args:
      cosine: of diversity's direction with dropout's; None: it is unrelated. All others are unrelated.
      placebo: cosine of the first placebo's direction with dropout's; None: it is unrelated.
      placebo_sizes: of that placebo's doses, in `size`.
      size: of the middle dose's effects, in standard deviations of seed noise.
      curve: sizes of diversity's doses, in `size`; those of dropout and decay are .5, 1 and 1.5.
      dimensions, ratio: that effects lie in, and the participation ratio of their directions (None: as many).
      own: share of the squared length of effects that is in dimensions in which no placebo is; the rest, and
        placebos, lie in ten dimensions elsewhere. 0: all lie in the same.
      others_elsewhere: then the four other families lie where the placebos do.
      axes: each direction is one of the axes, either way, so that two are the same, opposed or orthogonal.
      is_placebo: the first placebo has diversity's direction.
      seeds: of the baseline and the middle doses, and of the others.
    """
    spread = spread_of(dimensions, ratio) if ratio else np.full(dimensions, 1.0)
    elsewhere = np.full(_ELSEWHERE if own else 0, 1.0)

    def draw(share: float) -> np.ndarray:
        if axes:
            return np.asarray(rng.choice([-1.0, 1.0]) * np.eye(dimensions)[rng.integers(dimensions)])
        here = np.sqrt(share) * random_direction(rng, spread)
        away = np.sqrt(1 - share) * random_direction(rng, elsewhere) if own else elsewhere
        return np.concatenate([here, away])

    many, few = seeds
    main, aside = own or 1.0, 0.0 if own else 1.0
    dropout = draw(main)
    diversity = draw(main) if cosine is None else at_cosine(rng, dropout, cosine)
    of = {"diversity": diversity, "dropout": dropout, "decay": draw(main)}
    families = {
        name: Family(direction, size * np.array(curve if name == "diversity" else _CURVE), (few, many, few))
        for name, direction in of.items()
    }
    for i in range(_OTHERS):
        families[f"other {i}"] = Family(draw(aside if others_elsewhere else main), (size,), (few,))
    for i, name in enumerate(_CAST.placebos):
        moved = placebo is not None and i == 0
        direction = at_cosine(rng, dropout, placebo) if moved else draw(aside)  # type: ignore[arg-type]
        direction = diversity if is_placebo and i == 0 else direction
        sizes = size * np.array(placebo_sizes if moved else [1.0])
        families[name] = Family(direction, tuple(sizes), (few,) * len(sizes))
    return likeness_row(weights_study(rng, families, baseline_seeds=many), _CAST).verdict


def sameness_verdict(
    rng: np.random.Generator,
    difference: float,
    *,
    differing: int = 115,
    seeds: int = 20,
    baseline_seeds: int | None = None,
    count: int = 115,
    common: tuple[int, float] = COMMON,
    shared: float = SHARED,
    aligned: bool = False,
) -> str:
    """T2's verdict where so many of the numbers differ by so many standard deviations, and the others not.

    Args:
      seeds, baseline_seeds: of both arms, and of the baseline, where that has fewer or more.
      common, shared: see `weights_study`.
      aligned: the differences have the signs of the direction in which noise is greatest, not random ones.
    """
    numbers = [("q", f"after/number {i}") for i in range(count)]
    same = Family(np.ones(1), (0.0,), (seeds,))
    found = weights_study(
        rng,
        {"one": same, "other": same},
        baseline_seeds=max(seeds, baseline_seeds or 0),
        numbers=numbers,
        common=common,
        shared=shared,
    )
    runs = found.values["none"]
    found.values["none"], found.seeds["none"] = runs[:baseline_seeds], found.seeds["none"][:baseline_seeds]
    if aligned:
        signs = np.sign(np.linalg.svd(runs - runs.mean(0), full_matrices=False)[2][0])
    else:
        signs = rng.choice([-1.0, 1.0], count)
    signs *= np.arange(count) < differing
    found.values["one_1"][:] += difference * signs
    return distance_of_arms(found, "one_1", "other_1", np.ones(count, bool)).verdict


def share_verdict(
    rng: np.random.Generator, curve: Sequence[float], *, seeds: int = 5, last_spread: float = 1.0
) -> str:
    """T3's verdict for a curve of the outcome over shares, in standard deviations of seed noise.

    `last_spread`: how many times the spread of the others the seeds of the largest share have.
    """
    means = {("replace" if i else "none", i): np.array([height]) for i, height in enumerate(curve)}
    found = run_study(rng, means, ["ood_accuracy"], seeds=seeds)
    last = found.values[f"replace_{len(curve) - 1}"]
    last[:] = curve[-1] + last_spread * (last - curve[-1])
    return interior_optimum(found, "replace", shuffles=1).verdict


def ranking_verdict(
    rng: np.random.Generator,
    families: int,
    doses: int,
    within: float,
    *,
    related: float = 0.0,
    sources: int | None = None,
    shared: float = 0.0,
    named: bool = True,
    crossed: bool = False,
    tied: int = 0,
    unequal: bool = False,
) -> str:
    """T4's verdict: measure and outcome of a family's doses are correlated by `within`; the two of one family
    by `related`. Noise of seeds is a tenth of the spread of arms.

    Args:
      sources: of how many things families share one in turn; None: they share none.
      shared: correlation of families that share one.
      named: whether the design says so.
      crossed: each two neighbouring sources share something too, which moves their families by as much.
      tied: how many families more are fed the baseline's data; their outcomes lie as far apart as others'.
      unequal: every second family is a tenth as strong, and the baseline lies between all.
    """
    means = {("none", 0): np.zeros(2)}
    mix = np.linalg.cholesky(np.array([[1.0, related], [related, 1.0]]))
    kinds = sources or families
    of_source = mix @ rng.standard_normal((2, kinds))
    if crossed:
        beyond = mix @ rng.standard_normal((2, kinds // 2))
        of_source = np.sqrt(0.5) * (of_source + np.repeat(beyond, 2, axis=1))
    for family in range(families + tied):
        source = of_source[:, family % kinds]
        common = np.sqrt(shared) * source + np.sqrt(1 - shared) * (mix @ rng.standard_normal(2))
        for dose in range(1, doses + 1):
            own = mix @ rng.standard_normal(2)
            strength = 1 if unequal and family % 2 else 10
            means[f"family {family}", dose] = strength * (
                np.sqrt(within) * common + np.sqrt(1 - within) * own
            )
    means["none", 0] = np.zeros(2) if unequal else 10 * (mix @ rng.standard_normal(2))
    found = run_study(rng, means, ["vendi", "ood_accuracy"])
    for family, dose in itertools.product(range(families, families + tied), range(1, doses + 1)):
        found.values[f"family {family}_{dose}"][:, 0] = found.values["none"][:, 0]
    told: dict[str, tuple[str, ...]] = {}
    if sources and named:
        whole = {i: (f"source {i % sources}", f"pair {i % sources // 2}") for i in range(families)}
        told = {f"family {i}": of if crossed else of[:1] for i, of in whole.items()}
    row = rank_agreement(found, ["vendi"], sources=told, resamples=2).iloc[0]
    return "cannot tell" if not row["p_holm"] < 0.05 else "yes" if row["spearman"] > 0 else "no"


def _of(verdict: Callable[..., str], *wrong: str, **settings: object) -> Scenario:
    return Scenario(functools.partial(verdict, **settings), wrong)


def _parabola(count: int, height: float) -> tuple[float, ...]:
    curve = 1 - np.linspace(-1, 1, count) ** 2
    return tuple(height * curve / curve.max())


# Where a wrong verdict is false; then power, against seeds and size.
SCENARIOS: dict[str, Scenario] = {
    "T1: no effect": _of(likeness_verdict, "yes", "no", "placebo", "neither", size=0.0),
    "T1: three unrelated interventions in six dimensions": _of(likeness_verdict, "yes", "no", "placebo"),
    "T1: unrelated, 2 s.d., 20 seeds in all arms": _of(
        likeness_verdict, "yes", "no", "placebo", size=2.0, seeds=(20, 20)
    ),
    "T1: unrelated, participation ratio 3.3": _of(
        likeness_verdict, "yes", "no", "placebo", dimensions=12, ratio=3.3
    ),
    "T1: unrelated, two dimensions, placebos in ten others, 2 s.d.": _of(
        likeness_verdict, "yes", "no", "placebo", dimensions=2, own=1.0, size=2.0
    ),
    "T1: unrelated, three dimensions, placebos in ten others": _of(
        likeness_verdict, "yes", "no", "placebo", dimensions=3, own=1.0
    ),
    "T1: unrelated, half in two dimensions, placebos in ten others, 2 s.d.": _of(
        likeness_verdict, "yes", "no", "placebo", dimensions=2, own=0.5, size=2.0
    ),
    "T1: unrelated, two dimensions, all other families in ten others, 2 s.d.": _of(
        likeness_verdict, "yes", "no", "placebo", dimensions=2, own=1.0, others_elsewhere=True, size=2.0
    ),
    "T1: unrelated, four dimensions, all other families in ten others, 2 s.d.": _of(
        likeness_verdict, "yes", "no", "placebo", dimensions=4, own=1.0, others_elsewhere=True, size=2.0
    ),
    "T1: unrelated, each along one of six axes": _of(likeness_verdict, "yes", "no", axes=True),
    "T1: unrelated, each along one of six axes, 2 s.d., 20 seeds in all arms": _of(
        likeness_verdict, "yes", "no", axes=True, size=2.0, seeds=(20, 20)
    ),
    "T1: diversity is what a placebo is, 20 dimensions, 2 s.d., 20 seeds in all arms": _of(
        likeness_verdict,
        "yes",
        "no",
        "neither",
        is_placebo=True,
        dimensions=20,
        size=2.0,
        seeds=(20, 20),
    ),
    "T1: a placebo moves along dropout's axis": _of(
        likeness_verdict, "yes", "no", "neither", cosine=0.92, placebo=0.95
    ),
    "T1: a placebo moves against dropout's axis": _of(
        likeness_verdict, "yes", "no", "neither", cosine=0.92, placebo=-0.95
    ),
    "T1: a placebo is the opposite of dropout, 2 s.d., 20 seeds in all arms": _of(
        likeness_verdict, "yes", "no", "neither", cosine=0.92, placebo=-1.0, size=2.0, seeds=(20, 20)
    ),
    "T1: two doses of one placebo move along and against dropout's axis, 2 s.d.": _of(
        likeness_verdict,
        "yes",
        "no",
        "neither",
        cosine=0.92,
        placebo=1.0,
        placebo_sizes=(-1.0, 1.0),
        size=2.0,
    ),
    "T1: a placebo of .3 s.d. moves along dropout's axis, all else 2 s.d. and 20 dimensions": _of(
        likeness_verdict,
        "yes",
        "no",
        "neither",
        cosine=0.92,
        placebo=1.0,
        placebo_sizes=(0.15,),
        size=2.0,
        dimensions=20,
    ),
    "T1: unrelated, participation ratio 3.3, 2 s.d., 20 seeds in all arms": _of(
        likeness_verdict, "yes", "no", "placebo", dimensions=12, ratio=3.3, size=2.0, seeds=(20, 20)
    ),
    "T1: top dose reversed, 2 s.d., 20 seeds in all arms": _of(
        likeness_verdict,
        "yes",
        "no",
        "placebo",
        "neither",
        cosine=1.0,
        curve=REVERSED,
        size=2.0,
        seeds=(20, 20),
    ),
    "T1: cosine .33, 2 s.d., 20 dimensions, 20 seeds in all arms": _of(
        likeness_verdict,
        "yes",
        "no",
        "placebo",
        "neither",
        cosine=0.33,
        size=2.0,
        dimensions=20,
        seeds=(20, 20),
    ),
    "T1: cosine .1": _of(likeness_verdict, "yes", "no", "placebo", cosine=0.1),
    "T1: cosine .2": _of(likeness_verdict, "yes", "no", "placebo", cosine=0.2),
    "T1: top dose reversed": _of(
        likeness_verdict, "yes", "no", "placebo", "neither", cosine=1.0, curve=REVERSED
    ),
    "T2: true differences of 0": _of(sameness_verdict, "no", difference=0.0),
    "T2: true differences of .8": _of(sameness_verdict, "no", difference=0.8),
    "T2: true differences of .8, 20 seeds, 5 of the baseline": _of(
        sameness_verdict, "no", difference=0.8, baseline_seeds=5
    ),
    "T2: true differences of 1, the margin": _of(sameness_verdict, "yes", difference=1.0),
    "T2: true differences of 1, the margin, along the .98 of their noise that numbers share": _of(
        sameness_verdict, "yes", difference=1.0, common=(1, 0.98), aligned=True
    ),
    "T2: true differences of 1, the margin, in arms that share .9 of their noise with the baseline": _of(
        sameness_verdict, "yes", "no", difference=1.0, shared=0.9
    ),
    "T2: true differences of 1, the margin, along what 10 numbers share, 5 seeds, 20 of the baseline": _of(
        sameness_verdict,
        "yes",
        difference=1.0,
        common=(1, 0.98),
        aligned=True,
        seeds=5,
        baseline_seeds=20,
        count=10,
        differing=10,
    ),
    "T2: true differences of 1, the margin, along the .98 of their noise that numbers share, 5 seeds": _of(
        sameness_verdict, "yes", difference=1.0, common=(1, 0.98), aligned=True, seeds=5
    ),
    "T2: true differences of 1, the margin, in numbers that share .98 of their noise": _of(
        sameness_verdict, "yes", difference=1.0, common=(1, 0.98)
    ),
    "T2: true differences of 1, the margin, in numbers that share .98 of their noise, 5 seeds": _of(
        sameness_verdict, "yes", difference=1.0, common=(1, 0.98), seeds=5
    ),
    "T2: true differences of 1, the margin, in numbers of three factors that share .9": _of(
        sameness_verdict, "yes", difference=1.0, common=(3, 0.9)
    ),
    "T2: 5 of 115 numbers differ by 3, 5 seeds": _of(sameness_verdict, difference=3.0, differing=5, seeds=5),
    "T2: 5 of 115 numbers differ by 2, 5 seeds": _of(sameness_verdict, difference=2.0, differing=5, seeds=5),
    "T2: one of 115 numbers differs by 2, 5 seeds": _of(
        sameness_verdict, difference=2.0, differing=1, seeds=5
    ),
    "T2: 5 of 115 numbers differ by 1.5": _of(sameness_verdict, difference=1.5, differing=5),
    "T3: flat": _of(share_verdict, "yes", "no", curve=(0.0,) * 4),
    "T3: a plateau": _of(share_verdict, "yes", curve=(0.0, 1.0, 1.0, 1.0)),
    "T3: a plateau, three times the spread of seeds at the last share": _of(
        share_verdict, "yes", curve=(0.0, 4.0, 4.0, 4.0), last_spread=3.0
    ),
    "T4: unrelated, 8 families x 3 doses, .8 within": _of(
        ranking_verdict, "yes", "no", families=8, doses=3, within=0.8
    ),
    "T4: unrelated, 8 families x 3 doses, .95 within": _of(
        ranking_verdict, "yes", "no", families=8, doses=3, within=0.95
    ),
    "T4: unrelated, 3 families x 5 doses, .9 within": _of(
        ranking_verdict, "yes", "no", families=3, doses=5, within=0.9
    ),
    "T4: unrelated, 12 families that share 4 sources, .8": _of(
        ranking_verdict, "yes", "no", families=12, doses=3, within=0.8, sources=4, shared=0.8
    ),
    "T4: unrelated, 16 families that share 8 sources, .8": _of(
        ranking_verdict, "yes", "no", families=16, doses=3, within=0.8, sources=8, shared=0.8
    ),
    "T4: unrelated, 12 families that share 4 sources, .8, of which the design says nothing": _of(
        ranking_verdict, "yes", "no", families=12, doses=3, within=0.8, sources=4, shared=0.8, named=False
    ),
    "T4: unrelated, 24 families that share 12 sources, of which pairs share something": _of(
        ranking_verdict,
        "yes",
        "no",
        families=24,
        doses=3,
        within=0.8,
        sources=12,
        shared=0.8,
        crossed=True,
    ),
    "T4: unrelated, 6 families, of which 3 are a tenth as strong": _of(
        ranking_verdict, "yes", "no", families=6, doses=3, within=0.8, unequal=True
    ),
    "T4: unrelated, 3 families, and 7 that are fed the baseline's data": _of(
        ranking_verdict, "yes", "no", families=3, doses=3, within=0.8, tied=7
    ),
    "T4: unrelated, 8 families, and 7 that are fed the baseline's data": _of(
        ranking_verdict, "yes", "no", families=8, doses=3, within=0.8, tied=7
    ),
    "T1 power: cosine .92": _of(likeness_verdict, "no", "placebo", "neither", cosine=0.92),
    "T1 power: cosine .92, 2 s.d.": _of(likeness_verdict, "no", "placebo", "neither", cosine=0.92, size=2.0),
    "T1 power: cosine .92, 2 s.d., 20 seeds in all arms": _of(
        likeness_verdict, "no", "placebo", "neither", cosine=0.92, size=2.0, seeds=(20, 20)
    ),
    "T1 power: cosine .92, .4 s.d.": _of(likeness_verdict, "no", "placebo", "neither", cosine=0.92, size=0.4),
    "T1 power: cosine .92, participation ratio 3.3, 2 s.d., 20 seeds in all arms": _of(
        likeness_verdict,
        "no",
        "placebo",
        "neither",
        cosine=0.92,
        dimensions=12,
        ratio=3.3,
        size=2.0,
        seeds=(20, 20),
    ),
    "T1 power: cosine .92, that of a placebo about -.87, 2 s.d., 20 seeds in all arms": _of(
        likeness_verdict, "no", "neither", cosine=0.92, placebo=-0.95, size=2.0, seeds=(20, 20)
    ),
    "T1 power: cosine .92, 20 dimensions": _of(
        likeness_verdict, "no", "placebo", "neither", cosine=0.92, dimensions=20
    ),
    "T1 power: cosine .92, saturating, 20 dimensions": _of(
        likeness_verdict, "no", "placebo", "neither", cosine=0.92, curve=SATURATING, dimensions=20
    ),
    "T2 power: true differences of 0, 5 seeds": _of(sameness_verdict, "no", difference=0.0, seeds=5),
    "T2 power: true differences of 0, 10 seeds": _of(sameness_verdict, "no", difference=0.0, seeds=10),
    "T2 power: true differences of 2, 20 seeds, 5 of the baseline": _of(
        sameness_verdict, "yes", difference=2.0, baseline_seeds=5
    ),
    "T2 power: true differences of 1.5": _of(sameness_verdict, "yes", difference=1.5),
    "T2 power: true differences of 2": _of(sameness_verdict, "yes", difference=2.0),
    "T3 power: optimum of 1 s.d., 5 seeds": _of(share_verdict, "no", curve=_parabola(4, 1.0)),
    "T3 power: optimum of 1 s.d., 10 seeds": _of(share_verdict, "no", curve=_parabola(4, 1.0), seeds=10),
    "T3 power: optimum of 2 s.d., 5 seeds": _of(share_verdict, "no", curve=_parabola(4, 2.0)),
    "T4 power: correlation .9, 8 families": _of(
        ranking_verdict, "no", families=8, doses=3, within=0.8, related=0.9
    ),
    "T4 power: correlation .9, 12 families": _of(
        ranking_verdict, "no", families=12, doses=3, within=0.8, related=0.9
    ),
}
