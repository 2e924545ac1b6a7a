"""Corrupted images a second, beside imagecorruptions where it is installed.

Both corrupt the same 32x32 images at severity 3. Ours are float32 in and out, copied to the device and back,
a batch at a time; the peer's are bytes, an image at a time. The peer's constants are those of ImageNet-C: the
same work, or more where a kernel is larger. Seconds are processor time of all threads together, as in
`bench.data`; where the device is not a CPU, ours are wall-clock time.
"""

import contextlib
import functools
import importlib.resources
import importlib.util
import itertools
import multiprocessing
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd

from rmtjax import evaluation
from rmtjax.bench.timing import images as bench_images
from rmtjax.bench.timing import rate

SEVERITY = 3
PEER = "imagecorruptions"


def compare(names: tuple[str, ...], seconds: float, repeats: int) -> pd.DataFrame:
    """A row per corruption: images a second of each way (medians), and our ratio to the peer."""
    ways: dict[str, Callable[[str], float]] = {"rmtjax": lambda name: _ours(name, seconds)}
    with contextlib.ExitStack() as stack:
        if importlib.util.find_spec(PEER) is not None:
            # Spawned: a process that has run XLA cannot be forked safely.
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(1))
            ways[PEER] = lambda name: pool.apply(_peer, (name, seconds))
        rows = []
        for name in names:
            # In turns, so that both meet the same load of the machine.
            rates = [{way: measured(name) for way, measured in ways.items()} for _ in range(repeats)]
            row = {way: float(np.median([of[way] for of in rates])) for way in ways}
            rows.append(
                {"corruption": name} | row | ({"ratio": row["rmtjax"] / row[PEER]} if PEER in row else {})
            )
    return pd.DataFrame(rows)


def _ours(name: str, seconds: float) -> float:
    images = bench_images(32).astype(np.float32) / 255
    key = jax.random.key(0)

    def work() -> None:
        np.asarray(evaluation.corrupt(images, name, SEVERITY, key))

    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    return rate(work, len(images), seconds, clock)


def _peer(name: str, seconds: float) -> float:
    corrupt, images = _peers_function(), itertools.cycle(bench_images(32))
    return rate(lambda: corrupt(next(images), SEVERITY, name), 1, seconds)


@functools.cache
def _peers_function() -> Callable[..., Any]:
    """imagecorruptions.corrupt, with names that its release 1.1.2 needs and its dependencies have dropped."""
    import scipy.ndimage
    import skimage.filters

    gaussian = skimage.filters.gaussian

    def with_multichannel(image: Any, *rest: Any, multichannel: bool = False, **more: Any) -> Any:
        return gaussian(image, *rest, channel_axis=-1 if multichannel else None, **more)

    def resource_filename(module: str, path: str) -> str:
        return str(importlib.resources.files(module.partition(".")[0]) / path)

    skimage.filters.gaussian = with_multichannel
    sys.modules.setdefault("scipy.ndimage.interpolation", scipy.ndimage)
    resources: Any = types.SimpleNamespace(resource_filename=resource_filename)
    sys.modules.setdefault("pkg_resources", resources)
    np.float_ = np.float64  # type: ignore[attr-defined] # noqa: NPY201
    import imagecorruptions

    return lambda image, severity, name: imagecorruptions.corrupt(image, severity, name)
