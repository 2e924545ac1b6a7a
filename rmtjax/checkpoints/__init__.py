"""Weights on disk: this project's own save and restore, and readers of other formats."""

import logging
import os

from absl import logging as absl_logging

from rmtjax.checkpoints.merging import merge
from rmtjax.checkpoints.readers import load_model_state, load_params
from rmtjax.checkpoints.run import Restored, Run, open_run
from rmtjax.checkpoints.safetensors_files import read_metadata, save_safetensors

__all__ = [
    "Restored",
    "Run",
    "load_model_state",
    "load_params",
    "merge",
    "open_run",
    "read_metadata",
    "save_safetensors",
]


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}checkpoint{os.sep}" not in record.pathname


# Orbax logs dozens of lines a save, and every error, which it also raises, with its traceback.
absl_logging.get_absl_logger().addFilter(_not_from_orbax)
