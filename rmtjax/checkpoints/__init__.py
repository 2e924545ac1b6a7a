"""Weights on disk: this project's own save and restore, and readers of other formats."""

from rmtjax.checkpoints.merging import merge
from rmtjax.checkpoints.readers import load_params
from rmtjax.checkpoints.run import Restored, Run, open_run
from rmtjax.checkpoints.safetensors_files import read_metadata, save_safetensors

__all__ = ["Restored", "Run", "load_params", "merge", "open_run", "read_metadata", "save_safetensors"]
