"""T1: does a family move the weights in the direction of dropout, of weight decay, of a placebo, or of none?

Every dose of a family has a direction: its effect over its length. The cosine of two families is the mean
over all pairs of their doses, so that the strongest dose does not decide. Lengths and products are free of
noise (`products`).

A cosine above 0 is no likeness. Effects of unrelated interventions lie in few dimensions, in which two random
directions are often alike. So a family is like another only if the lower end of the cosine's interval is
above a floor, which unrelated directions in as many dimensions exceed in one of forty cases (the fewest that
the families show); if the cosine
is greater than the rival's and than that of every placebo, a family that changes how the model is trained and
nothing that the question is about; and if the greatest placebo is not clearly above the floor. Cosines of
placebos count by their size, since more and less of one, such as the learning rate, are two ends of one axis,
of which a design may have either.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Float

from rmtjax.errors import InputError
from rmtjax.statistics.doses import by_family
from rmtjax.statistics.effect_similarity import numbers_known
from rmtjax.statistics.paper import METRICS as PAPER
from rmtjax.statistics.products import Estimate, Products, products_of_effects
from rmtjax.statistics.study_table import NULL, RUN, Samples, noise, place_of_run, samples
from rmtjax.statistics.verdicts import CANNOT_TELL, NO, YES

NEITHER, PLACEBO = "neither", "placebo"
LEAST_COSINE = 0.3  # two directions that are less alike are not alike, in however many dimensions
LEAST_RELIABILITY = 0.5  # of a dose that has a direction
LEAST_AGREEMENT = 0.5  # mean cosine between the doses of a family that has a direction
FLOOR_LEVEL = 0.975  # two families are asked about: one of twenty for both together
LEAST_PAIRS = 10
LEAST_SEEDS = 3
LEAST_KNOWN = 0.5  # of the numbers that the baselines have
FEW_DIMENSIONS = 3.0  # where there are too few families to tell: as few as studies have had
_LEAST_SQUARED_SINE = 0.05  # of two directions that span a plane, for all that noise leaves
_POINTS = 5
MATCHED_BY = ("update_norm", "training_loss", "validation_loss")  # metrics of the run

AFTER, UPDATE = "the paper's four, weights after", "the paper's four, update"
PRIMARY = (AFTER, UPDATE)
PLAIN = "all doses"


class Likeness(NamedTuple):
    """A row of T1: one choice of numbers and of doses.

    Attributes:
      block: which numbers; numbers: how many.
      condition: which doses are compared, or what is projected out.
      verdict: "yes" (like dropout), "no" (like weight decay), "placebo" (like a placebo, and less so like the
        nearer of the two, or it cannot be told which), "neither", "cannot tell".
      reason: of the verdict, in words.
      dropout, decay, contrast: the cosines, and the first less the second; `_low`, `_high` are ends of their
        95 % intervals.
      placebo: the greatest cosine, by its size, among those of the placebos' doses is that of this one, named
        by its family where that has one dose; placebo_cosine: that cosine; placebo_margin_low, _high: the
        ends of how much dropout's cosine (or decay's) is greater than its size.
      rival: the placebo of which the size of the cosine is exceeded by dropout's cosine (or decay's, where
        that is the nearer) by the least, as the lower end of the interval says; margin: by how much it is.
      left_out: placebos that have no direction here: their effects are mostly noise, share no such doses with
        the family, or are projected out. With commas between.
      few_seeds: arms that do not count since they or their baseline have fewer than three seeds. With commas
        between.
      lacking: how many of the block's numbers, known in all runs of the baseline, are left out since some
        other run lacks them; lacking_in: the arm that lacks the most.
      floor: what unrelated directions exceed in one of forty cases, .3 at least.
      placebo_floor: what the greatest of as many placebos, unrelated, exceeds by its size in one of forty.
      dimensions, dimensions_low, dimensions_high: in which effects lie: the least of the participation ratio
        of all families, that of those that are no placebos, and what the three of the question show by
        themselves; with the jackknife interval over families of the first two. NaN where they are too few,
        and the floor that of three.
      agreement: the mean cosine between doses of the family, of those three, whose doses agree the least.
    """

    block: str
    numbers: int
    condition: str
    verdict: str
    reason: str
    dropout: float
    dropout_low: float
    dropout_high: float
    decay: float
    decay_low: float
    decay_high: float
    contrast: float
    contrast_low: float
    contrast_high: float
    placebo: str
    placebo_cosine: float
    placebo_low: float
    placebo_high: float
    placebo_margin_low: float
    placebo_margin_high: float
    left_out: str
    few_seeds: str
    lacking: int
    lacking_in: str
    rival: str
    margin: float
    margin_low: float
    margin_high: float
    floor: float
    placebo_floor: float
    dimensions: float
    dimensions_low: float
    dimensions_high: float
    agreement: float


class Cast(NamedTuple):
    """Who plays in T1: names of families.

    Attributes:
      diversity, dropout, decay: those of the question.
      placebos: of which dropout's cosine has to exceed each.
      progress: the placebo that is projected out in a row of its own; None: there is no such row.
    """

    diversity: str
    dropout: str
    decay: str
    placebos: Sequence[str] = ()
    progress: str | None = None


def likeness_rows(
    table: pd.DataFrame | Samples, cast: Cast, scales: Mapping[str, int | None] | None = None
) -> list[Likeness]:
    """Rows of T1, the primary ones first.

    The numbers are those of all kinds of layer but the head. Blocks of numbers, in this order: the paper's
    four metrics of the weights after training; the same of the update; those that change with the weights'
    scale; those that do not; all. The two primary ones are also there at doses matched by each of
    `MATCHED_BY`, and with the progress of training projected out, where the table allows.

    Args:
      table: as `study_table` says.
      cast: the families.
      scales: by a metric's name, the power of the weights' scale that it grows with (None: in no power).
        Without it there are no blocks of scale and shape.

    Raises:
      InputError: too few seeds for any row, no number of a kind of layer, or no run of one of the three
        families of the question. A placebo without a run is left out.
    """
    found = samples(table)
    families = {name: arms for name, arms in by_family(found).items() if name != NULL}
    for name in cast[:3]:
        if name not in families:
            raise InputError(f"{name!r} is no family of the table: it has {', '.join(families)}")
    chosen = blocks(found, scales)
    if not chosen:
        raise InputError("the table has no number of a kind of layer: likeness is about the weights")
    rows = []
    for block, names in chosen.items():
        study = _Study.of(found, families, names)
        rows.append(_row(study, cast, block, PLAIN))
        if block not in PRIMARY:
            continue
        run = [metric for group, metric in found.columns if group == RUN]
        for by in MATCHED_BY:
            if by in run:
                rows.append(_row(study, cast, block, f"matched by {by.replace('_', ' ')}", by=by))
        if cast.progress is not None and study.doses.get(cast.progress):
            rows.append(_row(study.without(cast.progress), cast, block, f"without {cast.progress}"))
    return sorted(rows, key=lambda row: row.block not in PRIMARY)


def likeness_row(table: pd.DataFrame | Samples, cast: Cast, metrics: Sequence[str] | None = None) -> Likeness:
    """The row of T1 for these metrics (None: all) at all doses."""
    found = samples(table)
    families = {name: arms for name, arms in by_family(found).items() if name != NULL}
    study = _Study.of(found, families, metrics)
    return _row(study, cast, "all" if metrics is None else ", ".join(metrics), PLAIN)


def blocks(found: Samples, scales: Mapping[str, int | None] | None) -> dict[str, list[str]]:
    """Metrics of each block that the table has."""
    names = list(dict.fromkeys(name for group, name in found.columns if group != RUN))
    out = {
        AFTER: [name for name in names if name in {f"after/{metric}" for metric in PAPER}],
        UPDATE: [name for name in names if name in {f"update/{metric}" for metric in PAPER}],
    }
    if scales is not None:
        power = {name: scales[name.split("/")[-1]] for name in names if name.split("/")[-1] in scales}
        out["scale"] = [name for name in names if power.get(name, 0) != 0]
        out["shape"] = [name for name in names if name in power and power[name] == 0]
    out["all"] = names
    return {block: chosen for block, chosen in out.items() if chosen}


class _Study(NamedTuple):
    """The effects of arms in one block of numbers.

    Attributes:
      found: the study.
      effects: products of the arms' effects.
      doses: of each family the places of its arms that have a direction.
      weak: of each family its greatest reliability; NaN where no arm has three seeds.
      few_seeds: arms that do not count, for want of seeds.
      lacking: how many numbers each arm lacks that the baselines have.
      left_out: how many numbers that the baselines have are left out for it.
    """

    found: Samples
    effects: Products
    doses: dict[str, list[int]]
    weak: dict[str, float]
    few_seeds: list[str]
    lacking: dict[str, int]
    left_out: int

    @classmethod
    def of(
        cls, found: Samples, families: Mapping[str, Sequence[str]], metrics: Sequence[str] | None
    ) -> "_Study":
        base = found.arms["baseline"].astype(str)
        few = [
            arm
            for arms in families.values()
            for arm in arms
            if min(len(found.seeds[arm]), len(found.seeds[base[arm]])) < LEAST_SEEDS
        ]
        enough = {name: [arm for arm in arms if arm not in few] for name, arms in families.items()}
        arms = [arm for some in enough.values() for arm in some]
        if not arms:
            raise InputError(
                f"no arm has {LEAST_SEEDS} seeds beside as many of its baseline: likeness needs three of each"
            )
        keep = numbers_known(found, enough, None, metrics)
        usual = numbers_known(found, {NULL: list(set(base[arms]))}, None, metrics)
        lacking = {arm: int((~np.isfinite(found.values[arm]).all(0) & usual).sum()) for arm in arms}
        effects = _turned(found, products_of_effects(found, arms, keep))
        left_out = int((usual & ~keep).sum())
        return cls(found, effects, {}, {}, few, lacking, left_out)._with_doses(effects, families)

    def _with_doses(self, effects: Products, families: Mapping[str, Sequence[str]]) -> "_Study":
        reliability = effects.reliability()
        doses, weak = {}, {}
        for name, arms in families.items():
            places = [effects.arms.index(arm) for arm in arms if arm in effects.arms]
            doses[name] = [place for place in places if reliability[place] >= LEAST_RELIABILITY]
            weak[name] = float(reliability[places].max()) if places else np.nan
        return self._replace(effects=effects, doses=doses, weak=weak)

    def without(self, family: str) -> "_Study":
        """With the direction of a family's strongest dose projected out; it has no direction any more."""
        left = self.effects.without(self.doses[family][-1])
        families = {
            str(name): list(part) for name, part in by_family(self.found).items() if name in self.doses
        }
        out = self._with_doses(left, families)
        return out._replace(doses=out.doses | {family: []})

    def rows(self, family: str) -> Float[np.ndarray, "P A"]:
        return np.eye(len(self.effects.arms))[self.doses[family]]

    def cosine(self, one: str, other: str, by: str | None = None) -> Float[np.ndarray, " R"]:
        """Mean cosine over pairs of doses, of all seeds and without each; matched by a metric of the run."""
        if by is not None:
            matched = self._matched(one, other, by)
            if matched is None:
                return np.full(len(self.effects.grams), np.nan)
            cosines = self.effects.cosines(*matched)
            return np.diagonal(cosines, axis1=1, axis2=2).mean(-1)
        out: np.ndarray = self.effects.cosines(self.rows(one), self.rows(other)).mean((1, 2))
        return out

    def agreement(self, family: str) -> float:
        """Mean cosine between two doses of a family; 1 where it has one."""
        if len(self.doses[family]) < 2:
            return 1.0
        cosines = self.effects.cosines(self.rows(family), self.rows(family))[0]
        return float(cosines[np.triu_indices(len(cosines), 1)].mean())

    def _matched(self, one: str, other: str, by: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Weights of the arms of two families where both reach the same values of a metric; None if
        nowhere.
        """
        place = place_of_run(self.found, by)
        curves = [self._change(family, place) for family in (one, other)]
        low = max(min(0.0, curve.min()) for curve in curves)
        high = min(max(0.0, curve.max()) for curve in curves)
        base = str(self.found.arms.loc[self.effects.arms[0], "baseline"])
        if not high - low > noise(self.found, base)[place]:
            return None
        points = np.linspace(low, high, _POINTS + 1)
        points = points[np.abs(points).argsort()[1:]]  # nearest to the baseline there is no effect
        return tuple(  # type: ignore[return-value]
            np.stack([_weights_at(curve, point) @ self.rows(family) for point in points])
            for family, curve in zip((one, other), curves, strict=True)
        )

    def _change(self, family: str, place: int) -> Float[np.ndarray, " P"]:
        """What the doses of a family change of a metric of the run."""
        out = []
        for arm in (self.effects.arms[i] for i in self.doses[family]):
            base = str(self.found.arms.loc[arm, "baseline"])
            seeds = np.isin(self.found.seeds[base], self.found.seeds[arm])
            rows = seeds if seeds.sum() == len(self.found.seeds[arm]) else slice(None)
            out.append(self.found.values[arm][:, place].mean() - self.found.values[base][rows, place].mean())
        return np.array(out)


def _weights_at(change: Float[np.ndarray, " P"], point: float) -> Float[np.ndarray, " P"]:
    """Weights of the doses, in straight lines from the baseline through them, where the change is `point`.

    Where it is passed twice, the strongest dose counts.
    """
    x = np.concatenate([[0.0], change])
    for i in range(len(x) - 2, -1, -1):
        if min(x[i], x[i + 1]) <= point <= max(x[i], x[i + 1]) and x[i] != x[i + 1]:
            share = (point - x[i]) / (x[i + 1] - x[i])
            out = np.zeros(len(x))
            out[i], out[i + 1] = 1 - share, share
            return out[1:]
    return np.eye(len(change))[np.abs(change - point).argmin()]


def _row(study: _Study, cast: Cast, block: str, condition: str, by: str | None = None) -> Likeness:
    effects = study.effects
    estimate = effects.estimate
    nothing = np.full(len(effects.grams), np.nan)
    known = all(study.doses[name] for name in cast[:3])
    to_dropout, to_decay = (
        study.cosine(cast.diversity, name, by) if known else nothing for name in (cast.dropout, cast.decay)
    )
    dropout, decay, contrast = (estimate(x) for x in (to_dropout, to_decay, to_dropout - to_decay))
    placebos, left_out = _placebos(study, cast, by) if known else ({}, [])
    nearer = to_dropout if not decay.value > dropout.value else to_decay
    margins = {
        name: estimate(nearer - math.copysign(1, values[0]) * values) for name, values in placebos.items()
    }
    nearest = max(placebos, key=lambda name: abs(placebos[name][0]), default="")
    rival = min(margins, key=lambda name: np.nan_to_num(margins[name].low, nan=-math.inf), default="")
    unknown = Estimate(np.nan, np.nan, np.nan)
    dimensions = _dimensions(study, cast)
    if known:
        between = float(study.cosine(cast.dropout, cast.decay, by)[0])
        of_three = _dimensions_of_three(dropout.value, decay.value, between)
        if of_three < np.nan_to_num(dimensions.value, nan=FEW_DIMENSIONS):
            dimensions = Estimate(of_three, np.nan, np.nan)
    floor = floor_of(dimensions.value)
    placebo_floor = floor_of(dimensions.value, level_of_placebos(len(placebos)))
    agreements = {name: study.agreement(name) for name in cast[:3]} if known else {}
    row = Likeness(
        block,
        effects.numbers,
        condition,
        CANNOT_TELL,
        "",
        *dropout,
        *decay,
        *contrast,
        nearest,
        *(estimate(placebos[nearest]) if placebos else unknown),
        *(margins[nearest][1:] if placebos else unknown[1:]),
        ", ".join(left_out),
        ", ".join(study.few_seeds),
        study.left_out,
        max(study.lacking, key=lambda name: study.lacking[name]),
        rival,
        *(margins[rival] if placebos else unknown),
        floor,
        placebo_floor,
        *dimensions,
        min(agreements.values(), default=np.nan),
    )
    whole = effects.numbers + row.lacking
    if effects.numbers < LEAST_KNOWN * whole:
        return row._replace(
            reason=f"only {effects.numbers} of {whole} numbers are known in every run: "
            f"{row.lacking_in} lacks {study.lacking[row.lacking_in]}"
        )
    weak = [name for name in cast[:3] if not study.doses[name]]
    if weak and np.isnan(study.weak[weak[0]]):
        return row._replace(
            reason=f"no dose of {weak[0]} has {LEAST_SEEDS} seeds beside as many of its baseline"
        )
    if weak:
        return row._replace(
            reason=f"no dose of {weak[0]} has an effect that is more than noise (its greatest reliability is "
            f"{study.weak[weak[0]]:.2f})"
        )
    if not row.agreement >= LEAST_AGREEMENT:
        apart = min(agreements, key=lambda name: agreements[name])
        return row._replace(
            reason=f"the doses of {apart} disagree (the mean cosine between them is {row.agreement:.2f})"
        )
    verdict, reason = verdict_of(row, cast)
    return row._replace(verdict=verdict, reason=reason)


def _placebos(
    study: _Study, cast: Cast, by: str | None
) -> tuple[dict[str, Float[np.ndarray, " R"]], list[str]]:
    """The cosines of the family with placebos, and the placebos that have none here.

    Each dose of a placebo counts by itself: half and twice a learning rate are opposed, and their mean would
    be near 0. Only where doses are matched are those of one placebo taken together.
    """
    found: dict[str, Float[np.ndarray, " R"]] = {}
    for name in cast.placebos:
        doses = study.doses.get(name)
        if not doses:
            continue
        if by is not None:
            found[name] = study.cosine(cast.diversity, name, by)
            continue
        each = study.effects.cosines(study.rows(cast.diversity), study.rows(name)).mean(1)
        names = [name] if len(doses) == 1 else [study.effects.arms[dose] for dose in doses]
        found |= dict(zip(names, each.T, strict=True))
    known = {name: values for name, values in found.items() if np.isfinite(values[0])}
    unknown = [name for name in found if name not in known]
    return known, [name for name in cast.placebos if not study.doses.get(name)] + unknown


def verdict_of(row: Likeness, cast: Cast) -> tuple[str, str]:
    """The verdict and its reason, of a row whose numbers are known."""
    if not np.isfinite([row.dropout, row.decay]).all():
        without = cast.dropout if not np.isfinite(row.dropout) else cast.decay
        return CANNOT_TELL, f"{cast.diversity} and {without} have no such doses in common"
    if not np.isfinite([row.dropout_low, row.decay_low, row.contrast_low]).all():
        return CANNOT_TELL, "an effect is mostly noise without one of its seeds"
    for verdict, name, low, clear in (
        (YES, cast.dropout, row.dropout_low, row.contrast_low > 0),
        (NO, cast.decay, row.decay_low, row.contrast_high < 0),
    ):
        if low > row.floor and clear:
            if cast.placebos and not row.rival:
                return CANNOT_TELL, "no placebo of the design can be compared here"
            if max(row.placebo_low, -row.placebo_high) > row.floor:
                reason = f"that with {row.placebo}, by its size, is above what unrelated directions reach too"
                return CANNOT_TELL if row.placebo_margin_low > 0 else PLACEBO, reason
            if not row.rival or row.margin_low > 0:
                return verdict, f"its cosine with {name} is above what unrelated directions reach"
            return (
                CANNOT_TELL,
                f"its cosine with {name} is not clearly greater, by size, than with {row.rival}",
            )
    if max(row.placebo_low, -row.placebo_high) > row.placebo_floor and row.placebo_margin_high < 0:
        return PLACEBO, f"its cosine with {row.placebo}, by size, is above what unrelated directions reach"
    if max(row.dropout_high, row.decay_high) < LEAST_COSINE:
        return NEITHER, f"both cosines are below {LEAST_COSINE:g}"
    greatest = max(row.dropout_low, row.decay_low)
    if greatest > row.floor:
        return CANNOT_TELL, "both cosines are great and not clearly different"
    if max(row.dropout_high, row.decay_high) < row.floor:
        return CANNOT_TELL, "unrelated directions are as much alike in so few dimensions"
    return CANNOT_TELL, "neither cosine is clearly above, nor both below, what unrelated directions reach"


def level_of_placebos(count: int) -> float:
    """What makes `floor_of` the floor of the greatest cosine, by size, of so many placebos."""
    return 1 - (1 - FLOOR_LEVEL) / (2 * max(count, 1))


def floor_of(dimensions: float, level: float = FLOOR_LEVEL) -> float:
    """The cosine that two random directions exceed in one of forty cases (or 1 - `level`), at least .3.

    In d dimensions c sqrt((d - 1) / (1 - c^2)) has Student's t distribution with d - 1 degrees of freedom.

    >>> [round(floor_of(dimensions), 2) for dimensions in (6.0, np.nan, 100.0)]
    [0.75, 0.95, 0.3]
    """
    freedom = max(FEW_DIMENSIONS if np.isnan(dimensions) else dimensions, 1.01) - 1
    t = scipy.stats.t.ppf(level, freedom)
    return max(LEAST_COSINE, float(t / np.sqrt(t**2 + freedom)))


def _dimensions(study: _Study, cast: Cast) -> Estimate:
    """Participation ratio of the families' directions, from the pairs that the question is not about.

    It is that of all families or that of those that are no placebos, whichever is less: placebos may lie
    elsewhere, and then say nothing about the space that the others share. NaN where the others make fewer
    than ten pairs.
    """
    return _fewest(study, cast.placebos, {cast.diversity, cast.dropout}, {cast.diversity, cast.decay})


def _fewest(study: _Study, placebos: Sequence[str], *tested: set[str]) -> Estimate:
    names = [name for name, doses in study.doses.items() if doses]
    squares = _squared_cosines(study, names, *tested)
    others = np.array([name not in placebos for name in names], bool)
    few = _participation(squares[np.ix_(others, others)])
    every = _participation(squares)
    return every if every.value < np.nan_to_num(few.value, nan=FEW_DIMENSIONS) else few


def _dimensions_of_three(dropout: float, decay: float, between: float) -> float:
    """As many dimensions as the three families of the question seem to lie in, whatever the others do.

    From the cosines of diversity with the two, and of the two with each other. In d dimensions the plane of
    diversity and the nearer of the two holds 2 / d of the squared length of the other's direction, in the
    mean over random directions; in two dimensions it holds all. So families that share a plane of their own,
    of which the others say nothing, are noticed.
    """
    near, far = (dropout, decay) if dropout >= decay else (decay, dropout)
    within = (far**2 + between**2 - 2 * near * far * between) / max(1 - near**2, _LEAST_SQUARED_SINE)
    return 2 / min(max(within, 1e-3), 1.0)


def _squared_cosines(study: _Study, names: Sequence[str], *tested: set[str]) -> Float[np.ndarray, "F F"]:
    """Of each two families, less the noise of the cosine; NaN of those that are tested."""
    out = np.full((len(names), len(names)), np.nan)
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            if {one, other} not in tested:
                values = study.cosine(one, other)
                out[i, j] = out[j, i] = values[0] ** 2 - study.effects.variance(values[1:])
    return out


def _participation(squares: Float[np.ndarray, "F F"]) -> Estimate:
    """Participation ratio of directions whose squared cosines are given; NaN of fewer than ten pairs.

    For random directions whose second moments have the eigenvalues p, with sum 1, the mean squared cosine is
    Σ p², the reciprocal of the participation ratio. The interval is by the jackknife over families.
    """
    known = np.isfinite(squares)
    if known.sum() < 2 * LEAST_PAIRS:
        return Estimate(np.nan, np.nan, np.nan)
    total, count = np.where(known, squares, 0.0), known.astype(float)
    mean = float(total.sum() / count.sum())
    without = (total.sum() - 2 * total.sum(1)) / (count.sum() - 2 * count.sum(1))
    n = len(squares)
    error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * float(error)
    # A mean at or below 0 is that of many dimensions.
    ends = [1 / max(value, 1e-3) for value in (mean, mean + half, mean - half)]
    return Estimate(*ends)


def _turned(found: Samples, effects: Products) -> Products:
    """Effects per unit of dose: those of doses below 0, of less of something, are turned into more of it."""
    signs = np.where(found.arms.loc[list(effects.arms), "dose"].to_numpy(np.float64) < 0, -1.0, 1.0)
    return effects._replace(grams=effects.grams * signs[:, None] * signs)


class Cosines(NamedTuple):
    """Cosines of one family with others, each of all seeds and without each seed in turn.

    Attributes:
      effects: of all arms, turned where their doses are below 0.
      doses: places of the family's arms that have a direction.
      others: by the name of a family; NaN where it or the family has no direction.
      placebos, left_out: by the name of a placebo (or of its arm, where it has several doses); those without.
      weak: the greatest reliability of each family that has no direction.
      agreements: the mean cosine between the doses of each family that has one.
      dimensions: in which effects lie, as in T1; also the fewest that the others show among
        themselves, and that each with the nearest and the family does, in the mean.
    """

    effects: Products
    doses: list[int]
    others: dict[str, Float[np.ndarray, " R"]]
    placebos: dict[str, Float[np.ndarray, " R"]]
    left_out: list[str]
    weak: dict[str, float]
    agreements: dict[str, float]
    dimensions: Estimate


def cosines_of(
    found: Samples, metrics: Sequence[str], family: str, others: Sequence[str], placebos: Sequence[str]
) -> Cosines:
    """Of a family whose doses have signs: an effect counts per unit of dose, so those below 0 are turned.

    Args:
      metrics: the numbers, of all kinds of layer but the head.
      others, placebos: names of families.

    Raises:
      InputError: an arm with fewer than three seeds, or no number that is known in all runs.
    """
    families = {name: arms for name, arms in by_family(found).items() if name != NULL}
    study = _Study.of(found, families, metrics)
    effects = study.effects
    asked = [family, *others]
    with_direction = [name for name in asked if study.doses[name]]
    nothing = np.full(len(effects.grams), np.nan)
    both = {name: family in with_direction and name in with_direction for name in others}
    cosines = {name: study.cosine(family, name) if both[name] else nothing for name in others}
    beside = Cast(family, family, family, placebos)
    of_placebos, left_out = _placebos(study, beside, None) if study.doses[family] else ({}, [])
    return Cosines(
        effects,
        study.doses[family],
        cosines,
        of_placebos,
        left_out,
        {name: study.weak[name] for name in asked if name not in with_direction},
        {name: study.agreement(name) for name in with_direction},
        _fewest_with(study, placebos, family, {name: float(values[0]) for name, values in cosines.items()}),
    )


def _fewest_with(study: _Study, placebos: Sequence[str], family: str, to: Mapping[str, float]) -> Estimate:
    """The dimensions of effects, where the cosines of the family with others, `to`, are asked about."""
    fewest = _fewest(study, placebos, *({family, name} for name in to))
    known = [name for name, cosine in to.items() if np.isfinite(cosine)]
    if len(known) < 2:
        return fewest
    nearest = max(known, key=lambda name: to[name])
    shares = [
        1 / _dimensions_of_three(to[nearest], to[name], float(study.cosine(nearest, name)[0]))
        for name in known
        if name != nearest
    ]
    squares = [study.cosine(one, other)[0] ** 2 for one, other in itertools.combinations(known, 2)]
    of_these = 1 / max(float(np.mean(shares)), float(np.mean(squares)))
    if of_these < np.nan_to_num(fewest.value, nan=FEW_DIMENSIONS):
        return Estimate(of_these, np.nan, np.nan)
    return fewest
