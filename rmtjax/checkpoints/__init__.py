"""Weights on disk: a run's own checkpoints, and one door, `open`, to weights of every format.

`nest(open(path))` is a whole tree of arrays. Readers are in the folder formats, one file each.

Modules that need Orbax are imported on first use: `checkpoints.open` of a safetensors file does not need it.
"""

import importlib
from typing import Any

from rmtjax.checkpoints.live import weights_of
from rmtjax.checkpoints.opening import Weights, is_own, nest, open, widened
from rmtjax.checkpoints.saving import read_metadata, save_safetensors

_LATER = {
    "Restored": "run",
    "Run": "run",
    "merge": "merging",
    "open_run": "run",
}

# Those of _LATER are attributes too.
__all__ = [
    "Weights",
    "is_own",
    "nest",
    "open",
    "read_metadata",
    "save_safetensors",
    "weights_of",
    "widened",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"rmtjax.checkpoints.{_LATER[name]}"), name)
