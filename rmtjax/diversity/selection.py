"""Chooses a subset by its diversity: the most diverse, the least, or in between."""

import numpy as np
from jaxtyping import Int, Num

_DECIMALS = 9  # of gains that are compared, so that copies tie whatever the order of summation


def select(
    features: Num[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    wanted: Int[np.ndarray, " m"],
    *,
    quantile: float | int = 1.0,
    seed: int = 0,
) -> Int[np.ndarray, " m"]:
    """Numbers of different examples with the labels `wanted`, chosen by their diversity within each class.

    Examples x_i, scaled to unit length, are taken one by one. Taking x raises ln det(I + sum x_i x_i^T) by
    ln(1 + g), where its gain g = x^T (I + sum x_i x_i^T)^-1 x is 1 for a direction of which the set has
    nothing and falls the more of it there is. The example that is taken has the given quantile of the gains
    of all that are left: at 1 the largest (the greedy maximum of the determinant; Chen et al. 2018,
    1709.05135), at 0 the smallest, which is one that resembles those taken before. The first of each class is
    drawn. A smaller set of the same seed is a part of a larger one.

    The cost is n_k m_k d for n_k examples of class k of which m_k are taken.

    Args:
      features: one row for each example, of any scale; rows of 0 have no direction, and gain nothing.
      wanted: the label of each example to be returned.
      quantile: between 0 and 1.

    Raises:
      ValueError: features are not finite, or a class has fewer examples than are wanted.

    >>> x = np.array([[1, 0], [1, 0.1], [0, 1], [1, -0.1]])
    >>> y = np.zeros(4, int)
    >>> sorted(select(x, y, y[:2], seed=1).tolist()), sorted(select(x, y, y[:3], quantile=0, seed=1).tolist())
    ([0, 2], [0, 1, 3])
    """
    if not np.isfinite(features).all():
        raise ValueError("features must be finite")
    chosen = np.empty(len(wanted), np.int64)
    for k in np.unique(wanted):
        rows, places = np.flatnonzero(labels == k), np.flatnonzero(wanted == k)
        if len(rows) < len(places):
            raise ValueError(f"class {k} has {len(rows)} examples, and {len(places)} are wanted")
        rows = np.random.default_rng([seed, 3, k]).permutation(rows)
        chosen[places] = rows[_greedy(features[rows], len(places), quantile)]
    return chosen


def _greedy(
    features: Num[np.ndarray, "n d"], number: int, quantile: float | int
) -> Int[np.ndarray, " {number}"]:
    x = np.asarray(features, np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.where(length > 0, length, 1)
    gain = np.round((x * x).sum(1), _DECIMALS)
    # (I + sum x_i x_i^T)^-1 = I - sum_j directions_j directions_j^T shares_j, by Sherman and Morrison.
    directions, shares = np.empty((number, x.shape[1])), np.empty((number, 1))
    left, chosen = np.ones(len(x), bool), np.empty(number, np.int64)
    for t in range(number):
        there = np.round(gain[left], _DECIMALS)
        rank = round(quantile * (len(there) - 1))
        value = np.partition(there, rank)[rank]
        i = chosen[t] = np.flatnonzero(left)[np.argmax(there == value)]
        left[i] = False
        before = directions[:t]
        directions[t] = x[i] - ((before @ x[i]) * shares[:t, 0]) @ before
        shares[t] = 1 / (1 + gain[i])
        gain -= (x @ directions[t]) ** 2 * shares[t]
    return chosen
