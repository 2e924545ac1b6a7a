"""Optimisers: which parameters are decayed, how, and at which learning rate.

Decoupled decay (AdamW, Loshchilov & Hutter 2019) shrinks a weight by learning rate x decay. Coupled L2 adds
decay x weight to the gradient before Adam rescales it, so that the decay of weights with small gradients
becomes a nearly constant step. The paper used coupled L2; the config offers both by name.
"""

import operator
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from rmtjax.errors import InputError
from rmtjax.models.lora import FREEZE
from rmtjax.train import rules


def make_schedule(
    config: ConfigDict, learning_rate: Any, total_steps: int, warmup_steps: int
) -> optax.Schedule:
    """Linear warm-up from 0; then constant, or a line or a cosine that reaches 0 at the last step."""
    decay_steps = max(total_steps - warmup_steps, 1)
    after = {
        "constant": optax.constant_schedule(learning_rate),
        "linear": optax.linear_schedule(learning_rate, 0.0, decay_steps),
        "cosine": optax.cosine_decay_schedule(learning_rate, decay_steps),
    }[config.optim.schedule]
    if not warmup_steps:
        return after
    # The first step has rate 1 / warmup of the full one, so that no step is wasted at a rate of zero.
    warmup = optax.linear_schedule(learning_rate / warmup_steps, learning_rate, max(warmup_steps - 1, 1))
    return optax.join_schedules([warmup, after], [warmup_steps])


def make_optimizer(
    config: ConfigDict, params: Any, total_steps: int, warmup_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The gradient transformation and the learning-rate schedule of the backbone.

    The transformation, in this order: sets gradients of frozen parameters to zero, clips the global norm,
    adds coupled L2, applies moments, adds decoupled decay, and multiplies by minus the learning rate (the
    head's own if it is given).

    Args:
      config: the learning rate and the decay may be traced numbers; only a Python 0 turns decay off.
      params: a tree with the names of the parameters; its leaves are not read.

    Raises:
      InputError: a regular expression of the config that is in use matches no parameter, or decay is on and
        no decayed parameter is trained.
    """
    optim, rate = config.optim, config.regularization.weight_decay
    frozen = _matching("optim.freeze", optim.freeze, params, wanted=optim.freeze is not None)
    if config.model.lora.rank:
        frozen = jax.tree.map(operator.or_, frozen, rules.mask(FREEZE, params, "LoRA"))
    decays = not isinstance(rate, int | float) or rate > 0
    decayed = _matching(
        "regularization.decayed", config.regularization.decayed, params, wanted=decays, besides=frozen
    )
    decay = optax.masked(optax.add_decayed_weights(rate), decayed) if decays else optax.identity()
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
    zero_frozen = optax.masked(optax.set_to_zero(), frozen)
    return optax.chain(zero_frozen, clip, *moments, *rates), schedule


def _matching(field: str, regex: str | None, params: Any, wanted: bool, besides: Any = None) -> Any:
    """A tree of booleans: which parameters match `regex` and are not in `besides` (a tree of booleans)."""
    mask, kept = rules.mask(regex, params, field), jax.tree.map(lambda _: True, params)
    if besides is not None:
        kept = _no(besides)
    mask = jax.tree.map(operator.and_, mask, kept)
    if wanted and not any(jax.tree.leaves(mask)):
        names: list[str] = []
        rules.map_named(lambda name, trained: names.append(name) if trained else None, kept)
        trained = "" if besides is None else " that is trained"
        such = f"there are names like {names[0]!r} and {names[-1]!r}" if names else "all are frozen"
        raise InputError(f"{field}={regex!r} matches no parameter{trained}: {such}")
    return mask


def _no(mask: Any) -> Any:
    return jax.tree.map(lambda flag: not flag, mask)
