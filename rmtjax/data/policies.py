"""Augmentation policies that draw operations for each image from published tables.

The tables and magnitudes are those of torchvision 0.29, which Ba et al. (2024) used: nearest neighbours and
black outside. Each function takes (images float32 [b, h, w, c] in [0, 1], seeds int32 [b, 2], strength), or
one image [h, w, c] and one seed [2]. **Strength is the probability that the policy is applied to an image**,
at its published magnitudes; other images are not changed, bit for bit. The operations work on bytes: floats
are rounded to the nearest of 0, 1/255 ... 1, so that an image stored as bytes and its float version give the
same result.
"""

import numpy as np
import tensorflow as tf

from rmtjax.data import byte_ops, draws
from rmtjax.data.draws import of_batches
from rmtjax.data.modalities import unit_tensor

# Sub-policies (operation, probability, magnitude's number of ten), Cubuk et al. 2019 (1805.09501), table 9
# and 7.
_IMAGENET = """
posterize .4 8 rotate .6 9 | solarize .6 5 autocontrast .6 0 | equalize .8 0 equalize .6 0
posterize .6 7 posterize .6 6 | equalize .4 0 solarize .2 4 | equalize .4 0 rotate .8 8
solarize .6 3 equalize .6 0 | posterize .8 5 equalize 1 0 | rotate .2 3 solarize .6 8
equalize .6 0 posterize .4 6 | rotate .8 8 color .4 0 | rotate .4 9 equalize .6 0
equalize 0 0 equalize .8 0 | invert .6 0 equalize 1 0 | color .6 4 contrast 1 8
rotate .8 8 color 1 2 | color .8 8 solarize .8 7 | sharpness .4 7 invert .6 0
shear_x .6 5 equalize 1 0 | color .4 0 equalize .6 0 | equalize .4 0 solarize .2 4
solarize .6 5 autocontrast .6 0 | invert .6 0 equalize 1 0 | color .6 4 contrast 1 8
equalize .8 0 equalize .6 0
"""
_CIFAR10 = """
invert .1 0 contrast .2 6 | rotate .7 2 translate_x .3 9 | sharpness .8 1 sharpness .9 3
shear_y .5 8 translate_y .7 9 | autocontrast .5 0 equalize .9 0 | shear_y .2 7 posterize .3 7
color .4 3 brightness .6 7 | sharpness .3 9 brightness .7 9 | equalize .6 0 equalize .5 0
contrast .6 7 sharpness .6 5 | color .7 7 translate_x .5 8 | equalize .3 0 autocontrast .4 0
translate_y .4 3 sharpness .2 6 | brightness .9 6 color .2 8 | solarize .5 2 invert 0 0
equalize .2 0 autocontrast .6 0 | equalize .2 0 equalize .6 0 | color .9 9 equalize .6 0
autocontrast .8 0 solarize .2 8 | brightness .1 3 color .7 0 | solarize .4 5 autocontrast .9 0
translate_y .9 9 translate_y .7 9 | autocontrast .9 0 solarize .8 3 | equalize .8 0 invert .1 0
translate_y .7 9 autocontrast .9 0
"""

_ENHANCEMENTS = ("brightness", "color", "contrast", "sharpness")
_SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", *_ENHANCEMENTS)
_RANDOM = ("identity", *_SIGNED, "posterize", "solarize", "autocontrast", "equalize")
_RANDOM_BINS, _RANDOM_LEVEL, _RANDOM_LAYERS = 31, 9, 2  # RandAugment: magnitude 9 of 0..30, N = 2
_MIX_BINS, _MIX_SEVERITY, _MIX_CHAINS, _MIX_DEPTH = 10, 3, 3, 3  # AugMix


def _magnitudes(name: str, bins: int, height: int, width: int) -> np.ndarray:
    """The magnitudes numbered 0..bins - 1 of AutoAugment and RandAugment."""
    largest = {
        "shear_x": 0.3,
        "shear_y": 0.3,
        "translate_x": 150 / 331 * width,
        "translate_y": 150 / 331 * height,
        "rotate": 30.0,
    }
    largest |= dict.fromkeys(_ENHANCEMENTS, 0.9)
    return _scale(name, bins, largest, bits=(8, 4))


def _wide_magnitudes(name: str, bins: int) -> np.ndarray:
    """The magnitudes of TrivialAugmentWide, for any size of image."""
    largest = {"shear_x": 0.99, "shear_y": 0.99, "translate_x": 32.0, "translate_y": 32.0, "rotate": 135.0}
    largest |= dict.fromkeys(_ENHANCEMENTS, 0.99)
    return _scale(name, bins, largest, bits=(8, 6))


def _mix_magnitudes(name: str, bins: int, height: int, width: int) -> np.ndarray:
    """The magnitudes of AugMix."""
    largest = {
        "shear_x": 0.3,
        "shear_y": 0.3,
        "translate_x": width / 3,
        "translate_y": height / 3,
        "rotate": 30.0,
    }
    largest |= dict.fromkeys(_ENHANCEMENTS, 0.9)
    return _scale(name, bins, largest, bits=(4, 4))


def _scale(name: str, bins: int, largest: dict[str, float], bits: tuple[int, int]) -> np.ndarray:
    if name == "posterize":  # bits kept: from the first down by the second
        return bits[0] - np.round(np.arange(bins) / ((bins - 1) / bits[1]))
    if name == "solarize":
        return np.linspace(255.0, 0.0, bins)
    return np.linspace(0.0, largest.get(name, 0.0), bins)


def _both_signs(name: str, magnitude: float) -> list[tuple[str, float]]:
    """Both signs of each operation; an operation without a sign occurs twice, so that draws are uniform."""
    return [(name, magnitude), (name, -magnitude if name in _SIGNED else magnitude)]


@of_batches
def auto_augment(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """AutoAugment with the policy found on ImageNet (Cubuk et al. 2019)."""
    return _auto_augment(images, seeds, strength, _IMAGENET)


@of_batches
def auto_augment_cifar10(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """AutoAugment with the policy found on CIFAR-10 (Cubuk et al. 2019)."""
    return _auto_augment(images, seeds, strength, _CIFAR10)


def _auto_augment(images: tf.Tensor, seeds: tf.Tensor, strength: float, policy: str) -> tf.Tensor:
    words = np.array(policy.replace("|", " ").split()).reshape(-1, 2, 3)  # sub-policies of two operations
    operations = [("identity", 0.0)]
    for name, _, level in words.reshape(-1, 3):
        operations += _both_signs(name, _magnitudes(name, 10, *images.shape[1:3])[int(level)])
    apply, which, *rest = draws.uniform(seeds, 6)
    first = 2 * _index(which, len(words))
    layers = []
    for k in range(2):
        happens, sign = rest[2 * k : 2 * k + 2]
        probability = tf.gather(tf.constant(words[:, k, 1].astype(np.float32)), first // 2)
        layers.append(tf.where(happens < probability, 1 + 2 * (first + k) + _index(sign, 2), 0))
    return _apply_layers(images, layers, operations, apply < strength)


@of_batches
def rand_augment(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """RandAugment (Cubuk et al. 2020, 1909.13719): two of 14 operations at magnitude 9 of 0..30."""
    operations = []
    for name in _RANDOM:
        operations += _both_signs(name, _magnitudes(name, _RANDOM_BINS, *images.shape[1:3])[_RANDOM_LEVEL])
    apply, *which = draws.uniform(seeds, 1 + _RANDOM_LAYERS)
    return _apply_layers(images, [_index(u, len(operations)) for u in which], operations, apply < strength)


@of_batches
def trivial_augment(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """TrivialAugmentWide (Müller & Hutter 2021, 2103.10158): one of 14 operations, 31 magnitudes."""
    operations = []
    for name in _RANDOM:
        for magnitude in _wide_magnitudes(name, _RANDOM_BINS):
            operations += _both_signs(name, magnitude)
    apply, which = draws.uniform(seeds, 2)
    return _apply_layers(images, [_index(which, len(operations))], operations, apply < strength)


@of_batches
def aug_mix(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """AugMix (Hendrycks et al. 2020, 1912.02781), severity 3: the image mixed with three chains.

    Chains have 1 to 3 of all 13 operations. The weights of the chains are Dirichlet(1, 1, 1), that between
    image and chains is Beta(1, 1). The chains are bytes; the mixture is not rounded.
    """
    names = [name for name in _RANDOM if name != "identity"]
    operations = [("identity", 0.0)]
    for name in names:
        for magnitude in _mix_magnitudes(name, _MIX_BINS, *images.shape[1:3])[:_MIX_SEVERITY]:
            operations += _both_signs(name, magnitude)
    apply, image_weight, *rest = draws.uniform(seeds, 2 + _MIX_CHAINS * (2 + _MIX_DEPTH))
    # In double precision: a logarithm's last bit depends on where in a vector it is computed.
    exponential = -tf.math.log(1 - tf.cast(tf.stack(rest[:_MIX_CHAINS]), tf.float64))
    weights = tf.cast(exponential / tf.reduce_sum(exponential, axis=0), tf.float32)  # [chains, b]
    depth = _index(tf.stack(rest[_MIX_CHAINS : 2 * _MIX_CHAINS]), _MIX_DEPTH)
    which = tf.reshape(tf.stack(rest[2 * _MIX_CHAINS :]), (_MIX_DEPTH, _MIX_CHAINS, -1))
    layers = [
        tf.reshape(tf.where(k <= depth, 1 + _index(which[k], len(operations) - 1), 0), [-1])
        for k in range(_MIX_DEPTH)
    ]
    table = byte_ops.table(operations, *images.shape[1:3])
    chains = tf.tile(_as_bytes(images), (_MIX_CHAINS, 1, 1, 1))
    for chosen in layers:
        chains = byte_ops.apply(chains, chosen, table)
    chains = unit_tensor(tf.reshape(chains, (_MIX_CHAINS, -1, *images.shape[1:])))
    weights *= 1 - image_weight
    mixed = image_weight[:, None, None, None] * images
    for k in range(_MIX_CHAINS):
        mixed += weights[k][:, None, None, None] * chains[k]
    return draws.choose(apply < strength, tf.clip_by_value(mixed, 0.0, 1.0), images)


def _apply_layers(
    images: tf.Tensor, layers: list[tf.Tensor], operations: list[tuple[str, float]], applied: tf.Tensor
) -> tf.Tensor:
    table = byte_ops.table(operations, *images.shape[1:3])
    out = _as_bytes(images)
    for chosen in layers:
        out = byte_ops.apply(out, chosen, table)
    return draws.choose(applied, unit_tensor(out), images)


def _index(uniform: tf.Tensor, count: int) -> tf.Tensor:
    """Converts uniform numbers in [0, 1) to uniform int32 in 0..count - 1."""
    return tf.minimum(tf.cast(uniform * count, tf.int32), count - 1)


def _as_bytes(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(images * 255.0), tf.uint8)
