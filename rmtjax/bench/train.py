"""Training through the whole pipeline against the same step in plain JAX on batches that are ready."""

import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import models
from rmtjax.errors import InputError
from rmtjax.train import classification, loop, optim
from rmtjax.train import sharding as sharding_lib
from rmtjax.train.loop import StepFn
from rmtjax.train.step import make_step


class Waiting:
    """Passes batches through and adds up the time that the loop waited for them."""

    def __init__(self, batches: Iterator[Any]):
        self.batches = batches
        self.seconds: list[float] = []

    def __iter__(self) -> "Waiting":
        return self

    def __next__(self) -> Any:
        start = time.perf_counter()
        batch = next(self.batches)
        self.seconds.append(time.perf_counter() - start)
        return batch


def compare(config: ConfigDict, steps: int = 60, skip: int = 10) -> pd.DataFrame:
    """A row per way of training: examples a second, share of time waiting for input, ratio to plain JAX.

    Args:
      steps: timed steps of each way, after `skip` for compilation and warm-up.

    Without TensorFlow the pipeline is left out and random images of the config's shape are used.
    """
    mesh = sharding_lib.make_mesh(config.train.mesh.data, config.train.mesh.fsdp)
    stream, shape, dtype, sizes = _batches(config)
    fresh, step = prepared(config, shape, dtype, sizes, steps + skip)
    size = config.train.batch_size

    def ready() -> tuple[float, float]:
        state = fresh.make()
        step_fn = loop.compiled_when_called(step, fresh)
        batches = [sharding_lib.put_batch(next(stream), mesh) for _ in range(4)]
        start, before = 0.0, None
        for i in range(skip + steps):
            if i == skip:
                jax.block_until_ready(state)
                start = time.perf_counter()
            state, scalars = step_fn(state, batches[i % len(batches)])
            jax.block_until_ready(before)  # one step in flight, as in the loop
            before = scalars
        jax.block_until_ready(state)
        return time.perf_counter() - start, 0.0

    def pipeline(checkpoints_too: bool) -> tuple[float, float]:
        times: list[float] = []
        waiting = Waiting(stream)
        with tempfile.TemporaryDirectory() as folder:
            manager = None
            if checkpoints_too:
                from rmtjax import checkpoints

                manager = checkpoints.open_run(folder)
            loop.fit(
                step_fn=step,
                start=fresh,
                batches=lambda start: waiting,
                total_steps=skip + steps,
                checkpoints=manager and loop.Saving(manager, config.train.checkpoint_steps),
                write=lambda step, scalars: times.append(time.perf_counter()),
                description="bench",
            )
            if manager:
                manager.close()
        # The metrics of step s are written once it is done, so these are the times at which steps ended.
        seconds = times[-1] - times[skip - 1]
        return seconds, sum(waiting.seconds[-steps:]) / seconds

    ways = {"plain JAX, ready batches": ready, "loop with input": lambda: pipeline(False)}
    ways["loop with input and checkpoints"] = lambda: pipeline(True)
    rows, base = [], float("nan")
    for name, run in ways.items():
        seconds, waited = run()
        rate = steps * size / seconds
        base = rate if name.startswith("plain") else base
        rows.append(
            {"way": name, "examples_per_second": rate, "waiting_for_input": waited, "ratio": rate / base}
        )
    return pd.DataFrame(rows)


def prepared(
    config: ConfigDict, shape: tuple[int, ...], dtype: Any, sizes: tuple[int, int], steps: int
) -> tuple[loop.Start, StepFn]:
    """The start of a model and its training step, for inputs of a shape and type.

    Args:
      sizes: the numbers of classes and of tokens; steps: the length of the schedule.
    """
    mesh = sharding_lib.make_mesh(config.train.mesh.data, config.train.mesh.fsdp)
    model = models.build(config, *sizes)
    init = classification.make_init(model, shape, dtype)
    params = jax.eval_shape(init, jax.random.key(0))[0]
    optimizer, schedule = optim.make_optimizer(config, params, steps, 0)
    loss_fn = classification.make_loss(model, config.regularization.label_smoothing)
    step = make_step(
        loss_fn, optimizer, seed=config.seed, accumulate=config.train.accumulate, schedule=schedule
    )
    return loop.fresh_start(init, optimizer, config.seed, mesh, config.train.sharding), step


def _batches(
    config: ConfigDict,
) -> tuple[Iterator[dict[str, np.ndarray]], tuple[int, ...], Any, tuple[int, int]]:
    """Batches, shape and type of one input, and the numbers of classes and of tokens."""
    try:
        from rmtjax import data
    except ImportError:
        if config_lib.is_text(config.data.source):
            raise
        generator = np.random.default_rng(config.seed)
        shape = (config.data.image_size, config.data.image_size, 1)
        batch = {
            "inputs": generator.random((config.train.batch_size, *shape), np.float32),
            "label": generator.integers(0, 10, config.train.batch_size, np.int32),
        }
        return iter(lambda: batch, None), shape, np.float32, (10, 0)
    source = data.load(config.data, config.seed).train
    batches = data.train_batches(
        source,
        batch_size=config.train.batch_size,
        seed=config.seed,
        augment=data.augmentation(config.augment, source),
    )
    return batches, source.input_shape, source.input_dtype, (len(source.classes), source.vocabulary_size)


def main(arguments: Any, overrides: list[str]) -> None:
    if arguments.steps < 1:
        raise InputError(f"--steps={arguments.steps} is out of range: it must be 1 or more")
    config = config_lib.load(arguments.config, overrides)
    table = compare(config, arguments.steps)
    print(
        table.to_string(
            index=False, float_format=lambda value: f"{value:.3g}" if value < 10 else f"{value:.0f}"
        )
    )
