"""What a training recipe does to a network's weights."""

import itertools
import sys

from rmtjax import errors

__version__ = "0.1.0"

# `python -m rmtjax.train` imports the package `rmtjax.train`, which takes seconds, before it opens its door.
if sys.argv[:1] == ["-m"] and any(
    (flag, module.partition(".")[0]) == ("-m", "rmtjax") for flag, module in itertools.pairwise(sys.orig_argv)
):
    errors.end_on_signals()
