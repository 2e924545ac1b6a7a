"""Makes the table of `nulls.alpha_quantiles`: python -m rmtjax.spectra.make_alpha_null (about ten minutes on two cores).

The power-law exponent of noise on a grid of the number of slices, of eigenvalues and of the aspect ratio Q = N / M;
between its points the table is interpolated.
"""

import pathlib

import numpy as np
from tqdm import tqdm

from rmtjax.spectra import nulls

SLICES = (1, 9, 49)
EIGENVALUES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
Q = (1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 64.0)
FILE = pathlib.Path(__file__).parent / "assets" / "alpha_null.npz"


def replicates(n: int) -> int:
    return int(np.clip(2**18 // n, 128, 1024))


def main() -> None:
    alpha = np.zeros((len(SLICES), len(EIGENVALUES), len(Q), len(nulls.ALPHA_LEVELS)), np.float32)
    for place in tqdm(list(np.ndindex(alpha.shape[:3])), desc="alpha of noise"):
        slices, n, q = SLICES[place[0]], EIGENVALUES[place[1]], Q[place[2]]
        M = max(round(n / slices), 1)
        N = max(round(M * q), M)
        found = nulls.simulated_alpha(slices, N, M, replicates(n))
        found = found[np.isfinite(found)]
        alpha[place] = np.quantile(found, nulls.ALPHA_LEVELS) if len(found) > 20 else np.nan
    # Too few eigenvalues for a fit: the next larger number's.
    for i in range(len(EIGENVALUES) - 2, -1, -1):
        alpha[:, i] = np.where(np.isnan(alpha[:, i]), alpha[:, i + 1], alpha[:, i])
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, alpha=alpha, slices=np.array(SLICES), n=np.array(EIGENVALUES), Q=np.array(Q))
    print(f"{FILE}: {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
