"""What a synthetic set is worth: recognised by a judge, and how near to copies of the training images.

These numbers are reported; nothing is filtered by them.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rmtjax import data, diversity

MOST_JUDGED = 5000  # examples a support vector machine is trained on in seconds
MOST_DISTANCES = 2000  # images whose nearest training image is looked for
Z = 1.959964  # of a 95 % interval


def describe(
    images: Float[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    splits: data.Splits,
    source_name: str,
) -> dict[str, Any]:
    """Facts for a set's manifest, all at the generator's image size.

    Args:
      images, labels: the synthetic set.
      splits: `train` is what the generator was fitted to; `test` gives the distance of unseen real images.
      source_name: `data.source` of the config.

    Returns:
      `recognised` (value, low, high, n; the judge), median Euclidean distances in pixel space to the nearest
      training image, of synthetic and of test images, and their ratio (1: as far as unseen real images are,
      near 0: copies).
    """
    size = images.shape[1]
    whole = [data.load_source("digits", size)] if source_name == "digits" else [splits.train, splits.test]
    train = splits.train.images()
    synthetic = np.median(nearest(images, train))
    test = np.median(nearest(_some(splits.test), train))
    return {
        "recognised": recognised(images, labels, whole),
        "nearest_training_distance": float(synthetic),
        "nearest_test_distance": float(test),
        "distance_ratio": float(synthetic / test) if test > 0 else None,
    }


def recognised(
    images: Float[np.ndarray, "n h w c"], labels: Int[np.ndarray, " n"], whole: list[data.Source]
) -> dict[str, Any]:
    """The share of images whose class a support vector machine names, with Wilson's 95 % interval.

    Args:
      whole: all real examples; the judge is trained on these. It has a radial kernel with scikit-learn's
        default width, and C = 10.

    Returns:
      `value`, `low`, `high`, `n`; `judge`, and `judge_accuracy`, its accuracy on real examples by 5-fold
      cross-validation (None where a class is too small). `value` is None, with a `reason`, where there are
      too many examples to train it, or one class only.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.svm import SVC

    total = sum(source.num_examples for source in whole)
    real_labels = np.concatenate([source.labels for source in whole])
    present = np.unique(real_labels)
    reason = None
    if total > MOST_JUDGED:
        reason = f"{total} real examples are too many for the judge, who takes at most {MOST_JUDGED}"
    elif len(present) < 2:
        reason = "the real examples are all of one class"
    if reason:
        return {"value": None, "low": None, "high": None, "n": len(labels), "reason": reason}
    real = np.concatenate([_flat(source.images()) for source in whole])
    judge = SVC(C=10.0)
    folds = min(5, int(np.bincount(real_labels)[present].min()))
    accuracy = None
    if folds > 1:
        split = StratifiedKFold(folds, shuffle=True, random_state=0)
        accuracy = float(cross_val_score(judge, real, real_labels, cv=split).mean())
    hits = int((judge.fit(real, real_labels).predict(_flat(images)) == labels).sum())
    low, high = wilson(hits, len(labels))
    return {
        "value": hits / len(labels), "low": low, "high": high, "n": len(labels),
        "judge": f"support vector machine trained on {total} real examples", "judge_accuracy": accuracy,
    }  # fmt: skip


def nearest(
    images: Float[np.ndarray, "n h w c"], train: Float[np.ndarray, "m h w c"]
) -> Float[np.ndarray, " k"]:
    """Euclidean distance to the nearest training image, of at most 2,000 images spread over the set."""
    return np.asarray(diversity.nearest_distances(_flat(images[_spread(len(images))]), _flat(train)))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (E. B. Wilson 1927)."""
    share, z = hits / n, Z
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)  # against rounding


def _some(source: data.Source) -> Float[np.ndarray, "k h w c"]:
    return source.images(_spread(source.num_examples))


def _spread(n: int) -> Int[np.ndarray, " k"]:
    return np.linspace(0, n - 1, min(n, MOST_DISTANCES)).astype(np.int64)


def _flat(images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n d"]:
    return images.reshape(len(images), -1)
