"""Numpy batches from a source: an endless stream for training, and one pass for evaluation.

The order is a function of (seed, epoch): position p of the endless stream is entry p mod n of a permutation
drawn for epoch p // n. So a stream can start at any step without reading those before it, and every process
finds its own part of every batch. The randomness of example i depends only on (seed, epoch, i).
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from rmtjax.data import draws, pairs
from rmtjax.data.augmentations import Augmentation, ImageOp
from rmtjax.data.sources import Source, closed_at_exit
from rmtjax.errors import InputError

Batch = dict[str, np.ndarray]
Tensors = dict[str, tf.Tensor]

_COLUMNS = ("epoch", "index", "partner")
_CHUNK = (
    2**22
)  # values of images that are augmented at a time; with fewer, drawing numbers takes most of the time


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
    """Endless training batches: every example once per epoch, in an order drawn from (seed, epoch).

    Epochs follow one another without a gap: a batch may end one and begin the next.

    Args:
      batch_size: global batch size; this process yields its contiguous part of `batch_size // process_count`
        examples.
      seed: seed of the order and of the augmentation.
      start_step: number of the first batch.
      augment: the result of `augmentation`, or a function (image float32 [h, w, c], seed int [2]) -> image of
        TensorFlow operations (for texts, (words int32 [w], seed) -> words). The seed is made from (seed,
        epoch, index). None leaves examples unchanged.

    Returns:
      Batches with
      inputs: images [b, h, w, c] float32, or tokens of texts [b, t] int32. With mixup they are
        w x_i + (1 - w) x_j; with CutMix, x_i with a rectangle of x_j, where w is the share that is left of
        x_i.
      label [b] int32, index [b] int32 (number of the example in the source), origin [b] int32.
      label_mix [b] int32, mix_weight [b] float32: with mixup or CutMix, the label of j, and w. The partners j
        are a permutation of the epoch; real examples have real partners and synthetic ones synthetic
        partners. x_j is augmented as it is by itself.

    Raises:
      InputError: the batch size is not a multiple of the number of processes, an image cannot be decoded, or
        texts are to be mixed.
    """
    local = _local_size(batch_size, process_count)
    if augment is not None and not isinstance(augment, Augmentation):
        augment = Augmentation(image=augment)
    if augment is not None and augment.mixes and not source.modality.mixable:
        raise InputError(f"the words of {source.name} cannot be mixed: mixup and CutMix are for images")
    if augment is not None and augment.modality is not None:
        source = dataclasses.replace(source, modality=augment.modality)

    def numbers(step: int) -> tf.data.Dataset:
        """This process's part of each batch from `step` on: epoch, index and mixup partner, int64 [local]."""
        part = slice(process_index * local, (process_index + 1) * local)
        whole = _order(source.origin, seed, step * batch_size).rebatch(batch_size)
        return whole.map(
            _without_autograph(lambda rows: dict(zip(_COLUMNS, tf.unstack(rows[part], axis=1), strict=True)))
        )

    if augment is None and source.decode is None:
        batches = numbers(start_step).map(
            _without_autograph(lambda n: _with_inputs(source, _example(source, n["index"])))
        )
    else:
        augment = augment or Augmentation()
        chunk = _chunk(local, source.shape)
        chunks = _read(source, numbers(start_step), chunk, augment.mixes)
        batches = chunks.map(_make_augment(source, seed, augment), num_parallel_calls=tf.data.AUTOTUNE)
        if chunk != local:
            batches = batches.rebatch(local)

    def members(k: int) -> np.ndarray:
        of_batch = next(numbers(start_step + k).as_numpy_iterator())
        return np.concatenate([of_batch["index"], of_batch["partner"]])

    return _iterate(batches, source, members)


def evaluation_batches(
    source: Source, *, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """One pass in the order of the source; the last batch is padded, so that all have one shape.

    Args:
      batch_size: global batch size; this process yields its contiguous part.

    Returns:
      Batches `inputs`, `label`, `index`, and `mask [b] bool`, which is False for padding (inputs and label 0,
      index -1). Every process gets the same number of batches.

    Raises:
      InputError: the batch size is not a multiple of the number of processes, or an image cannot be decoded.
    """
    local = _local_size(batch_size, process_count)
    n = source.num_examples

    def positions(step: int | tf.Tensor) -> tf.Tensor:
        return step * batch_size + process_index * local + tf.range(local, dtype=tf.int64)

    @_without_autograph
    def padded(position: tf.Tensor) -> Tensors:
        mask = position < n
        example = _with_inputs(source, _example(source, tf.minimum(position, n - 1)))
        here = tf.reshape(mask, tf.concat([tf.shape(mask), [1] * len(source.input_shape)], 0))
        return {
            "inputs": tf.where(here, example["inputs"], tf.zeros((), example["inputs"].dtype)),
            "label": tf.where(mask, example["label"], 0),
            "index": tf.where(mask, example["index"], -1),
            "mask": mask,
        }

    steps = range(-(-n // batch_size))
    if source.decode is None:  # building a pipeline would take longer than reading from memory
        return ({name: x.numpy() for name, x in padded(positions(step)).items()} for step in steps)
    numbers = tf.data.Dataset.range(len(steps)).map(_without_autograph(positions))
    batches = numbers.unbatch().map(padded, num_parallel_calls=tf.data.AUTOTUNE).batch(local)
    return _iterate(batches, source, lambda k: np.minimum(positions(k), n - 1))


def _without_autograph(function: Callable[[tf.Tensor], Tensors]) -> Callable[[tf.Tensor], Tensors]:
    """Disables autograph, since there is no Python control flow on tensors to convert."""
    return tf.autograph.experimental.do_not_convert(function)


def _example(source: Source, index: tf.Tensor) -> Tensors:
    """One example, or a batch of examples if the source is in memory."""
    return {
        "inputs": source.read(index),
        "label": tf.gather(source.labels, index),
        "index": tf.cast(index, tf.int32),
        "origin": tf.cast(tf.gather(source.origin, index), tf.int32),
    }


def _with_inputs(source: Source, example: Tensors) -> Tensors:
    return example | {"inputs": source.modality.inputs(example["inputs"])}


def _order(origin: np.ndarray, seed: int, first: int) -> tf.data.Dataset:
    """The endless stream from position `first` on: rows int64 [:, 3] of epoch, index and mixup partner.

    It uses TensorFlow operations alone, since a pipeline that calls Python can hang at interpreter exit.
    """
    n = len(origin)
    order, *partners = np.random.SeedSequence(seed).generate_state(3).astype(np.int32)
    kinds = [np.flatnonzero(origin == kind) for kind in np.unique(origin)]
    place = np.argsort(np.concatenate(kinds))

    def permutation(root: np.int32, epoch: tf.Tensor, numbers: tf.Tensor | np.ndarray) -> tf.Tensor:
        # Not index_shuffle, which computes single entries of a permutation: for some seeds it is almost the
        # identity.
        return tf.random.experimental.stateless_shuffle(
            numbers, tf.stack([tf.cast(root, tf.int64), epoch]), "philox"
        )

    @_without_autograph
    def of_epoch(epoch: tf.Tensor) -> tf.Tensor:
        index = permutation(order, epoch, tf.range(n, dtype=tf.int64))
        partner = tf.concat([permutation(r, epoch, k) for r, k in zip(partners, kinds, strict=False)], 0)
        partner = tf.gather(tf.gather(partner, place), index)
        rows = tf.stack([tf.fill((n,), epoch), index, partner], axis=1)
        return rows[tf.where(epoch == first // n, first % n, 0) :]

    return tf.data.Dataset.counter(first // n).map(of_epoch)


def _chunk(local: int, shape: tuple[int, ...]) -> int:
    """How many images are augmented at a time: a divisor of this process's part of the batch.

    The results depend neither on it nor on the first step of the stream.
    """
    most = max(1, _CHUNK // math.prod(shape))
    return max(k for k in range(1, local + 1) if local % k == 0 and k <= most)


def _read(source: Source, numbers: tf.data.Dataset, chunk: int, partners: bool) -> tf.data.Dataset:
    """Chunks of the stream, with the examples of `index` and, on request, those of `partner`."""

    def read(n: Tensors) -> Any:
        return n, _example(source, n["index"]), _example(source, n["partner"]) if partners else {}

    if source.decode is None:
        return numbers.rebatch(chunk, drop_remainder=True).map(_without_autograph(read))
    return (
        numbers.unbatch()
        .map(_without_autograph(read), num_parallel_calls=tf.data.AUTOTUNE)
        .batch(chunk, drop_remainder=True)
    )


def _make_augment(source: Source, seed: int, augment: Augmentation) -> Callable[..., Tensors]:
    """Augments and mixes the numbers, examples and partners that `_read` yields."""
    root = tf.constant(np.random.SeedSequence(seed).generate_state(2).astype(np.int32)[None])

    def images(index: tf.Tensor, epoch: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seeds = draws.fold_in(draws.fold_in(root, epoch), index)
        if augment.image is None:
            return images, seeds
        if augment.batched:
            out = augment.image(images, seeds)
        else:
            out = tf.map_fn(single, (images, seeds), fn_output_signature=images.dtype)
        if not out.shape.is_compatible_with(images.shape):
            raise InputError(
                f"the augmentation turns examples of shape {list(source.shape)} into {out.shape[1:]}: "
                f"it must keep the shape"
            )
        return tf.ensure_shape(out, images.shape), seeds

    def single(image_and_seed: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return tf.convert_to_tensor(augment.image(*image_and_seed), image_and_seed[0].dtype)

    def augmented(numbers: Tensors, example: Tensors, partner: Tensors) -> Tensors:
        if not augment.mixes:
            inputs, _ = images(numbers["index"], numbers["epoch"], example["inputs"])
            return _with_inputs(source, example | {"inputs": inputs})
        index = tf.concat([numbers["index"], numbers["partner"]], 0)
        both = tf.concat([example["inputs"], partner["inputs"]], 0)
        both, seeds = images(index, tf.tile(numbers["epoch"], [2]), both)
        mix, alpha = (pairs.mixup, augment.mixup) if augment.mixup else (pairs.cutmix, augment.cutmix)
        inputs, weight = mix(*tf.split(both, 2), tf.split(seeds, 2)[0], alpha)
        return example | {"inputs": inputs, "label_mix": partner["label"], "mix_weight": weight}

    return _without_autograph(augmented)


def _iterate(
    batches: tf.data.Dataset, source: Source, members: Callable[[int], np.ndarray]
) -> Iterator[Batch]:
    """Batches as numpy arrays.

    Args:
      members: `(k) -> numbers` of the examples in batch k; it serves to find an example that fails.
    """
    # TensorFlow's autotuning sleeps for up to a minute, and an iterator that is dropped waits for it.
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False  # as in the room's __init__
    iterator = batches.prefetch(2).with_options(options).as_numpy_iterator()
    return iterator if source.decode is None else closed_at_exit(_naming_failures(iterator, source, members))


def _naming_failures(
    iterator: Iterator[Batch], source: Source, members: Callable[[int], np.ndarray]
) -> Generator[Batch, None, None]:
    for count in itertools.count():
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            source.inputs(members(count))  # raises the error that names the example
            raise InputError(f"{source.name}: batch {count} cannot be read: {error.message}") from error
        yield batch


def _local_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise InputError(
            f"batch size {batch_size} is not a multiple of the number of processes {process_count}: "
            f"each takes an equal part of every batch"
        )
    return batch_size // process_count
