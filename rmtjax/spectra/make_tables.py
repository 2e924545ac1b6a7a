"""Makes the tables that come with this package: python -m rmtjax.spectra.make_tables

It takes about an hour on two cores.

One is the Tracy-Widom law: values and slopes of cubic splines on a grid. The other holds quantiles of the
power-law exponent of noise, on a grid over the number of slices, the number of eigenvalues and the aspect
ratio Q = N / M. Between the grid points the tables are interpolated.
"""

import pathlib

import numpy as np
from scipy.interpolate import CubicSpline
from tqdm import tqdm

from rmtjax.spectra import laws, nulls

SLICES = (1, 9, 25, 49)
EIGENVALUES = (3, 4, 6, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
Q = (1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
ASSETS = pathlib.Path(__file__).parent / "assets"


def main() -> None:
    ASSETS.mkdir(exist_ok=True)
    tracy_widom()
    alpha_of_noise()
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


if __name__ == "__main__":
    main()
