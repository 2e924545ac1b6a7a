"""Which runs one compiled step can train together, and the step of one of them."""

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import models
from rmtjax.train import classification, optim
from rmtjax.train.step import State, make_step
from rmtjax.train.workdir import FREE

# Fields of the config that the compiled step takes as arguments.
NUMBERS = (
    "regularization.dropout",
    "regularization.weight_decay",
    "regularization.label_smoothing",
    "optim.learning_rate",
)


def key(config: ConfigDict) -> str | None:
    """Configs with the same key can be trained together; the key is None if a run must be trained alone.

    The configs may differ in the seed, in label noise, in which training examples are selected and how many
    of them are distinct, in augmentation, and in each of `NUMBERS` as long as
    it is above zero in all of them or zero in all (so that what is off costs nothing). If all train for the
    same number of steps, they may also differ in synthetic data and in the number of training examples.
    """
    own_words = config_lib.is_text(config.data.source) and config.data.vocabulary is None
    observed = (config.spectra.every_steps, config.spectra.curvature_every_steps)
    if own_words or observed != (None, None):
        return None
    plain = json.loads(config_lib.to_json(config))
    for name in ("label_noise", "select", "select_features", "distinct"):
        del plain["data"][name]
    del plain["seed"]
    for name in NUMBERS:
        section, field = name.split(".")
        plain[section][field] = plain[section][field] > 0
    plain["augment"] = bool(config.augment.mixup or config.augment.cutmix)
    if config.train.total_epochs is None and config.optim.warmup_epochs is None:
        del plain["data"]["train_examples"], plain["synthetic"]
    for name in FREE:
        section, field = name.split(".")
        plain.get(section, {}).pop(field, None)
    return json.dumps(plain, sort_keys=True)


def numbers_of(configs: Sequence[ConfigDict]) -> dict[str, np.ndarray]:
    """The arguments of the step, stacked over configs: the seed, and those of `NUMBERS` above zero."""
    columns = {name: np.asarray([_get(config, name) for config in configs], np.float32) for name in NUMBERS}
    seeds = np.asarray([config.seed for config in configs], np.int32)
    return {"seed": seeds} | {name: values for name, values in columns.items() if (values > 0).all()}


def make_steps(
    config: ConfigDict, params: Any, sizes: tuple[int, int], total_steps: int, warmup_steps: int
) -> tuple[Callable[..., State], Callable[..., tuple[State, dict[str, Any]]]]:
    """Returns `begin(params, model_state, numbers) -> state` and `step(state, batch) -> state, scalars`.

    Both are for one member, whose batch holds its numbers as `batch["numbers"]`.

    Args:
      config: the config of any member; the numbers replace its own (see `numbers_of`).
      params: a tree with the names of the parameters; its leaves are not read.
      sizes: the number of classes and the number of tokens, for `models.build`.
    """

    def optimizer_of(numbers: Any) -> Any:
        own = _with_numbers(config, numbers)
        return own, *optim.make_optimizer(own, params, total_steps, warmup_steps)

    def begin(params: Any, model_state: Any, numbers: Any) -> State:
        return State(jnp.int32(0), params, model_state, optimizer_of(numbers)[1].init(params))

    def step(state: State, batch: Any) -> Any:
        numbers = batch["numbers"]
        batch = {name: value for name, value in batch.items() if name != "numbers"}
        own, optimizer, schedule = optimizer_of(numbers)
        loss_fn = classification.make_loss(models.build(own, *sizes), own.regularization.label_smoothing)
        one = make_step(
            loss_fn, optimizer, seed=numbers["seed"], accumulate=config.train.accumulate, schedule=schedule
        )
        return one(state, batch)

    return begin, step


def _with_numbers(config: ConfigDict, numbers: dict[str, Any]) -> ConfigDict:
    """The config with traced numbers in place of its own."""
    own = copy.deepcopy(config)
    with own.unlocked(), own.ignore_type():
        for name in set(numbers) & set(NUMBERS):
            section, field = name.split(".")
            own[section][field] = numbers[name]
    return own


def _get(config: ConfigDict, name: str) -> Any:
    section, field = name.split(".")
    return config[section][field]
