"""Makes the tables that this package ships: python -m rmtjax.spectra.make_tables (about an hour on two cores).

The Tracy-Widom law on a grid, values and slopes of cubic splines; and the power-law exponent of noise, on a grid of the number of slices, of eigenvalues
and of the aspect ratio Q = N / M. Between their points the tables are interpolated.
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


def replicates(n: int) -> int:
    return int(np.clip(2**18 // n, 128, 1024))


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
        found = nulls.simulated_alpha(slices, N, M, replicates(n))
        found = found[np.isfinite(found)]
        alpha[place] = np.quantile(found, nulls.ALPHA_LEVELS)
    eigenvalues, ratios = np.array(EIGENVALUES), np.array(Q)
    np.savez_compressed(
        ASSETS / "alpha_null.npz", alpha=alpha, slices=np.array(SLICES), n=eigenvalues, Q=ratios
    )


if __name__ == "__main__":
    main()
