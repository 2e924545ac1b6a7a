"""Simulated studies for T5, T6 and T7, and for verdicts over several models: as in `simulate`, of which the
truth is known.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from rmtjax.statistics import fit
from rmtjax.statistics.alone import A_PLACEBO, direction, moves
from rmtjax.statistics.directions import Cast
from rmtjax.statistics.meta import LIKENESS, likeness_over, pooled
from rmtjax.statistics.separation import separate, separation_answer
from rmtjax.statistics.simulate import (
    NUMBERS,
    Family,
    Scenario,
    at_cosine,
    random_direction,
    weights_study,
)
from rmtjax.statistics.study_table import Samples

_ASKED = ("augmentation", "dropout", "decay")
_PLACEBOS = tuple(f"placebo {i}" for i in range(5))
_CAST = Cast(*_ASKED, _PLACEBOS)
_METRICS = tuple(dict.fromkeys(metric for _, metric in NUMBERS))
_DOSES = (-2.0, -1.0, 1.0, 2.0)  # of the family that varies diversity alone
_ELSEWHERE = 10  # dimensions


def moves_verdict(
    rng: np.random.Generator, size: float, *, seeds: int = 5, baseline_seeds: int = 20, null: bool = True
) -> str:
    """T5's first verdict, in one block of 20 numbers, of four doses whose effects all have this root mean
    square, in standard deviations of seed noise. `null`: the study has a null arm of ten other seeds.
    """
    one = Family(random_direction(rng, np.full(6, 1.0)), (-size, -size, size, size), (seeds,) * 4)
    null_arm = Family(one.direction, (0.0,), (10,))
    families = {"alone": one} | ({"null": null_arm} if null else {})
    found = _with_doses(weights_study(rng, families, baseline_seeds=baseline_seeds + 10 * null))
    if null:
        # The last ten runs of the baseline become the null arm, and so have seeds of their own.
        found.values["null_1"] = found.values["none"][baseline_seeds:]
        found.seeds["null_1"] = found.seeds["none"][baseline_seeds:]
        found.values["none"] = found.values["none"][:baseline_seeds]
        found.seeds["none"] = found.seeds["none"][:baseline_seeds]
    return moves(found, "alone", _METRICS).verdict


def _with_doses(found: Samples) -> Samples:
    of_alone = found.arms.index[found.arms["family"] == "alone"]
    found.arms.loc[of_alone, "dose"] = _DOSES[: len(of_alone)]
    return found


def direction_verdict(
    rng: np.random.Generator,
    *,
    cosine: float | None = None,
    like: str = "augmentation",
    placebo: float | None = None,
    size: float = 1.0,
    turns: bool = True,
    dimensions: int = 6,
    others_elsewhere: bool = False,
    seeds: tuple[int, int] = (20, 5),
) -> str:
    """T5's second verdict, in one block of 20 numbers, in a study of the family, the three that are asked
    about, four others and five placebos.

    Args:
      cosine: of more diversity with the family (or placebo) `like`; None: it is unrelated to all.
      placebo: cosine of the first placebo with augmentation; None: it is unrelated.
      size: of the middle dose's effects, in standard deviations of seed noise.
      turns: whether less diversity moves the weights the other way; else it does the same as more.
      dimensions: that effects lie in; those of the four others and the placebos are ten others where
        `others_elsewhere`.
      seeds: of the baseline and the middle doses, and of the others.
    """
    many, few = seeds
    elsewhere = _ELSEWHERE if others_elsewhere else 0

    def draw(aside: bool = False) -> np.ndarray:
        here = np.zeros(dimensions + elsewhere)
        part = slice(dimensions, None) if aside and elsewhere else slice(0, dimensions)
        here[part] = random_direction(rng, np.full(len(here[part]), 1.0))
        return here

    of = {name: draw() for name in _ASKED}
    of |= {f"other {i}": draw(aside=True) for i in range(4)}
    of |= {name: draw(aside=True) for name in _PLACEBOS}
    if placebo is not None:
        of[_PLACEBOS[0]] = at_cosine(rng, of["augmentation"], placebo)
    alone = draw() if cosine is None else at_cosine(rng, of[like], cosine)
    signs = np.sign(_DOSES) if turns else np.ones(4)
    sizes = tuple(size * signs * (1.5, 1.0, 1.0, 1.5))
    families = {"alone": Family(alone, sizes, (few, many, many, few))}
    for name, one in of.items():
        if name in _ASKED:
            families[name] = Family(one, (0.5 * size, size, 1.5 * size), (few, many, few))
        else:
            families[name] = Family(one, (size,), (few,))
    found = _with_doses(weights_study(rng, families, baseline_seeds=many))
    return direction(found, "alone", _CAST, _METRICS).verdict


def fit_verdict(
    rng: np.random.Generator,
    share: float | None,
    *,
    change: float = 0.5,
    size: float = 1.0,
    seeds: tuple[int, int] = (20, 20),
    loss_noise: float = 0.1,
    bend: float = 0.0,
) -> str:
    """T6's verdict in one block of 20 numbers, of an arm beside half and twice the steps (five seeds each,
    effects of two standard deviations of seed noise, which change the loss by 1 and by -1).

    Args:
      share: of the squared effect that is that of training to the same loss; None: there is no effect.
      change: of the training loss by the arm.
      size: of the arm's effect without what the fit explains, if it explains nothing: else the fit's effect
        is that of the placebo at this change, and the rest follows from the share.
      seeds: of the baseline and of the arm.
      loss_noise: standard deviation of the loss over seeds, half of whose variance runs of a seed share.
      bend: how far the placebo's true path lies off the straight line at half its way, over its length.
    """
    axis, aside, bent = np.linalg.qr(rng.standard_normal((6, 3)))[0].T
    along = 2.0 * change
    path = along * axis + 4 * abs(change) * (1 - abs(change)) * bend * 2.0 * bent
    if share is None:
        effect = np.zeros(6)
    elif share <= 0:
        effect = size * aside
    else:
        effect = path + np.linalg.norm(path) * np.sqrt(1 / share - 1) * aside
    length = float(np.linalg.norm(effect))
    families = {
        "arm": Family(effect / length if length else axis, (length,), (seeds[1],)),
        "half": Family(axis, (2.0,), (5,)),
        "twice": Family(-axis, (2.0,), (5,)),
    }
    found = weights_study(rng, families, baseline_seeds=seeds[0])
    changes = {"none": 0.0, "arm_1": change, "half_1": 1.0, "twice_1": -1.0}
    base = loss_noise * np.sqrt(0.5) * rng.standard_normal(len(found.seeds["none"]))
    for arm, mean in changes.items():
        own = loss_noise * np.sqrt(0.5) * rng.standard_normal(len(found.seeds[arm]))
        loss = 2.0 + mean + base[: len(own)] + own
        found.values[arm] = np.column_stack([found.values[arm], loss])
    columns = pd.MultiIndex.from_tuples([*found.columns, ("run", fit.LOSS)], names=found.columns.names)
    rows = fit.fit_rows(found._replace(columns=columns), "twice", {"half": "steps", "twice": "steps"})
    return fit.fit_verdict(rows[0])


def separation_verdict(
    rng: np.random.Generator,
    size: float,
    *,
    same: bool = False,
    seeds: Sequence[int] = (20,) * 3 + (5,) * 5,
    shuffles: int = 199,
) -> str:
    """T7's verdict of 20 numbers of eight families, whose effects have this root mean square in standard
    deviations of seed noise. `same`: all have one direction.
    """
    shared = random_direction(rng, np.full(6, 1.0))
    families = {
        f"family {i}": Family(shared if same else random_direction(rng, np.full(6, 1.0)), (size,), (count,))
        for i, count in enumerate(seeds)
    }
    found = weights_study(rng, families, baseline_seeds=max(seeds))
    told = separate(found, "after", shuffles=shuffles, seed=int(rng.integers(2**31)))
    return separation_answer(told, "after").verdict


COVERS, MISSES = "covers", "misses"


def meta_coverage(
    rng: np.random.Generator, spread: float, *, errors: Sequence[float] = (0.1, 0.1, 0.1)
) -> str:
    """Whether the interval over models has the mean of all models, of which those with these standard errors
    are drawn, with this standard deviation between models.
    """
    values = spread * rng.standard_normal(len(errors)) + np.array(errors) * rng.standard_normal(len(errors))
    found = pooled(values, np.array(errors))
    return COVERS if found.low <= 0 <= found.high else MISSES


def likeness_over_verdict(
    rng: np.random.Generator,
    *,
    cosine: float | None = None,
    dimensions: int = 6,
    models: int = 3,
    error: float = 0.1,
    shared: float = 0.0,
) -> str:
    """T1's verdict over models, from three cosines of each, whose standard error is given; the best of five
    unrelated placebos is the rival.

    Args:
      cosine: of diversity with dropout in all models; None: it is unrelated.
      shared: share of the directions' coordinates, in variance, that the models have in common.
    """
    common = rng.standard_normal((8, dimensions))
    rows = []
    for _ in range(models):
        own = rng.standard_normal((8, dimensions))
        drawn = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
        dropout, decay, diversity, *placebos = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        if cosine is not None:
            diversity = at_cosine(rng, dropout, cosine)
        to = np.array([diversity @ dropout, diversity @ decay]) + error * rng.standard_normal(2)
        rival = float(np.abs(np.array(placebos) @ diversity).max())
        numbers = {
            "dropout": to[0],
            "decay": to[1],
            "contrast": to[0] - to[1],
            "margin": to.max() - rival + error * rng.standard_normal(),
        }
        half = {name: 1.96 * error * (2**0.5 if name in ("contrast", "margin") else 1) for name in numbers}
        rows.append(
            numbers
            | {f"{name}_low": value - half[name] for name, value in numbers.items()}
            | {f"{name}_high": value + half[name] for name, value in numbers.items()}
        )
    return likeness_over(pd.DataFrame(rows)[list(LIKENESS)])[0]


def _of(verdict: Callable[..., str], *wrong: str, **settings: object) -> Scenario:
    return Scenario(partial(verdict, **settings), wrong)


_NAMES = (*_ASKED, A_PLACEBO)
_BUT_FIRST = ("dropout", "decay", A_PLACEBO, "none")
FURTHER: dict[str, Scenario] = {
    "T5 moves: no effect, 5 seeds": _of(moves_verdict, "yes", size=0.0),
    "T5 moves: no effect, 20 seeds": _of(moves_verdict, "yes", size=0.0, seeds=20),
    "T5 moves: no effect, 5 seeds, no null arm": _of(moves_verdict, "yes", size=0.0, null=False),
    "T5 moves: no effect, 5 seeds, 5 of the baseline": _of(
        moves_verdict, "yes", size=0.0, baseline_seeds=5, null=False
    ),
    "T5 moves: effects of 1, the margin, 5 seeds": _of(moves_verdict, "no", size=1.0),
    "T5 direction: no effect": _of(direction_verdict, *_NAMES, "none", size=0.0),
    "T5 direction: unrelated in six dimensions": _of(direction_verdict, *_NAMES),
    "T5 direction: unrelated, 2 s.d., 20 seeds in all arms": _of(
        direction_verdict, *_NAMES, size=2.0, seeds=(20, 20)
    ),
    "T5 direction: unrelated, two dimensions, all other families in ten others, 2 s.d.": _of(
        direction_verdict, *_NAMES, dimensions=2, others_elsewhere=True, size=2.0
    ),
    "T5 direction: unrelated, four dimensions, all other families in ten others, 2 s.d.": _of(
        direction_verdict, *_NAMES, dimensions=4, others_elsewhere=True, size=2.0
    ),
    "T5 direction: that of a placebo (.95), unrelated to the three, 2 s.d.": _of(
        direction_verdict, *_ASKED, cosine=0.95, like=_PLACEBOS[0], size=2.0
    ),
    "T5 direction: a placebo moves along augmentation's axis": _of(
        direction_verdict, *_ASKED, "none", cosine=0.92, placebo=0.95
    ),
    "T5 direction: a placebo does what augmentation does, 2 s.d.": _of(
        direction_verdict, *_ASKED, "none", cosine=0.92, placebo=1.0, size=2.0
    ),
    "T5 direction: opposed to augmentation (-.92), 2 s.d.": _of(
        direction_verdict, *_NAMES, cosine=-0.92, size=2.0
    ),
    "T5 direction: less does what more does (.92 with augmentation), 2 s.d.": _of(
        direction_verdict, *_NAMES, "none", cosine=0.92, turns=False, size=2.0
    ),
    "T6: no effect": _of(fit_verdict, "yes", "no", share=None),
    "T6: all is the fit": _of(fit_verdict, "no", share=1.0),
    "T6: all is the fit, 5 seeds": _of(fit_verdict, "no", share=1.0, seeds=(20, 5)),
    "T6: all is the fit, whose path bends by a quarter": _of(fit_verdict, "no", share=1.0, bend=0.25),
    "T6: half is the fit": _of(fit_verdict, "yes", "no", share=0.5),
    "T6: half is the fit, 5 seeds": _of(fit_verdict, "yes", "no", share=0.5, seeds=(20, 5)),
    "T6: half is the fit, 5 seeds, 10 of the baseline": _of(
        fit_verdict, "yes", "no", share=0.5, seeds=(10, 5)
    ),
    "T6: half is the fit, 5 seeds in all arms": _of(fit_verdict, "yes", "no", share=0.5, seeds=(5, 5)),
    "T6: half is the fit, the loss has a noise of half its change": _of(
        fit_verdict, "yes", "no", share=0.5, loss_noise=0.25
    ),
    "T6: none is the fit, which does not change": _of(fit_verdict, "yes", share=0.0, change=0.0),
    "T6: none is the fit, which changes, 5 seeds": _of(fit_verdict, "yes", share=0.0, seeds=(20, 5)),
    "T7: no effect, 5 to 20 seeds": _of(separation_verdict, "yes", size=0.0),
    "T7: no effect, 5 seeds": _of(separation_verdict, "yes", size=0.0, seeds=(5,) * 8),
    "T7: all families do the same, 2 s.d.": _of(separation_verdict, "yes", size=2.0, same=True),
    "over models: 3 alike": _of(meta_coverage, MISSES, spread=0.0),
    "over models: 3, spread between them that of one": _of(meta_coverage, MISSES, spread=0.1),
    "over models: 3, spread between them three times that of one": _of(meta_coverage, MISSES, spread=0.3),
    "over models: 3 alike, errors .05, .1 and .3": _of(
        meta_coverage, MISSES, spread=0.0, errors=(0.05, 0.1, 0.3)
    ),
    "over models: 3, spread .1, errors .05, .1 and .3": _of(
        meta_coverage, MISSES, spread=0.1, errors=(0.05, 0.1, 0.3)
    ),
    "over models: 3, spread .3, errors .05, .1 and .3": _of(
        meta_coverage, MISSES, spread=0.3, errors=(0.05, 0.1, 0.3)
    ),
    "over models: 6, spread .1": _of(meta_coverage, MISSES, spread=0.1, errors=(0.1,) * 6),
    "T1 over models: 3, unrelated in six dimensions": _of(likeness_over_verdict, "yes", "no"),
    "T1 over models: 3, unrelated, the same directions in all": _of(
        likeness_over_verdict, "yes", "no", shared=1.0
    ),
    "T5 moves power: .3 s.d., 5 seeds": _of(moves_verdict, size=0.3),
    "T5 moves power: .5 s.d., 5 seeds": _of(moves_verdict, size=0.5),
    "T5 direction power: .92 with augmentation, 2 s.d.": _of(
        direction_verdict, *_BUT_FIRST, cosine=0.92, size=2.0
    ),
    "T5 direction power: .92 with augmentation, 2 s.d., 20 dimensions": _of(
        direction_verdict, *_BUT_FIRST, cosine=0.92, size=2.0, dimensions=20
    ),
    "T6 power: .8 is the fit": _of(fit_verdict, "no", share=0.8),
    "T6 power: .2 is the fit": _of(fit_verdict, "yes", share=0.2),
    "T7 power: effects of .5 s.d.": _of(separation_verdict, size=0.5),
    "T7 power: effects of 1 s.d.": _of(separation_verdict, size=1.0),
    "T1 over models power: 3, cosine .92": _of(likeness_over_verdict, "no", "neither", cosine=0.92),
    "T1 over models power: 6, cosine .92": _of(likeness_over_verdict, "no", "neither", cosine=0.92, models=6),
}
