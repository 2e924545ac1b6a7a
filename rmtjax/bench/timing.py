"""The images that benches work on, and the rate at which a function works through them."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

IMAGES = {32: 1024, 224: 96}  # side: how many different ones


def images(size: int) -> np.ndarray:
    """Bytes [n, size, size, 3]: smooth patterns with noise."""
    generator = np.random.default_rng(0)
    coarse = generator.random((IMAGES[size], size // 8, size // 8, 3)).repeat(8, 1).repeat(8, 2)
    return np.rint(255 * np.clip(coarse + generator.normal(0, 0.05, coarse.shape), 0, 1)).astype(np.uint8)


def rate(
    work: Callable[[], Any], number: int, seconds: float, clock: Callable[[], float] = time.process_time
) -> float:
    """Images a second of processor time, or another clock's, of a function that does `number` of them."""
    work()
    count, start = 0, clock()
    while (spent := clock() - start) < seconds:
        work()
        count += number
    return count / spent
