"""The observer: a table a step, scalars to the loop, and a resumed run that overwrites what it repeats."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmtjax import spectra
from rmtjax.train import loop, sharding
from rmtjax.train.step import make_step

RNG = np.random.default_rng(4)
TREE = {"a": {"kernel": RNG.standard_normal((40, 24)).astype(np.float32), "bias": np.zeros(24, np.float32)}}


def test_a_table_for_each_observed_step(tmp_path):
    observer = spectra.observe.every(10, tmp_path, metrics="scale,tail,bulk")
    assert observer(7, {"params": TREE}) is None
    scalars = observer(10, {"params": TREE})
    assert set(scalars) == {
        f"spectra/{n}" for n in ("alpha", "stable_rank", "log_norm", "num_spikes", "overhead")
    }
    assert 0 <= scalars["spectra/overhead"] <= 1
    observer(20, TREE)
    table = spectra.observe.read(tmp_path)
    assert list(table["step"]) == [10, 20]
    own = spectra.analyze(TREE, precision="single").table
    assert scalars["spectra/alpha"] == pytest.approx(own["alpha"][0], rel=1e-5)
    spectra.observe.every(10, tmp_path)(20, jax.tree.map(lambda x: 3 * x, TREE))
    again = spectra.observe.read(tmp_path)
    assert list(again["step"]) == [10, 20]
    assert again["log_norm"][1] == pytest.approx(table["log_norm"][1] + np.log10(9), rel=1e-5)
    assert not list((tmp_path / spectra.observe.FOLDER).glob(".*"))


def test_bad_arguments_are_told(tmp_path):
    with pytest.raises(ValueError, match="steps is 0"):
        spectra.observe.every(0, tmp_path)
    with pytest.raises(FileNotFoundError, match="spectra_steps"):
        spectra.observe.read(tmp_path)


def test_in_the_training_loop_on_a_mesh(tmp_path):
    def init(key):
        return {"a": {"kernel": jax.random.normal(key, (16, 8))}}, {}

    def loss_fn(params, model_state, batch, rngs):
        return jnp.square(batch["inputs"] @ params["a"]["kernel"]).mean(), (model_state, {})

    def batches(start):
        return itertools.repeat({"inputs": np.ones((8, 16), np.float32)})

    lines = {}
    optimizer = optax.sgd(1e-3)
    loop.fit(
        step_fn=make_step(loss_fn, optimizer, seed=0),
        start=loop.fresh_start(init, optimizer, 0, sharding.make_mesh(fsdp=8)),
        batches=batches,
        total_steps=6,
        observers=[spectra.observe.every(3, tmp_path)],
        write=lines.__setitem__,
    )
    table = spectra.observe.read(tmp_path)
    assert list(table["step"]) == [3, 6]
    assert lines[6]["spectra/log_norm"] == pytest.approx(table["log_norm"][1])
    assert "spectra/log_norm" not in lines[5]
