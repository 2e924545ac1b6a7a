"""The modality of a source: an object that holds what differs between images and texts."""

import numpy as np
import tensorflow as tf
from jaxtyping import Shaped

# A factor, not a division by 255: tf.data replaces such a division by a product, and results must not differ.
_BYTE = np.float32(1 / 255)


class Modality:
    """How stored examples become inputs of a model; in this base class they are inputs already.

    Rooms above this one decide by `kind`.

    Attributes:
      kind: "images" or "texts".
      dtype: dtype of the inputs of a model.
      vocabulary_size: a number above every token; 0 if a model gets no tokens.
      mixable: whether mixup and CutMix apply.
      shifts: the value of `evaluation.shifts` that needs no other set, as written on a command line.
    """

    kind: str
    dtype: type[np.generic]
    vocabulary_size: int = 0
    mixable: bool
    shifts: str

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the input of a model for an example of this shape."""
        return shape

    def inputs(self, examples: tf.Tensor) -> tf.Tensor:
        """The inputs of a model for examples from `Source.read`, augmented or not, inside tf.data."""
        return examples

    def arrays(self, examples: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """The inputs of a model for stored examples."""
        return examples

    def shown(self, inputs: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """The inputs of a model in a form that people can read."""
        return inputs

    def joined(
        self, other: "Modality", examples: Shaped[np.ndarray, "..."] | None
    ) -> tuple["Modality", Shaped[np.ndarray, "..."] | None]:
        """A modality for the examples of two sources, and the stored examples of the other one in it."""
        return self, examples


class Images(Modality):
    """Images, which may be stored as bytes; models get float32 in [0, 1]."""

    kind = "images"
    dtype = np.float32
    mixable = True
    shifts = "corrupted"

    def arrays(self, examples: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        return unit_floats(examples)


class Rows(Modality):
    """Rows of numbers: tokens of a model, or words of the texts of a language model."""

    kind = "texts"
    dtype = np.int32
    mixable = False
    shifts = "()"


IMAGES, ROWS = Images(), Rows()


def unit_floats(pixels: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Converts uint8 in 0..255 to float32 in [0, 1]; other types are not changed."""
    return pixels.astype(np.float32) * _BYTE if pixels.dtype == np.uint8 else pixels


def unit_tensor(pixels: tf.Tensor) -> tf.Tensor:
    """`unit_floats` inside tf.data, to the same bits."""
    return tf.cast(pixels, tf.float32) * _BYTE if pixels.dtype == tf.uint8 else pixels
