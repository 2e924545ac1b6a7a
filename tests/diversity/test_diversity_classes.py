"""Diversity within and between classes, and its growth with n."""

import itertools

import numpy as np
import pytest

from rmtjax import diversity


def by_metric(rows):
    return {(row["class"], row["metric"]): row for row in rows}


def test_classes_in_directions_of_their_own():
    rng = np.random.default_rng(0)
    features, labels = np.zeros((60, 12)), np.repeat([0, 1, 2], [30, 20, 10])
    for k in range(3):
        features[labels == k, 4 * k : 4 * k + 4] = rng.normal(size=(int(np.sum(labels == k)), 4))
    rows = by_metric(diversity.class_rows(features, labels, ("a", "b", "c")))
    assert {row["n"] for (name, _), row in rows.items() if name != "all"} == {10}
    between = rows["all", "between_classes"]
    assert between["value"] == pytest.approx(3, rel=1e-9)  # all of the entropy of three equal classes
    assert between["null"] < 2
    within = np.exp(np.mean([np.log(rows[name, "vendi_score"]["value"]) for name in "abc"]))
    assert rows["all", "within_classes"]["value"] == pytest.approx(within, rel=1e-9)
    pooled = rows["all", "vendi_score"]
    assert pooled["n"] == 30
    assert pooled["value"] == pytest.approx(3 * within, rel=1e-9)
    share = rows["all", "between_share"]
    assert share["value"] == pytest.approx(np.log(3) / np.log(pooled["value"]), rel=1e-9)
    assert share["low"] <= share["value"] <= share["high"]


def test_labels_that_mean_nothing_are_within_the_null():
    features = np.random.default_rng(0).normal(size=(400, 8)) + 0.5
    rows = by_metric(diversity.class_rows(features, np.arange(400) % 4, tuple("abcd")))
    for metric in ("between_classes", "between_share"):
        row = rows["all", metric]
        assert row["value"] == pytest.approx(row["null"], abs=0.02)
    assert rows["all", "between_classes"]["value"] >= 1


def test_small_classes_are_left_out_by_name():
    features = np.random.default_rng(0).normal(size=(41, 5))
    labels = np.repeat([0, 1, 3], [20, 20, 1])
    with pytest.raises(ValueError, match="class 'd' gives 1 example"):
        diversity.class_rows(features, labels, tuple("abcd"))
    with pytest.raises(ValueError, match="n=-3 examples of each class are too few"):
        diversity.class_rows(features, labels, tuple("abcd"), n=-3)
    rows = diversity.class_rows(features, labels, tuple("abcd"), n=15)
    assert [row["class"] for row in rows if row["metric"] == "vendi_score"] == ["a", "b", "all"]
    with pytest.raises(ValueError, match="0 of 3 classes have 30 examples"):
        diversity.class_rows(features, labels, tuple("abcd"), n=30)
    same = diversity.class_rows(np.ones((8, 2)), np.arange(8) % 2, ("a", "b"))
    assert by_metric(same)["all", "between_share"]["value"] == 0


def test_rarefaction():
    rng = np.random.default_rng(0)
    kinds = np.eye(30)[rng.integers(0, 30, size=600)] + 0.05 * rng.normal(size=(600, 30))
    rows = diversity.rarefaction(kinds, seed=1)
    assert [row["n"] for row in rows] == [50, 100, 200, 500, 600]
    values = [row["value"] for row in rows]
    assert all(a < b for a, b in itertools.pairwise(values))  # grows with n
    assert values[-1] - values[-2] < (values[1] - values[0]) / 5  # and has seen what there is
    assert values[-1] == pytest.approx(diversity.vendi_score(kinds), rel=1e-9)
    assert all(row["low"] < row["value"] < row["high"] for row in rows)
    assert rows == diversity.rarefaction(kinds, seed=1)
    # A sample of the same size, drawn anew from the whole, lies in the interval about as often as it says.
    samples = [diversity.vendi_score(kinds[rng.permutation(600)[:100]]) for _ in range(60)]
    assert np.mean([rows[1]["low"] <= s <= rows[1]["high"] for s in samples]) > 0.8
