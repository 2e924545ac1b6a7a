"""Vendi scores beside the vendi-score package, on features of 512 numbers with a spectrum that decays.

The peer has two ways: `score_X` makes the n x n matrix (and ignores its q), `score_dual` the 512 x 512 one.
Both get the same float64 features; ours get float32 too, as models make them. The score is timed alone and
with its 95 % interval, on arrays in memory. Seconds are medians of runs after one that is not counted
(`score_X`: one run).
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from rmtjax import diversity
from rmtjax.errors import InputError

WIDTH = 512
BOTH, OURS = 5_000, 50_000  # examples


def bench_features(n: int, seed: int = 0) -> np.ndarray:
    """Features [n, 512], float64 with float32's values, whose standard deviations fall as 1 / sqrt(k)."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, WIDTH), np.float32) * np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.5
    return features.astype(np.float64)


def main(arguments: Any, overrides: list[str]) -> None:
    repeats, peer = arguments.repeats, arguments.peer
    features = bench_features(BOTH)
    theirs = _peers(features) if peer else {}
    print(f"Vendi score of {BOTH:,} x {WIDTH}; seconds, median of {repeats}")
    values, taken = {}, {}
    for name, run in theirs.items():
        values[name], taken[name] = _timed(run, 1 if name == "score_X" else repeats, warm=name != "score_X")
        print(f"  vendi-score, {name:30s} {taken[name]:8.3f}   value {values[name]:.8f}", flush=True)
    single = features.astype(np.float32)
    ways: dict[str, Callable[[], float]] = {
        "score": lambda: diversity.vendi_score(features),
        "score, from float32": lambda: diversity.vendi_score(single),
        "with interval, from float32": lambda: diversity.vendi_interval(single).value,
    }
    for name, run in ways.items():
        value, seconds = _timed(run, repeats)
        ratios = "".join(
            f"   {peers} takes {taken[peers] / seconds:.1f} times as long, "
            f"values differ by {abs(value / values[peers] - 1):.1e}"
            for peers in taken
        )
        print(f"  rmtjax, {name:35s} {seconds:8.3f}   value {value:.8f}{ratios}", flush=True)
    single = bench_features(OURS, 1).astype(np.float32)
    print(f"Vendi score of {OURS:,} x {WIDTH} float32; seconds, median of {repeats}")
    for name, run in {
        "score": lambda: diversity.vendi_score(single),
        "with interval": lambda: diversity.vendi_interval(single).value,
        "Gaussian kernel, 500 frequencies": lambda: diversity.fkea(single, 2.0, frequencies=500).value,
    }.items():
        value, seconds = _timed(run, repeats)
        print(f"  rmtjax, {name:35s} {seconds:8.3f}   value {value:.8f}", flush=True)


def _timed(run: Callable[[], float], repeats: int, warm: bool = True) -> tuple[float, float]:
    if warm:
        run()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = run()
        taken.append(time.perf_counter() - start)
    return value, statistics.median(taken)


def _peers(features: np.ndarray) -> dict[str, Callable[[], float]]:
    try:
        from vendi_score import vendi
    except ImportError as error:
        raise InputError(
            "the bench compares with vendi-score: pip install 'rmtjax[peers]', or pass --no-peer"
        ) from error
    warnings.filterwarnings("ignore", message="Please import `csr_matrix`")
    return {
        "score_X": lambda: float(vendi.score_X(features)),
        "score_dual": lambda: float(vendi.score_dual(features)),
    }
