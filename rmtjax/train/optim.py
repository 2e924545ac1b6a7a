"""Optimisers: who is decayed, how, and at which rate.

Decoupled decay (AdamW, Loshchilov & Hutter 2019) shrinks a weight by learning rate x decay; coupled L2 adds
decay x weight to the gradient before Adam rescales it, which turns small gradients into nearly constant
steps. The paper used the second; both are offered and named.
"""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from rmtjax.errors import InputError
from rmtjax.models.lora import FREEZE
from rmtjax.train import rules


def make_schedule(
    config: ConfigDict, learning_rate: float, total_steps: int, warmup_steps: int
) -> optax.Schedule:
    """Linear warm-up from 0, then constant, or to 0 at the last step along a line or a cosine."""
    decay_steps = max(total_steps - warmup_steps, 1)
    after = {
        "constant": optax.constant_schedule(learning_rate),
        "linear": optax.linear_schedule(learning_rate, 0.0, decay_steps),
        "cosine": optax.cosine_decay_schedule(learning_rate, decay_steps),
    }[config.optim.schedule]
    if not warmup_steps:
        return after
    # The first step is already at 1 / warmup, so that no step is lost on a rate of zero.
    warmup = optax.linear_schedule(learning_rate / warmup_steps, learning_rate, max(warmup_steps - 1, 1))
    return optax.join_schedules([warmup, after], [warmup_steps])


def make_optimizer(
    config: ConfigDict, params: Any, total_steps: int, warmup_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The gradient transformation and the backbone's schedule.

    Args:
      params: a tree with the parameters' names; leaves are not read.

    Raises:
      InputError: a regex that is meant to do something matches no parameter.

    Returns:
      The transformation. Order: frozen gradients to zero, global norm clipped, coupled L2 added, moments,
      decoupled decay added, learning rate (the head's own where given) with the minus sign.
    """
    optim, rate = config.optim, config.regularization.weight_decay
    freeze = optim.freeze or (FREEZE if config.model.lora.rank else None)
    frozen = _matching("optim.freeze", freeze, params, wanted=freeze is not None)
    decayed = _matching("regularization.decayed", config.regularization.decayed, params, wanted=rate > 0)
    decayed = jax.tree.map(lambda yes, still: yes and not still, decayed, frozen)
    decay = optax.masked(optax.add_decayed_weights(rate), decayed) if rate else optax.identity()
    moments = {
        "adamw": [optax.scale_by_adam(optim.b1, optim.b2, optim.eps), decay],
        "adam_l2": [decay, optax.scale_by_adam(optim.b1, optim.b2, optim.eps)],
        "sgd": [decay, optax.trace(optim.momentum)],
    }[optim.name]
    schedule = make_schedule(config, optim.learning_rate, total_steps, warmup_steps)
    rates = [optax.scale_by_learning_rate(schedule)]
    if optim.head_learning_rate is not None:
        head = _matching("optim.head", optim.head, params, wanted=True)
        head_schedule = make_schedule(config, optim.head_learning_rate, total_steps, warmup_steps)
        rates = [
            optax.masked(optax.scale_by_learning_rate(head_schedule), head),
            optax.masked(optax.scale_by_learning_rate(schedule), _no(head)),
        ]
    clip = optax.clip_by_global_norm(optim.clip_norm) if optim.clip_norm else optax.identity()
    zero_frozen = optax.masked(optax.set_to_zero(), frozen) if freeze else optax.identity()
    return optax.chain(zero_frozen, clip, *moments, *rates), schedule


def _matching(field: str, regex: str | None, params: Any, wanted: bool) -> Any:
    mask = rules.mask(regex, params, field)
    if wanted and not any(jax.tree.leaves(mask)):
        names: list[str] = []
        rules.map_named(lambda name, _: names.append(name), params)
        raise InputError(
            f"{field}={regex!r} matches no parameter: names are such as {names[0]!r} and {names[-1]!r}"
        )
    return mask


def _no(mask: Any) -> Any:
    return jax.tree.map(lambda flag: not flag, mask)
