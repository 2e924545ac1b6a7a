"""Named sources, and their division into training, validation and test parts."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from rmtjax.data import digits
from rmtjax.data.sources import Source, take
from rmtjax.errors import InputError

_TEST_SPLIT_SEED = 1797  # the test part belongs to the data set, not to the run


class Splits(NamedTuple):
    train: Source
    validation: Source
    test: Source


def stratified_order(labels: Int[np.ndarray, "n"], seed: int | list[int]) -> Int[np.ndarray, "n"]:
    """A seeded order of the examples in which every prefix has the classes' shares, to within about one example.

    Each class is shuffled and spread evenly over the whole; prefixes of one order are nested subsets.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks = np.arange(len(labels)) - starts  # of each example within its class
    place = (ranks + 0.5) / np.repeat(counts, counts)
    tie = np.repeat(rng.permutation(len(counts)), counts)  # which class comes first where places are equal
    return by_class[np.lexsort((tie, place))]


def load_source(name: str, image_size: int) -> Source:
    """The whole of a set; of one that has a test part of its own, that part.

    Args:
      name: digits.
      image_size: side in pixels of the images returned.

    Raises:
      InputError: unknown name, or the set cannot be read.
    """
    if name == "digits":
        return digits.handwritten(image_size)
    raise InputError(f"unknown data source {name!r}: it must be digits")


def load(config: ConfigDict, seed: int) -> Splits:
    """Training, validation and test parts of a source, stratified by class.

    The test part is fixed: it does not depend on the seed, nor does any part on the image size. Validation and
    training examples are drawn by seed from the rest; at one seed, smaller training sets are parts of larger ones.

    Args:
      config: the `data` section of the config.
      seed: of the run.
    """
    whole = digits.handwritten(config.image_size)
    order = stratified_order(whole.labels, _TEST_SPLIT_SEED)
    test, pool = np.split(order, [797])
    return _divide(take(whole, np.sort(pool)), take(whole, test), config, seed)


def _divide(pool: Source, test: Source, config: ConfigDict, seed: int) -> Splits:
    order = stratified_order(pool.labels, [seed, 0])
    validation, train = np.split(order, [config.validation_examples])
    if config.train_examples:
        train = train[: config.train_examples]
    return Splits(take(pool, train), take(pool, validation), test)
