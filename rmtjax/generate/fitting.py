"""A generator fitted to a training set: one for each training set, seed and generator config."""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from rmtjax import checkpoints, data
from rmtjax.errors import InputError
from rmtjax.generate import flow, store
from rmtjax.generate.kinds import kind_of
from rmtjax.train import loop
from rmtjax.train import sharding as sharding_lib
from rmtjax.train.step import make_step

# raised when the same config comes to mean another generator, or is stored otherwise, so that no older one
# is opened
FORMAT = 3
CHECKPOINTS = 4  # in a fit, evenly spaced
MOST = 2000  # examples the mean loss is taken over
PARAMS = "generator.safetensors"


class Generator(NamedTuple):
    """A velocity field or language model, its averaged parameters (numpy) and what it was made from."""

    model: nn.Module
    params: Any
    stored: store.Stored


def made_from(config: ConfigDict, train: data.Source) -> dict[str, Any]:
    """All that a fitted generator depends on, as plain data."""
    names = kind_of(train).fitted_by(config.synthetic)
    return {name: _plain(config.synthetic[name]) for name in names} | of_data(config, train)


def of_data(config: ConfigDict, train: data.Source) -> dict[str, Any]:
    """What every generator depends on."""
    return {
        "format": FORMAT,
        "method": config.synthetic.method,
        **({"image_size": config.synthetic.image_size} if kind_of(train).sized else {}),
        "classes": len(train.classes),
        "data_hash": kind_of(train).data_hash(train),
        "seed": config.seed,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def ensure(
    config: ConfigDict,
    train: data.Source,
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
) -> Generator:
    """The generator of a training set, fitted now or before.

    Args:
      config: the whole config.
      train: at the generator's image size, or texts with a vocabulary of their own (`word_rows.closed`).

    Raises:
      InputError: a batch that the devices cannot share, a loss that is not finite.
      loop.Stopped: SIGTERM; the same call goes on from there.
    """
    synthetic = config.synthetic
    if synthetic.batch_size % mesh.size:
        raise InputError(
            f"synthetic.batch_size={synthetic.batch_size} cannot be split over {mesh.size} devices: "
            f"use a multiple of {mesh.size}"
        )
    kind = kind_of(train)
    model = kind.network(synthetic, train)
    made = made_from(config, train)

    def build(folder: pathlib.Path) -> dict[str, Any]:
        say(f"fitting a generator to {train.num_examples} training {kind.name}")
        params = _fit(config, model, train, mesh, folder, made)
        if jax.process_index() == 0:
            checkpoints.save_safetensors(folder / PARAMS, params, {})
            # A fit's checkpoints are five times the generator, and nothing goes on from a finished one.
            for name in ("checkpoints", "damaged"):
                shutil.rmtree(folder / name, ignore_errors=True)
        return {"parameters": int(sum(leaf.size for leaf in jax.tree.leaves(params)))}

    root = pathlib.Path(synthetic.cache) / "generators"
    stored = store.ensure(root, made, build, say)
    return Generator(model, checkpoints.nest(checkpoints.open(stored.path / PARAMS)), stored)


def _fit(
    config: ConfigDict,
    model: nn.Module,
    train: data.Source,
    mesh: jax.sharding.Mesh,
    folder: pathlib.Path,
    made: dict[str, Any],
) -> Any:
    """Averaged parameters, in host memory; goes on from the checkpoints in `folder`."""
    synthetic = config.synthetic
    optimizer, schedule = flow.make_optimizer(synthetic.learning_rate, synthetic.ema, synthetic.total_steps)
    train, init, loss_fn = kind_of(train).objective(synthetic, model, train)
    try:
        with checkpoints.open_run(folder) as manager:
            fitted = loop.fit(
                step_fn=make_step(loss_fn, optimizer, seed=config.seed, schedule=schedule),
                start=loop.fresh_start(init, optimizer, config.seed, mesh),
                total_steps=synthetic.total_steps,
                batches=lambda start: data.train_batches(
                    train, batch_size=synthetic.batch_size, seed=config.seed, start_step=start,
                    process_index=jax.process_index(), process_count=jax.process_count(),
                ),
                checkpoints=loop.Saving(manager, -(-synthetic.total_steps // CHECKPOINTS), made),
                description="generator",
            )  # fmt: skip
    except loop.Diverged as error:
        raise InputError(
            f"the generator's fit failed, {str(error).split(';')[0].split(':')[0]}: "
            f"lower synthetic.learning_rate={synthetic.learning_rate}"
        ) from error
    average = jax.jit(
        lambda opt_state: flow.averaged(opt_state, synthetic.ema), out_shardings=sharding_lib.replicated(mesh)
    )
    return jax.device_get(average(fitted.state.opt_state))


def losses(generator: Generator, train: data.Source, test: data.Source) -> dict[str, float | None]:
    """`final_loss` on training examples, `final_loss_test` on as many test examples; None if there are none.

    Texts with words that `train` does not have are left out.
    """
    model, params = generator.model, generator.params
    kind = kind_of(train)
    mean_loss = kind.mean_loss(model)
    train, test = kind.known(train, test)
    n = min(train.num_examples, test.num_examples or MOST, MOST)

    def loss(source: data.Source) -> float | None:
        if not source.num_examples:
            return None
        numbers = np.linspace(0, source.num_examples - 1, n).astype(np.int64)
        return mean_loss(params, source.inputs(numbers), source.labels[numbers])

    return {"final_loss": loss(train), "final_loss_test": loss(test)}
