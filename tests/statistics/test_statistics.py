"""Effects, equivalence and similarity on simulated studies, of which the truth is known."""

import importlib
import itertools
import pkgutil
import types

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import simulated
from statsmodels.stats.multitest import multipletests

from rmtjax import results, statistics, study
from rmtjax.errors import InputError
from rmtjax.statistics import study_table
from rmtjax.statistics.corrections import benjamini_hochberg, holm


def test_null_control_is_null():
    """Two groups of 60 equal runs differ at 5 % in 5 % of 2,000 draws: correlated, discrete, skewed and
    heavy-tailed numbers.
    """
    rng = np.random.default_rng(1)
    normal = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 4))
    others = [rng.standard_t(2, 60), np.exp(1.5 * rng.standard_normal(60)), rng.poisson(20, 60)]
    numbers = [("backbone", name) for name in ("a", "b", "c", "d", "heavy", "skewed", "discrete")]
    table = simulated.rows("none", "none", 0.0, range(60), np.column_stack([normal, *others]), numbers)
    found = statistics.null_control(table, draws=2000, size=(5, 8))
    single, together = found[found["group"] != "all"], found[found["group"] == "all"]
    assert len(single) == 7
    assert single["independent"].between(0.035, 0.065).all(), found
    paired = single.set_index("metric")["paired"]
    assert paired[["a", "b", "c", "d", "discrete"]].between(0.035, 0.065).all(), found
    assert (paired < 0.065).all()  # t on heavy tails is cautious, never bold
    assert together["independent"].item() < 0.065
    # Welch's t, where there are too many arrangements to go through them all.
    welch = statistics.null_control(table, draws=2000, size=(20, 20)).set_index("metric")["independent"]
    assert welch[["a", "b", "c", "d", "discrete"]].between(0.035, 0.065).all(), welch
    assert statistics.null_control(table, draws=50, seed=3).equals(
        statistics.null_control(table, draws=50, seed=3)
    )


def test_weights_scaled_by_two_percent_are_found():
    """Of fine-tuned matrices, scaled: the norm moves, and what has no scale does not."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal((4, 64, 32)) / 8

    def runs(seeds, scale):
        parts = []
        for seed in seeds:
            update = 0.02 * np.random.default_rng(seed).standard_normal(start.shape)
            values = np.linalg.svd(scale * (start + update), compute_uv=False) ** 2
            norm, top = values.sum(1), values[:, 0]
            parts.append([np.log10(norm).mean(), np.log10(top).mean(), (norm / top).mean()])
        return np.array(parts)

    numbers = [("backbone", f"after/{m}") for m in ("log_norm", "log_spectral_norm", "stable_rank")]
    seeds = range(20), range(5), range(100, 105)
    table = pd.concat(
        [
            simulated.rows("none", "none", 0.0, seeds[0], runs(seeds[0], 1.0), numbers),
            simulated.rows("scaled", "scaled", 1.0, seeds[1], runs(seeds[1], 1.02), numbers),
            simulated.rows("scaled_apart", "scaled", 1.0, seeds[2], runs(seeds[2], 1.02), numbers),
            simulated.rows("null", "null", 0.0, seeds[2], runs(seeds[2], 1.0), numbers),
        ]
    )
    found = statistics.effects(table).set_index(["arm", "metric"])
    for arm in ("scaled", "scaled_apart"):
        row = found.loc[arm, "after/log_norm"]
        assert row["p_holm"] < 0.05
        assert row["low"] < 2 * np.log10(1.02) < row["high"]
        assert found.loc[(arm, "after/stable_rank"), "p_holm"] > 0.05
    assert found.loc[("scaled", "after/stable_rank"), "p"] == 1  # of the same seeds: what differs is rounding
    assert (found.loc["null", "p_holm"] > 0.05).all()
    assert set(found.loc["scaled", "test"]) == {"paired t"}
    assert set(found.loc["scaled_apart", "test"]) == {"permutation"}  # its seeds are not the baseline's


def test_effects_are_differences_in_units_of_seed_noise():
    rng = np.random.default_rng(0)
    table = simulated.study(
        rng, {"d": ("dropout", 0.1, 2.0, range(5)), "e": ("null", 0.0, 0.0, range(50, 56))}
    )
    found = statistics.effects(table).set_index(["arm", "group", "metric"])
    wide = table.pivot(index=["group", "metric"], columns=["arm", "seed"], values="value")
    key = ("q", "after/alpha")
    paired = (wide.loc[key]["d"] - wide.loc[key]["none"]).dropna()
    row = found.loc[("d", *key)]
    test = scipy.stats.ttest_1samp(paired, 0)
    assert row["effect"] == pytest.approx(paired.mean())
    assert row["p"] == pytest.approx(test.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert (row["seeds"], row["baseline_seeds"]) == (5, 5)
    assert row["standardised"] == pytest.approx(row["effect"] / row["noise"])
    one, two = wide.loc[key]["e"], wide.loc[key]["none"]
    row = found.loc[("e", *key)]
    welch = scipy.stats.ttest_ind(one, two, equal_var=False)
    assert (row["low"], row["high"]) == pytest.approx(tuple(welch.confidence_interval()))
    assert (row["seeds"], row["baseline_seeds"]) == (6, 20)
    # Pooled over the baseline and the null control; no run is astray here but for the clipped few.
    pooled = np.sqrt((two.var() * 19 + one.var() * 5) / 24)
    assert row["noise"] == pytest.approx(pooled, rel=0.15)


def test_exact_tests_agree_with_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 12))[:, :5].T[:, :1], rng.standard_normal((9, 1))
    numbers = [("q", "a")]
    table = pd.concat(
        [
            simulated.rows("none", "none", 0.0, range(9), y, numbers),
            simulated.rows("apart", "x", 1.0, range(20, 25), x, numbers),
        ]
    )

    def t(one, two, axis):
        return scipy.stats.ttest_ind(one, two, equal_var=False, axis=axis).statistic

    theirs = scipy.stats.permutation_test((x, y), t, n_resamples=np.inf, vectorized=True, axis=0)
    drawn = np.abs(theirs.null_distribution)
    ours = statistics.effects(table).iloc[0]
    assert ours["test"] == "permutation"
    assert ours["p"] == pytest.approx((drawn >= abs(theirs.statistic) * (1 - 1e-9)).mean())
    twins = simulated.study(rng, {"d": ("dropout", 0.1, 0.5, range(12))}, baseline_seeds=12, numbers=numbers)
    ours = statistics.effects(twins).iloc[0]
    wide = twins.pivot(index="seed", columns="arm", values="value")
    difference = (wide["d"] - wide["none"]).to_numpy()
    flips = np.array(list(itertools.product([-1, 1], repeat=12))) @ difference
    assert ours["test"] == "sign flips"
    assert ours["p"] == pytest.approx((np.abs(flips) >= abs(difference.sum()) - 1e-9).mean())


@pytest.mark.parametrize("seeds", [12, 20])
def test_one_run_astray_does_not_set_the_unit(seeds):
    units = []
    for off in (0.0, 10.0, 1000.0):
        rng = np.random.default_rng(0)
        values = rng.standard_normal((seeds, 30))
        values[3] += off
        found = statistics.samples(simulated.rows("none", "none", 0.0, range(seeds), values))
        units.append(study_table.noise(found, "none").mean())
    plain, some, much = units
    assert plain == pytest.approx(values[np.arange(seeds) != 3].std(0, ddof=1).mean(), abs=0.05)
    assert much == some < 1.5 * plain  # 225 times without care


def test_the_unit_of_a_study_is_made_in_one_way_whichever_seed_is_left_out():
    """Eleven seeds have ten degrees of freedom, and any ten of them have nine."""
    values = np.random.default_rng(0).standard_normal((11, 30))
    values[4] += 15
    found = statistics.samples(simulated.rows("none", "none", 0.0, range(11), values))
    whole = study_table.noise(found, "none").mean()
    without = [study_table.noise(found, "none", without=seed).mean() for seed in range(11)]
    assert max(without) < 1.2 * whole


def test_null_runs_that_lack_a_number_make_no_part_of_the_unit():
    rng = np.random.default_rng(0)
    base, again = rng.standard_normal((2, 6, 30))
    again[2, 5:] = np.nan
    rows = [
        simulated.rows("none", "none", 0.0, range(6), base),
        simulated.rows("again", "null", 0.0, range(100, 106), again),
    ]
    found = statistics.samples(pd.concat(rows))
    whole = again[np.arange(6) != 2]
    squares = 5 * base.var(0, ddof=1) + 4 * whole.var(0, ddof=1)
    order = [simulated.NUMBERS.index((group, metric)) for group, metric in found.columns]
    limit = study_table.deviations(found, "none")
    assert limit[1] == 9  # so that nothing is clipped
    np.testing.assert_allclose(study_table.noise(found, "none"), np.sqrt(squares / 9)[order])


@pytest.mark.parametrize(("seeds", "difference"), [(5, 0.0), (12, 0.0), (20, 0.0), (20, 0.5), (20, 1.0)])
def test_power_of_two_one_sided_tests_is_exact(seeds, difference):
    rng = np.random.default_rng(seeds)
    differences = np.sqrt(2) * rng.standard_normal((seeds, 40_000)) + difference
    error = differences.std(0, ddof=1) / np.sqrt(seeds)
    passed = 1 - np.abs(differences.mean(0)) > scipy.stats.t.ppf(0.95, seeds - 1) * error
    power = statistics.tost_power(np.sqrt(2 / seeds), seeds - 1, 1.0, difference).item()
    assert passed.mean() == pytest.approx(power, abs=0.008)
    if difference == 1.0:
        assert power == pytest.approx(0.05, abs=0.001)  # at the margin: the size


def test_five_seeds_never_prove_equivalence_and_twenty_can():
    rng = np.random.default_rng(0)
    few = simulated.study(rng, {"a": ("a", 1.0, 0.0, range(5)), "b": ("b", 1.0, 0.0, range(5))}, shared=0.999)
    found = statistics.equivalence(few, [("a", "b")])
    assert (found["p_tost"] < 0.05).all()  # nearly the same numbers: the test alone would pass
    assert found["power"].max() < 0.1
    assert set(found["verdict"]) == {"cannot tell"}
    arms = {
        "same": ("a", 1.0, 0.0, range(20)),
        "far": ("b", 1.0, 2.0, range(20)),
        "near": ("c", 1.0, 0.2, range(20)),
    }
    many = simulated.study(rng, arms, shared=0.9)
    pairs = [("same", "none"), ("far", "none"), ("near", "none")]
    found = statistics.equivalence(many, pairs).set_index("arm")
    assert (found["power"] > 0.7).all()
    assert (found.loc["same", "verdict"] == "equivalent").mean() > 0.8
    assert set(found.loc["far", "verdict"]) == {"differs from 0"}
    assert "differs from 0, but within the margin" in set(found.loc["near", "verdict"])
    inside = (found["low"] > -1) & (found["high"] < 1)
    assert (inside == (found["p_tost"] < 0.05)).all()


def test_equivalence_at_the_margin_passes_rarely():
    """Paired by seed, true difference of exactly one standard deviation: the size, the margin being
    estimated.
    """
    rng = np.random.default_rng(0)
    numbers = [("q", str(i)) for i in range(800)]
    base, other = rng.standard_normal((2, 20, 800))
    table = pd.concat(
        [
            simulated.rows("none", "none", 0.0, range(20), base, numbers),
            simulated.rows("x", "x", 1.0, range(20), other + 1.0, numbers),
        ]
    )
    assert (statistics.equivalence(table, [("x", "none")])["p_tost"] < 0.05).mean() < 0.08


def test_similarity_of_nothing_is_centred_at_zero():
    rng = np.random.default_rng(0)
    table = simulated.study(rng, {}, baseline_seeds=24)
    found = statistics.null_similarity(table, draws=60, size=5, splits=8)
    error = found.std() / np.sqrt(len(found))
    for name in ("cosine", "spearman", "contrast", "fake"):
        assert abs(found[name].mean()) < 3 * error[name], name
    assert ((found["low"] < 0) & (found["high"] > 0)).mean() > 0.85
    # What a baseline in common does without halves: the same runs, subtracted from both.
    wide = table.pivot(index="seed", columns=["group", "metric"], values="value").to_numpy()
    naive = []
    for _ in range(60):
        drawn = rng.permutation(wide)
        one, two = (drawn[s : s + 5].mean(0) - drawn[10:15].mean(0) for s in (0, 5))
        naive.append(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    assert np.mean(naive) > 0.3


def test_families_of_one_direction_resemble_each_other():
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, len(simulated.NUMBERS)))
    arms = {
        "noise_0.1": ("augmentation", 0.1, one, range(5)),
        "noise_0.3": ("augmentation", 0.3, 2 * one, range(20)),
        "dropout": ("dropout", 0.1, 1.5 * one, range(20)),
        "decay": ("decay", 0.1, 1.5 * other, range(20)),
    }
    found = statistics.similarity(simulated.study(rng, arms))
    pairs = found.table().set_index(["family", "other"])
    near, far = pairs.loc["augmentation", "dropout"], pairs.loc["augmentation", "decay"]
    truth = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert near["cosine_low"] > 0.5
    assert near["corrected"] == pytest.approx(1.0, abs=0.05)
    assert far["corrected"] == pytest.approx(truth, abs=0.2)
    assert near["spearman_low"] > far["spearman_high"]
    assert pairs.loc["dropout", "dropout"]["cosine"] > 0.8  # its reliability
    contrast, fake = (found.contrast(name, "dropout", "decay") for name in ("augmentation", "fake"))
    assert contrast.low > 0
    assert fake.low < 0 < fake.high


@pytest.mark.parametrize(
    "baseline", [[0.0] * 12, [0.0] * 11 + [1.0]], ids=["constant", "constant but in one run"]
)
def test_a_number_that_hardly_varies_in_the_baseline_is_left_out_of_similarity(baseline):
    """Without the run that is apart there is no unit: all cosines were NaN by it."""
    rng = np.random.default_rng(3)
    effect = np.linspace(-2, 2, len(simulated.NUMBERS))
    arms = {name: (name, 1.0, sign * effect, range(12)) for name, sign in (("a", 1), ("b", 1), ("null", 0))}
    table = simulated.study(rng, arms, baseline_seeds=12)
    whole = statistics.similarity(table)
    number = [("mlp", "after/num_spikes")]
    added = [simulated.rows("none", "none", 0.0, range(12), np.array(baseline)[:, None], number)]
    added += [
        simulated.rows(name, name, 1.0, range(12), rng.poisson(1, (12, 1)).astype(float), number)
        for name in arms
    ]
    found = statistics.similarity(pd.concat([table, *added], ignore_index=True))
    assert found.numbers == whole.numbers == len(simulated.NUMBERS)
    np.testing.assert_array_equal(found.cosine, whole.cosine)


def test_bad_tables_are_named():
    rng = np.random.default_rng(0)
    table = simulated.study(rng, {"d": ("dropout", 0.1, 0.0, range(5))})
    with pytest.raises(InputError, match="no column 'dose'"):
        statistics.effects(table.drop(columns="dose"))
    with pytest.raises(InputError, match=r"'after/alpha' of 'q' stands twice .* arm 'none', seed 0"):
        statistics.effects(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(InputError, match="arm 'd' has the baseline 'none', of which the table has no run"):
        statistics.effects(table[table["arm"] != "none"])
    with pytest.raises(InputError, match="no arm 'x' to compare"):
        statistics.equivalence(table, [("d", "x")])
    with pytest.raises(InputError, match="does not fit 20 runs"):
        statistics.null_control(table, size=(15, 15))
    with pytest.raises(InputError, match="needs 21 runs of 'none', and there are 20"):
        statistics.null_similarity(table, size=5)
    with pytest.raises(InputError, match="has 5 seeds: similarity needs at least 6"):
        statistics.similarity(table[table["seed"] < 5])


@pytest.mark.parametrize("room", [statistics, results, study], ids=lambda room: room.__name__)
def test_no_module_has_the_name_of_a_function(room):
    names = [found.name for found in pkgutil.iter_modules(room.__path__) if found.name != "__main__"]
    assert names
    for name in names:
        module = importlib.import_module(f"{room.__name__}.{name}")
        assert isinstance(module, types.ModuleType)
        assert getattr(room, name) is module
        assert not hasattr(module, name), f"{module.__name__} holds something of its own name"


def test_mean_interval_is_students_and_leaves_out_what_is_not_finite():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((7, 3))
    values[[0, 3], 1] = np.nan, np.inf
    mean, low, high = statistics.mean_interval(values)
    for k in range(3):
        known = values[np.isfinite(values[:, k]), k]
        ends = scipy.stats.t.interval(0.95, len(known) - 1, known.mean(), scipy.stats.sem(known))
        np.testing.assert_allclose([mean[k], low[k], high[k]], [known.mean(), *ends])
        assert statistics.mean_interval(values[:, k])[0] == pytest.approx(known.mean())
    assert statistics.mean_interval(np.array([2.0, np.nan]))[0] == 2.0
    assert np.isnan(statistics.mean_interval(np.array([2.0, np.nan]))[1:]).all()
    assert np.isnan(statistics.mean_interval(np.array([]))).all()


@pytest.mark.parametrize(("correct", "theirs"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_corrections_are_those_of_statsmodels(correct, theirs):
    p = np.random.default_rng(0).uniform(size=50) ** 3
    p[7] = p[9]
    known = np.delete(p, 4)
    p[4] = np.nan
    np.testing.assert_array_equal(np.delete(correct(p), 4), multipletests(known, method=theirs)[1])
    assert np.isnan(correct(p)[4])
    assert correct(np.array([])).tolist() == []
