"""Makes the tables that come with this package: python -m rmtjax.spectra.make_tables

It takes about 80 minutes on two cores.

One is the Tracy-Widom law: values and slopes of cubic splines on a grid. The other holds quantiles of the
power-law exponent of noise, on a grid over the number of slices, the number of eigenvalues and the aspect
ratio Q = N / M. Between the grid points the tables are interpolated.

It also prints the constants of three formulas of noise, fitted to simulations: those that
`laws.DISTANCES` and `nulls.closed_forms` hold. `formulas` alone takes 15 minutes.
"""

import pathlib
from typing import Any

import jax
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares
from tqdm import tqdm

from rmtjax.spectra import bulk, laws, neighbours, nulls, tails

SLICES = (1, 9, 25, 49)
EIGENVALUES = (3, 4, 6, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
Q = (1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
ASSETS = pathlib.Path(__file__).parent / "assets"


def main() -> None:
    ASSETS.mkdir(exist_ok=True)
    tracy_widom()
    alpha_of_noise()
    formulas()
    for path in sorted(ASSETS.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")


def tracy_widom() -> None:
    grid = np.linspace(-10.0, 20.0, 241)
    columns = dict(zip(("log_survival", "log_f"), laws.tracy_widom_logs(grid), strict=True))
    splines = {
        name: np.stack([values, CubicSpline(grid, values)(grid, 1)]) for name, values in columns.items()
    }
    np.savez(ASSETS / "tracy_widom.npz", grid=grid, **splines)  # type: ignore[arg-type]


def alpha_of_noise() -> None:
    alpha = np.zeros((len(SLICES), len(EIGENVALUES), len(Q), len(nulls.ALPHA_LEVELS)), np.float32)
    for place in tqdm(list(np.ndindex(alpha.shape[:3])), desc="alpha of noise"):
        slices, n, q = SLICES[place[0]], EIGENVALUES[place[1]], Q[place[2]]
        M = max(round(n / slices), 1)
        N = max(round(M * q), M)
        replicates = int(np.clip(2**18 // n, 128, 1024))
        found = nulls.simulated_alpha(slices, N, M, replicates)
        alpha[place] = np.quantile(found[np.isfinite(found)], nulls.ALPHA_LEVELS)
    axes = {"slices": np.array(SLICES), "n": np.array(EIGENVALUES), "Q": np.array(Q)}
    np.savez_compressed(ASSETS / "alpha_null.npz", alpha=alpha, **axes)  # type: ignore[arg-type]


def formulas() -> None:
    """Prints them: fits by least squares, the first two in logarithms."""
    shapes = [
        (slices, M, max(round(M * q), M))
        for M in (8, 16, 32, 64, 128, 256, 512, 1024)
        for q in (1.0, 1.1, 1.5, 4.0, 32.0)
        for slices in (1, 4, 9, 25, 49)
        if slices * M <= 1600
    ]
    found = np.array([_of_noise(*shape) for shape in tqdm(shapes, desc="formulas of noise")])
    S, M, N = np.array(shapes, float).T
    *distances, tail, brody = found.T
    n, u = S * M, M * (1 - np.sqrt(M / N))
    for level, distance in zip(laws.DISTANCES, distances, strict=True):
        _print_fit(
            f"laws.DISTANCES[{level}]",
            lambda p, d=distance: np.log(((p[0] + p[1] * np.log(M)) * S**0.5 + p[2] * (S - 1)) / n / d),
            [0.8, 0.4, 0.1],
        )
    large = n >= tails.SMALL_SAMPLE
    _print_fit(
        "tail of the power law",
        lambda p: (np.log(p[0]) + p[1] * np.log(n) + p[2] * np.sqrt(M / N) - np.log(tail))[large],
        [5.0, 0.3, -0.3],
    )
    one = (S == 1) & (M > 20)
    _print_fit("brody", lambda p: (p[0] - p[1] / (1 + u / p[2]) / M - brody)[one], [0.95, 10.0, 2.0])


def _of_noise(slices: int, M: int, N: int) -> list[float]:
    """Quantiles of the distance from the law, median size of the tail, and mean Brody exponent."""
    replicates = int(np.clip(2**18 // (slices * M), 200, 1000))
    values = nulls.simulated_spectra(slices, N, M, replicates, seed=1)
    one, count = np.ones(replicates, np.float32), np.full(replicates, slices * M, np.int32)
    constants = bulk.shape_constants(*(np.full(replicates, float(x)) for x in (slices, N, M)))
    single = {name: value.astype(np.float32) for name, value in constants.items()}
    distance = _bulk(values, count, count, single)["ks_mp"]
    tail = _tails(values[:100], count[:100])["num_pl_spikes"]
    spacings = _spacings(values, count, 0 * one, 0 * one, one, N * one, np.float32(M / N) * one)
    return [*np.quantile(distance, list(laws.DISTANCES)), np.median(tail), np.mean(spacings["brody"])]


_bulk = jax.jit(bulk.noise_and_spikes)
_tails = jax.jit(tails.power_law)
_spacings = jax.jit(neighbours.spacing_statistics)


def _print_fit(name: str, residuals: Any, start: list[float]) -> None:
    fit = least_squares(residuals, start)
    print(f"{name}: {fit.x.round(3).tolist()}, largest residual {np.abs(fit.fun).max():.3f}")


if __name__ == "__main__":
    main()
