"""The 5+1 phases of Martin and Mahoney (JMLR 22 (2021)), by stated rules."""

import numpy as np
import pandas as pd

# The bulk follows the Marchenko-Pastur law if its distance from it is at most this many times the 95 % quantile of noise.
_NEAR = 2.0
# A spike bleeds out of the bulk, rather than standing apart, if the edge is above this share of the largest eigenvalue.
_BLEEDING = 0.8
_COMMON = 0.05
_FEWEST = 8


def labels(table: pd.DataFrame) -> np.ndarray:
    """A label for each row; "" for fewer than 8 eigenvalues, and where a column that is needed is not defined. The
    first rule that holds decides:

    rank-collapse: `matrix_rank` is below half of `num_evals`.
    random-like: `ks_mp` is at most twice `ks_mp_null`, and there is no spike.
    bleeding-out: the same, with spikes, and `mp_softrank` above 0.8.
    bulk+spikes: the same, with spikes further out.
    heavy-tailed: the bulk is not Marchenko-Pastur, and noise of that shape has so small an alpha in at most 5 %.
    bulk-decay: the bulk is not Marchenko-Pastur, and the tail no heavier than that of noise.

    The phases are the authors', the thresholds are not: theirs are by eye.
    """
    near = table["ks_mp"] <= _NEAR * table["ks_mp_null"]
    spiked = table["num_spikes"] > 0
    rules = (
        (~(table["matrix_rank"] > 0) | (table["num_evals"] < _FEWEST), ""),
        (table["matrix_rank"] < table["num_evals"] / 2, "rank-collapse"),
        (table[["ks_mp", "mp_softrank"]].isna().any(axis=1), ""),
        (near & ~spiked, "random-like"),
        (near & (table["mp_softrank"] > _BLEEDING), "bleeding-out"),
        (near, "bulk+spikes"),
        (table["alpha_null_p"] <= _COMMON, "heavy-tailed"),
    )
    holds, labels = zip(*rules, strict=True)
    return np.select(list(holds), list(labels), "bulk-decay")
