"""T5 to T7 on studies of which the truth is known."""

import numpy as np
import pytest
import scipy.stats
import simulated

from rmtjax import statistics
from rmtjax.errors import InputError
from rmtjax.statistics import Roles, alone, fit, separation, simulate, simulate_further
from rmtjax.statistics.directions import Cast
from rmtjax.statistics.study_table import samples

FOUR = [
    (group, f"{stage}/{metric}")
    for group in ("q", "k", "mlp")
    for stage in ("after", "update")
    for metric in ("alpha", "entropy", "log_norm", "log_spectral_norm")
]
RUN = [("run", "training_loss"), ("run", "update_norm")]
NUMBERS = [*FOUR, *RUN]


def axes():
    """Twelve effects, orthogonal in each block of numbers, with a root mean square of one there."""
    rng = np.random.default_rng(0)
    out = np.zeros((12, len(FOUR)))
    for stage in ("after", "update"):
        of_stage = [metric.startswith(stage) for _, metric in FOUR]
        out[:, of_stage] = np.sqrt(12) * np.linalg.qr(rng.standard_normal((12, 12)))[0]
    return out


def effect(weights, loss=0.0, norm=0.0):
    return np.append(weights, [loss, norm])


def study(selection=None, seeds=range(8)):
    """Families of unrelated directions; half of the steps cost 8 of loss, and twice gain 8."""
    along = axes()
    arms = {}
    for place, family in enumerate(("augmentation", "dropout", "decay", *"abcdef")):
        for dose in (1, 2):
            arms[f"{family}_{dose}"] = (family, float(dose), effect(2 * dose * along[place]), seeds)
    arms["half"] = ("steps x0.5", 1.0, effect(3 * along[10], 8, -8), seeds)
    arms["twice"] = ("steps x2", 1.0, effect(-3 * along[10], -8, 8), seeds)
    if selection is not None:
        for name, dose in (("least", -2.0), ("less", -1.0), ("more", 1.0)):
            arms[name] = ("selection", dose, effect(dose * np.asarray(selection)), seeds)
    # Half of its squared effect would be that of training to the same loss.
    arms["mixed"] = ("mixed", 1.0, effect(1.5 * along[10] + 1.5 * along[11], 4, 0), seeds)
    arms["same"] = ("same", 1.0, effect(1.5 * along[10], 4, -4), seeds)
    arms["beyond"] = ("beyond", 1.0, effect(3 * along[10], 40, 0), seeds)
    arms["again"] = ("null", 0.0, effect(0 * along[0]), range(100, 110))
    return simulated.study(np.random.default_rng(1), arms, numbers=NUMBERS, shared=0.7)


ROLES = Roles(
    "augmentation", "dropout", "decay", placebos=("steps x2", "steps x0.5"), progress="steps x2",
    sources={"steps x2": "steps", "steps x0.5": ["knobs", "steps"]}, alone=("selection",),
)  # fmt: skip


def of_alone(table, roles=ROLES):
    found = statistics.answers(table, roles)
    return found[found["question"] == "T5"].set_index("block")


def test_diversity_alone_that_does_what_augmentation_does():
    found = of_alone(study(3 * axes()[0]))
    assert found.index.tolist()[:3] == [
        "selection, moves",
        "selection, moves: the paper's four, weights after",
        "selection, moves: the paper's four, update",
    ]
    assert set(found["verdict"][:3]) == {"yes"}
    assert set(found["verdict"][3:]) == {"augmentation"}
    assert found.loc["selection, direction", "value"] > 0.9
    assert "again" in found.loc["selection, moves", "sentence"]


def test_less_diversity_is_turned():
    """The same effects with the signs of the doses the other way: opposed to augmentation, no likeness."""
    table = study(3 * axes()[0])
    table["dose"] = np.where(table["family"] == "selection", -table["dose"], table["dose"])
    found = of_alone(table)
    assert found.loc["selection, direction", "value"] < -0.9
    assert "augmentation" not in set(found["verdict"])


def test_doses_that_do_the_same_on_both_sides_have_no_direction():
    along = 3 * axes()[0]
    table = study(along)
    wrong = table["arm"].isin(["least", "less"]) & ~table["group"].eq("run")
    # Less diversity moved by -dose along; moved back twice, it does what more does.
    shift = dict(zip(FOUR, along, strict=True))
    moved = [shift.get((g, m), 0.0) for g, m in zip(table["group"], table["metric"], strict=True)]
    table["value"] += np.where(wrong, -2 * table["dose"] * np.array(moved), 0.0)
    found = of_alone(table)
    assert found.loc["selection, moves", "verdict"] == "yes"
    assert found.loc["selection, direction", "verdict"] == "cannot tell"
    assert "those below 0 turned, disagree" in found.loc["selection, direction", "sentence"]


def test_what_does_not_move_the_weights():
    found = of_alone(study(np.zeros(len(FOUR))))
    assert found.loc["selection, moves", "verdict"] == "no"
    assert found.loc["selection, direction", "verdict"] == "cannot tell"
    assert "mostly noise" not in found.loc["selection, moves", "sentence"]


def test_no_family_of_diversity_alone_no_answer():
    found = statistics.answers(study(), ROLES._replace(alone=()))
    assert "T5" not in set(found["question"])


@pytest.mark.parametrize(
    ("family", "dose", "message"),
    [
        ("select", None, "alone='select' is no family of the table: it has selection"),
        ("selection", 0.0, "arm 'less' of 'selection' has dose 0: give it one below 0"),
    ],
)
def test_families_that_cannot_be_diversity_alone(family, dose, message):
    table = study(np.zeros(len(FOUR)))
    if dose is not None:
        table.loc[table["arm"] == "less", "dose"] = dose
    with pytest.raises(InputError, match=message):
        alone.alone_answers(table, family, Cast("augmentation", "dropout", "decay"))


def test_dempster_is_the_t_test_of_a_single_number():
    table = study(np.zeros(len(FOUR)))
    found = samples(table)
    keep = np.arange(len(found.columns)) == 3
    for arm, paired in (("more", True), ("again", False)):
        runs, others = found.values[arm][:, 3], found.values["none"][:, 3]
        test = (
            scipy.stats.ttest_rel(runs, others[: len(runs)])
            if paired
            else scipy.stats.ttest_ind(runs, others)
        )
        assert alone.no_effect_p(found, arm, keep) == pytest.approx(test.pvalue)


def test_dimensions_of_noise():
    same = np.outer(np.random.default_rng(0).standard_normal(50), np.ones(7))
    assert alone.noise_dimensions(same) == pytest.approx(1)
    many = np.random.default_rng(0).standard_normal((4000, 7))
    assert alone.noise_dimensions(many) == pytest.approx(7, rel=0.01)


def test_the_share_of_an_effect_that_is_the_fit():
    rows = {(row.family, row.block, row.by): row for row in fit.fit_rows(study(), "steps x2", ROLES.sources)}
    assert not any(family.startswith("steps") for family, _, _ in rows)
    after = "the paper's four, weights after"
    mixed, same, beyond = (rows[name, after, "training_loss"] for name in ("mixed", "same", "beyond"))
    assert mixed.share_low < 0.5 < mixed.share_high
    assert mixed.share == pytest.approx(0.5, abs=0.15)
    assert mixed.left == pytest.approx(mixed.effect / 2**0.5, rel=0.15)
    assert same.share_low > 0.5
    assert fit.fit_verdict(same) == "yes"
    # Half of the placebo's change of loss is half of its effect: taking all of it would explain nothing.
    assert same.left**2 < 0.2 * same.effect**2
    assert np.isnan(beyond.share)
    assert "the placebo reaches -" in beyond.reason
    # At the same norm of the update nothing of it is the fit.
    assert rows["mixed", after, "update_norm"].share == pytest.approx(0, abs=0.2)
    assert rows["augmentation", after, "training_loss"].share == pytest.approx(0, abs=0.2)


def test_the_answer_about_the_fit():
    found = statistics.answers(study(), ROLES._replace(diversity="same", alone=()))
    found = found[found["question"] == "T6"].set_index("block")
    assert found.index[0] == "primary"
    assert found.loc["primary", "verdict"] == "yes"
    assert len(found) == 5
    table = study()
    lacking = table[table["metric"] != "training_loss"]
    found = statistics.answers(lacking, ROLES._replace(alone=()))
    first = found[found["question"] == "T6"].iloc[0]
    assert first["verdict"] == "cannot tell"
    assert "no run has 'training_loss'" in first["sentence"]
    assert "T6" not in set(statistics.answers(table, ROLES._replace(progress=None, alone=()))["question"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: (t, "longer"), "progress='longer' is no family of the table"),
        (lambda t: (t[t["group"] != "run"], "steps x2"), "no run has 'training_loss' or 'update_norm'"),
        (
            lambda t: (t[(t["arm"] != "twice") | (t["seed"] < 3)], "steps x2"),
            "arm 'twice' has 3 seeds: what of an effect is the fit takes 4",
        ),
    ],
)
def test_what_t6_needs(change, message):
    table, progress = change(study())
    with pytest.raises(InputError, match=message):
        fit.fit_rows(table, progress, ROLES.sources)


def test_between_doses_and_the_baseline():
    weights = fit._between(np.array([8.0, -4.0]), 2.0)
    np.testing.assert_allclose(weights, [0.25, 0.0])
    np.testing.assert_allclose(fit._between(np.array([8.0, -4.0]), -3.0), [0.0, 0.75])
    np.testing.assert_allclose(fit._between(np.array([8.0, -4.0]), 9.0), [1.0, 0.0])
    np.testing.assert_allclose(fit._between(np.array([8.0, 4.0]), 6.0), [0.5, 0.5])


def test_the_jackknife_of_the_fit_counts_the_units():
    """Without it the interval would be that of known units, which is far too narrow with few seeds."""
    scenario = simulate_further.FURTHER["T6: half is the fit, 5 seeds in all arms"]
    found = simulate.rates(scenario, 60).set_index("verdict")
    assert found.loc["any wrong", "rate"] <= 0.07  # .2 with units taken as known


def test_guesses_by_the_nearest_mean_of_the_other_seeds():
    effects = np.array([[[0.0], [10.0]], [[1.0], [9.0]], [[8.0], [11.0]]])
    has = np.ones((3, 2), bool)
    found = separation.guesses(effects, has)[:, :, 0]
    # The last run of the first family is nearer to the second; with its own seed in the mean it still is.
    np.testing.assert_array_equal(found, [[True, True], [True, True], [False, True]])
    # A single run cannot be guessed from its own: leaving its seed out leaves no mean.
    alone_seed = separation.guesses(
        np.array([[[0.0], [0.0]], [[5.0], [9.0]]]), np.array([[True, False], [True, True]])
    )
    assert not alone_seed[1, 1, 0]


def test_shuffles_stay_within_a_seed():
    rng = np.random.default_rng(0)
    effects = rng.standard_normal((6, 4, 3))
    has = np.ones((6, 4), bool)
    has[4:, 2] = False
    effects[~has] = 0
    drawn = separation.shuffled(effects, has, rng)
    np.testing.assert_allclose(np.sort(drawn, axis=1), np.sort(effects, axis=1))
    assert (drawn[~has] == 0).all()
    assert (drawn != effects).any()


def test_the_number_that_tells_families_apart():
    rng = np.random.default_rng(0)
    numbers = [(group, f"update/{name}") for group in ("q", "k") for name in ("alpha", "entropy", "log_norm")]
    arms = {}
    for place in range(4):
        moved = np.zeros(len(numbers))
        moved[2] = 6.0 * place  # log_norm of q
        arms[f"family {place}"] = (f"family {place}", 1.0, moved, range(5 + 5 * (place == 0)))
    arms["few"] = ("few", 1.0, np.zeros(len(numbers)), range(2))
    table = simulated.study(rng, arms, numbers=numbers)
    found = separation.separate(table, "update", shuffles=199)
    best = found.table.iloc[0]
    assert (best["group"], best["metric"]) == ("q", "update/log_norm")
    assert best["accuracy"] == pytest.approx(1)
    assert best["p_best"] < 0.05
    assert found.nested[0] == pytest.approx(1)
    assert found.chance == 0.25
    assert found.left_out == ("few",)
    assert (found.table["p"] <= found.table["p_best"]).all()
    others = found.table.iloc[1:]
    assert (others["p_best"] > 0.05).all()
    answer = separation.separation_answer(found, "update")
    assert answer.verdict == "yes"
    assert answer.sentence.startswith("Log norm of q of the update tells 4 families apart best")
    assert "chance is 0.25" in answer.sentence
    with pytest.raises(InputError, match="no number of stage 'after' is known"):
        separation.separate(table, "after")
    with pytest.raises(InputError, match="1 families have three seeds or more"):
        separation.separate(table, "update", ["family 0", "family 1", "family 2"])


def test_similarity_and_trends_of_signed_doses():
    """Effects of less diversity are turned, and the baseline lies between less and more."""
    table = study(3 * axes()[0])
    similar = statistics.similarity(table)
    place = {name: i for i, name in enumerate(similar.families)}
    assert similar.cosine[place["selection"], place["selection"]] > 0.9
    assert similar.cosine[place["selection"], place["augmentation"]] > 0.7
    trends = statistics.dose_response(table)
    own = trends[(trends["family"] == "selection") & (trends["group"] != "run")]
    assert (own["doses"] == 4).all()
    largest = own.loc[own["slope"].abs().idxmax()]
    assert abs(largest["spearman"]) > 0.95
