"""A small classifier of images that filters samples, gives features and shows what a set teaches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from rmtjax import config as config_lib
from rmtjax import data, models
from rmtjax.train import classification, loop
from rmtjax.train import sharding as sharding_lib
from rmtjax.train.step import make_step

DEPTH, WIDTH = 8, 16  # of the network: 76,000 parameters
EPOCHS, MOST_STEPS, BATCH = 30, 2000, 64
NAME = f"a ResNet-{DEPTH} of width {WIDTH}"


class Judge(NamedTuple):
    """`probabilities(images) -> [n, classes]` and `features(images) -> [n, 64]`, of images in [0, 1]."""

    probabilities: Callable[[np.ndarray], Float[np.ndarray, "n k"]]
    features: Callable[[np.ndarray], Float[np.ndarray, "n d"]]


def fit(source: data.Source, seed: int, mesh: jax.sharding.Mesh) -> Judge:
    """A CIFAR ResNet fitted by Adam for 30 epochs (at most 2,000 steps); images shift by up to an eighth."""
    config = config_lib.base()
    config.model.name = "resnet"
    config.model.resnet.update(depth=DEPTH, width=WIDTH)
    config.augment.shift_crop = 0.5
    model = models.build(config, len(source.classes))
    batch = max(mesh.size, min(BATCH, source.num_examples) // mesh.size * mesh.size)
    steps = min(MOST_STEPS, -(-EPOCHS * source.num_examples // batch))
    rate = optax.cosine_onecycle_schedule(steps, 3e-3, pct_start=0.1)
    optimizer = optax.adamw(rate, weight_decay=1e-4)
    init = classification.make_init(model, source.shape)
    fitted = loop.fit(
        step_fn=make_step(classification.make_loss(model), optimizer, seed=seed),
        start=loop.fresh_start(init, optimizer, seed, mesh),
        batches=lambda start: data.train_batches(
            source, batch_size=batch, seed=seed, start_step=start,
            augment=data.augmentation(config.augment, source),
            process_index=jax.process_index(), process_count=jax.process_count(),
        ),
        total_steps=steps, description="judge",
    )  # fmt: skip
    params, model_state = jax.device_get((fitted.state.params, fitted.state.model_state))
    predict = classification.make_predict(model, sharding_lib.local_mesh())

    def both(images: np.ndarray) -> Any:
        seen = data.from_arrays("images", images, np.zeros(len(images), np.int32), ("any",))
        return predict(params, model_state, data.evaluation_batches(seen, batch_size=256))

    return Judge(
        lambda images: np.asarray(jax.nn.softmax(jnp.asarray(both(images)[0]))),
        lambda images: both(images)[1],
    )
