"""What a synthetic set is worth: recognised by a judge, and how near to copies of the training images.

These numbers are reported; `filters` chooses by others, so that what judges a set has not made it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from rmtjax import data, diversity, statistics
from rmtjax.generate import judge
from rmtjax.train import features

MOST_JUDGED = 5000  # examples a support vector machine is trained on in seconds
MOST_DISTANCES = 2000  # images whose nearest training image is looked for


def describe(
    images: Float[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    splits: data.Splits,
    config: ConfigDict,
    mesh: jax.sharding.Mesh,
) -> dict[str, Any]:
    """Facts for a set's manifest, in pixels at the generator's size.

    Args:
      images, labels: the synthetic set.
      splits: `train` is what the generator was fitted to; `test` gives what unseen real images score.
      config: the whole config.

    Returns:
      `recognised`: see `recognised`.
      `nearest_training_distance`, `nearest_test_distance`: median Euclidean distance in pixel space to the
        nearest training image, of synthetic and of test images.
      `distance_ratio`: the one over the other (1: as far as unseen real images are; near 0: copies).
      `classification_accuracy_score`: see `accuracy_scores`.
      `frechet_distance`, `kernel_distance`: to the test images, in the features of `feature_model`, beside
        those of training images, at equal n.
      `diversity`: rows as in diversity.json.
    """
    size = images.shape[1]
    real_source = config.data.source == "digits"
    whole = [data.load_source("digits", size)] if real_source else [splits.train, splits.test]
    train, test = splits.train.inputs(), splits.test.inputs(_spread(splits.test.num_examples))
    synthetic_distance = np.median(nearest(images, train))
    test_distance = np.median(nearest(test, train))
    small = sum(source.num_examples for source in whole) <= MOST_JUDGED
    side = config.data.image_size
    letters = (side, side, images.shape[-1]) == features.LETTERS_SHAPE
    judged = None if small and letters else judge.fit(splits.train, config.seed, mesh)
    feature_model, featured = _feature_model(judged, side, letters)
    # At equal n, spread over each set.
    n = min(len(images), len(train), MOST_DISTANCES)
    of_set, of_train = (np.linspace(0, m - 1, n).astype(np.int64) for m in (len(images), len(train)))
    fed = {"synthetic": images[of_set], "real": train[of_train]}
    classes = {"synthetic": labels[of_set], "real": splits.train.labels[of_train]}
    in_features, test_features = {key: featured(values) for key, values in fed.items()}, featured(test)
    spaces = {
        "pixel": ({key: flat(values) for key, values in fed.items()}, flat(test)),
        "feature": (in_features, test_features),
    }
    return {
        "recognised": recognised(images, labels, whole, judged, splits.test),
        "nearest_training_distance": float(synthetic_distance),
        "nearest_test_distance": float(test_distance),
        "distance_ratio": float(synthetic_distance / test_distance) if test_distance > 0 else None,
        "classification_accuracy_score": accuracy_scores(images, labels, splits, config.seed, mesh),
        "feature_model": feature_model,
        **_distances(in_features, test_features, n),
        "diversity": _diversity_rows(spaces, classes, splits.train.classes, config),
    }


def _feature_model(
    judged: judge.Judge | None, side: int, letters: bool
) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """The name and the features of the shipped letters model if it takes such images, else of the judge."""
    if letters:
        return features.LETTERS, lambda images: features.letters_features(data.resize(images, side))
    assert judged is not None
    return f"{judge.NAME} fitted to the training images, pooled features before the head", judged.features


def _distances(
    in_features: dict[str, np.ndarray], test_features: np.ndarray, n: int
) -> dict[str, dict[str, Any]]:
    """Frechet and kernel distances to the test images; none where there are too few images."""
    if min(n, len(test_features)) < 2:
        return {}
    return {
        measure.__name__: {key: measure(values, test_features) for key, values in in_features.items()}
        | {"n": n}
        for measure in (diversity.frechet_distance, diversity.kernel_distance)
    }


def _diversity_rows(
    spaces: dict[str, tuple[dict[str, np.ndarray], np.ndarray]],
    labels: dict[str, np.ndarray],
    classes: Sequence[str],
    config: ConfigDict,
) -> list[dict[str, Any]]:
    rows = []
    for space, (sets, reference) in spaces.items():
        k = min(config.diversity.neighbours, len(reference) - 1)
        rows += diversity.diversity_rows(sets, reference, space=space, k=k, seed=config.seed) if k > 0 else []
        rows += _within_classes(sets, labels, classes, space, config.seed)
    return rows


def _within_classes(
    sets: dict[str, np.ndarray], labels: dict[str, np.ndarray], classes: Sequence[str], space: str, seed: int
) -> list[dict[str, Any]]:
    """Vendi scores within and between classes, at equal n, of classes with two examples in every set."""
    counts = np.min([np.bincount(of, minlength=len(classes)) for of in labels.values()], axis=0)
    kept = np.flatnonzero(counts >= 2)
    if len(kept) < 2:
        return []
    rows = []
    for name, examples in sets.items():
        there = np.isin(labels[name], kept)
        found = diversity.class_rows(
            examples[there], labels[name][there], classes, n=int(counts[kept].min()), seed=seed
        )
        rows += [
            {"set": name, "space": space} | {key: value for key, value in row.items() if key != "class"}
            for row in found
            if row["metric"] in ("within_classes", "between_classes")
        ]
    return rows


def accuracy_scores(
    images: Float[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    splits: data.Splits,
    seed: int,
    mesh: jax.sharding.Mesh,
) -> dict[str, Any]:
    """Test accuracy, with Wilson's 95 % interval, of a classifier trained on the set alone.

    This is the classification accuracy score (Ravuri & Vinyals 2019, 1905.10887). The classifier is a support
    vector machine like the judge, or beyond 5,000 images the small ResNet of `judge`. `real` is the score of
    the same classifier trained on training images, at equal n.
    """
    train, test = splits.train, splits.test
    n = min(len(images), train.num_examples)
    fed = {
        "synthetic": (images, labels),
        "real": (train.inputs(), train.labels),
    }
    out: dict[str, Any] = {"n_train": n, "n_test": test.num_examples}
    for name, (shown, known) in fed.items():
        rows = np.linspace(0, len(known) - 1, n).astype(np.int64)
        if n <= MOST_JUDGED and len(np.unique(known[rows])) > 1:
            from sklearn.svm import SVC

            machine = SVC(C=10.0).fit(flat(shown[rows]), known[rows])
            guess = machine.predict(flat(test.inputs()))
            out["classifier"] = "a support vector machine"
        else:
            source = data.from_arrays("the set", shown[rows], known[rows], train.classes)
            guess = judge.fit(source, seed, mesh).probabilities(test.inputs()).argmax(-1)
            out["classifier"] = judge.NAME
        out[name] = share_with_interval(guess == test.labels)
    return out


def recognised(
    images: Float[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    whole: list[data.Source],
    judged: judge.Judge | None = None,
    test: data.Source | None = None,
) -> dict[str, Any]:
    """The share of images whose class a judge names, with Wilson's 95 % interval.

    Args:
      whole: all real examples; a support vector machine is trained on these. It has a radial kernel with
        scikit-learn's default width, and C = 10.
      judged, test: where there are too many of them: a network fitted to the training images, and what to
        test it on.

    Returns:
      `value`, `low`, `high`, `n`; `judge`, and `judge_accuracy`, its accuracy on real examples by 5-fold
      cross-validation (None where a class is too small). `value` is None, with a `reason`, where there are
      too many examples to train it, or one class only.
    """
    total = sum(source.num_examples for source in whole)
    if total > MOST_JUDGED and judged is not None and test is not None:
        right = judged.probabilities(test.inputs()).argmax(-1) == test.labels
        return share_with_interval(judged.probabilities(images).argmax(-1) == labels) | {
            "n": len(labels),
            "judge": f"{judge.NAME} fitted to the training images",
            "judge_accuracy": float(right.mean()),
        }
    real_labels = np.concatenate([source.labels for source in whole])
    reason = None
    if total > MOST_JUDGED:
        reason = f"{total} real examples are too many for the judge, who takes at most {MOST_JUDGED}"
    elif len(np.unique(real_labels)) < 2:
        reason = "the real examples are all of one class"
    if reason:
        return {"value": None, "low": None, "high": None, "n": len(labels), "reason": reason}
    machine, accuracy = _fitted_machine(tuple(whole))
    return share_with_interval(machine.predict(flat(images)) == labels) | {
        "n": len(labels),
        "judge": f"support vector machine trained on {total} real examples",
        "judge_accuracy": accuracy,
    }


@functools.lru_cache(maxsize=1)
def _fitted_machine(whole: tuple[data.Source, ...]) -> tuple[Any, float | None]:
    """A support vector machine fitted to all real examples, and its cross-validated accuracy on them.

    The last one is kept: many sets of one process are judged by the same examples.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.svm import SVC

    real = np.concatenate([flat(source.inputs()) for source in whole])
    labels = np.concatenate([source.labels for source in whole])
    machine = SVC(C=10.0)
    folds = min(5, int(np.bincount(labels)[np.unique(labels)].min()))
    accuracy = None
    if folds > 1:
        split = StratifiedKFold(folds, shuffle=True, random_state=0)
        accuracy = float(cross_val_score(machine, real, labels, cv=split).mean())
    return machine.fit(real, labels), accuracy


def share_with_interval(hits: np.ndarray) -> dict[str, float]:
    """The share of hits, with Wilson's 95 % interval."""
    share, low, high = statistics.share_interval(int(hits.sum()), len(hits))
    return {"value": share, "low": low, "high": high}


def nearest(
    images: Float[np.ndarray, "n h w c"], train: Float[np.ndarray, "m h w c"]
) -> Float[np.ndarray, " k"]:
    """Euclidean distance to the nearest training image, of at most 2,000 images spread over the set."""
    return np.asarray(diversity.nearest_distances(flat(images[_spread(len(images))]), flat(train)))


def _spread(n: int) -> Int[np.ndarray, " k"]:
    return np.linspace(0, n - 1, min(n, MOST_DISTANCES)).astype(np.int64)


def flat(images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n d"]:
    return images.reshape(len(images), -1)
