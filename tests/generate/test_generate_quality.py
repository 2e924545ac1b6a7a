import numpy as np
import pytest
from scipy import stats

from rmtjax import config as config_lib
from rmtjax import data
from rmtjax.generate import judge, quality
from rmtjax.train.sharding import make_mesh


@pytest.fixture(scope="module")
def digits():
    return data.load_source("digits", 8)


@pytest.fixture(scope="module")
def splits(digits):
    order = np.random.default_rng(0).permutation(digits.num_examples)
    return data.Splits(*(data.take(digits, part) for part in np.split(order, [400, 500])))


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (395, 400), (1, 3)])
def test_interval_is_wilsons(hits, n):
    """Its ends are the shares that the score test just does not reject."""
    found = quality.share_with_interval(np.arange(n) < hits)
    assert found["value"] == hits / n
    for end in (found["low"], found["high"]):
        error = stats.norm.isf(0.025) * np.sqrt(end * (1 - end) / n)
        assert abs(found["value"] - end) == pytest.approx(error, abs=1e-6)


def test_real_digits_are_recognised_and_digits_of_another_class_are_not(digits, splits):
    images, labels = splits.test.inputs(), splits.test.labels
    right = quality.recognised(images, labels, [digits])
    assert right["n"] == len(labels)
    assert right["low"] <= right["value"] <= right["high"]
    assert right["value"] > 0.99
    assert right["judge_accuracy"] == pytest.approx(0.988, abs=0.006)
    wrong = quality.recognised(images, (labels + 1) % 10, [digits])
    assert wrong["value"] < 0.01


def test_copies_are_at_distance_zero_and_test_images_at_ratio_one(splits):
    config, mesh = config_lib.base(), make_mesh()
    copies = quality.describe(splits.train.inputs(), splits.train.labels, splits, config, mesh)
    assert copies["nearest_training_distance"] == copies["distance_ratio"] == 0
    unseen = quality.describe(splits.test.inputs(), splits.test.labels, splits, config, mesh)
    score = copies["classification_accuracy_score"]
    assert score["synthetic"] == score["real"]
    assert score["real"]["value"] > 0.94
    for name in ("frechet_distance", "kernel_distance"):
        assert copies[name]["synthetic"] == copies[name]["real"]
        assert unseen[name]["synthetic"] < unseen[name]["real"]  # the test images against themselves
    rows = {(row["set"], row["space"], row["metric"]): row for row in copies["diversity"]}
    assert rows["real", "feature", "within_classes"]["value"] > 2
    assert rows["synthetic", "pixel", "vendi_score"]["value"] == rows["real", "pixel", "vendi_score"]["value"]
    assert unseen["distance_ratio"] == 1
    train, test = (part.inputs().reshape(part.num_examples, -1) for part in (splits.train, splits.test))
    nearest = np.sqrt(((test[:, None].astype(float) - train[None]) ** 2).sum(-1).min(1))
    assert unseen["nearest_test_distance"] == pytest.approx(np.median(nearest), rel=1e-6)


def test_the_judge_is_left_out_with_the_reason_where_examples_are_too_many_or_of_one_class(
    digits, monkeypatch
):
    images, labels = digits.inputs([0, 1]), digits.labels[:2]
    monkeypatch.setattr(quality, "MOST_JUDGED", 1000)
    left_out = quality.recognised(images, labels, [digits])
    assert left_out["value"] is None
    assert "1797 real examples" in left_out["reason"]
    zeros = data.take(digits, np.flatnonzero(digits.labels == 0))
    assert "one class" in quality.recognised(images, labels, [zeros])["reason"]


def test_a_class_of_one_example_has_a_judge_but_no_cross_validation(digits):
    few = data.take(digits, np.concatenate([np.flatnonzero(digits.labels == 0), [1]]))
    judged = quality.recognised(few.inputs(), few.labels, [few])
    assert judged["value"] > 0.9
    assert judged["judge_accuracy"] is None


def test_a_network_judges_where_examples_are_too_many(digits, splits, monkeypatch):
    monkeypatch.setattr(judge, "EPOCHS", 4)
    monkeypatch.setattr(judge, "WIDTH", 8)
    network = judge.fit(splits.train, 0, make_mesh())
    probabilities = network.probabilities(splits.test.inputs())
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (probabilities.argmax(1) == splits.test.labels).mean() > 0.5
    monkeypatch.setattr(quality, "MOST_JUDGED", 1000)
    images, labels = splits.test.inputs(), splits.test.labels
    judged = quality.recognised(images, labels, [digits], network, splits.test)
    assert judged["value"] == judged["judge_accuracy"] == (probabilities.argmax(1) == labels).mean()
    assert network.features(images).shape == (len(images), 32)
