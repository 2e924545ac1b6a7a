"""A generator fitted to a training set: one for each training set, seed and generator config."""

import hashlib
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from rmtjax import checkpoints, data
from rmtjax.errors import InputError
from rmtjax.generate import dit, flow, language, mlp, store, texts, unet
from rmtjax.train import loop
from rmtjax.train import sharding as sharding_lib

FORMAT = 3  # raised when the same config comes to mean another generator, or is stored otherwise, so that no older one is opened
FITTED_BY = (
    "network", "width", "depth", "dtype", "time", "total_steps", "batch_size", "learning_rate", "ema", "label_dropout",
)  # fmt: skip
SHAPED_BY = {"mlp": (), "unet": ("multipliers",), "dit": ("patch", "heads")}
TEXTS_BY = (
    "width", "depth", "heads", "dtype", "total_steps", "batch_size", "learning_rate", "ema",
)  # fmt: skip
CHECKPOINTS = 4  # in a fit, evenly spaced
CHUNK = 1024  # images in memory at a time while a data set is hashed
MOST = 2000  # examples the mean loss is taken over
PARAMS = "generator.safetensors"


class Generator(NamedTuple):
    """A velocity field or language model, its averaged parameters (numpy) and what it was made from."""

    model: nn.Module
    params: Any
    stored: store.Stored


def data_hash(source: data.Source) -> str:
    """SHA-256 of a source's labels and images, or words of texts, in its order."""
    if source.text is not None:
        return texts.data_hash(source)
    total = hashlib.sha256(np.asarray((source.num_examples, *source.image_shape), "<i8").tobytes())
    total.update(np.ascontiguousarray(source.labels, "<i4").tobytes())
    for start in range(0, source.num_examples, CHUNK):
        images = source.images(np.arange(start, min(start + CHUNK, source.num_examples)))
        total.update(np.ascontiguousarray(images, "<f4").tobytes())
    return total.hexdigest()


def made_from(config: ConfigDict, train: data.Source) -> dict[str, Any]:
    """All that a fitted generator depends on, as plain data."""
    names = TEXTS_BY if train.text is not None else (*FITTED_BY, *SHAPED_BY[config.synthetic.network])
    return {name: _plain(config.synthetic[name]) for name in names} | of_data(config, train)


def of_data(config: ConfigDict, train: data.Source) -> dict[str, Any]:
    """What every generator depends on."""
    return {
        "format": FORMAT,
        "method": config.synthetic.method,
        **({} if train.text is not None else {"image_size": config.synthetic.image_size}),
        "classes": len(train.classes),
        "data_hash": data_hash(train),
        "seed": config.seed,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def network(synthetic: ConfigDict, train: data.Source) -> nn.Module:
    """The velocity field, or language model of texts, that the `synthetic` section of a config describes."""
    dtype, num_classes = jnp.dtype(synthetic.dtype), len(train.classes)
    if train.text is not None:
        return language.LanguageModel(
            num_classes, len(train.text.words) - 1, synthetic.width, synthetic.depth, synthetic.heads,
            causal=synthetic.method == "lm", dtype=dtype,
        )  # fmt: skip
    if synthetic.network == "mlp":
        return mlp.VelocityMLP(num_classes, synthetic.width, synthetic.depth, dtype)
    if synthetic.network == "unet":
        return unet.VelocityUNet(num_classes, synthetic.width, synthetic.depth, synthetic.multipliers, dtype)
    return dit.VelocityDiT(
        num_classes, synthetic.width, synthetic.depth, synthetic.heads, synthetic.patch, dtype
    )


def ensure(
    config: ConfigDict,
    train: data.Source,
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
) -> Generator:
    """The generator of a training set, fitted now or before.

    Args:
      config: the whole config.
      train: at the generator's image size, or texts with a vocabulary of their own (`texts.closed`).

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
    model = network(synthetic, train)
    made = made_from(config, train)

    def build(folder: pathlib.Path) -> dict[str, Any]:
        say(
            f"fitting a generator to {train.num_examples} training {'images' if train.text is None else 'texts'}"
        )
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
    if train.text is None:
        init = flow.make_init(model, train.image_shape)
        loss_fn = flow.make_loss(model, len(train.classes), synthetic.label_dropout, synthetic.time)
    else:
        train = texts.as_rows(train)
        init, loss_fn = language.make_init(model, *train.image_shape), language.make_loss(model)
    try:
        with checkpoints.open_run(folder) as manager:
            fitted = loop.fit(
                init=init, loss_fn=loss_fn,
                optimizer=optimizer, schedule=schedule, total_steps=synthetic.total_steps, seed=config.seed,
                batches=lambda start: data.train_batches(
                    train, batch_size=synthetic.batch_size, seed=config.seed, start_step=start,
                    process_index=jax.process_index(), process_count=jax.process_count(),
                ),
                mesh=mesh, checkpoints=manager, checkpoint_steps=-(-synthetic.total_steps // CHECKPOINTS),
                config=made, description="generator",
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
    """`final_loss` on examples fitted to and `final_loss_test` on others, as many of each; None where there are no others.

    Of texts, on those without words that `train` has not.
    """
    model, params = generator.model, generator.params
    if train.text is None:
        mean_loss = flow.make_mean_loss(model)
    else:
        mean_loss = language.make_mean_loss(model)
        train, test = texts.as_rows(train), texts.as_rows(texts.known(test, train.text))
    n = min(train.num_examples, test.num_examples or MOST, MOST)

    def loss(source: data.Source) -> float | None:
        if not source.num_examples:
            return None
        numbers = np.linspace(0, source.num_examples - 1, n).astype(np.int64)
        return mean_loss(params, source.images(numbers), source.labels[numbers])

    return {"final_loss": loss(train), "final_loss_test": loss(test)}
