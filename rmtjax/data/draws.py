"""TensorFlow's stateless random numbers for many seeds at once.

`tf.random.stateless_uniform` takes one seed, so it needs a call for each example that has its own seed. The
functions here take many seeds. For each row of `seeds` they give, bit for bit, the numbers of TensorFlow's
function of the same name: they compute its generator, Philox 4x32-10 (Salmon et al. 2011, Parallel random
numbers: as easy as 1, 2, 3), with operations on vectors. The draws of a row do not depend on the others.
"""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

BatchOp = Callable[[tf.Tensor, tf.Tensor, float], tf.Tensor]

_ROUNDS = 10
_MULTIPLIERS = np.array([[[0xD2511F53]], [[0xCD9E8D57]]], np.uint64)
_WEYL = np.array([[[0x9E3779B9]], [[0xBB67AE85]]], np.uint64)  # what the key grows by in each round
_SCRAMBLING_KEY = np.array([[[0x3EC8F720]], [[0x02461E29]]], np.uint64)  # TensorFlow's, for a seed's own key
_LOW = np.uint64(0xFFFFFFFF)


def of_batches(op: BatchOp) -> BatchOp:
    """Makes an operation on images [b, h, w, c] and seeds [b, 2] accept one image and one seed [2] too.

    At strength 0 it returns the images unchanged.
    """

    @functools.wraps(op)
    @tf.autograph.experimental.do_not_convert  # no Python control flow on tensors for autograph to convert
    def lifted(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
        if not strength:
            return images
        images, seeds = tf.convert_to_tensor(images), tf.convert_to_tensor(seeds)
        if images.shape.rank == 3:
            return op(images[None], seeds[None], strength)[0]
        return op(images, seeds, strength)

    return lifted


def fold_in(seeds: tf.Tensor, data: int | tf.Tensor) -> tf.Tensor:
    """`tf.random.experimental.stateless_fold_in` of each row: [b, 2] of the type of `data`, int32 or int64.

    Args:
      data: one number for all rows, or one for each, [b]; a single row of seeds also takes several numbers.
    """
    data = tf.convert_to_tensor(data)
    words = _words(seeds, data.dtype.size // 4)
    if data.dtype == tf.int64:
        first = tf.bitwise.bitwise_or(words[0], tf.bitwise.left_shift(words[1], np.uint64(32)))
        first = tf.cast(first, tf.int64)
    else:
        first = _as_int32(words[0])
    return tf.stack([first + tf.zeros_like(data), data + tf.zeros_like(first)], axis=1)


def split(seeds: tf.Tensor, count: int) -> list[tf.Tensor]:
    """`tf.random.experimental.stateless_split` of each row: `count` tensors int32 [b, 2]."""
    words = _as_int32(_words(seeds, 2 * count))
    return [tf.stack([words[2 * k], words[2 * k + 1]], axis=1) for k in range(count)]


def uniform(seeds: tf.Tensor, count: int, low: float = 0.0, high: float = 1.0) -> list[tf.Tensor]:
    """`tf.random.stateless_uniform` of each row: `count` tensors float32 [b], in [low, high)."""
    mantissa = tf.cast(tf.bitwise.bitwise_and(_words(seeds, count), np.uint64(0x7FFFFF)), tf.uint32)
    numbers = tf.bitcast(tf.bitwise.bitwise_or(mantissa, np.uint32(0x3F800000)), tf.float32) - 1.0
    return tf.unstack(numbers * (high - low) + low)


def choose(first: tf.Tensor, images: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """For each row, `images` if `first` (bool [b]), else `others`; both are [b, ...].

    It does not use `tf.where`, which is five times slower if it must broadcast the condition over an image.
    """
    return tf.raw_ops.Select(condition=first, x=images, y=others)


def uniform_images(seeds: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """`tf.random.stateless_uniform(shape, ...)` of each row: float32 [b, *shape]; for large shapes."""
    return _draw_one_by_one(lambda seed: tf.random.stateless_uniform(shape, seed), seeds, shape)


def normal_images(seeds: tf.Tensor, shape: tuple[int, ...], std: float) -> tf.Tensor:
    """`tf.random.stateless_normal(shape, ..., stddev=std)` of each row: float32 [b, *shape]."""
    return _draw_one_by_one(lambda seed: tf.random.stateless_normal(shape, seed, stddev=std), seeds, shape)


def _draw_one_by_one(
    draw: Callable[[tf.Tensor], tf.Tensor], seeds: tf.Tensor, shape: tuple[int, ...]
) -> tf.Tensor:
    drawn = tf.map_fn(draw, seeds, fn_output_signature=tf.float32)
    return tf.reshape(drawn, (-1, *shape))  # of no seeds map_fn knows no shape


def _as_int32(words: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(tf.cast(words, tf.uint32), tf.int32)


def _words(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """The first `count` 32-bit words of each row's stream, uint64 [count, b]."""
    return _words_of_blocks(-(-count // 4))(tf.cast(seeds, tf.int64))[:count]


@functools.cache
def _words_of_blocks(blocks: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """int64 [b, 2] -> uint64 [4 blocks, b]; traced once, since each draw needs its some 200 operations."""
    signature = [tf.TensorSpec((None, 2), tf.int64)]
    return tf.function(functools.partial(_philox_stream, blocks), input_signature=signature, autograph=False)


def _philox_stream(blocks: int, seeds: tf.Tensor) -> tf.Tensor:
    halves = tf.transpose(tf.cast(seeds, tf.uint64))[:, None]  # [2, 1, b]
    low, high = tf.bitwise.bitwise_and(halves, _LOW), tf.bitwise.right_shift(halves, np.uint64(32))
    mixed = _philox(low, high, tf.constant(_SCRAMBLING_KEY))
    # The stream's key, and its counter: the block's number, 0, mixed[2], mixed[3].
    key, zero = tf.stack([mixed[0], mixed[1]]), tf.zeros_like(mixed[0])
    number = np.arange(blocks, dtype=np.uint64)[:, None]
    even, odd = ([zero + number, mixed[2] + 0 * number], [zero + 0 * number, mixed[3] + 0 * number])
    words = tf.stack(_philox(tf.stack(even), tf.stack(odd), key), axis=1)  # [blocks, 4, b]
    return tf.reshape(words, (4 * blocks, tf.shape(seeds)[0]))


def _philox(even: tf.Tensor, odd: tf.Tensor, key: tf.Tensor) -> list[tf.Tensor]:
    """Four words of Philox; `even` and `odd` [2, n, b]: words 0, 2 and 1, 3 of the counter; key [2, 1, b]."""
    steps = np.arange(_ROUNDS, dtype=np.uint64)[:, None, None, None]
    for mixing in tf.unstack(tf.bitwise.bitwise_and(key + _WEYL * steps, _LOW)):
        product = even * _MULTIPLIERS
        high = tf.bitwise.right_shift(product, np.uint64(32))
        even = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(tf.reverse(high, [0]), odd), mixing)
        odd = tf.reverse(tf.bitwise.bitwise_and(product, _LOW), [0])
    return [even[0], odd[0], even[1], odd[1]]
