"""What is measured after training: which examples, and of what size."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmtjax import checkpoints, data, diversity, evaluation, measure, models, train
from rmtjax import config as config_lib
from rmtjax.measure import evaluation as evaluation_of_run
from rmtjax.train import selection
from rmtjax.train.step import State


def result_of(splits, mixed=None):
    return train.Result(None, None, splits, mixed or splits.train, None, None)


def made_images(n, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 1), np.uint8)
    return data.from_arrays(f"made {seed}", images, np.arange(n, dtype=np.int32) % 3, "abc")


def scratch():
    """A config without a model that gives features, of whose sets 70 examples are measured."""
    config = config_lib.base()
    config.model.init_from = None
    config.diversity.examples = 70
    return config


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
    return sets, read, of_fed


def test_diversity_is_of_some_examples_and_the_augmented_ones_are_the_real_ones(measured, tmp_path):
    sets, read, _ = measured
    rng = np.random.default_rng(0)
    images, label = rng.integers(0, 256, (300, 40, 40, 3), np.uint8), np.arange(300, dtype=np.int32) % 3
    source = data.from_arrays("made", images, label, "abc")
    synthetic = data.from_arrays("made too", images[::-1], label, "abc")
    train_set = data.mix(data.take(source, range(160)), synthetic, "replace", 0.5, 0)
    splits = data.Splits(data.take(source, range(160)), source, data.take(source, range(160, 300)))
    config = scratch()
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
    config = scratch()
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
    plain, noisy = scratch(), scratch()
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


def test_features_are_those_of_the_pre_trained_model_and_kept_for_other_runs(tmp_path, monkeypatch):
    config = config_lib.base()
    config.data.image_size = 8
    config.model.update(name="mlp", init_from=None)
    config.model.mlp.width = 4
    model = models.build(config, 3)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)["params"]
    run = tmp_path / "run"
    with checkpoints.open_run(run) as manager:
        manager.save(0, State(np.int32(0), params, {}, ()), json.loads(config_lib.to_json(config)))
    config.model.init_from = str(run)
    config.synthetic.cache = str(tmp_path / "cache")
    config.augment.gaussian_noise = 0.02
    source, test = made_images(40), made_images(30, seed=1)
    fed = []

    def rows(sets, reference, *, space, n=None, **options):
        if space == "feature" and n is None:
            fed.append({**sets, "test": reference})
        return []

    monkeypatch.setattr(diversity, "diversity_rows", rows)
    computed = []
    inside = selection._model

    def counted(*about):
        predict, *rest = inside(*about)
        return lambda p, s, batches: computed.append(list(batches)) or predict(p, s, computed[-1]), *rest

    monkeypatch.setattr(selection, "_model", counted)
    for _ in range(2):
        measure.diversity_of_run(config, tmp_path, result_of(data.Splits(source, source, test)))
    wanted = model.apply({"params": params}, jnp.asarray(source.inputs()), train=False)[1]
    np.testing.assert_allclose(fed[0]["real"], wanted, rtol=1e-5, atol=1e-6)
    assert 0 < np.abs(fed[0]["augmented"] - fed[0]["real"]).max() < 0.2
    jax.tree.map(np.testing.assert_array_equal, *fed)
    # First the real and the augmented examples and the test set, then the augmented ones alone.
    assert [sum(int(batch["mask"].sum()) for batch in of) for of in computed] == [40, 40, 30, 40]
    assert "before training" in json.loads((tmp_path / "diversity.json").read_text())["feature_model"]


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
            label = batch["label"][batch["mask"]]
            return rng.normal(size=(len(label), 2)), None, label

        return predict

    monkeypatch.setattr(evaluation_of_run.classification, "make_predict", make_predict)
    monkeypatch.setattr(evaluation_of_run.evaluation_lib, "corrupt", watched)
    config = config_lib.base()
    config.data.update(source=f"npz:{tmp_path / 'small.npz'}", image_size=16, train_examples=None)
    config.data.update(validation_examples=8)
    config.evaluation.update(shifts=("corrupted",), corruptions=("contrast",), severities=(2, 5))
    config.evaluation.update(ood=(f"npz:{tmp_path / 'small.npz'}",), ood_examples=6, bootstrap_samples=2)
    config.train.evaluation_batch_size = 8
    splits = data.load(config.data, 0)
    state = State(0, {}, {}, ())
    content = measure.evaluate(config, result_of(splits)._replace(state=state))
    assert content["corrupted"]["shape"] == [8, 8, 3]
    assert [x.shape for x in seen] == [(8, 8, 8, 3)] * 2
    stored = {image.tobytes() for image in images}
    assert all(np.rint(image * 255).astype(np.uint8).tobytes() in stored for image in seen[0])
    batches.pop()  # of the set of other classes
    assert next(row["n"] for row in content["rows"] if row["kind"] == "ood") == 6
    assert {x.shape for x in batches} == {(8, 16, 16, 3)}
    small = np.asarray(
        corrupt(seen[1], "contrast", 5, train.named_key(0, "corruption/contrast/5"), np.arange(8))
    )
    np.testing.assert_allclose(batches[-1], data.resize(small, 16), atol=1e-6)
