"""How weights change: sharding, optimisers, the step, the loop, a whole run."""

from typing import Any

from rmtjax.train.loop import Diverged as Diverged
from rmtjax.train.loop import Stopped as Stopped
from rmtjax.train.step import named_key as named_key

_WITH_DATA = ("run", "restore", "Result")


def __getattr__(name: str) -> Any:
    """What needs TensorFlow is imported when asked for: the step and the loop run where there is none."""
    if name in _WITH_DATA:
        from rmtjax.train import experiment

        return getattr(experiment, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
