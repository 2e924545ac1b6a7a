"""Augmentation by a config: which operations, in which order, each with a strength in [0, 1].

An operation is a stateless function of images and seeds, `(images float32 [b, h, w, c] in [0, 1], seeds int32
[b, 2], strength)`, or of one image [h, w, c] and one seed [2]. It keeps shape and range. What happens to an
image depends on its own seed alone, and is the same eagerly and inside tf.data. Strength 0 returns the images
unchanged, bit for bit. If an operation has a published magnitude, strength is a fraction of it; otherwise it
is the probability that the operation is applied. Images may be grey; each operation documents what it does to
them.
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

# In the order in which they are applied, each with the number of its seed, which must never change, since it
# decides what is drawn. Auto1-3 of the paper are AutoAugment, flips, elastic and noise, in this order.
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
    """The changes that `train_batches` makes to examples.

    Attributes:
      image: an operation on images, or None.
      mixup: alpha of the weights of mixup; 0 means no mixup.
      cutmix: alpha of the weights of CutMix; 0 means no CutMix.
      batched: whether `image` takes batches of images [b, h, w, c] and seeds [b, 2], not one of each.
      modality: modality of the output of `image`, if it differs from that of the source: augmented texts may
        hold words that the source does not have.
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
    """The augmentation of the `augment` section of a config; None if all strengths are 0.

    Operations are applied in the order of `OPERATIONS`. Each draws from its own seed, so that switching one
    on does not change the draws of the others.

    Args:
      source: the training set; it is needed only for texts, whose operations are those of `edits`.
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
