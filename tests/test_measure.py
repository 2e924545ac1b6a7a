"""What is measured after training: which examples, and of what size."""

import json

import numpy as np
import pytest

from rmtjax import config as config_lib
from rmtjax import data, diversity, evaluation, measure, train
from rmtjax.measure import diversity as diversity_of_run
from rmtjax.measure import evaluation as evaluation_of_run
from rmtjax.train.step import State


def result_of(splits, mixed=None):
    return train.Result(None, None, splits, mixed or splits.train, None, None)


def made_images(n, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 1), np.uint8)
    return data.from_arrays(f"made {seed}", images, np.arange(n, dtype=np.int32) % 3, "abc")


@pytest.fixture
def measured(monkeypatch):
    """The pixels measured, by set, how many examples were read at once, and what counts as fed, by run."""
    sets, read, of_fed = {}, [], []

    def rows(fed, reference, *, space, n=None, **options):
        if n is None:
            sets.update(fed, test=reference)
        else:
            of_fed.append({"n": n, **fed, **options})
        return []

    inputs = data.Source.inputs
    monkeypatch.setattr(diversity, "diversity_rows", rows)
    monkeypatch.setattr(
        data.Source, "inputs", lambda source, numbers: read.append(len(numbers)) or inputs(source, numbers)
    )
    monkeypatch.setattr(diversity_of_run, "MOST", 70)
    return sets, read, of_fed


def test_diversity_is_of_some_examples_and_the_augmented_ones_are_the_real_ones(measured, tmp_path):
    sets, read, _ = measured
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


def test_a_set_without_a_real_example_is_measured(measured, tmp_path):
    sets, _, of_fed = measured
    source = made_images(90)
    synthetic = data.mix(source, made_images(90, seed=1), "replace", 1.0, 0)
    config = config_lib.base()
    config.augment.gaussian_noise = 0.02
    measure.diversity_of_run(config, tmp_path, result_of(data.Splits(source, source, source), synthetic))
    assert set(sets) == {"synthetic", "test"}
    (fed,) = of_fed
    near = np.abs(
        np.sort(fed["fed"].reshape(70, -1), axis=0) - np.sort(sets["synthetic"].reshape(70, -1), axis=0)
    )
    assert near.mean() < 0.02 < np.abs(fed["fed"] - fed["split"]).mean()  # the synthetic ones, with noise


def test_what_a_run_is_fed_is_measured_at_the_size_of_the_split_beside_the_split(measured, tmp_path):
    _, _, of_fed = measured
    source, synthetic = made_images(60), made_images(60, seed=1)
    splits = data.Splits(source, source, source)
    plain, noisy = config_lib.base(), config_lib.base()
    noisy.augment.gaussian_noise = 0.02
    for config, mixed in (
        (plain, source),
        (noisy, source),
        (plain, data.mix(source, synthetic, "add", 1.0, 0)),
        (noisy, data.mix(source, synthetic, "add", 1.0, 0)),
        (plain, data.mix(source, synthetic, "replace", 0.5, 0)),
    ):
        measure.diversity_of_run(config, tmp_path, result_of(splits, mixed))
    none, noise, added, both, replaced = of_fed
    assert all(fed["n"] == 60 and fed["base"] == "split" for fed in of_fed)
    # One weighted score for all recipes: rows of synthetic examples are not paired.
    assert all(fed["metrics"] == ("vendi_score", "coverage", "weighted_vendi_unpaired") for fed in of_fed)
    for fed in of_fed:
        np.testing.assert_array_equal(fed["split"], none["split"])
    np.testing.assert_array_equal(none["fed"], none["split"])
    assert np.abs(noise["fed"] - noise["split"]).max(axis=(1, 2, 3)).min() > 0  # every one, beside its own
    assert np.abs(noise["fed"] - noise["split"]).mean() < 0.02
    assert len(added["fed"]) == len(both["fed"]) == 70  # of 120; cut to 60 by diversity_rows
    assert 0 < np.abs(both["fed"] - added["fed"]).mean() < 0.02
    assert sum(any(np.array_equal(x, y) for y in replaced["split"]) for x in replaced["fed"]) == 30


def test_images_that_are_enlarged_are_corrupted_as_they_are_stored(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "small.npz", image=images, label=np.arange(40) % 2)
    seen, batches = [], []
    corrupt = evaluation.corrupt

    def watched(images, *arguments):
        seen.append(np.asarray(images))
        return corrupt(images, *arguments)

    def make_predict(model, mesh):
        def predict(params, state, of_set):
            batch = next(of_set)
            batches.append(np.asarray(batch["inputs"]))
            return rng.normal(size=(len(batch["label"]), 2)), None, batch["label"]

        return predict

    monkeypatch.setattr(evaluation_of_run.classification, "make_predict", make_predict)
    monkeypatch.setattr(evaluation_of_run.evaluation_lib, "corrupt", watched)
    config = config_lib.base()
    config.data.update(source=f"npz:{tmp_path / 'small.npz'}", image_size=16, train_examples=None)
    config.data.update(validation_examples=8)
    config.evaluation.update(shifts=("corrupted",), corruptions=("contrast",), ood=(), bootstrap_samples=2)
    config.train.evaluation_batch_size = 8
    splits = data.load(config.data, 0)
    state = State(0, {}, {}, ())
    content = measure.evaluate(config, result_of(splits)._replace(state=state))
    assert content["corrupted"]["shape"] == [8, 8, 3]
    assert [x.shape for x in seen] == [(8, 8, 8, 3)] * 5
    stored = {image.tobytes() for image in images}
    assert all(np.rint(image * 255).astype(np.uint8).tobytes() in stored for image in seen[0])
    assert {x.shape for x in batches} == {(8, 16, 16, 3)}
    small = np.asarray(
        corrupt(seen[4], "contrast", 5, train.named_key(0, "corruption/contrast/5"), np.arange(8))
    )
    np.testing.assert_allclose(batches[-1], data.resize(small, 16), atol=1e-6)
