"""Training steps of many small models: one by one, and together as a population."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import models
from rmtjax.errors import InputError
from rmtjax.train import classification, members
from rmtjax.train import sharding as sharding_lib


def compare(config: ConfigDict, count: int = 16, steps: int = 20, repeats: int = 3) -> pd.DataFrame:
    """A row per way of training `count` models that differ in seed and learning rate, on the same batches.

    Returns columns way; milliseconds: of one step of all models, the median over `repeats` of `steps` steps
    each; ratio: how many times as fast as one by one. Compilation is not timed: every way needs it once.
    """
    ways = ways_of(config, count, steps * (repeats + 1))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for once in ways.values():
        once()  # compiles
    for _ in range(repeats):  # in turn, so that a busy machine slows all of them
        for name, once in ways.items():
            start = time.perf_counter()
            for _ in range(steps):
                once()
            times[name].append((time.perf_counter() - start) / steps)
    median = {name: float(np.median(of)) for name, of in times.items()}
    return pd.DataFrame(
        {"way": name, "milliseconds": 1e3 * t, "ratio": median["one by one"] / t}
        for name, t in median.items()
    )


def ways_of(config: ConfigDict, count: int, steps: int) -> dict[str, Callable[[], None]]:
    """By the name of a way, a function that makes one step of all models.

    Args:
      steps: the length of the schedule.
    """
    mesh = sharding_lib.make_mesh()
    rng = np.random.default_rng(config.seed)
    shape, classes = (config.data.image_size, config.data.image_size, 1), 10
    size = config.train.batch_size
    batch = {
        "inputs": rng.random((count, size, *shape), np.float32),
        "label": rng.integers(0, classes, (count, size)).astype(np.int32),
    }
    init = classification.make_init(models.build(config, classes), shape)
    first = jax.device_get(jax.jit(jax.vmap(init))(jax.random.split(jax.random.key(config.seed), count)))
    numbers = members.numbers_of([config] * count)
    numbers["seed"] = np.arange(count, dtype=np.int32)
    numbers["optim.learning_rate"] *= np.linspace(0.5, 1, count, dtype=np.float32)
    batch["numbers"] = numbers
    begin, step = members.make_steps(
        config, jax.eval_shape(init, jax.random.key(0))[0], (classes, 0), steps, 0
    )

    def together(vectorised: bool) -> Callable[[], None]:
        along = NamedSharding(mesh, sharding_lib.BATCH)
        started = jax.jit(sharding_lib.over_members(begin, mesh, (True, True, True), vectorised))
        run = jax.jit(sharding_lib.over_members(step, mesh, (True, True), vectorised), donate_argnums=0)
        placed = jax.device_put(batch, along)
        state = started(*jax.device_put(first, along), placed["numbers"])

        def once() -> None:
            nonlocal state
            state, _ = run(state, placed)
            jax.block_until_ready(state)

        return once

    def alone() -> Callable[[], None]:
        run = jax.jit(step, donate_argnums=0)
        own = [jax.device_put(jax.tree.map(lambda x, i=i: x[i], batch)) for i in range(count)]
        states = [
            jax.jit(begin)(*jax.device_put(jax.tree.map(lambda x, i=i: x[i], first)), own[i]["numbers"])
            for i in range(count)
        ]

        def once() -> None:
            for i in range(count):
                states[i], _ = run(states[i], own[i])
            jax.block_until_ready(states)

        return once

    return {
        "one by one": alone(),
        "together, one after the other in one program": together(False),
        "together, vmapped": together(True),
    }


def main(arguments: Any, overrides: list[str]) -> None:
    for name in ("members", "steps", "repeats"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name}={getattr(arguments, name)} is out of range: it must be 1 or more")
    if arguments.members % jax.device_count():
        raise InputError(f"--members={arguments.members} cannot be split over {jax.device_count()} devices")
    config = config_lib.load(arguments.config, overrides)
    table = compare(config, arguments.members, arguments.steps, arguments.repeats)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
