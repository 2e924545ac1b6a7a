"""Members of a population come out as they do alone."""

import functools
import json

import jax
import numpy as np
import pytest

from rmtjax import checkpoints, data, measure, train
from rmtjax import config as config_lib
from rmtjax.errors import InputError
from rmtjax.train import members, population


def small(**changes):
    config = config_lib.smoke(config_lib.base())
    config.model.init_from = None
    config.model.vit.update(width=16, depth=1, heads=2, mlp_width=16)
    config.train.update(total_steps=20, batch_size=8, evaluation_steps=10, checkpoint_steps=20)
    config.optim.eps = (
        1e-4  # the keys' bias has no gradient: without it Adam would make steps of what is rounding alone
    )
    config.evaluation.update(shifts=("corrupted",), ood=(), corrupted_examples=10, bootstrap_samples=10)
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return config


def seeded(config, seed):
    config.seed = seed
    return config


def made(config):
    """A synthetic set of another distribution: random images."""
    rng = np.random.default_rng(config.seed)
    label = np.arange(40, dtype=np.int32) % 10
    return data.from_arrays("made", rng.random((40, 16, 16, 1), np.float32), label, tuple("0123456789"))


SETS = {
    "plain": [
        small(),
        seeded(small(augment__rotation=0.5, optim__learning_rate=1e-3), 1),
        seeded(small(synthetic__share=0.5, data__train_examples=20), 2),
    ],
    "regularised": [
        small(regularization__dropout=rate, regularization__weight_decay=decay, regularization__label_smoothing=0.1)
        for rate, decay in ((0.1, 0.3), (0.5, 0.01))
    ],
    "mixed": [small(augment__mixup=0.2)],
}  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder and result of each config's run alone, trained once."""
    done = {}

    def get(name, i):
        if (name, i) not in done:
            config, folder = SETS[name][i], tmp_path_factory.mktemp("alone")
            result = train.run(config, folder, synthetic=functools.partial(made, config))
            done[name, i] = folder, result, measure.evaluate(config, result)["rows"]
        return done[name, i]

    return get


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "vectorised"), [("plain", False), ("plain", True), ("regularised", True), ("mixed", False)]
)
def test_a_member_is_the_run_alone(name, vectorised, alone, tmp_path, monkeypatch):
    configs = SETS[name]
    over = functools.partial(members.over_members, vectorised=vectorised)
    monkeypatch.setattr(population, "over_members", over)
    together = [tmp_path / f"together{i}" for i in range(len(configs))]
    trained = population.run(configs, together, synthetic=made)
    measure.evaluation_of_population(trained, dict(enumerate(together)))
    measure.spectra_of_population(trained, dict(enumerate(together)))
    for i in range(len(configs)):
        folder, result, rows = alone(name, i)
        for there, here in (
            (result.state.params, trained.member(i).state.params),
            (checkpoints.load_params(folder / "checkpoints" / "0"), checkpoints.load_params(together[i] / "checkpoints" / "0")),
            (checkpoints.load_params(folder), checkpoints.load_params(together[i])),
        ):  # fmt: skip
            jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), here, there)
        lines = [
            [json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()]
            for f in (together[i], folder)
        ]
        assert [line["step"] for line in lines[0]] == list(range(1, 21))
        for ours, theirs in zip(*lines, strict=True):
            del theirs["examples_per_second"]
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
        here = json.loads((together[i] / "evaluation.json").read_text())["rows"]
        assert [row["metric"] for row in here] == [row["metric"] for row in rows]
        np.testing.assert_allclose(
            [row["value"] for row in here], [row["value"] for row in rows], rtol=1e-3, atol=1e-4
        )


def test_a_stopped_population_comes_out_the_same_and_what_is_finished_stays(tmp_path):
    configs = SETS["plain"][:2]
    for config in configs:
        config.train.total_steps = 4
    folders = [tmp_path / "a", tmp_path / "b"]
    first = population.run(configs, folders)
    weights = [checkpoints.load_params(folder) for folder in folders]
    first.records[0].update(status="finished")
    first.records[1].update(status="running")  # as if it had been killed while it was saved
    before = (folders[0] / "run.json").read_bytes()
    second = population.run(configs, folders)
    assert (folders[0] / "run.json").read_bytes() == before
    third = population.run(configs, folders)  # trained: nothing is trained again
    for i, of in enumerate(weights):
        for found in (checkpoints.load_params(folders[i]), second.member(i).state.params, third.member(i).state.params):  # fmt: skip
            jax.tree.map(np.testing.assert_array_equal, of, found)


def test_one_that_diverges_fails_and_the_others_go_on(tmp_path):
    configs = [small(train__total_steps=4), small(train__total_steps=4, optim__learning_rate=1e30)]
    for config in configs:
        config.optim.clip_norm = None
    folders = [tmp_path / "good", tmp_path / "bad"]
    trained = population.run(configs, folders)
    assert list(trained.failures) == [1]
    assert "lower optim.learning_rate" in trained.failures[1]
    status = [json.loads((folder / "run.json").read_text())["status"] for folder in folders]
    assert status == ["trained", "diverged"]
    assert not (folders[1] / "checkpoints").exists()


def test_what_can_be_trained_together():
    key = members.key(small())
    same = [seeded(small(), 3), small(augment__rotation=0.5), small(synthetic__share=0.5), small(data__train_examples=20),
            small(optim__learning_rate=0.1)]  # fmt: skip
    assert {members.key(config) for config in same} == {key}
    dropped = [members.key(small(regularization__dropout=rate)) for rate in (0.1, 0.5)]
    others = [small(augment__mixup=0.2), small(optim__name="adam_l2"), small(train__total_steps=5)]
    assert dropped[0] == dropped[1]
    assert len({key, dropped[0], *map(members.key, others)}) == 5
    epochs = [small(data__train_examples=n) for n in (20, 40)]
    for config in epochs:
        config.train.update(total_steps=None, total_epochs=2)
    assert len({members.key(config) for config in epochs}) == 2
    watched = small()
    watched.spectra.every_steps = 2
    assert members.key(watched) is None


def test_runs_of_several_keys_are_refused(tmp_path):
    with pytest.raises(InputError, match="2 configs do not make one population"):
        population.run([small(), small(optim__name="sgd")], [tmp_path / "a", tmp_path / "b"])
