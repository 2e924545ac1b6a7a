"""Orbax logs dozens of lines a save, and every error, which it also raises, with its traceback: import this to mute it."""

import logging
import os

from absl import logging as absl_logging


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}checkpoint{os.sep}" not in record.pathname


absl_logging.get_absl_logger().addFilter(_not_from_orbax)
