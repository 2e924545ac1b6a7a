"""Doses, matched comparison, mixed models, updates, outcomes and the answers, on studies of which the truth
is known.
"""

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import simulated

from rmtjax import statistics
from rmtjax.errors import InputError
from rmtjax.statistics import Roles, intervals, questions, simulate
from rmtjax.statistics.directions import Cast, Likeness, likeness_row, likeness_rows, verdict_of
from rmtjax.statistics.distance import distance_of_arms

LAYERS = [("backbone", "after/alpha"), ("backbone", "update/log_norm")]
RUN = [("run", "update_norm"), ("run", "ood_accuracy")]


def swept(rng, per_step, seeds=8):
    """Families by the effect of one step of the dose on each number, three doses each."""
    arms = {
        f"{family}_{dose}": (family, float(dose), dose * np.asarray(step), range(seeds))
        for family, step in per_step.items()
        for dose in (1, 2, 3)
    }
    return simulated.study(rng, arms, numbers=LAYERS + RUN)


def test_dose_response_is_a_trend_per_seed():
    table = swept(np.random.default_rng(0), {"dropout": [1.0, 0.0, 3.0, 0.0]})
    found = statistics.dose_response(table).set_index("metric")
    unit = statistics.effects(table).set_index("metric")["noise"]["after/alpha"].iloc[0]
    assert found.loc["after/alpha", "slope"] == pytest.approx(1 / unit, abs=0.2)
    assert found.loc["after/alpha", "slope_low"] > 0
    assert found.loc["after/alpha", "q"] < 0.05 < found.loc["update/log_norm", "q"]
    assert found.loc["update_norm", "spearman"] > 0.99
    assert (found["doses"] == 4).all()  # with the baseline
    wide = table.pivot(index=["arm", "seed"], columns="metric", values="value")["after/alpha"]
    doses = ("none", "dropout_1", "dropout_2", "dropout_3")
    slopes = [np.polyfit(range(4), [wide[arm, seed] for arm in doses], 1)[0] for seed in range(8)]
    assert found.loc["after/alpha", "slope"] == pytest.approx(np.mean(slopes) / unit)


def test_families_are_compared_at_the_same_norm_of_the_update():
    """The same curve of alpha over the norm, with doses of other strengths: unlike arm by arm, alike where
    matched.
    """
    rng = np.random.default_rng(0)
    steps = {"dropout": [2.0, 0.0, 4.0, 0.0], "decay": [3.0, 0.0, 6.0, 0.0], "other": [-2.0, 0.0, 4.0, 0.0]}
    table = swept(rng, steps)
    pairs = [("dropout", "decay"), ("dropout", "other")]
    found = statistics.matched(table, pairs, by="update_norm", resamples=200).set_index(["other", "metric"])
    same, apart = found.loc["decay", "after/alpha"], found.loc["other", "after/alpha"]
    assert same["low"] < 0 < same["high"]
    assert apart["low"] > 3
    assert 5 < same["low_end"] < 7
    assert 11 < same["high_end"] < 13
    assert found.loc[("decay", "update_norm"), "difference"] == pytest.approx(0.0, abs=1e-9)
    shifted = table.copy()
    far = (shifted["family"] == "decay") & (shifted["metric"] == "update_norm")
    shifted.loc[far, "value"] += 100
    assert statistics.matched(shifted, pairs[:1])["difference"].isna().all()  # no norm in common
    with pytest.raises(InputError, match="'loss' is no metric of group 'run': such are update_norm, ood"):
        statistics.matched(table, pairs, by="loss")


def test_a_curve_that_turns_back_counts_by_its_strongest_dose():
    from rmtjax.statistics.doses import _values_at

    curve = np.array([[1.0, 10.0], [3.0, 30.0], [1.0, 50.0]])  # x = 2 is passed at 20 and at 40
    assert _values_at(curve, 0, np.array([2.0, 3.0])).tolist() == [[2.0, 40.0], [3.0, 30.0]]


def test_mixed_effects_agree_with_paired_differences():
    """In a balanced design the estimates are the same; the intervals are narrower by the pooled spread."""
    rng = np.random.default_rng(0)
    arms = {"a": ("x", 1.0, 0.0, range(8)), "b": ("y", 1.0, 2.0, range(8))}
    table = simulated.study(rng, arms, baseline_seeds=8, numbers=LAYERS, shared=0.7)
    mixed = statistics.mixed_effects(table, groups=("backbone",)).set_index(["arm", "metric"])
    plain = statistics.effects(table).set_index(["arm", "metric"])
    np.testing.assert_allclose(mixed["effect"], plain.loc[mixed.index, "standardised"], rtol=1e-4)
    assert (mixed.loc["b", "p_holm"] < 0.05).all()
    assert (mixed["low"] < plain.loc[mixed.index, "standardised"]).all()
    assert mixed["seed_share"].between(0, 1).all()
    rejected = []
    for _ in range(10):
        null = simulated.study(rng, arms | {"b": ("y", 1.0, 0.0, range(8))}, numbers=LAYERS[:1])
        rejected += list(statistics.mixed_effects(null)["p"] < 0.05)
    assert np.sum(rejected) <= scipy.stats.binom.ppf(0.999, len(rejected), 0.05)


def test_updates_of_runs_from_one_start():
    rng = np.random.default_rng(0)
    start = rng.standard_normal((12, 8))
    one, other = rng.standard_normal((2, 12, 8))
    tree = lambda change: {"layer": {"kernel": start + change}, "head": {"kernel": start}}  # noqa: E731
    runs = {"a": tree(one), "b": tree(2 * one), "c": tree(other)}
    found = statistics.between_updates(tree(0.0), runs, k=3).set_index(["run", "other", "name"])
    twin = found.loc["a", "b", "layer/kernel"]
    assert twin["cosine"] == pytest.approx(1.0)
    assert twin["overlap_left"] == pytest.approx(1.0)
    assert twin["angle_right"] == pytest.approx(0.0, abs=1e-5)
    apart = found.loc["a", "c", "layer/kernel"]
    assert apart["cosine"] == pytest.approx((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))
    angles = scipy.linalg.subspace_angles(np.linalg.svd(one)[0][:, :3], np.linalg.svd(other)[0][:, :3])
    assert apart["angle_left"] == pytest.approx(np.degrees(angles.max()))
    assert apart["overlap_left"] == pytest.approx(np.square(np.cos(angles)).mean())
    assert found.loc[("a", "b", "head/kernel"), ["cosine", "angle_left"]].isna().all()  # it did not move


def shares(rng, means, seeds=10):
    numbers = [("run", "ood_accuracy")]
    parts = [
        simulated.rows(
            "none" if i == 0 else f"share_{i}",
            "none" if i == 0 else "replace",
            i / (len(means) - 1),
            range(seeds),
            mean + 0.01 * rng.standard_normal((seeds, 1)),
            numbers,
        )
        for i, mean in enumerate(means)
    ]
    return pd.concat(parts)


@pytest.mark.parametrize(
    ("means", "verdict"),
    [
        ((0.6, 0.65, 0.7, 0.65, 0.5), "yes"),
        ((0.6, 0.65, 0.7, 0.75, 0.8), "no"),
        ((0.8, 0.7, 0.6, 0.5, 0.4), "no"),
        ((0.6, 0.6, 0.6, 0.6, 0.6), "cannot tell"),
    ],
)
def test_the_best_share(means, verdict):
    found = statistics.interior_optimum(shares(np.random.default_rng(2), means), "replace", shuffles=300)
    assert found.verdict == verdict
    if verdict == "yes":
        assert found.best == 0.5
        assert found.over_none[0] == pytest.approx(0.1, abs=0.02)
        assert found.p < 0.01
    assert found.control[0] < 0


def test_the_mean_of_all_shares_between_is_shown_where_that_decides():
    table = shares(np.random.default_rng(1), (0.6, *[0.606] * 5, 0.6), seeds=25)
    found = statistics.interior_optimum(table, "replace", shuffles=100)
    assert (found.verdict, np.isnan(found.best)) == ("yes", True)
    assert min(found.over_none[1], found.over_most[1]) > 0
    assert found.over_none[0] == pytest.approx(0.006, abs=0.004)
    assert "the mean of all between, over 25 seeds, is" in (questions.best_share(table, "replace").sentence)


def test_the_best_share_of_an_unknown_outcome_is_refused():
    table = shares(np.random.default_rng(0), (0.6, 0.7, 0.6), seeds=5)
    lost = (table["arm"] == table["arm"].iloc[-1]) & (table["seed"] == 3)
    found = statistics.interior_optimum(table.assign(value=table["value"].mask(lost)), "replace", shuffles=1)
    assert found.seeds == 4
    with pytest.raises(InputError, match="not known in two seeds of all shares"):
        statistics.interior_optimum(table.assign(value=np.nan), "replace")
    with pytest.raises(InputError, match="'ood_accuracy' of family 'replace' is the same over seeds"):
        statistics.interior_optimum(table.assign(value=0.5), "replace")


def test_the_power_of_t3_is_in_units_of_seed_noise_where_a_baseline_run_is_unknown():
    """Seeds share most of their noise with the baseline: what is left of a seed is a third of the unit."""
    rng = np.random.default_rng(0)
    twin, own = rng.standard_normal((10, 1)), rng.standard_normal((3, 10, 1))
    values = 0.01 * (np.sqrt(0.9) * twin + np.sqrt(0.1) * own)
    names = [("none", "none"), ("half", "replace"), ("all", "replace")]
    parts = [
        simulated.rows(name, family, i / 2, range(10), values[i], [("run", "ood_accuracy")])
        for i, (name, family) in enumerate(names)
    ]
    table = pd.concat(parts, ignore_index=True)
    whole = statistics.interior_optimum(table, "replace", shuffles=1)
    lost = (table["arm"] == "none") & (table["seed"] == 3)
    some = statistics.interior_optimum(table.assign(value=table["value"].mask(lost)), "replace", shuffles=1)
    assert whole.power > 0.95
    assert some.power == pytest.approx(whole.power, abs=0.05)


def test_the_best_share_of_nothing_is_rarely_claimed():
    """Shares chosen by the numbers that judge them would be."""
    rng = np.random.default_rng(0)
    verdicts = [
        statistics.interior_optimum(shares(rng, (0.6,) * 7), "replace", shuffles=1).verdict for _ in range(60)
    ]
    assert verdicts.count("yes") <= 3


def test_a_share_that_spreads_the_seeds_is_no_end_that_is_beaten():
    """The pooled error of four calm shares would call the best of them better than the fifth."""
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(60):
        table = shares(rng, (0.6, 0.8, 0.8, 0.8, 0.8))
        last = table["dose"] == table["dose"].max()
        value = table["value"].where(~last, 0.8 + 8 * (table["value"] - 0.8))
        found = statistics.interior_optimum(table.assign(value=value), "replace", shuffles=1)
        verdicts.append(found.verdict)
        assert found.over_most[0] - found.over_most[1] >= found.over_none[0] - found.over_none[1]
    assert verdicts.count("yes") <= 6


def test_ranking_of_arms():
    rng = np.random.default_rng(0)
    numbers = [("run", name) for name in ("vendi", "noise", "constant", "accuracy", "ood_accuracy")]
    parts = []
    for i in range(8):
        quality = 0.1 * i + 0.02 * rng.standard_normal(5)
        chance = rng.standard_normal() + 0.01 * rng.standard_normal(5)
        values = np.column_stack([i + 0.1 * rng.standard_normal(5), chance, np.ones(5), quality, quality])
        parts.append(
            simulated.rows("none" if i == 0 else f"a{i}", f"f{i}", float(i), range(5), values, numbers)
        )
    table = pd.concat(parts)
    found = statistics.rank_agreement(table, ["vendi", "noise", "constant"]).set_index("measure")
    assert found.loc["vendi", "spearman"] > 0.9
    assert found.loc["vendi", "low"] > 0.7
    assert found.loc["vendi", "p_holm"] < 0.05 < found.loc["noise", "p"]
    assert 0.5 < found.loc["vendi", "control"] < 0.9
    assert np.isnan(found.loc["constant", "p"])
    few = statistics.rank_agreement(
        table[table["arm"].isin(["none", "a1", "a2", "a3", "a4"])], ["vendi"]
    ).iloc[0]
    means = (
        table[table["arm"].isin(["none", "a1", "a2", "a3", "a4"])]
        .groupby(["arm", "metric"])["value"]
        .mean()
        .unstack()
    )
    theirs = scipy.stats.permutation_test(
        (means["vendi"],),
        lambda x: abs(scipy.stats.spearmanr(x, means["ood_accuracy"]).statistic),
        permutation_type="pairings", alternative="greater", n_resamples=np.inf,
    )  # fmt: skip
    assert few["p"] == pytest.approx(theirs.pvalue)


def test_doses_of_one_family_are_one_point():
    """Three families of five doses that go up and down together: nothing can be told, and it is said."""
    rng = np.random.default_rng(0)
    numbers = [("run", name) for name in ("vendi_score", "accuracy", "ood_accuracy")]
    parts = [simulated.rows("none", "none", 0.0, range(5), rng.uniform(0.4, 0.5, (5, 3)), numbers)]
    for family, level in (("a", 0.6), ("b", 0.7)):
        for dose in range(5):
            values = level + 0.02 * rng.standard_normal((5, 3))
            parts.append(simulated.rows(f"{family}{dose}", family, dose, range(5), values, numbers))
    table = pd.concat(parts)
    found = statistics.rank_agreement(table, ["vendi_score"]).iloc[0]
    assert (found["families"], found["arms"]) == (3, 11)
    assert found["p"] >= found["least_p"] == pytest.approx(1 / 3)
    answer = questions.ranking(table, Roles("a", "b", "b"))
    assert answer.verdict == "cannot tell"
    assert "with 3 families nothing can be told, since no p is below 0.33" in answer.sentence


def test_families_of_one_source_are_one_point():
    rng = np.random.default_rng(0)
    numbers = [("run", name) for name in ("vendi_score", "ood_accuracy")]
    means = {"none": (0, 0), "a": (1, 1), "b": (3, 2), "c": (4, 9), "d": (5, 3)}
    parts = [
        simulated.rows(name, name, 1.0, range(3), mean + 1e-3 * rng.standard_normal((3, 2)), numbers)
        for name, mean in means.items()
    ]
    sources = {"b": "generator", "c": "generator"}  # their mean is (3.5, 5.5)
    found = statistics.rank_agreement(pd.concat(parts), ["vendi_score"], sources=sources).iloc[0]
    assert found["families"] == 4
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr([0, 1, 3.5, 5], [0, 1, 5.5, 3])[0])
    roles = Roles("a", "b", "d", sources=sources)
    sentence = questions.ranking(pd.concat(parts), roles).sentence
    assert "over 4 families, each the mean of its doses, those that share a source counted as one" in sentence


def test_a_placebo_that_moves_the_other_way_counts_by_its_size():
    rng = np.random.default_rng(0)
    one, other = 2 * rng.standard_normal((2, len(simulated.NUMBERS)))
    effects = {"diversity": one, "dropout": one, "decay": other, "less of the placebo": -1.02 * one}
    arms = {f"{name}_1": (name, 1.0, effect, range(20)) for name, effect in effects.items()}
    table = simulated.study(rng, arms)
    cast = Cast("diversity", "dropout", "decay")
    assert likeness_row(table, cast).verdict == "yes"
    row = likeness_row(table, cast._replace(placebos=["less of the placebo"]))
    assert row.verdict == "placebo"
    assert row.placebo_cosine < -0.9
    assert row.margin == pytest.approx(row.dropout + row.placebo_cosine)


def test_each_dose_of_a_placebo_counts_by_itself():
    """Half and twice of it are opposed, and their mean would be no likeness."""
    rng = np.random.default_rng(0)
    one, other = 2 * rng.standard_normal((2, len(simulated.NUMBERS)))
    effects = {
        "diversity": (one,),
        "dropout": (one,),
        "decay": (other,),
        "placebo": (-1.02 * one, 1.02 * one),
    }
    arms = {
        f"{name}_{dose}": (name, float(dose), effect, range(20))
        for name, doses in effects.items()
        for dose, effect in enumerate(doses, 1)
    }
    row = likeness_row(simulated.study(rng, arms), Cast("diversity", "dropout", "decay", ["placebo"]))
    assert row.verdict == "placebo"
    assert row.placebo in ("placebo_1", "placebo_2")
    assert not row.left_out


def test_a_placebo_above_the_floor_that_dropout_exceeds_hides_no_other():
    """The verdict is about the greatest placebo: one that is imprecise does not make it "placebo"."""
    known = dict.fromkeys(Likeness._fields, 0.0) | {"reason": "", "left_out": ""}
    row = Likeness(**known)._replace(
        dropout=0.95, dropout_low=0.93, dropout_high=0.97, contrast_low=0.8, floor=0.7, placebo="sharp",
        placebo_cosine=0.85, placebo_low=0.8, placebo_high=0.9, placebo_margin_low=0.05, rival="noisy",
        margin_low=-0.5,
    )  # fmt: skip
    cast = Cast("diversity", "dropout", "decay", ["sharp", "noisy"])
    assert verdict_of(row, cast)[0] == "cannot tell"
    assert verdict_of(row._replace(placebo_margin_low=-0.05), cast)[0] == "placebo"
    assert verdict_of(row._replace(placebo_low=0.1, margin_low=0.1), cast)[0] == "yes"
    # Where placebos are in the design and none can be compared, nothing is said to be like dropout.
    alone = row._replace(placebo="", placebo_low=np.nan, placebo_high=np.nan, rival="", margin_low=np.nan)
    assert verdict_of(alone, cast)[0] == "cannot tell"
    assert verdict_of(alone, cast._replace(placebos=()))[0] == "yes"


def test_placebos_that_are_mostly_noise_are_named():
    rng = np.random.default_rng(0)
    one, other = 2 * rng.standard_normal((2, len(simulated.NUMBERS)))
    effects = {"diversity": one, "dropout": one, "decay": other, "smoothing": 0 * one, "longer": -other}
    arms = {f"{name}_1": (name, 1.0, effect, range(20)) for name, effect in effects.items()}
    table = simulated.study(rng, arms)
    placebos = ("smoothing", "longer")
    row = likeness_row(table, Cast("diversity", "dropout", "decay", placebos))
    assert (row.placebo, row.left_out) == ("longer", "smoothing")
    answers = questions.answers(table, Roles("diversity", "dropout", "decay", placebos=placebos))
    assert "(without smoothing, which have no direction here)" in answers["sentence"].iloc[0]


def test_diversity_that_is_a_placebo_is_told():
    """Also where dropout and decay are far from it, so that neither has passed the floor."""
    rng = np.random.default_rng(0)
    one, two, three, *more = 2 * rng.standard_normal((9, len(simulated.NUMBERS)))
    effects = {"diversity": one, "dropout": two, "decay": three, "longer": -one}
    effects |= {f"other {i}": effect for i, effect in enumerate(more)}
    table = simulated.study(rng, {f"{name}_1": (name, 1.0, e, range(20)) for name, e in effects.items()})
    roles = Roles("diversity", "dropout", "decay", placebos=("longer",))
    row = likeness_row(table, Cast("diversity", "dropout", "decay", ("longer",)))
    assert (row.verdict, row.placebo) == ("placebo", "longer")
    assert row.placebo_margin_high < 0
    sentence = questions.answers(table, roles)["sentence"].iloc[0]
    assert "like a placebo, longer, and less like dropout or weight decay" in sentence


def test_arms_with_few_seeds_take_no_part_and_this_is_said():
    rng = np.random.default_rng(0)
    one, other = 2 * rng.standard_normal((2, len(simulated.NUMBERS)))
    effects = {"diversity": one, "dropout": one, "decay": other}
    arms = {f"{name}_1": (name, 1.0, effect, range(20)) for name, effect in effects.items()}
    whole = likeness_row(simulated.study(np.random.default_rng(1), arms), Cast(*effects))
    few = arms | {"noise_1": ("noise", 1.0, other, range(2)), "dropout_2": ("dropout", 2.0, other, range(2))}
    table = simulated.study(np.random.default_rng(1), few)
    row = likeness_row(table, Cast(*effects))
    assert (row.verdict, row.dropout) == ("yes", pytest.approx(whole.dropout))
    assert row.few_seeds == "dropout_2, noise_1"
    answers = questions.answers(table, Roles(*effects))
    assert "dropout_2, noise_1 do not count, with fewer than three seeds" in answers["sentence"].iloc[0]
    none_left = likeness_row(table[table["arm"] != "dropout_1"], Cast(*effects))
    assert none_left.verdict == "cannot tell"
    assert none_left.reason == "no dose of dropout has 3 seeds beside as many of its baseline"


def test_numbers_that_a_run_lacks_are_counted_and_the_arm_is_named():
    rng = np.random.default_rng(0)
    one, other = 2 * rng.standard_normal((2, len(simulated.NUMBERS)))
    arms = {
        f"{name}_1": (name, 1.0, effect, range(20))
        for name, effect in {"diversity": one, "dropout": one, "decay": other}.items()
    }
    table = simulated.study(rng, arms)
    of_run = (table["arm"] == "decay_1") & (table["seed"] == 3)
    alpha = of_run & table["metric"].str.contains("alpha")  # 10 of the 30
    cast = Cast("diversity", "dropout", "decay")
    row = likeness_row(table.assign(value=table["value"].mask(alpha)), cast)
    assert (row.verdict, row.numbers, row.lacking, row.lacking_in) == ("yes", 20, 10, "decay_1")
    most = of_run & ~table["metric"].str.contains("update/log_norm")
    row = likeness_row(table.assign(value=table["value"].mask(most)), cast)
    assert row.verdict == "cannot tell"
    assert row.reason == "only 5 of 30 numbers are known in every run: decay_1 lacks 25"
    with pytest.raises(InputError, match=r"known, with noise, in every run: decay_1 lacks 30 of 30"):
        likeness_row(table.assign(value=table["value"].mask(of_run)), cast)
    of_base = (table["arm"] == "none") & (table["seed"] == 3)
    with pytest.raises(InputError, match=r"in every run: none lacks 30 of 30"):
        likeness_row(table.assign(value=table["value"].mask(of_base)), cast)


def test_few_numbers_that_differ_are_lost_in_the_root_mean_square_and_this_is_said():
    rng = np.random.default_rng(0)
    effects = {"one": np.zeros(30), "other": np.where(np.arange(30) == 7, 1.2, 0.0)}
    arms = {name: (name, 1.0, effect, range(20)) for name, effect in effects.items()}
    found = statistics.samples(simulated.study(rng, arms))
    apart = distance_of_arms(found, "one", "other", np.ones(30, bool))
    assert apart.verdict == "yes"
    assert 0 < apart.within < 30


def two_arms(seeds=20, baseline_seeds=20, **columns):
    """Arms "one" and "other" without an effect; columns, by their place, are replaced in each arm."""
    arms = {name: (name, 1.0, np.zeros(30), range(seeds)) for name in ("one", "other", "third")}
    found = statistics.samples(simulated.study(np.random.default_rng(0), arms, baseline_seeds=baseline_seeds))
    found = found._replace(values={name: values.copy() for name, values in found.values.items()})
    for place, by_arm in columns.items():
        for arm, values in by_arm.items():
            found.values[arm][:, int(place[1:])] = values
    return found


def test_numbers_that_hardly_change_are_left_out_of_t2_and_this_is_said():
    half, few = np.arange(20) % 2, np.where(np.arange(20) == 4, 4.0, 3.0)
    found = two_arms(
        n0={
            "none": np.where(half, 3.0, np.arange(20.0)),
            "one": 3.0,
            "other": 3.0,
        },  # 3 in ten of twenty runs
        n1={"none": 1 + 1e-7 * (np.arange(20) % 3), "one": 1 + 9e-7, "other": 1.0},  # apart by rounding alone
    )
    apart = distance_of_arms(found, "one", "other", np.ones(30, bool))
    assert (apart.verdict, apart.numbers, apart.same, apart.turned) == ("yes", 28, 2, ())
    found = two_arms(n0={"none": few, "one": 53.0, "other": 3.0})
    found.values["other"][3, 4:9] = np.nan
    answer = questions.sameness(found, Roles("one", "other", "third"))
    assert answer.verdict == "cannot tell"
    group, metric = found.columns[0]
    assert (
        "of 24 numbers of the layers (5 that some run lacks and 1 that are the same in half of the "
        f"baseline's runs are left out, of which the arms differ in {metric} of {group}), without noise"
    ) in answer.sentence
    found.values["none"][:] = few[:, None]
    with pytest.raises(InputError, match="no number that is not the same in half of the baseline's runs"):
        distance_of_arms(found, "one", "other", np.ones(30, bool))


def test_a_number_that_differs_by_the_same_in_all_pairs_hides_no_other():
    """Of three baseline runs some resamples hold one run throughout."""
    found = two_arms(baseline_seeds=20)
    found.values["none"], found.seeds["none"] = found.values["none"][:3], found.seeds["none"][:3]
    found.values["one"][:, 0] = found.values["other"][:, 0] + 0.2
    found.values["one"][:, 1] += 500
    apart = distance_of_arms(found, "one", "other", np.ones(30, bool))
    assert (apart.verdict, apart.beyond, apart.greatest) == ("no", (1,), 1)


def test_t2_does_without_a_null_arm_that_cannot_be_compared():
    rng = np.random.default_rng(0)
    arms = {name: (name, 1.0, np.zeros(30), range(20)) for name in ("one", "other", "third")}
    arms |= {
        name: ("null", 0.0, np.zeros(30), range(100, 100 + n)) for name, n in (("more", 8), ("again", 6))
    }
    found = statistics.samples(simulated.study(rng, arms))
    roles = Roles("one", "other", "third")
    assert "for the null arm more against" in questions.sameness(found, roles).sentence
    found.values["more"] = np.where(np.arange(8)[:, None] == 0, np.nan, found.values["more"])
    answer = questions.sameness(found, roles)
    assert "for the null arm again against" in answer.sentence
    assert answer.verdict == "yes"


def test_arms_that_share_few_seeds_are_compared_as_two_groups():
    arms = {name: (name, 1.0, np.zeros(30), seeds) for name, seeds in (("a", range(6)), ("b", range(4, 10)))}
    found = statistics.samples(simulated.study(np.random.default_rng(0), arms))
    assert distance_of_arms(found, "a", "b", np.ones(30, bool)).seeds == (6, 6)
    found.values["none"], found.seeds["none"] = found.values["none"][:2], found.seeds["none"][:2]
    with pytest.raises(InputError, match="the baseline 'none' has 2 seeds"):
        distance_of_arms(found, "a", "b", np.ones(30, bool))


def coverage(seeds, lacking=()):
    """How often T1's interval holds a true cosine of .6: 60 studies, effects of two standard deviations.

    `lacking`: seeds that each of so many further arms, without an effect, lacks.
    """
    rng = np.random.default_rng(0)
    held = []
    for _ in range(60):
        one, other, third = np.linalg.qr(rng.standard_normal((len(simulate.NUMBERS), 3)))[0].T
        one, other, third = (2 * len(simulate.NUMBERS) ** 0.5 * axis for axis in (one, other, third))
        effects = {"diversity": 0.6 * one + 0.8 * other, "dropout": one, "decay": third}
        names = [*effects, *(f"other {i}" for i in range(len(lacking)))]
        families = {name: simulate.Family(np.ones(1), (0.0,), (seeds,)) for name in names}
        found = simulate.weights_study(rng, families, baseline_seeds=seeds)
        for name, effect in effects.items():
            found.values[f"{name}_1"][:] += effect
        for i, lost in enumerate(lacking):
            arm, kept = f"other {i}_1", ~np.isin(np.arange(seeds), lost)
            found.values[arm], found.seeds[arm] = found.values[arm][kept], found.seeds[arm][kept]
        row = likeness_row(found, Cast(*effects))
        held.append(row.dropout_low < 0.6 < row.dropout_high)
    return np.mean(held)


def test_intervals_of_cosines_count_what_is_not_known_of_the_units():
    """With ten seeds, what is uncertain is how much each number counts."""
    assert coverage(10) > 0.88  # .64 where the units are taken as known


def test_intervals_hold_where_each_arm_lacks_other_seeds():
    """Nine arms of 18 of 20 seeds, each without another two: they are no strata."""
    assert coverage(20, lacking=[(2 * i, 2 * i + 1) for i in range(9)]) > 0.88  # .73 in strata


def test_a_placebo_of_which_there_is_no_run_is_left_out():
    rng = np.random.default_rng(4)
    one, other, third = 2 * rng.standard_normal((3, len(simulated.NUMBERS)))
    effects = {"diversity": one, "dropout": one, "decay": other, "rate": third}
    arms = {f"{name}_1": (name, 1.0, effect, range(10)) for name, effect in effects.items()}
    arms["steps_1"] = ("steps", 1.0, np.zeros(30), range(20))
    cast = Cast("diversity", "dropout", "decay", ("rate", "batch", "steps"), "steps")
    rows = likeness_rows(simulated.study(rng, arms), cast)
    assert rows[0].left_out == "batch, steps"
    # Steps have no direction here, so there is none to project out.
    assert {row.condition for row in rows} == {"all doses"}


def test_the_verdict_on_weights_says_so_where_there_are_only_numbers_of_runs():
    arms = {f"{name}_1": (name, 1.0, np.zeros(2), range(5)) for name in ("augmentation", "dropout", "decay")}
    table = simulated.study(np.random.default_rng(0), arms, numbers=RUN)
    found = statistics.answers(table, Roles("augmentation", "dropout", "decay")).set_index("question")
    assert "the table has no number of a kind of layer" in found.loc["T1", "sentence"]


def test_a_family_that_pandas_took_for_a_missing_value_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    table = simulated.study(rng, {"again": ("null", 0.0, np.zeros(30), range(3))})
    table.to_csv(tmp_path / "study.csv", index=False)
    with pytest.raises(InputError, match=r"arm 'again' has no family .* keep_default_na=False"):
        statistics.samples(pd.read_csv(tmp_path / "study.csv"))


def test_families_that_are_fed_what_the_baseline_is_count_with_it_whatever_their_seeds():
    rng = np.random.default_rng(0)
    numbers = [("run", name) for name in ("vendi_score", "ood_accuracy")]
    fed = rng.uniform(10, 11, 8)
    few = fed[:5]  # their mean is not that of all
    level = {"none": 0.1, "dropout": 0.4, "decay": 0.3, "added": 0.2, "more": 0.25, "most": 0.15}
    outcomes = {name: value + 1e-3 * rng.standard_normal(8) for name, value in level.items()}
    parts = [simulated.rows("none", "none", 0.0, range(8), np.column_stack([fed, outcomes["none"]]), numbers)]
    for name, measure in (
        ("dropout", few),
        ("decay", few),
        ("added", few + 3),
        ("more", few + 4),
        ("most", few + 5),
    ):
        values = np.column_stack([measure, outcomes[name][:5]])
        parts.append(simulated.rows(name, name, 1.0, range(5), values, numbers))
    found = statistics.rank_agreement(pd.concat(parts), ["vendi_score"]).iloc[0]
    assert found["families"] == 4
    expected = scipy.stats.spearmanr([0, 3, 4, 5], [(0.1 + 0.4 + 0.3) / 3, 0.2, 0.25, 0.15]).statistic
    assert found["spearman"] == pytest.approx(expected)
    # Nor does a run that the baseline lost, or that has no such number, untie them.
    table = pd.concat(parts)
    lost = (table["arm"] == "none") & (table["seed"] == 0)
    unknown = table["value"].mask(lost & (table["metric"] == "vendi_score"))
    for broken in (table[~lost], table.assign(value=unknown)):
        assert statistics.rank_agreement(broken, ["vendi_score"]).iloc[0]["families"] == 4
    # What shares a source with such a family is moved by what it shares, and counts with it too.
    tied = statistics.rank_agreement(
        pd.concat(parts), ["vendi_score"], sources={"decay": "knob", "more": ("another", "knob")}
    ).iloc[0]
    assert tied["families"] == 3
    # The accuracy that stands beside a measure is ranked over the same points.
    found = statistics.rank_agreement(table, ["vendi_score"], beside="ood_accuracy").iloc[0]
    assert (found["families"], found["beside"]) == (4, pytest.approx(1))


def test_the_jackknife_has_the_error_of_a_mean_whatever_other_arms_have():
    values = np.random.default_rng(0).standard_normal(8)
    without = (values.sum() - values) / 7
    expected = values.var(ddof=1) / 8
    every, lone = np.ones(8, bool), np.arange(8) == 3
    for has in (every[None], np.stack([every, ~lone])):
        found = intervals.jackknife_variance(without, intervals.smallest_arms(has))
        assert found == pytest.approx(expected, rel=0.02)
    # Each seed lacks in another arm: there is no stratum of two.
    assert (intervals.smallest_arms(np.concatenate([every[None], ~np.eye(8, dtype=bool)])) == 7).all()
    half = intervals.smallest_arms(np.stack([np.arange(8) < 4, every]))
    np.testing.assert_array_equal(half, [4] * 4 + [8] * 4)
    # What leaving out any seed of the small arm does alike is no variance.
    shifted = without + (half == 4)
    assert intervals.jackknife_variance(shifted, half) == pytest.approx(
        intervals.jackknife_variance(without, half)
    )


def test_families_are_one_point_where_a_third_shares_with_both():
    rng = np.random.default_rng(0)
    numbers = [("run", name) for name in ("vendi_score", "ood_accuracy")]
    means = {"none": (0, 0), "a": (1, 1), "b": (3, 2), "c": (4, 9), "d": (5, 3), "e": (6, 2)}
    parts = [
        simulated.rows(name, name, 1.0, range(3), mean + 1e-3 * rng.standard_normal((3, 2)), numbers)
        for name, mean in means.items()
    ]
    sources = {"a": "one", "b": ("one", "two"), "c": "two", "d": "three"}
    found = statistics.rank_agreement(pd.concat(parts), ["vendi_score"], sources=sources).iloc[0]
    assert found["families"] == 4


def test_a_measure_that_no_run_has_beside_the_outcome_is_not_ranked():
    rng = np.random.default_rng(0)
    numbers = [("run", name) for name in ("vendi_score", "ood_accuracy")]
    parts = []
    for i, name in enumerate(("none", "a", "b", "c")):
        values = rng.standard_normal((3, 2))
        values[:, i % 2] = np.nan
        parts.append(simulated.rows(name, name, float(i), range(3), values, numbers))
    found = statistics.rank_agreement(pd.concat(parts), ["vendi_score"]).iloc[0]
    assert (found["families"], found["arms"], found["runs"]) == (0, 0, 0)
    assert np.isnan(found["spearman"])


def test_effective_robustness_is_what_the_accuracy_in_distribution_leaves():
    """Accuracy drives both the measure and the outcome: the raw outcome is ranked, what is left is not."""
    rng = np.random.default_rng(0)
    numbers = [("run", name) for name in ("vendi", "accuracy", "ood_accuracy")]
    logits = np.linspace(-1, 2, 9)
    parts = []
    for i, logit in enumerate(logits):
        accuracy, shifted = scipy.special.expit([logit, 0.8 * logit - 1 + 0.05 * rng.standard_normal()])
        values = np.array([logit, accuracy, shifted]) + 1e-4 * rng.standard_normal((5, 3))
        parts.append(simulated.rows("none" if i == 0 else f"a{i}", f"f{i}", 1.0, range(5), values, numbers))
    table = pd.concat(parts)
    raw = statistics.rank_agreement(table, ["vendi"]).iloc[0]
    left = statistics.rank_agreement(table, ["vendi"], given="accuracy").iloc[0]
    assert raw["spearman"] > 0.95
    assert left["p"] > 0.05


def study_of(rng, diversity, dropout, decay):
    """A study of layers and outcomes, with a matched dose of 20 seeds in each family and a null arm."""
    of_run = ("accuracy", "ood_accuracy", "vendi_score_feature", "update_norm")
    numbers = [*simulated.NUMBERS, *(("run", name) for name in of_run)]
    zeros = np.zeros(4)
    steps = {"augmentation": diversity, "dropout": dropout, "decay": decay}
    arms = {}
    for family, effect in steps.items():
        for dose, seeds in ((1, 5), (2, 20), (3, 5)):
            outcome = np.array([0.0, dose, dose, 2.0 * dose]) if family == "augmentation" else zeros
            arms[f"{family}_{dose}"] = (
                family,
                float(dose),
                np.append(dose / 2 * effect, outcome),
                range(seeds),
            )
    for share in (1, 2, 3):
        effect = np.append(0 * diversity, [0.0, 3.0 if share == 2 else -3.0, share, 0.0])
        arms[f"replace_{share}"] = ("replace", share / 3, effect, range(5))
    arms["again"] = ("null", 0.0, np.append(0 * diversity, zeros), range(100, 105))
    return simulated.study(rng, arms, numbers=numbers, shared=0.7)


ROLES = Roles(
    "augmentation", "dropout", "decay", synthetic=("replace",),
    scales={"alpha": 0, "stable_rank": 0, "log_norm": None},
)  # fmt: skip


def test_answers_where_the_claim_is_true():
    rng = np.random.default_rng(0)
    one, other = 2 * rng.standard_normal((2, len(simulated.NUMBERS)))
    found = statistics.answers(study_of(rng, one, one, other), ROLES)
    likeness = found[found["question"] == "T1"]
    blocks = ["the paper's four, weights after", "the paper's four, update"]
    assert likeness["block"].iloc[0] == "primary"  # both together, then each
    assert likeness["verdict"].iloc[0] == "yes"
    assert all(f"In {block}: yes, since" in likeness["sentence"].iloc[0] for block in blocks)
    likeness = likeness.iloc[1:]
    assert likeness["block"].str.startswith(blocks[0]).iloc[:2].all()  # the primary ones first
    assert likeness["block"].iloc[-3:].tolist() == [
        f"{name}, all doses" for name in ("scale", "shape", "all")
    ]
    plain = likeness["block"].str.endswith("all doses")
    assert set(likeness.loc[plain, "verdict"]) == {"yes"}
    # Neither dropout nor decay moves the update's norm: at equal norms there is nothing to compare.
    assert "have no such doses in common" in likeness.loc[~plain, "sentence"].iloc[0]
    sentence = likeness["sentence"].iloc[0]
    assert sentence.startswith("Augmentation changes the weights like dropout and not like weight decay")
    assert "no placebo families, so that training longer may do the same" in sentence
    assert (likeness.loc[plain, "low"] > 0.9).all()
    found = found[found["question"] != "T1"].set_index(["question", "block"])
    same = found.loc[("T2", "")]
    assert same["verdict"] == "yes"
    assert same["high"] < 1
    assert "30 numbers of the layers" in same["sentence"]
    assert "again against its baseline" in same["sentence"]
    assert found.loc[("T3", "replace"), "verdict"] == "yes"
    assert found.loc[("T3", "replace, accuracy in distribution"), "verdict"] != "yes"
    assert "would be found with a probability of" in found.loc[("T3", "replace"), "sentence"]
    raw, robust = found.loc[("T4", "ood_accuracy")], found.loc[("T4", "effective robustness")]
    assert "over 5 families" in raw["sentence"]
    assert "effective robustness" in robust["sentence"]
    for sentence in found["sentence"]:
        assert sentence.endswith(".")
        assert "nan" not in sentence


def test_answers_where_it_is_false_and_where_nothing_happens():
    rng = np.random.default_rng(1)
    one, other = 3 * rng.standard_normal((2, len(simulated.NUMBERS)))
    found = statistics.answers(study_of(rng, one, other, one), ROLES).drop_duplicates("question")
    found = found.set_index("question")
    assert found.loc["T1", "verdict"] == "no"
    assert found.loc["T2", "verdict"] == "no"
    nothing = np.zeros(len(simulated.NUMBERS))
    table = study_of(rng, nothing, nothing, nothing)
    table = table[(table["family"] != "replace") & (table["metric"] != "vendi_score_feature")]
    found = statistics.answers(table, ROLES)
    assert set(found.loc[found["question"] == "T1", "verdict"]) == {"cannot tell"}
    found = found.drop_duplicates("question").set_index("question")
    assert found.loc["T2", "verdict"] == "yes"  # the same, since neither does anything
    assert found.loc["T3", "verdict"] == found.loc["T4", "verdict"] == "cannot tell"
    assert "no family 'replace'" in found.loc["T3", "sentence"]
    with pytest.raises(InputError, match="dropout='drop' is no family of the table"):
        statistics.answers(table, Roles("augmentation", "drop", "decay"))
