"""Functions that are compiled for each shape of weights, and whose programs can be dropped.

A program stays in memory for as long as the process, 5 to 15 MB of it. A process that analyses models of ever
new shapes would grow without end, so that `programs.prepare` drops all of them when there are many.
"""

import contextlib
import ctypes
import gc
from collections.abc import Callable
from typing import Any

import jax

_functions: list[Any] = []


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` of a function whose programs `forget` drops. To be called once for each function."""
    out = jax.jit(function, **options)
    _functions.append(out)
    return out


def forget() -> None:
    """Drops what has been compiled. No such function may be running."""
    for function in _functions:
        function.clear_cache()
    gc.collect()
    give_back()


def give_back() -> None:
    """Returns to the system what the compiler has freed, which the C library keeps: half of the memory."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
