"""Functions that are compiled for each shape of weights, and whose programs can be dropped.

A program stays in memory for as long as the process, 5 to 15 MB of it. A process that analyses models of ever
new shapes would grow without end, so that all programs are dropped when there are many.
"""

import contextlib
import ctypes
import functools
import gc
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax

# Programs of other models that are kept: about 1 GB. One model has 10 to 100 of them.
_MOST = 96
_functions: list[Any] = []
_asked: set[Hashable] = set()


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` of a function whose programs `forget` drops. To be called once for each function."""
    out = jax.jit(function, **options)
    _functions.append(out)
    return out


@functools.cache
def options(level: int) -> dict[str, Any]:
    """Options for programs whose compilation takes longer than their work, of optimisation level 0 or 1.

    The CPU compiler's fusion emitters are left out where it has that option (of a newer XLA we do not know):
    without them the metrics compile in 60 % of the time (processor time 3.1 s for 5.1) and run as fast. At
    level 0 they compile in 1.1 s, and run 2 to 10 times as long. Accelerators always get level 1.
    """
    if jax.default_backend() != "cpu":
        return {"xla_backend_optimization_level": 1}
    wanted = {"xla_backend_optimization_level": level, "xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda x: x, compiler_options=wanted).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        del wanted["xla_cpu_use_fusion_emitters"]
    return wanted


def is_new(key: Hashable) -> bool:
    """Whether `key` is asked for the first time since programs were dropped: it is not compiled yet."""
    new = key not in _asked
    _asked.add(key)
    return new


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Around an analysis: bounds the programs that it leaves behind.

    Once it has compiled programs beside those of other models, and these were many, all are dropped. A model
    of many shapes thus keeps its own, and so do a few models that are analysed in turn.
    """
    before = _count()
    yield
    if _count() == before:
        return
    if before > _MOST:
        forget()
    _give_back()


def _count() -> int:
    return sum(function._cache_size() for function in _functions)


def forget() -> None:
    """Drops what has been compiled. No such function may be running."""
    for function in _functions:
        function.clear_cache()
    _asked.clear()
    gc.collect()


def _give_back() -> None:
    """Returns to the system what the compiler has freed, which the C library keeps: half of the memory."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
