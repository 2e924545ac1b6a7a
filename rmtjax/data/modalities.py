"""What differs between images and texts: one object of a source, its modality."""

import numpy as np
import tensorflow as tf
from jaxtyping import Shaped

# Multiplied by, not divided by 255: tf.data rewrites such a division so, and results must not depend on who
# reads.
_BYTE = np.float32(1 / 255)


class Modality:
    """How the examples of a source become what a model gets; here they are that already.

    Rooms above this one look up what differs for them by `kind`.

    Attributes:
      kind: "images" or "texts".
      dtype: of a model's inputs.
      vocabulary_size: every token is below it; 0 where a model gets no tokens.
      mixable: whether mixup and CutMix apply.
      shifts: the value of `evaluation.shifts` that needs no other set, as it is written on a command line.
    """

    kind: str
    dtype: type[np.generic]
    vocabulary_size: int = 0
    mixable: bool
    shifts: str

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what a model gets of an example of this shape."""
        return shape

    def inputs(self, examples: tf.Tensor) -> tf.Tensor:
        """What a model gets of examples as `Source.read` gives them, augmented or not, inside tf.data."""
        return examples

    def arrays(self, examples: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """What a model gets of examples as they are stored."""
        return examples

    def shown(self, inputs: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """What a model got, for people to see."""
        return inputs

    def joined(
        self, other: "Modality", examples: Shaped[np.ndarray, "..."] | None
    ) -> tuple["Modality", Shaped[np.ndarray, "..."] | None]:
        """A modality for the examples of two sources, and the other's stored examples in its terms."""
        return self, examples


class Images(Modality):
    """Images, which may be stored as bytes: models get float32 in [0, 1]."""

    kind = "images"
    dtype = np.float32
    mixable = True
    shifts = "corrupted"

    def arrays(self, examples: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        return unit_floats(examples)


class Rows(Modality):
    """Rows of numbers: tokens of a model, or the words of a language model's texts."""

    kind = "texts"
    dtype = np.int32
    mixable = False
    shifts = "()"


IMAGES, ROWS = Images(), Rows()


def unit_floats(pixels: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """float32 in [0, 1] of uint8 in 0..255; other types stay as they are."""
    return pixels.astype(np.float32) * _BYTE if pixels.dtype == np.uint8 else pixels


def unit_tensor(pixels: tf.Tensor) -> tf.Tensor:
    """`unit_floats` inside tf.data, to the same bits."""
    return tf.cast(pixels, tf.float32) * _BYTE if pixels.dtype == tf.uint8 else pixels
