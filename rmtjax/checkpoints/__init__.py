"""Weights on disk: this project's own save and restore, and readers of other formats.

What needs Orbax is imported when it is first used: `checkpoints.open` of a safetensors file does without.
"""

import importlib
from typing import Any

from rmtjax.checkpoints.opening import Weights, open
from rmtjax.checkpoints.safetensors_files import read_metadata, save_safetensors

_LATER = {
    "Restored": "run",
    "Run": "run",
    "is_own": "readers",
    "load_model_state": "readers",
    "load_params": "readers",
    "merge": "merging",
    "open_run": "run",
}

__all__ = [
    "Restored",
    "Run",
    "Weights",
    "is_own",
    "load_model_state",
    "load_params",
    "merge",
    "open",
    "open_run",
    "read_metadata",
    "save_safetensors",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"rmtjax.checkpoints.{_LATER[name]}"), name)
