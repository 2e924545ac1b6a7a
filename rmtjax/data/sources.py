"""A source: labelled images or texts that are read by number, from memory or decoded on demand."""

import atexit
import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from jaxtyping import Float, Int, Shaped

from rmtjax.data.modalities import IMAGES, Modality, unit_floats, unit_tensor
from rmtjax.data.tokens import Tokens
from rmtjax.errors import InputError

_CHUNK = 64  # images decoded at a time where all are wanted
_IN_MEMORY = 2**30  # bytes of float32
_RUNNING: "weakref.WeakSet[Generator[Any, None, None]]" = weakref.WeakSet()


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Labelled examples of one shape: images, or texts as rows of words.

    Attributes:
      name: name of the source in messages.
      labels: int32 [n], positions in `classes`.
      classes: names of the classes.
      shape: shape of every example: (height, width, channels) of an image, (words,) of a text.
      origin: int8 [n], 0 for a real example and 1 for a synthetic one.
      examples: images [n, height, width, channels], uint8 or float32 in [0, 1]; or the numbers of the words
        of texts, int32 [n, words], 0 after the last. None if images are decoded on demand.
      decode: converts the number of an example (a scalar int64 tensor) to its image, float32 [height, width,
        channels]; None if the examples are in memory.
      describe: returns where example i comes from, for messages.
      modality: how examples become inputs of a model.
      stored: the same images before they were enlarged, if the set has them in one smaller size; else None.
    """

    name: str
    labels: np.ndarray
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    origin: np.ndarray
    examples: np.ndarray | None = None
    decode: Callable[[tf.Tensor], tf.Tensor] | None = None
    describe: Callable[[int], str] | None = None
    modality: Modality = IMAGES
    stored: "Source | None" = None

    @property
    def num_examples(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the input of a model for one example."""
        return self.modality.input_shape(self.shape)

    @property
    def input_dtype(self) -> type[np.generic]:
        return self.modality.dtype

    @property
    def vocabulary_size(self) -> int:
        """A number above all tokens; 0 for images."""
        return self.modality.vocabulary_size

    @property
    def tokens(self) -> Tokens:
        """The modality of a source that is known to hold texts."""
        assert isinstance(self.modality, Tokens), f"{self.name} holds {self.modality.kind}"
        return self.modality

    @functools.cached_property
    def tensor(self) -> tf.Tensor:
        """The examples as a tensor, which is made once."""
        with tf.init_scope():  # also when first asked for while tf.data traces a function
            return tf.constant(self.examples)

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Reads examples by number, inside tf.data: float32 [..., h, w, c] or words int32 [..., w].

        `index` must be a scalar if `decode` is set.
        """
        if self.decode is not None:
            return tf.ensure_shape(self.decode(index), self.shape)
        return unit_tensor(tf.gather(self.tensor, index))

    def inputs(
        self, indices: Sequence[int] | Int[np.ndarray, " n"] | None = None
    ) -> Shaped[np.ndarray, "n ..."]:
        """Inputs of a model for some examples or all: images float32 [n, h, w, c] or tokens int32 [n, t]."""
        numbers = np.arange(self.num_examples) if indices is None else np.asarray(indices, np.int64)
        if self.examples is not None:
            return self.modality.arrays(self.examples[numbers])
        out = np.empty((len(numbers), *self.shape), np.float32)
        for start, images in closed_at_exit(self._decode_batches(numbers)):
            out[start : start + len(images)] = images
        return out

    def _decode_batches(self, numbers: np.ndarray) -> Generator[tuple[int, np.ndarray], None, None]:
        """Decodes images in batches; yields each with its position in `numbers`."""
        read = tf.autograph.experimental.do_not_convert(self.read)
        single = tf.data.Dataset.from_tensor_slices(numbers).map(read, num_parallel_calls=tf.data.AUTOTUNE)
        start = 0
        try:
            for images in single.batch(_CHUNK).prefetch(1).as_numpy_iterator():
                yield start, images
                start += len(images)
        except tf.errors.OpError as error:
            for number in numbers[start : start + _CHUNK]:
                try:
                    self.read(tf.constant(number))
                except Exception:  # outside tf.data those of Pillow are not wrapped
                    where = (
                        self.describe(int(number)) if self.describe else f"example {number} of {self.name}"
                    )
                    raise InputError(
                        f"{where} cannot be read as an image: remove it or put it right"
                    ) from error
            raise InputError(f"{self.name} cannot be read: {error.message}") from error

    def held(self) -> "Source":
        """The source with its examples in memory, if below 1 GiB; as bytes if that loses nothing."""
        if self.examples is not None or self.num_examples * np.prod(self.shape) * 4 > _IN_MEMORY:
            return self
        pixels = np.empty((self.num_examples, *self.shape), np.uint8)
        for start, images in closed_at_exit(self._decode_batches(np.arange(self.num_examples))):
            part = pixels[start : start + len(images)]
            part[...] = np.rint(images * 255) if pixels.dtype == np.uint8 else images
            if pixels.dtype == np.uint8 and not np.array_equal(
                unit_floats(part), images
            ):  # they were resized
                pixels = unit_floats(pixels)
                pixels[start : start + len(images)] = images
        return dataclasses.replace(self, examples=pixels, decode=None)


Running = TypeVar("Running", bound=Generator[Any, None, None])


def closed_at_exit(running: Running) -> Running:
    """A generator that holds a tf.data iterator, which is closed before the interpreter ends.

    Threads of tf.data call Python to decode images. Once Python has ended they get no answer, and the process
    would wait for them for ever.
    """
    _RUNNING.add(running)
    return running


@atexit.register
def close_all() -> None:
    for running in list(_RUNNING):
        with contextlib.suppress(ValueError):  # another thread is in it
            running.close()


def resize(images: Float[np.ndarray, "n h w c"], size: int) -> Float[np.ndarray, "n {size} {size} c"]:
    """Resizes images to `size` x `size`: bilinear between pixel centres, antialiased if they shrink.

    All images of this project are resized by it, so that real, printed and synthetic examples stay
    comparable. Images of that size are returned unchanged; the ratio of the sides is not kept.
    """
    return np.asarray(resize_tensor(images, size))


def resize_tensor(images: tf.Tensor | np.ndarray, size: int) -> tf.Tensor | np.ndarray:
    """`resize` for one image [h, w, c] or a batch; it also works inside tf.data."""
    if tuple(images.shape[-3:-1]) == (size, size):
        return images
    # Its weights sum to 1 up to rounding: white may come out a last bit above 1.
    return tf.clip_by_value(tf.image.resize(images, (size, size), "bilinear", antialias=True), 0.0, 1.0)


def from_arrays(
    name: str,
    images: Shaped[np.ndarray, "..."],
    labels: Shaped[np.ndarray, "..."],
    classes: Sequence[str],
) -> Source:
    """A source of images in memory.

    Args:
      name: name of the source in messages.
      images: [n, h, w, c] with c = 1 or 3, uint8 or floats in [0, 1].
      labels: [n] integers, 0 to len(classes) - 1.
      classes: names of the classes.

    Raises:
      InputError: shapes, types or values are others.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"{name}: images have shape {list(images.shape)}: they must be [number, height, width, channels] "
            "with "
            f"1 or 3 channels, and at least one"
        )
    if labels.shape != images.shape[:1]:
        raise InputError(
            f"{name}: labels have shape {list(labels.shape)} but images {list(images.shape)}: "
            f"give one label per image, shape [{len(images)}]"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{name}: labels are of type {labels.dtype}: they must be integers")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise InputError(
            f"{name}: labels run from {low} to {high}: with {len(classes)} classes they must lie in "
            f"0..{len(classes) - 1}"
        )
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise InputError(
                f"{name}: images are of type {images.dtype}: they must be uint8 or floats in [0, 1]"
            )
        images = images.astype(np.float32, copy=False)
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):  # so that a NaN is refused too
            raise InputError(f"{name}: image values run from {low:g} to {high:g}: floats must lie in [0, 1]")
    return Source(
        name=name,
        labels=labels.astype(np.int32),
        classes=tuple(classes),
        shape=tuple(images.shape[1:]),
        origin=np.zeros(len(labels), np.int8),
        examples=images,
    )


def of_classes(source: Source, classes: Sequence[str]) -> Source:
    """The examples of some classes, which get new numbers in that order; without classes, all examples.

    Raises:
      InputError: the source has no class of that name.
    """
    if not classes:
        return source
    for name in classes:
        if name not in source.classes:
            raise InputError(
                f"data.classes names {name!r}, which {source.name} does not have: its classes are "
                f"{', '.join(source.classes)}"
            )
    number = np.full(len(source.classes), -1, np.int32)
    number[[source.classes.index(name) for name in classes]] = np.arange(len(classes))
    part = take(source, np.flatnonzero(number[source.labels] >= 0))
    return dataclasses.replace(part, labels=number[part.labels], classes=tuple(classes))


def take(source: Source, indices: Sequence[int] | Int[np.ndarray, " n"]) -> Source:
    """A source of the examples with the numbers `indices`, in that order."""
    numbers = np.asarray(indices, np.int64)
    part = dataclasses.replace(
        source,
        labels=source.labels[numbers],
        origin=source.origin[numbers],
        stored=source.stored and take(source.stored, numbers),
    )
    if source.examples is not None:
        return dataclasses.replace(part, examples=source.examples[numbers])
    lookup = tf.constant(numbers)
    return dataclasses.replace(
        part,
        decode=lambda i: source.read(lookup[i]),
        describe=source.describe and (lambda i: source.describe(int(numbers[i]))),
    )
