"""Batches of numpy from a source: the order of training, and one pass for evaluation.

The order is a function of (seed, epoch): position p of the endless stream is entry p mod n of a permutation drawn
for epoch p // n. So a stream starts at any step without going through the ones before, and every process computes
its own part of every batch. What is random about example i depends on (seed, epoch, i) alone.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from rmtjax.data.augmentations import Augmentation, ImageOp, log_odds_of_beta
from rmtjax.data.sources import Source
from rmtjax.errors import InputError

Batch = dict[str, np.ndarray]
Tensors = dict[str, tf.Tensor]

_ORDER, _PARTNER = 0, 1  # unrelated permutations of one epoch


def train_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    augment: Augmentation | ImageOp | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Endless training batches: every example once an epoch, in an order drawn by (seed, epoch).

    Epochs run together: a batch may end one and begin the next.

    Args:
      batch_size: global; this process yields its contiguous part, `batch_size // process_count` examples.
      seed: of the order and of the augmentation.
      start_step: number of the first batch.
      augment: from `augmentation`, or a function (image float32 [h, w, c], seed int32 [2]) -> image of TensorFlow
        operations; the seed is made of (seed, epoch, index). None: images as they are.

    Returns:
      Batches `inputs [b, h, w, c] float32`, `label [b] int32`, `index [b] int32` (the example's number in the source),
      `origin [b] int32`. With mixup, inputs are w x_i + (1 - w) x_j, and `label_mix [b] int32` is the label of j,
      `mix_weight [b] float32` is w. The partners j are a permutation of the epoch; j is augmented as it is on its own.

    Raises:
      InputError: the batch size is not a multiple of the number of processes; an image cannot be decoded.
    """
    local = _local_size(batch_size, process_count)
    if augment is not None and not isinstance(augment, Augmentation):
        augment = Augmentation(image=augment)
    numbers = _numbers(source.num_examples, seed, batch_size, process_index * local, local)

    @_plainly
    def of_step(step: tf.Tensor) -> Tensors:
        rows = tf.ensure_shape(tf.numpy_function(numbers, [step], tf.int64), (3, local))
        return dict(zip(("epoch", "index", "partner"), tf.unstack(rows), strict=True))

    steps = tf.data.Dataset.counter(start_step).map(of_step)
    if augment is None and source.decode is None:
        batches = steps.map(_plainly(lambda n: _example(source, n["index"])))
    else:
        example = _augmented(source, seed, augment or Augmentation())
        batches = (
            steps.unbatch()
            .map(example, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(local, drop_remainder=True)
        )
    return _iterate(batches, source, lambda k: np.ravel(numbers(np.int64(start_step + k))[1:]))


def evaluation_batches(
    source: Source, *, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """One pass in the source's order; the last batch is padded, so all have one shape.

    Args:
      batch_size: global; this process yields its contiguous part.

    Returns:
      Batches `inputs`, `label`, `index`, and `mask [b] bool`: False where padded (inputs and label 0, index -1).
      Every process gets the same number of batches.

    Raises:
      InputError: the batch size is not a multiple of the number of processes; an image cannot be decoded.
    """
    local = _local_size(batch_size, process_count)
    n = source.num_examples

    def positions(step: int | tf.Tensor) -> tf.Tensor:
        return step * batch_size + process_index * local + tf.range(local, dtype=tf.int64)

    @_plainly
    def padded(position: tf.Tensor) -> Tensors:
        mask = position < n
        example = _example(source, tf.minimum(position, n - 1))
        return {
            "inputs": tf.where(mask[..., None, None, None], example["inputs"], 0.0),
            "label": tf.where(mask, example["label"], 0),
            "index": tf.where(mask, example["index"], -1),
            "mask": mask,
        }

    steps = tf.data.Dataset.range(-(-n // batch_size)).map(_plainly(positions))
    if source.decode is None:
        batches = steps.map(padded)
    else:
        batches = steps.unbatch().map(padded, num_parallel_calls=tf.data.AUTOTUNE).batch(local)
    return _iterate(batches, source, lambda k: np.minimum(positions(k), n - 1))


def _plainly(function: Callable[[tf.Tensor], Tensors]) -> Callable[[tf.Tensor], Tensors]:
    """Traced as it is written: there is no Python control flow on tensors for autograph to convert."""
    return tf.autograph.experimental.do_not_convert(function)


def _example(source: Source, index: tf.Tensor) -> Tensors:
    """One example, or a batch of them where the source is in memory."""
    return {
        "inputs": source.read(index),
        "label": tf.gather(source.labels, index),
        "index": tf.cast(index, tf.int32),
        "origin": tf.cast(tf.gather(source.origin, index), tf.int32),
    }


def _numbers(n: int, seed: int, batch_size: int, offset: int, local: int) -> Callable[[np.int64], np.ndarray]:
    """step -> epoch, index and mixup partner, int64 [3, local], of this process's part of the batch."""

    # True permutations by numpy: tf.random.experimental.index_shuffle is far from uniform for some seeds.
    @functools.lru_cache(maxsize=4)
    def permutation(epoch: int, purpose: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch, purpose]).permutation(n)

    def numbers(step: np.int64) -> np.ndarray:
        position = step * batch_size + offset + np.arange(local)
        epoch = position // n
        index, partner = np.empty_like(position), np.empty_like(position)
        for e in range(epoch[0], epoch[-1] + 1):
            here = epoch == e
            index[here] = permutation(e, _ORDER)[position[here] % n]
            partner[here] = permutation(e, _PARTNER)[index[here]]
        return np.stack([epoch, index, partner])

    return numbers


def _augmented(source: Source, seed: int, augment: Augmentation) -> Callable[[Tensors], Tensors]:
    """epoch, index, partner -> one augmented and mixed example."""
    root = np.random.SeedSequence(seed).generate_state(2).astype(np.int32)
    fold_in = tf.random.experimental.stateless_fold_in

    def read(index: tf.Tensor, epoch: tf.Tensor) -> tuple[Tensors, tf.Tensor]:
        example_seed = fold_in(fold_in(root, epoch), index)
        example = _example(source, index)
        if augment.image is not None:
            image = tf.convert_to_tensor(augment.image(example["inputs"], example_seed), tf.float32)
            if not image.shape.is_compatible_with(source.image_shape):
                raise InputError(
                    f"the augmentation turns images of shape {list(source.image_shape)} into {image.shape}: "
                    f"it must keep the shape"
                )
            example["inputs"] = tf.ensure_shape(image, source.image_shape)
        return example, example_seed

    def example(numbers: Tensors) -> Tensors:
        one, example_seed = read(numbers["index"], numbers["epoch"])
        if not augment.mixup:
            return one
        other, _ = read(numbers["partner"], numbers["epoch"])
        weight = tf.sigmoid(log_odds_of_beta(augment.mixup, fold_in(example_seed, _PARTNER)))
        inputs = weight * one["inputs"] + (1 - weight) * other["inputs"]
        return one | {"inputs": inputs, "label_mix": other["label"], "mix_weight": weight}

    return _plainly(example)


def _iterate(
    batches: tf.data.Dataset, source: Source, members: Callable[[int], np.ndarray]
) -> Iterator[Batch]:
    """Batches as numpy. `members` gives the examples read for the k-th, among which one that fails is looked for."""
    iterator = batches.prefetch(2).as_numpy_iterator()
    return iterator if source.decode is None else _naming_failures(iterator, source, members)


def _naming_failures(
    iterator: Iterator[Batch], source: Source, members: Callable[[int], np.ndarray]
) -> Iterator[Batch]:
    count = 0
    try:
        for batch in iterator:
            yield batch
            count += 1
    except tf.errors.OpError as error:
        source.images(members(count))  # raises the error that names the example
        raise InputError(f"{source.name}: batch {count} cannot be read: {error.message}") from error


def _local_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise InputError(
            f"batch size {batch_size} is not a multiple of the number of processes {process_count}: "
            f"each takes an equal part of every batch"
        )
    return batch_size // process_count
