"""The observer in other people's loops."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmtjax import observers, spectra


def steps_of(folder):
    return sorted(spectra.observe.read(folder)["step"].unique())


def test_a_loop_of_optax(tmp_path):
    params = {"dense": {"kernel": jnp.asarray(np.random.default_rng(0).standard_normal((12, 8)))}}
    optimiser = optax.sgd(0.1)
    state, observe = optimiser.init(params), observers.every(2, tmp_path)
    seen = []
    for step in range(5):
        gradient = jax.grad(lambda p: (p["dense"]["kernel"] ** 2).sum())(params)
        updates, state = optimiser.update(gradient, state)
        params = optax.apply_updates(params, updates)
        seen.append(observe(step, params))
    assert steps_of(tmp_path) == [0, 2, 4]
    assert [one is not None for one in seen] == [True, False, True, False, True]
    assert seen[4]["spectra/log_norm"] < seen[0]["spectra/log_norm"]
    assert list(tmp_path.glob("events.out.tfevents*"))


def test_a_model_of_keras(tmp_path):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(12), keras.layers.Dense(8)])
    model.compile("sgd", "mse")
    callback = observers.keras_callback(observers.every(3, tmp_path))
    x = np.random.default_rng(0).standard_normal((24, 6)).astype(np.float32)
    model.fit(x, np.zeros((24, 8), np.float32), batch_size=4, epochs=1, verbose=0, callbacks=[callback])
    table = spectra.observe.read(tmp_path)
    assert sorted(table["step"].unique()) == [0, 3, 6]
    assert len(table) == 3 * 2


def test_a_loop_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    model, observe = torch.nn.Linear(8, 12), observers.every(2, tmp_path)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(1, 5):
        optimiser.zero_grad()
        model(torch.ones(4, 8)).square().mean().backward()
        optimiser.step()
        observe(step, model)
    assert steps_of(tmp_path) == [2, 4]


def test_the_trainer_of_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=40
    )
    model = transformers.BertForSequenceClassification(config)
    data = [{"input_ids": torch.arange(6), "labels": torch.tensor(i % 2)} for i in range(12)]
    arguments = transformers.TrainingArguments(
        tmp_path / "out", max_steps=4, per_device_train_batch_size=3, report_to=[], use_cpu=True
    )
    callback = observers.transformers_callback(observers.every(2, tmp_path))
    transformers.Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
    assert steps_of(tmp_path) == [0, 2, 4]


def test_runs_that_are_open_get_the_scalars(tmp_path, monkeypatch):
    logged = {"wandb": [], "mlflow": [], "trackio": []}

    def closed(scalars):
        raise RuntimeError("call init first")

    wandb = types.SimpleNamespace(run=None, log=logged["wandb"].append)
    mlflow = types.SimpleNamespace(
        active_run=lambda: None, log_metrics=lambda scalars, step: logged["mlflow"].append((step, scalars))
    )
    trackio = types.SimpleNamespace(log=closed)
    for name, library in (("wandb", wandb), ("mlflow", mlflow), ("trackio", trackio)):
        monkeypatch.setitem(sys.modules, name, library)
    observe, weights = observers.every(1, tmp_path), {"kernel": np.eye(9, 12)}
    observe(0, weights)
    assert not any(logged.values())
    wandb.run, mlflow.active_run, trackio.log = object(), object, logged["trackio"].append
    scalars = observe(1, weights)
    assert logged["wandb"] == logged["trackio"] == [scalars | {"spectra/step": 1}]
    assert logged["mlflow"] == [(1, scalars)]
