"""The 5+1 phases of Martin and Mahoney (JMLR 22 (2021)), by stated rules."""

import numpy as np
import pandas as pd

# The bulk follows the Marchenko-Pastur law if its distance from the law is at most this many times the 95 %
# quantile of noise.
_NEAR = 2.0
# Spikes bleed out of the bulk, and do not stand apart, if the edge is above this share of the largest
# eigenvalue.
_BLEEDING = 0.8
_RARE = 0.05
_FEWEST = 8


def labels(table: pd.DataFrame) -> np.ndarray:
    """The phase of each row of a table of metrics, by the first rule that holds.

    rank-collapse: `matrix_rank` is below half of `num_evals`.
    random-like: `ks_mp` is at most twice `ks_mp_null`, and there is no spike.
    bleeding-out: `ks_mp` is as small, there are spikes, and `mp_softrank` is above 0.8.
    bulk+spikes: `ks_mp` is as small, and the spikes are further out.
    heavy-tailed: `ks_mp` is larger, and at most 5 % of noise of that shape has so small an alpha.
    bulk-decay: `ks_mp` is larger, and the tail is no heavier than that of noise.

    Where the noise was fitted without k spikes (`num_removed`), `ks_mp`, its null and `mp_softrank` are about
    noise of (N - k) x (M - k) (`bulk`). So a bulk with many spikes is not taken for a heavy tail.

    The label is "" for fewer than 8 eigenvalues, and where a metric that is needed is not defined. The phases
    are the authors'; the thresholds are ours, because the authors judge by eye.
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
        (table["alpha_null_p"].isna(), ""),
        (table["alpha_null_p"] <= _RARE, "heavy-tailed"),
    )
    holds, labels = zip(*rules, strict=True)
    return np.select(list(holds), list(labels), "bulk-decay")
