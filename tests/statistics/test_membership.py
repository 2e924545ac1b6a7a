"""From which arms one run may have come: how often the arm it came from is ruled out, and others are."""

import numpy as np
import pandas as pd
import pytest
import simulated

from rmtjax import statistics
from rmtjax.errors import InputError

K = len(simulated.NUMBERS)


def study_and_run(rng, effects, of="none", shared=0.5, law=np.asarray):
    """Arms name -> (effect, seeds), and one run of the arm `of` with a seed of its own."""
    mixing = rng.standard_normal((K, K)) / np.sqrt(K)
    of_seed = {seed: rng.standard_normal(K) for seed in range(1000)}

    def runs(effect, seeds):
        own = rng.standard_normal((len(seeds), K))
        common = np.array([of_seed[seed] for seed in seeds])
        return effect + law((np.sqrt(shared) * common + np.sqrt(1 - shared) * own) @ mixing)

    arms = {"none": (0.0, range(20))} | effects
    parts = [simulated.rows(name, name, 1.0, seeds, runs(e, seeds)) for name, (e, seeds) in arms.items()]
    one = simulated.rows("yours", "yours", 0.0, [999], runs(arms[of][0], [999]), baseline="yours")
    return pd.concat(parts, ignore_index=True), one


@pytest.mark.parametrize(("shared", "law"), [(0.0, np.asarray), (0.9, np.asarray), (0.5, np.exp)])
def test_the_arm_a_run_came_from_is_ruled_out_in_a_twentieth_of_cases(shared, law):
    """Also where seeds share their noise over the arms, and where it is far from normal."""
    rng = np.random.default_rng(3)
    arms = {"near": (0.3, range(20)), "few": (0.0, range(5))}
    p = []
    for _ in range(200):
        table, one = study_and_run(rng, arms, shared=shared, law=law)
        p.append(statistics.membership(table, one).set_index("arm")["p"]["none"])
    assert np.mean(np.asarray(p) <= 0.05) == pytest.approx(1 / 21, abs=0.035)
    assert np.mean(p) == pytest.approx(11 / 21, abs=0.06)


def test_arms_it_did_not_come_from_are_ruled_out_where_their_seeds_suffice():
    rng = np.random.default_rng(0)
    arms = {"far": (np.linspace(-3, 3, K), range(20)), "few": (-np.linspace(-3, 3, K), range(5))}
    arms |= {name: (3.0, range(20)) for name in ("a", "b")}
    table, one = study_and_run(rng, arms, of="far")
    found = statistics.membership(table, one)
    assert found["arm"].tolist()[0] == "far"
    assert found.set_index("arm")["verdict"].to_dict() == {
        "far": "possible",
        "none": "no",
        "a": "no",
        "b": "no",
        "few": "cannot tell",
    }
    by_arm = found.set_index("arm")
    assert by_arm["p"]["none"] == pytest.approx(1 / 21)
    assert by_arm["p"]["few"] == pytest.approx(1 / 6)
    assert by_arm["distance"]["far"] == pytest.approx(1, abs=0.5)
    assert (by_arm["numbers"] == K / 2).all()  # those of the update


def test_what_a_run_lacks_is_left_out_and_units_do_not_count():
    table, one = study_and_run(np.random.default_rng(1), {"a": (0.3, range(20)), "b": (0.0, range(20))})
    found = statistics.membership(table, one)
    scaled = [
        x.assign(value=x["value"] * np.where(x["metric"] == "update/alpha", 1e6, 1)) for x in (table, one)
    ]
    pd.testing.assert_frame_equal(statistics.membership(*scaled), found, rtol=1e-6)
    fewer = statistics.membership(table, one[one["metric"] != "update/alpha"])
    without = table[table["metric"] != "update/alpha"]
    pd.testing.assert_frame_equal(fewer, statistics.membership(without, one))
    assert fewer["numbers"].iloc[0] == K / 2 - 5


def test_bad_input_is_one_sentence():
    table, one = study_and_run(np.random.default_rng(1), {"near": (0.3, range(20))})
    with pytest.raises(InputError, match=r"^membership is of one run, and the table has 40: "):
        statistics.membership(table, table)
    with pytest.raises(InputError, match=r"no number of 'before' in common that differs by seeds$"):
        statistics.membership(table, one, "before")
    with pytest.raises(
        InputError, match=r"^beside arm 'none' the study has too few runs to know the noise: "
    ):
        statistics.membership(table[table["arm"] == "none"], one)
