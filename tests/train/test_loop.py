import itertools
import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmtjax import checkpoints
from rmtjax.train import loop, sharding
from rmtjax.train.step import State, make_step, named_key


def init(key):
    """A linear model with dropout's kind of noise, so that random streams matter."""
    return {"dense": {"kernel": jax.random.normal(key, (16, 8))}}, {"seen": jnp.zeros(())}


def loss_fn(params, model_state, batch, rngs):
    noise = jax.random.normal(rngs["dropout"], (16, 8)) * 0.1
    out = batch["inputs"] @ (params["dense"]["kernel"] + noise)
    loss = jnp.mean((out - batch["target"]) ** 2)
    return loss, ({"seen": model_state["seen"] + 1}, {"size": jnp.mean(jnp.abs(out))})


def batches(start):
    for step in itertools.count(start):
        generator = np.random.default_rng(step)
        x = generator.standard_normal((8, 16), np.float32)
        yield {"inputs": x, "target": np.tanh(x[:, :8])}


def fit(folder=None, total=12, batches=batches, **options):
    lines = []
    optimizer = optax.adam(0.05)
    arguments = {
        "step_fn": make_step(loss_fn, optimizer, seed=3),
        "start": loop.fresh_start(init, optimizer, 3, sharding.make_mesh()),
        "batches": batches,
        "total_steps": total,
        "write": lambda step, scalars: lines.append((step, scalars)),
    } | options
    if folder is None:
        return loop.fit(**arguments), lines
    with checkpoints.open_run(folder) as manager:
        return loop.fit(checkpoints=loop.Saving(manager, every=4), **arguments), lines


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def test_metrics_of_every_step_come_once_in_order_and_the_loss_falls():
    fitted, lines = fit()
    assert [step for step, _ in lines] == list(range(1, 13))
    assert int(fitted.state.step) == 12
    assert float(fitted.state.model_state["seen"]) == 12
    assert lines[-1][1]["loss"] < lines[0][1]["loss"]
    assert {"loss", "size", "grad_norm", "examples_per_second"} <= lines[0][1].keys()


def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path):
    unbroken, lines = fit()
    fit(tmp_path, total=8)
    resumed, rest = fit(tmp_path, total=12)
    assert resumed.start_step == 8
    assert_same(resumed.state, unbroken.state)
    assert [(step, scalars["loss"]) for step, scalars in rest] == [(step, s["loss"]) for step, s in lines[8:]]


def test_a_finished_run_is_left_as_it_is(tmp_path):
    fit(tmp_path)
    again, lines = fit(tmp_path)
    assert again.start_step == 12
    assert lines == []


def test_sigterm_saves_and_the_run_goes_on(tmp_path):
    def kill(step, state):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(loop.Stopped) as stopped:
        fit(tmp_path, observers=[kill])
    assert stopped.value.step in (6, 7)
    resumed, _ = fit(tmp_path)
    assert resumed.start_step == stopped.value.step
    assert_same(resumed.state, fit()[0].state)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step_and_the_checkpoint(tmp_path, value):
    def poisoned(start):
        for step, batch in enumerate(batches(start), start + 1):
            if step == 8:
                batch["target"][0, 0] = value
            yield batch

    with pytest.raises(loop.Diverged) as error:
        fit(tmp_path, batches=poisoned)
    assert "at step 8" in str(error.value)
    assert str(tmp_path / "checkpoints" / "4") in str(error.value)
    with checkpoints.open_run(tmp_path) as manager:
        assert manager.latest_step() == 4  # the poisoned state of step 8, where one was due, was not saved


def test_accumulation_equals_the_whole_batch_and_passes_model_state_on():
    def without_noise(params, model_state, batch, rngs):
        out = batch["inputs"] @ params["dense"]["kernel"]
        return jnp.mean((out - batch["target"]) ** 2), ({"seen": model_state["seen"] + 1}, {})

    params, model_state = init(jax.random.key(0))
    optimizer = optax.sgd(0.1)
    state = State(jnp.int32(0), params, model_state, optimizer.init(params))
    batch = next(batches(0))
    one, scalars_one = make_step(without_noise, optimizer, seed=0)(state, batch)
    four, scalars_four = make_step(without_noise, optimizer, seed=0, accumulate=4)(state, batch)
    np.testing.assert_allclose(
        one.params["dense"]["kernel"], four.params["dense"]["kernel"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(scalars_one["loss"], scalars_four["loss"], rtol=1e-5)
    assert float(four.model_state["seen"]) == 4


def test_random_streams_differ_by_name_seed_and_step():
    draws = [jax.random.normal(named_key(seed, name)) for seed in (0, 1) for name in ("init", "step")]
    assert len(set(map(float, draws))) == 4


def test_observers_see_every_step_and_their_scalars_join_the_line():
    seen = []

    def observer(step, state):
        seen.append((step, int(state.step)))
        return {"validation/accuracy": 0.5} if step % 5 == 0 else None

    _, lines = fit(observers=[observer])
    assert seen == [(step, step) for step in range(1, 13)]
    assert [step for step, scalars in lines if "validation/accuracy" in scalars] == [5, 10]


def test_validation_and_saving_are_not_counted_as_time_of_steps(tmp_path, monkeypatch):
    def slow(step, *rest):
        time.sleep(0.5)

    def measure(state):
        slow(0)
        return {"validation/accuracy": 0.5}

    monkeypatch.setattr(checkpoints.Run, "save", lambda self, step, *rest: slow(step))
    _, lines = fit(tmp_path, validation=loop.Validation(2, measure))
    assert [step for step, scalars in lines if "validation/accuracy" in scalars] == [2, 4, 6, 8, 10, 12]
    assert min(scalars["examples_per_second"] for step, scalars in lines[1:]) > 2 * 8 / 0.5


@pytest.mark.parametrize("steps", [(3, 5), 3])
def test_the_steps_asked_for_are_traced(tmp_path, steps, monkeypatch):
    events = []
    real_start, real_stop = jax.profiler.start_trace, jax.profiler.stop_trace

    def start(folder):
        events.append("start")
        real_start(folder)

    def stop():
        events.append("stop")
        real_stop()

    monkeypatch.setattr(jax.profiler, "start_trace", start)
    monkeypatch.setattr(jax.profiler, "stop_trace", stop)
    fit(
        profile=loop.Profile(tmp_path / "profile", steps),
        observers=[lambda step, state: events.append(step)],
        total=7,
    )
    first, last = events.index("start"), events.index("stop")
    assert events[first + 1 : last] == ([3, 4, 5] if steps == (3, 5) else [2, 3, 4])
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_a_step_that_moves_data_by_itself_is_an_error():
    def host_batches(start):
        return batches(start)

    def eager(state, batch):
        return state, {"loss": jnp.asarray(np.ones(3))[0]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compiled_when_called", lambda step_fn, start: eager)
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            fit(batches=host_batches)
