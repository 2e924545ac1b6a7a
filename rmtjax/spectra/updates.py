"""What training changed: the update W_after - W_before, matrix by matrix, and its size.

At small learning rates the spectrum of a fine-tuned W is almost that of the pre-trained W. What fine-tuning
did shows in the spectrum of the update.
"""

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from rmtjax.spectra.matrices import Matrix, of_product


def differences(before: Sequence[Matrix], after: Sequence[Matrix]) -> tuple[list[Matrix], dict[str, str]]:
    """Differences of the matrices that both sides have in the same shape, in the order of `after`.

    Returns:
      The updates, in float64 (the difference of close numbers depends on their last bits), and a dict from
      the name of each matrix without an update to the reason.
    """
    earlier = {matrix.name: matrix for matrix in before}
    found: list[Matrix] = []
    without = {m.name: "no update: only before" for m in before if m.name not in {a.name for a in after}}
    for matrix in after:
        base = earlier.get(matrix.name)
        if base is None:
            without[matrix.name] = "no update: only after"
        elif base.shape != matrix.shape:
            without[matrix.name] = f"no update: {base.shape} before, {matrix.shape} after"
        elif matrix.product is not None and base.product is not None:
            found.append(of_product(matrix.product.minus(base.product)))
        else:
            found.append(matrix._replace(load=functools.partial(_difference, base, matrix)))
    return found, without


def _difference(before: Matrix, after: Matrix) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):  # weights that are not finite are reported elsewhere
        return after.load().astype(np.float64) - before.load().astype(np.float64)


def sizes(table: pd.DataFrame) -> pd.DataFrame:
    """How large each update is, from a table with the rows of all three stages.

    Returns:
      Columns on the table's index, NaN outside the update's rows.
      norm_ratio: ||W_after - W_before||_F / ||W_before||_F.
      spectral_ratio: the same ratio of largest singular values.
      cosine: of the angle between W_before and W_after as vectors.
    """
    by_stage = {stage: rows.set_index("name") for stage, rows in table.groupby("stage")}
    update = by_stage["update"]
    before, after = (by_stage[stage].reindex(update.index) for stage in ("before", "after"))
    with np.errstate(divide="ignore", invalid="ignore"):
        # <b, a> = (|b|² + |a|² - |a - b|²) / 2. Division by |b|² keeps large scales from overflowing.
        square = 10.0 ** (update["log_norm"] - before["log_norm"])
        grown = 10.0 ** (after["log_norm"] - before["log_norm"])
        columns = {
            "norm_ratio": np.sqrt(square),
            "spectral_ratio": 10.0 ** ((update["log_spectral_norm"] - before["log_spectral_norm"]) / 2),
            "cosine": (1 + grown - square) / (2 * np.sqrt(grown)),
        }
    out = pd.DataFrame(np.nan, index=table.index, columns=list(columns))
    for name, values in columns.items():
        out.loc[table["stage"] == "update", name] = values.to_numpy()
    return out
