"""Arms that designs have in common, as plain data: see `design.load_design`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from rmtjax.errors import InputError

Arms = dict[str, dict[str, Any]]
SELECTED = MappingProxyType({"least": -0.5, "0.25": -0.25, "0.75": 0.25, "most": 0.5})
"""Settings of `data.select`, and their doses: the quantile less that of random examples."""


def arm(family: str, dose: float | int, *overrides: str, seeds: str) -> dict[str, Any]:
    """An arm with the `field=value` overrides of the config. `seeds` such as "0-4"."""
    return {"family": family, "dose": dose, "overrides": list(overrides), "seeds": seeds}


def placebos(config: ConfigDict, *, seeds: str) -> Arms:
    """What changes how the model is trained, and nothing that a study of diversity is about.

    Learning rate, steps and batch size, each halved and doubled; label smoothing; and for a pre-trained model
    another draw of the head (from scratch each seed draws all weights anew, as the null arm shows). Each is a
    family of its own, since half and twice of something may move the weights in opposite directions.

    Args:
      config: the baseline's; its length is set by `train.total_steps`.
      seeds: of each arm, such as "0-4".

    Raises:
      InputError: `train.total_steps` is None, or it or the batch size is odd, so that there is no half.
    """
    for field in ("total_steps", "batch_size"):
        value = config.train[field]
        if value is None or value % 2:
            raise InputError(f"train.{field}={value} cannot be halved for a placebo: set an even number")
    rates = {f"optim.{name}": config.optim[name] for name in ("learning_rate", "head_learning_rate")}
    knobs_of = {
        "learning rate": {field: rate for field, rate in rates.items() if rate is not None},
        "steps": {"train.total_steps": config.train.total_steps},
        "batch size": {"train.batch_size": config.train.batch_size},
    }
    arms: Arms = {}
    for name, fields in knobs_of.items():
        for factor in (0.5, 2.0):
            family = f"{name} x{factor:g}"
            overrides = [f"{field}={value * factor:g}" for field, value in fields.items()]
            arms[family.replace(" ", "_")] = arm(family, factor, *overrides, seeds=seeds)
    smoothing = "regularization.label_smoothing=0.1"
    arms["label_smoothing"] = arm("label smoothing", 0.1, smoothing, seeds=seeds)
    if config.model.init_from is not None:
        arms["another_head"] = arm("another head", 1.0, "model.head_seed=1", seeds=seeds)
    return arms


def families_of(arms: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The families of some arms, each once."""
    return tuple(dict.fromkeys(str(cell["family"]) for cell in arms.values()))


def knobs(families: Iterable[str]) -> dict[str, str]:
    """Of families that turn one knob, such as "steps x0.5" and "steps x2", the knob: for `sources` of T4."""
    return {family: family.rpartition(" x")[0] for family in families if " x" in family}


def diversity_alone(
    examples: int,
    distinct: Sequence[int],
    *,
    seeds: str,
    most_seeds: str,
    selected: Mapping[str, float] = SELECTED,
) -> Arms:
    """The families "selection" and "distinct", which vary the diversity of real examples and nothing else.

    Their doses are below 0 where the examples are less diverse than the baseline's.

    Args:
      examples: the size n of the training set.
      distinct: numbers m of different examples, each repeated n / m times; the dose is log2(m / n).
      most_seeds: of the most diverse selection.
      selected: settings of `data.select` and their doses.
    """
    arms = {
        f"selection_{how}": arm(
            "selection", dose, f"data.select={how}", seeds=most_seeds if how == "most" else seeds
        )
        for how, dose in selected.items()
    }
    return arms | {
        f"distinct_{m}": arm("distinct", math.log2(m / examples), f"data.distinct={m}", seeds=seeds)
        for m in distinct
    }
