"""Batches of numpy from a source: the order of training, and one pass for evaluation.

The order is a function of (seed, epoch): position p of the endless stream is example `shuffle(p mod n)` of epoch
`p // n`, by a permutation that is computed position by position. So a stream starts at any step without work, and
each process computes its own part of every batch.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from rmtjax.data.sources import Source
from rmtjax.errors import InputError

Batch = dict[str, np.ndarray]


def train_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    augment: Any = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Endless training batches: every example once an epoch, in an order drawn by (seed, epoch).

    Epochs run together: a batch may end one and begin the next.

    Args:
      batch_size: global; this process yields its contiguous part, `batch_size // process_count` examples.
      seed: of the order and of the augmentation.
      start_step: number of the first batch.

    Returns:
      Batches `inputs [b, h, w, c] float32`, `label [b] int32`, `index [b] int32` (the example's number in the source),
      `origin [b] int32`.
    """
    local = _local_size(batch_size, process_count)
    n = source.num_examples
    order_seed, _ = _seeds(seed)

    @tf.autograph.experimental.do_not_convert
    def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        position = step * batch_size + process_index * local + tf.range(local, dtype=tf.int64)
        index = shuffled(position, n, order_seed)
        return {
            "inputs": source.read(index),
            "label": tf.gather(source.labels, index),
            "index": tf.cast(index, tf.int32),
            "origin": tf.cast(tf.gather(source.origin, index), tf.int32),
        }

    steps = tf.data.Dataset.counter(start_step)
    return steps.map(batch).prefetch(2).as_numpy_iterator()


def shuffled(position: tf.Tensor, n: int, seed: int) -> tf.Tensor:
    """The example at each `position` [b] of the endless stream: a permutation of 0..n-1 in every epoch."""
    epoch = position // n
    order = tf.fill(tf.shape(epoch), tf.constant(seed, tf.int64))
    # The op itself and not tf.random.experimental.index_shuffle, which cannot take a seed for every element.
    return tf.raw_ops.RandomIndexShuffle(
        index=position % n,
        seed=tf.stack([order, epoch, order], axis=-1),
        max_index=tf.constant(n - 1, tf.int64),
    )


def evaluation_batches(
    source: Source, *, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """One pass in the source's order; the last batch is padded, so all have one shape.

    Args:
      batch_size: global; this process yields its contiguous part.

    Returns:
      Batches `inputs`, `label`, `index`, and `mask [b] bool`: False where padded (inputs and label 0, index -1).
      Every process gets the same number of batches.
    """
    local = _local_size(batch_size, process_count)
    n = source.num_examples

    @tf.autograph.experimental.do_not_convert
    def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        position = step * batch_size + process_index * local + tf.range(local, dtype=tf.int64)
        mask = position < n
        safe = tf.where(mask, position, 0)
        inputs = tf.where(mask[:, None, None, None], source.read(safe), 0.0)
        label = tf.where(mask, tf.gather(source.labels, safe), 0)
        return {
            "inputs": inputs,
            "label": label,
            "index": tf.cast(tf.where(mask, position, -1), tf.int32),
            "mask": mask,
        }

    steps = tf.data.Dataset.range(-(-n // batch_size))
    return steps.map(batch).prefetch(2).as_numpy_iterator()


def _local_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise InputError(
            f"batch size {batch_size} is not a multiple of the number of processes {process_count}: "
            f"each takes an equal part of every batch"
        )
    return batch_size // process_count


def _seeds(seed: int) -> tuple[int, int]:
    """Unrelated int32 seeds of the order and of the augmentation."""
    order, augmentation = np.random.SeedSequence(seed).generate_state(2).astype(np.int32)
    return int(order), int(augmentation)
