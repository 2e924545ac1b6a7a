"""Silences the log of Orbax; importing this module is enough.

Orbax logs dozens of lines for each save, and the traceback of every error that it also raises.
"""

import logging
import os

from absl import logging as absl_logging


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}checkpoint{os.sep}" not in record.pathname


absl_logging.get_absl_logger().addFilter(_not_from_orbax)
