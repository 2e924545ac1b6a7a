"""Augmentation by a config: which operations, in which order, each with a strength in [0, 1].

An operation is a stateless function of images and seeds, `(images float32 [b, h, w, c] in [0, 1], seeds int32
[b, 2], strength)`, or of one image [h, w, c] and one seed [2], that keeps shape and range. What happens to an
image is a function of its own seed alone, and the same eagerly and inside tf.data. Strength 0 returns the
images as they are, bit for bit. Where an operation has a published magnitude, strength is a fraction of it;
otherwise it is the probability that the operation is applied. Images may be grey; what colour means there,
each operation says.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from ml_collections import ConfigDict

from rmtjax.data import draws
from rmtjax.data.colour import colour_jitter, contrast_brightness, gaussian_noise, random_erasing
from rmtjax.data.edits import text_operation
from rmtjax.data.geometry import (
    elastic,
    horizontal_flip,
    random_resized_crop,
    rotation,
    shift_crop,
    vertical_flip,
)
from rmtjax.data.policies import aug_mix, auto_augment, auto_augment_cifar10, rand_augment, trivial_augment
from rmtjax.data.sources import Source
from rmtjax.data.tokens import Tokens

ImageOp = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# In the order in which they are applied, each with the number of its seed (which no later change may touch:
# it would change what is drawn). The paper's Auto1-3 are AutoAugment, flips, elastic and noise, in this
# order.
OPERATIONS = {
    auto_augment: 5,
    auto_augment_cifar10: 6,
    rand_augment: 7,
    trivial_augment: 8,
    aug_mix: 9,
    horizontal_flip: 10,
    vertical_flip: 11,
    random_resized_crop: 12,
    rotation: 0,
    shift_crop: 1,
    elastic: 13,
    colour_jitter: 14,
    contrast_brightness: 2,
    random_erasing: 3,
    gaussian_noise: 4,
}


class Augmentation(NamedTuple):
    """What `train_batches` does to examples.

    Attributes:
      image: an operation on images, or None.
      mixup: alpha of mixup's weights; 0: no mixup.
      cutmix: alpha of CutMix's weights; 0: no CutMix.
      batched: `image` takes batches of images [b, h, w, c] and seeds [b, 2], not one image and one seed.
      modality: of what `image` puts out, where it is not the source's: texts may hold words that no source
        has.
    """

    image: ImageOp | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    batched: bool = False
    modality: Tokens | None = None

    @property
    def mixes(self) -> bool:
        """Whether each example is mixed with another."""
        return bool(self.mixup or self.cutmix)


def augmentation(config: ConfigDict, source: Source | None = None) -> Augmentation | None:
    """The augmentation of a config's `augment` section; None where all strengths are 0.

    Args:
      source: the training set; needed for texts alone, whose operations are those of `edits`.

    Operations follow each other in the order of `OPERATIONS`. Each draws from its own seed, so that switching
    one on leaves the others' draws as they were.
    """
    return _BY_KIND[source.modality.kind if source is not None else "images"](config, source)


def _text_augmentation(config: ConfigDict, source: Source) -> Augmentation | None:
    edits = text_operation(config.text, source)
    return edits and Augmentation(edits[0], modality=edits[1])


def _image_augmentation(config: ConfigDict, source: Source | None) -> Augmentation | None:
    active = [
        (op, number, float(config[op.__name__])) for op, number in OPERATIONS.items() if config[op.__name__]
    ]

    def image_op(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        for op, number, strength in active:
            images = op(images, draws.fold_in(seeds, number), strength)
        return images

    if not active and not config.mixup and not config.cutmix:
        return None
    return Augmentation(
        image_op if active else None, float(config.mixup), float(config.cutmix), batched=bool(active)
    )


_BY_KIND = {"images": _image_augmentation, "texts": _text_augmentation}
