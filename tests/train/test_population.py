"""Members of a population come out as they do alone."""

import contextlib
import functools
import json
import os
import signal
from unittest import mock

import jax
import numpy as np
import pytest

from rmtjax import checkpoints, data, measure, train
from rmtjax import config as config_lib
from rmtjax.errors import InputError
from rmtjax.train import experiment, loop, members, population, sharding


def small(**changes):
    config = config_lib.smoke(config_lib.base())
    config.model.init_from = None
    config.model.vit.update(width=16, depth=1, heads=2, mlp_width=16)
    config.train.update(total_steps=20, batch_size=8, evaluation_steps=10, checkpoint_steps=20)
    config.optim.eps = (
        1e-4  # the keys' bias has no gradient: without it Adam would make steps of what is rounding alone
    )
    config.evaluation.update(shifts=("corrupted",), ood=(), corrupted_examples=10, bootstrap_samples=10)
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return config


def residual(**changes):
    """Batch norm, SGD, micro-batches, coupled decay, and a part that is frozen."""
    return small(
        model__name="resnet", model__resnet__depth=8, model__resnet__width=4,
        model__batch_norm__separate=True, data__image_size=8, train__batch_size=12, train__accumulate=3,
        optim__name="sgd", optim__learning_rate=0.02, optim__freeze=r"(norm_)?stem/.*",
        regularization__weight_decay=0.01, **changes,
    )  # fmt: skip


def adapted(**changes):
    """Factors beside kernels, some of them frozen, and a head with a rate of its own, in batches that 8
    devices cannot share."""
    return small(
        model__lora__rank=2, optim__name="adam_l2", optim__schedule="linear", optim__head_learning_rate=5e-3,
        optim__freeze=r".*/value/.*", regularization__weight_decay=0.01, train__batch_size=5,
        train__evaluation_batch_size=7, **changes,
    )  # fmt: skip


def made(config):
    """A synthetic set of another distribution: random images."""
    rng, side = np.random.default_rng(config.seed), config.data.image_size
    label = np.arange(40, dtype=np.int32) % 10
    return data.from_arrays("made", rng.random((40, side, side, 1), np.float32), label, tuple("0123456789"))


def on_one_device(wanted=True):
    """Everything on the first of the devices."""
    return mock.patch.object(jax, "device_count", return_value=1) if wanted else contextlib.nullcontext()


SETS = {
    "plain": [
        small(),
        small(augment__rotation=0.5, optim__learning_rate=1e-3, synthetic__share=0.5,
              data__train_examples=20, seed=2),
    ],
    "regularised": [
        small(
            regularization__dropout=rate,
            regularization__weight_decay=decay,
            regularization__label_smoothing=0.1,
        )
        for rate, decay in ((0.1, 0.3), (0.5, 0.01))
    ],
    "residual": [residual(augment__mixup=0.2), residual(augment__cutmix=1.0, synthetic__share=0.5, seed=1)],
    "adapted": [adapted(), adapted(optim__learning_rate=1e-3, seed=1)],
}  # fmt: skip
ALONE_ON_ONE_DEVICE = ("residual", "adapted")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder and result of each config's run alone, trained once."""
    done = {}

    def get(name, i):
        if (name, i) not in done:
            config, folder = SETS[name][i], tmp_path_factory.mktemp("alone")
            with on_one_device(name in ALONE_ON_ONE_DEVICE):
                result = train.run(config, folder, synthetic=functools.partial(made, config))
                done[name, i] = folder, result, measure.evaluate(config, result)["rows"]
        return done[name, i]

    return get


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "vectorised", "one_device"),
    [
        ("plain", False, False),
        ("regularised", True, False),
        ("residual", True, True),
        ("adapted", False, False),
    ],
)
def test_a_member_is_the_run_alone(name, vectorised, one_device, alone, tmp_path, monkeypatch):
    configs = SETS[name]
    if name == "adapted":
        for config in configs:
            config.model.init_from = str(alone("plain", 0)[0])
    over = functools.partial(sharding.over_members, vectorised=vectorised)
    monkeypatch.setattr(sharding, "over_members", over)
    together = [tmp_path / f"together{i}" for i in range(len(configs))]
    with on_one_device(one_device):
        trained = population.run(configs, together, synthetic=made)
        measure.evaluation_of_runs(configs, together, trained)
    for i, config in enumerate(configs):
        folder, result, rows = alone(name, i)
        lines = [
            [json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()]
            for f in (together[i], folder)
        ]
        assert [line["step"] for line in lines[0]] == list(range(1, 21))
        for ours, theirs in zip(*lines, strict=True):
            assert min(line.pop("examples_per_second") for line in (ours, theirs)) > 0
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
        here = json.loads((together[i] / "evaluation.json").read_text())["rows"]
        assert [row["metric"] for row in here] == [row["metric"] for row in rows]
        np.testing.assert_allclose(
            [row["value"] for row in here], [row["value"] for row in rows], rtol=1e-3, atol=1e-4
        )
        with on_one_device(name in ALONE_ON_ONE_DEVICE):  # the run alone goes on where the member ended
            last = train.run(config, together[i], synthetic=functools.partial(made, config)).state
        assert last.step == 20
        initial = [checkpoints.nest(checkpoints.open(f / "checkpoints" / "0")) for f in (folder, together[i])]
        for there, here, within in (
            (result.state.params, trained.member(i).state.params, 1e-5),
            (result.state.model_state, trained.member(i).state.model_state, 1e-5),
            (*initial, 1e-5),
            (result.state.params, last.params, 1e-5),
            (result.state.model_state, last.model_state, 1e-5),
            (result.state.opt_state, last.opt_state, 1e-6),
        ):
            jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=within), here, there)


def test_a_stopped_population_comes_out_the_same_and_what_is_finished_stays(tmp_path):
    configs = SETS["plain"]
    for config in configs:
        config.train.total_steps = 4
    folders = [tmp_path / "a", tmp_path / "b"]
    first = population.run(configs, folders, synthetic=made)
    weights = [checkpoints.nest(checkpoints.open(folder)) for folder in folders]
    first.records[0].update(status="finished")
    first.records[1].update(status="running")  # as if it had been killed while it was saved
    before = (folders[0] / "run.json").read_bytes()
    second = population.run(configs, folders, synthetic=made)
    assert (folders[0] / "run.json").read_bytes() == before
    third = population.run(configs, folders, synthetic=made)  # trained: nothing is trained again
    for i, of in enumerate(weights):
        stored = checkpoints.nest(checkpoints.open(folders[i]))
        for found in (stored, second.member(i).state.params, third.member(i).state.params):
            jax.tree.map(np.testing.assert_array_equal, of, found)


class Interrupted(Exception):
    """In place of a kill."""


def test_a_population_stopped_and_then_killed_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """SIGTERM at the second of six steps saves; what is killed at the last goes on from the fourth."""
    configs = [small(train__total_steps=6, train__checkpoint_steps=2, seed=seed) for seed in (0, 1)]
    unbroken, broken = ([tmp_path / name / str(i) for i in (0, 1)] for name in ("unbroken", "broken"))
    whole = population.run(configs, unbroken)
    real, starts = population.together, []
    start = experiment.Recorder.start
    monkeypatch.setattr(
        experiment.Recorder,
        "start",
        lambda self, step, state: starts.append(step) or start(self, step, state),
    )

    def ends_at(last, how):
        def streams_that_end(streams):
            for step, batch in enumerate(real(streams), 1):
                if step == last:
                    how()
                yield batch

        monkeypatch.setattr(population, "together", streams_that_end)

    def kill():
        raise Interrupted

    ends_at(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(loop.Stopped):
        population.run(configs, broken)
    for folder in broken:
        record = json.loads((folder / "run.json").read_text())
        assert (record["status"], record["step"]) == ("stopped", 2)
    ends_at(4, kill)  # of the four that are left
    with pytest.raises(Interrupted):
        population.run(configs, broken)
    assert [json.loads((f / "run.json").read_text())["status"] for f in broken] == ["failed", "failed"]
    (own,) = broken[0].glob("population-*")
    assert {path.name for path in (own / "checkpoints").iterdir()} == {"0", "2", "4"}
    monkeypatch.setattr(population, "together", real)
    resumed = population.run(configs, broken)
    assert not resumed.failures
    assert starts == [0, 2, 4]
    assert not list(tmp_path.rglob("population-*"))
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    for ours, theirs in zip(broken, unbroken, strict=True):
        for step in ("0", "6"):
            trees = [checkpoints.nest(checkpoints.open(f / "checkpoints" / step)) for f in (ours, theirs)]
            jax.tree.map(np.testing.assert_array_equal, *trees)
        lines = [
            [json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()]
            for f in (ours, theirs)
        ]
        for line in (*lines[0], *lines[1]):
            del line["examples_per_second"]
        assert lines[0] == lines[1]
        assert [line["step"] for line in lines[0]] == [1, 2, 3, 4, 5, 6]


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
    same = [
        small(seed=3),
        small(augment__rotation=0.5),
        small(data__label_noise=0.5),
        small(synthetic__share=0.5),
        small(data__train_examples=20),
        small(optim__learning_rate=0.1),
    ]
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


def test_a_run_alone_whose_batch_the_devices_cannot_share_is_refused(tmp_path):
    part = (
        r"train\.batch_size=12 / train\.accumulate cannot be split over 8 devices: "
        "use a multiple of 8, or fewer devices"
    )
    with pytest.raises(InputError, match=part):
        train.run(residual(), tmp_path / "alone")
    assert not (tmp_path / "alone").exists()


def test_runs_of_several_keys_are_refused(tmp_path):
    with pytest.raises(InputError, match="2 configs do not make one population"):
        population.run([small(), small(optim__name="sgd")], [tmp_path / "a", tmp_path / "b"])
