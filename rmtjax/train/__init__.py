"""Training: sharding, optimisers, the step, the loop, a whole run, a population of runs."""

from typing import Any

from rmtjax.train.loop import Diverged as Diverged
from rmtjax.train.loop import Stopped as Stopped
from rmtjax.train.step import named_key as named_key

_WITH_DATA = ("run", "restore", "Result")


def __getattr__(name: str) -> Any:
    """Imports what needs TensorFlow on first use, so that the step and the loop work without it."""
    if name in _WITH_DATA:
        from rmtjax.train import experiment

        return getattr(experiment, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
