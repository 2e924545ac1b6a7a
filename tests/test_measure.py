"""What is measured after training: which examples, and of what size."""

import json

import numpy as np
import pytest

from rmtjax import config as config_lib
from rmtjax import data, diversity, measure, train


def result_of(splits, mixed=None):
    return train.Result(None, None, splits, mixed or splits.train, None, None)


@pytest.fixture
def measured(monkeypatch):
    """The pixels given to be measured, by set, and the most examples read at once."""
    sets, read = {}, []

    def rows(fed, reference, *, space, **options):
        sets.update(fed, test=reference)
        return []

    images = data.Source.images
    monkeypatch.setattr(diversity, "diversity_rows", rows)
    monkeypatch.setattr(
        data.Source, "images", lambda source, numbers: read.append(len(numbers)) or images(source, numbers)
    )
    monkeypatch.setattr(measure, "_MOST", 70)
    return sets, read


def test_diversity_is_of_some_examples_and_the_augmented_ones_are_the_real_ones(measured, tmp_path):
    sets, read = measured
    rng = np.random.default_rng(0)
    images, label = rng.integers(0, 256, (300, 40, 40, 3), np.uint8), np.arange(300, dtype=np.int32) % 3
    source = data.from_arrays("made", images, label, "abc")
    synthetic = data.from_arrays("made too", images[::-1], label, "abc")
    train_set = data.mix(data.take(source, range(160)), synthetic, "replace", 0.5, 0)
    splits = data.Splits(data.take(source, range(160)), source, data.take(source, range(160, 300)))
    config = config_lib.base()
    config.augment.gaussian_noise = 0.02
    measure.diversity_of_run(config, tmp_path, result_of(splits, train_set))
    assert {name: x.shape for name, x in sets.items()} == dict.fromkeys(
        ("real", "augmented", "synthetic", "mixed", "test"), (70, 32, 32, 3)
    )
    assert max(read) == 70
    apart = np.abs(sets["augmented"] - sets["real"]).mean(axis=(1, 2, 3))
    assert 0 < apart.max() < 0.05  # the same image with noise; another one is .1 away
    assert np.abs(sets["real"] - sets["real"][::-1]).mean() > 0.1
    assert json.loads((tmp_path / "diversity.json").read_text())["rows"] == []
