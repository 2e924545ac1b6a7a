"""The spread of alpha over the layers of a model: one number of the model, beside what noise shows.

Liu et al. (arXiv 2410.12178) find that the exponents of layers differ more where training data are few. They
take the standard deviation of Hill's exponent; this is that of `alpha`.
"""

import numpy as np
import pandas as pd

from rmtjax.spectra import nulls, products

_DRAWS = 1000


def alpha_spread(table: pd.DataFrame) -> dict[str, float]:
    """Standard deviation of alpha over the weight matrices in a table, products not counted.

    Args:
      table: rows of one stage, with columns kind, slices, N, M and alpha.

    Returns, or an empty dict where a column is missing or fewer than two matrices have an alpha:
      alpha_spread: the standard deviation, with n - 1 in the denominator.
      alpha_spread_null, alpha_spread_null_low, alpha_spread_null_high: median, 5 % and 95 % quantile of that
        of independent noise matrices of the same shapes.

    >>> rows = {"kind": "mlp", "slices": 1, "N": 64, "M": 64, "alpha": [2.0, 4.0]}
    >>> round(alpha_spread(pd.DataFrame(rows))["alpha_spread"], 3)
    1.414
    """
    if not {"slices", "N", "M", "alpha"} <= set(table.columns):
        return {}
    rows = table[table["alpha"].notna() & ~table["kind"].isin(["activation", *products.KINDS])]
    if len(rows) < 2:
        return {}
    quantiles = nulls.alpha_quantiles(*rows[["slices", "N", "M"]].to_numpy(float).T)
    levels = np.random.default_rng(0).uniform(size=(len(rows), _DRAWS))
    drawn = [np.interp(u, nulls.ALPHA_LEVELS, q) for u, q in zip(levels, quantiles, strict=True)]
    low, median, high = np.quantile(np.std(drawn, axis=0, ddof=1), (0.05, 0.5, 0.95))
    found = (rows["alpha"].std(), median, low, high)
    ends = ("", "_null", "_null_low", "_null_high")
    return {f"alpha_spread{end}": float(value) for end, value in zip(ends, found, strict=True)}
