"""Random numbers for many seeds at once: TensorFlow's own for each of them."""

import numpy as np
import pytest
import tensorflow as tf

from rmtjax.data import draws

SEEDS = {
    "int32": np.random.default_rng(0).integers(-(2**31), 2**31, (5, 2)).astype(np.int32),
    "int64": np.random.default_rng(1).integers(-(2**63), 2**63, (5, 2)),
}


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.parametrize("count", [1, 4, 9])
def test_uniform_numbers(kind, count):
    ours = tf.stack(draws.uniform(tf.constant(SEEDS[kind]), count, -2.0, 3.0), axis=1)
    theirs = [tf.random.stateless_uniform((count,), seed, -2.0, 3.0) for seed in SEEDS[kind]]
    np.testing.assert_array_equal(ours, np.stack(theirs))


@pytest.mark.parametrize("data", [3, np.int64(2**40 + 3)], ids=["int32", "int64"])
def test_numbers_folded_into_seeds(data):
    fold_in = tf.random.experimental.stateless_fold_in
    seeds = tf.constant(SEEDS["int32"])
    theirs = np.stack([fold_in(seed, data) for seed in SEEDS["int32"]])
    np.testing.assert_array_equal(draws.fold_in(seeds, tf.constant(data)), theirs)
    np.testing.assert_array_equal(draws.fold_in(seeds, tf.fill((5,), data)), theirs)
    # One seed and many numbers: the examples of an epoch.
    numbers = tf.constant([1, 2, 5], tf.int64)
    theirs = np.stack([fold_in(SEEDS["int32"][0], n) for n in numbers])
    np.testing.assert_array_equal(draws.fold_in(seeds[:1], numbers), theirs)


def test_seeds_split_in_two_and_whole_images():
    seeds = tf.constant(SEEDS["int32"])
    theirs = np.stack([tf.random.experimental.stateless_split(seed, 2) for seed in SEEDS["int32"]])
    np.testing.assert_array_equal(tf.stack(draws.split(seeds, 2), axis=1), theirs)
    theirs = np.stack([tf.random.stateless_normal((3, 2, 1), seed, stddev=0.3) for seed in SEEDS["int32"]])
    np.testing.assert_array_equal(draws.normal_images(seeds, (3, 2, 1), 0.3), theirs)
    theirs = np.stack([tf.random.stateless_uniform((3, 2, 1), seed) for seed in SEEDS["int32"]])
    np.testing.assert_array_equal(draws.uniform_images(seeds, (3, 2, 1)), theirs)
