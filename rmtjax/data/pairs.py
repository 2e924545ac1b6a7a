"""Mixtures of two examples: mixup and CutMix.

Both take images and their partners, float32 [b, h, w, c], seeds [b, 2] and the alpha of the weights'
distribution, and return the mixtures and the weights of the first images' labels, float32 [b].
"""

import tensorflow as tf

from rmtjax.data import draws

_WEIGHT, _CENTRE = 1000, 1001  # folded into an example's seed, apart from the operations' numbers


def mixup(
    images: tf.Tensor, others: tf.Tensor, seeds: tf.Tensor, alpha: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """w x_i + (1 - w) x_j with w ~ Beta(alpha, alpha) (Zhang et al. 2018; alpha 1 on CIFAR)."""
    weight = _weights(seeds, alpha)
    share = weight[:, None, None, None]
    return share * images + (1 - share) * others, weight


def cutmix(
    images: tf.Tensor, others: tf.Tensor, seeds: tf.Tensor, alpha: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """x_i with a rectangle from the same place of x_j (Yun et al. 2019; alpha 1).

    Its sides are sqrt(1 - w) of those of the image, with w ~ Beta(alpha, alpha), rounded down. Its centre is
    anywhere in the image, and what lies outside is cut off. The returned weight is the share of pixels that
    is left of x_i.
    """
    height, width = images.shape[1:3]
    share = tf.sqrt(1 - _weights(seeds, alpha))
    centre = draws.uniform(draws.fold_in(seeds, _CENTRE), 2)

    def inside(centre: tf.Tensor, size: int) -> tf.Tensor:
        length, middle = tf.cast(share * size, tf.int32), tf.cast(centre * size, tf.int32)
        start = (middle - length // 2)[:, None]
        return (tf.range(size) >= start) & (tf.range(size) < start + length[:, None])

    box = inside(centre[0], height)[:, :, None] & inside(centre[1], width)[:, None, :]
    taken = tf.reduce_sum(tf.cast(box, tf.int32), (1, 2))
    weight = 1 - tf.cast(taken, tf.float32) / (height * width)
    return tf.where(box[..., None], others, images), weight


def _weights(seeds: tf.Tensor, alpha: float) -> tf.Tensor:
    # One by one: gamma variables have no form for many seeds.
    return tf.map_fn(
        lambda seed: tf.sigmoid(log_odds_of_beta(alpha, seed)),
        draws.fold_in(seeds, _WEIGHT),
        fn_output_signature=tf.float32,
    )


def log_odds_of_beta(alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """log(w / (1 - w)) for a weight w ~ Beta(alpha, alpha), by one seed [2].

    It uses Gamma(alpha) = Gamma(alpha + 1) U^(1 / alpha) in logarithms. If they were drawn directly, both
    Gamma variables would underflow for a small alpha, and w would be 0 / 0.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    gamma = tf.random.stateless_gamma((2,), seeds[0], alpha=alpha + 1)
    uniform = 1 - tf.random.stateless_uniform((2,), seeds[1])  # in (0, 1]
    log_gamma = tf.math.log(gamma) + tf.math.log(uniform) / alpha
    return log_gamma[0] - log_gamma[1]
