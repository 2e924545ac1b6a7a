"""Augmentations: the identity at strength 0, published magnitudes, seeds of (seed, epoch, index)."""

import colorsys
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats

from rmtjax import config as config_lib
from rmtjax import data
from rmtjax.data import augmentations, geometry, modalities, pairs
from rmtjax.errors import InputError

OPS = list(augmentations.OPERATIONS)
NAMES = [op.__name__ for op in OPS]


@pytest.fixture(scope="module")
def digits():
    return data.take(data.load_source("digits", 16), np.arange(48))


def strengths(**values):
    config = config_lib.base().augment
    config.update(values)
    return data.augmentation(config)


def batches(source, augment, count=3, seed=5, **options):
    stream = data.train_batches(
        source, batch_size=options.pop("batch_size", 16), seed=seed, augment=augment, **options
    )
    return [next(stream) for _ in range(count)]


def draws(op, image, strength, count):
    """The operation on one image under `count` seeds."""
    seeds = np.stack([np.arange(count), np.full(count, 7)], axis=1).astype(np.int32)
    dataset = tf.data.Dataset.from_tensor_slices(seeds).map(
        lambda seed: op(tf.constant(image), seed, strength)
    )
    return next(dataset.batch(count).as_numpy_iterator())


def test_no_strength_is_no_augmentation(digits):
    assert strengths() is None
    assert set(NAMES) | {"mixup", "cutmix", "text"} == set(config_lib.base().augment)


@pytest.fixture(scope="module")
def plain(digits):
    return batches(digits, None)


def test_strength_0_is_the_identity_bit_for_bit(digits, plain):
    seeds = tf.zeros((48, 2), tf.int32)
    for op in OPS:
        np.testing.assert_array_equal(op(tf.constant(digits.inputs()), seeds, 0.0), digits.inputs())

    def all_of_them(image, seed):
        for op in OPS:
            image = op(image, seed, 0.0)
        return image

    for batch, other in zip(plain, batches(digits, all_of_them), strict=True):
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


@pytest.mark.parametrize("name", ["gaussian_noise", "auto_augment", "mixup", "cutmix"])
def test_the_config_s_strengths_reach_the_batches(name, digits, plain):
    for before, batch in zip(plain, batches(digits, strengths(**{name: 0.3})), strict=True):
        np.testing.assert_array_equal(before["index"], batch["index"])
        assert (before["inputs"] != batch["inputs"]).any(axis=(1, 2, 3)).sum() >= 2
        assert batch["inputs"].dtype == np.float32


def images_and_seeds(n, channels, size=(9, 12)):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (n, size[0] // 3 + 1, size[1] // 3 + 1, channels))
    pixels = coarse.repeat(3, 1).repeat(3, 2)[:, : size[0], : size[1]].astype(np.uint8)
    return pixels, rng.integers(0, 2**31, (n, 2)).astype(np.int32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("op", OPS, ids=NAMES)
def test_one_by_one_and_eager_equals_a_batch_inside_tf_data(op, channels):
    pixels, seeds = images_and_seeds(21, channels)
    images = pixels / np.float32(255)
    dataset = tf.data.Dataset.from_tensors((images, seeds)).map(lambda i, s: op(i, s, 0.7))
    inside = next(dataset.as_numpy_iterator())
    some = [0, 19, 20]
    outside = [op(tf.constant(images[k]), tf.constant(seeds[k]), 0.7).numpy() for k in some]
    np.testing.assert_array_equal(inside[some], np.stack(outside))
    assert inside.shape == images.shape
    assert inside.dtype == np.float32
    assert inside.min() >= 0
    assert inside.max() <= 1
    assert (inside != images).any(axis=(1, 2, 3)).sum() >= 9


@pytest.mark.parametrize("op", OPS, ids=NAMES)
def test_bytes_and_floats_agree(op):
    """Bytes as a source reads them, and floats divided by 255 by somebody else."""
    pixels, seeds = images_and_seeds(12, 3)
    ours, theirs = modalities.unit_floats(pixels), (pixels / 255.0).astype(np.float32)
    assert (ours != theirs).any()
    one, other = (op(tf.constant(images), tf.constant(seeds), 1.0) for images in (ours, theirs))
    # To the same bytes where the operation is on bytes, and closer than any byte elsewhere.
    np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


def test_what_is_drawn_depends_on_seed_epoch_and_index_alone(digits):
    augment = strengths(gaussian_noise=0.5, rand_augment=1.0, cutmix=0.5)

    def by_example(parts):  # of one epoch
        return {int(i): b["inputs"][k] for b in parts for k, i in enumerate(b["index"])}

    two_epochs = batches(digits, augment, count=6, batch_size=16)
    one = by_example(two_epochs[:3])
    other = by_example(batches(digits, augment, count=6, batch_size=8))
    assert one.keys() == other.keys()
    for i in one:
        np.testing.assert_array_equal(one[i], other[i])
    later = batches(digits, augment, count=2, start_step=2)
    for batch, same in zip(later, two_epochs[2:4], strict=True):
        np.testing.assert_array_equal(batch["inputs"], same["inputs"])
    half = [batches(digits, augment, count=1, process_index=p, process_count=2)[0]["inputs"] for p in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(half), two_epochs[0]["inputs"])
    second_epoch = by_example(two_epochs[3:])
    other_seed = by_example(batches(digits, augment, count=3, seed=6))
    assert all((one[i] != second_epoch[i]).any() and (one[i] != other_seed[i]).any() for i in one)


def test_one_operation_draws_the_same_beside_another(digits):
    def difference(**kwargs):
        return batches(digits, strengths(**kwargs), count=1)[0]["inputs"]

    # Noise comes last: subtracting the image under it leaves the same noise where nothing is clipped.
    alone, both = difference(gaussian_noise=0.1), difference(gaussian_noise=0.1, shift_crop=1.0)
    plain, shifted = difference(), difference(shift_crop=1.0)
    inner = (plain > 0.2) & (plain < 0.8) & (shifted > 0.2) & (shifted < 0.8)
    np.testing.assert_allclose((alone - plain)[inner], (both - shifted)[inner], atol=1e-6)
    assert inner.sum() > 100


def test_gaussian_noise_has_a_tenth_of_the_strength_as_standard_deviation():
    noise = draws(augmentations.gaussian_noise, np.full((16, 16, 3), 0.5, np.float32), 0.6, 40) - 0.5
    assert noise.std() == pytest.approx(0.06, rel=0.02)
    assert stats.kstest(noise[::4].ravel() / 0.06, "norm").pvalue > 1e-3


def test_shift_moves_whole_pixels_by_up_to_an_eighth():
    image = np.zeros((16, 32, 1), np.float32)
    image[8, 16] = 1.0
    for strength, tall, wide in ((1.0, 2, 4), (0.25, 1, 1)):
        moved = draws(augmentations.shift_crop, image, strength, 400)
        assert (moved.sum(axis=(1, 2, 3)) == 1).all()
        _, row, column, _ = np.nonzero(moved)
        assert set(row - 8) == set(range(-tall, tall + 1))
        assert set(column - 16) == set(range(-wide, wide + 1))
        # Uniform on +- m, rounded at random: mean 0.
        assert abs((column - 16).mean()) < 4 * wide / np.sqrt(400)


def test_rotation_is_about_the_centre_by_up_to_30_degrees():
    y, x = np.mgrid[-15.5:16, -15.5:16]
    bar = np.exp(-(y**2) / 8 - x**2 / 200).astype(np.float32)[..., None]
    turned = draws(augmentations.rotation, bar, 1.0, 100)[..., 0].astype(float)
    total = turned.sum(axis=(1, 2))
    np.testing.assert_allclose((turned * x).sum(axis=(1, 2)) / total, 0, atol=0.05)
    np.testing.assert_allclose((turned * y).sum(axis=(1, 2)) / total, 0, atol=0.05)
    moments = [(turned * m).sum(axis=(1, 2)) for m in (x * x - y * y, 2 * x * y)]
    angle = np.rad2deg(np.arctan2(moments[1], moments[0]) / 2)
    assert 25 < abs(angle).max() < 31
    assert abs(angle.mean()) < 4 * 30 / np.sqrt(3 * 100)


def test_erasing_has_the_strength_as_its_probability_and_the_published_area():
    erased = draws(augmentations.random_erasing, np.full((20, 20, 1), -1.0, np.float32), 0.4, 300) >= 0
    area = erased.mean(axis=(1, 2, 3))
    applied = area > 0
    assert applied.mean() == pytest.approx(0.4, abs=4 * np.sqrt(0.24 / 300))
    assert area[applied].min() >= 0.01
    assert area[applied].max() <= 0.44  # 0.4, up to rounding of the sides
    assert area[applied].mean() == pytest.approx(0.21, abs=0.05)
    for mask in erased[applied][..., 0]:  # one full rectangle
        assert mask.sum() == mask.any(0).sum() * mask.any(1).sum()


def test_contrast_and_brightness_are_factors_within_nine_tenths_of_the_strength():
    image = np.full((4, 4, 1), 0.2, np.float32)
    image[:2] = 0.4
    out = draws(augmentations.contrast_brightness, image, 0.5, 300)
    brightness = out.mean(axis=(1, 2, 3)) / 0.3
    contrast = (out[:, 0, 0, 0] - out[:, 3, 0, 0]) / 0.2 / brightness
    for factor in (brightness, contrast):
        assert stats.kstest(factor, "uniform", (0.55, 0.9)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("op", "axis"), [(augmentations.horizontal_flip, 1), (augmentations.vertical_flip, 0)]
)
def test_flips_have_the_strength_as_their_probability(op, axis):
    image = np.random.default_rng(0).random((5, 6, 3), np.float32)
    out = draws(op, image, 0.3, 400)
    flipped = (out == np.flip(image, axis)).all(axis=(1, 2, 3))
    assert flipped.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 400))
    np.testing.assert_array_equal(out[~flipped], np.broadcast_to(image, out[~flipped].shape))


def test_crops_have_the_published_areas_and_ratios_and_pillow_s_interpolation():
    y, x = np.mgrid[0:60, 0:60].astype(np.float32) / 60
    out = draws(augmentations.random_resized_crop, np.stack([y, x, 0 * x], axis=-1), 1.0, 400)
    # A linear ramp stays linear: its slope is the share of the side that is kept.
    tall = (out[:, 40, 30, 0] - out[:, 20, 30, 0]) * 3
    wide = (out[:, 30, 40, 1] - out[:, 30, 20, 1]) * 3
    area, ratio = tall * wide, wide / tall
    assert 0.07 < area.min() < 0.15
    assert 0.9 < area.max() <= 1.001
    assert ratio.min() == pytest.approx(3 / 4, abs=0.06)
    assert ratio.max() == pytest.approx(4 / 3, abs=0.09)
    small = area < 0.5  # all of these fit in, at any ratio: the area is uniform
    assert stats.kstest(area[small], "uniform", (0.08, 0.42)).pvalue > 1e-3
    half = draws(augmentations.random_resized_crop, np.stack([y, x, 0 * x], axis=-1), 0.5, 100)
    assert ((half[:, 40, 30, 0] - half[:, 20, 30, 0]) * 3).min() > np.sqrt(0.54 / (4 / 3) ** 0.5) - 0.03

    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    start, length = tf.constant([3.0]), tf.constant([11.0])
    rows = geometry._stretch(tf.constant(pixels[None], tf.float32), start, length, axis=1)
    ours = geometry._stretch(rows, tf.constant([7.0]), tf.constant([17.0]), axis=2)[0]
    theirs = Image.fromarray(pixels).crop((7, 3, 24, 14)).resize((30, 20), Image.Resampling.BILINEAR)
    assert abs(np.asarray(ours) - np.asarray(theirs)).max() <= 1  # Pillow rounds after each axis


def test_elastic_moves_by_half_a_pixel_smoothly():
    y, x = np.mgrid[0:64, 0:64].astype(np.float32)
    image = np.stack([y, x], axis=-1) / 80 + 0.1
    for strength in (1.0, 0.5):
        moved = (draws(augmentations.elastic, image, strength, 30) - image)[:, 20:44, 20:44] * 80
        # Uniform noise has s.d. 1/sqrt(3), smoothing divides by 2 sigma sqrt(pi); alpha / 2 pixels.
        expected = strength * 20 / np.sqrt(3) / (2 * 6 * np.sqrt(np.pi))
        assert moved.std() == pytest.approx(expected, rel=0.1)
        assert abs(moved.mean()) < 0.1
        near, far = (np.corrcoef(moved[:, :-k].ravel(), moved[:, k:].ravel())[0, 1] for k in (1, 20))
        assert near == pytest.approx(np.exp(-1 / (4 * 36)), abs=0.02)  # the correlation of smoothed noise
        assert abs(far) < 0.3


def test_colour_jitter_has_the_published_ranges():
    n = 300
    grey = draws(augmentations.colour_jitter, np.full((4, 4, 1), 0.4, np.float32), 1.0, n)
    brightness = grey[:, 0, 0, 0] / 0.4  # contrast of a flat image is nothing
    assert stats.kstest(brightness, "uniform", (0.2, 1.6)).pvalue > 1e-3
    image = np.full((4, 4, 3), 0.3, np.float32)
    image[..., 0] = 0.5
    out = draws(augmentations.colour_jitter, image, 0.5, n)
    hue = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in out[:, 0, 0]])
    hue = (hue + 0.5) % 1 - 0.5
    assert stats.kstest(hue, "uniform", (-0.1, 0.2)).pvalue > 1e-3


def test_mixup_mixes_each_example_with_one_partner():
    n = 40
    images = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None] / n, (n, 2, 2, 1)).copy()
    source = data.from_arrays("numbered", images, np.arange(n), [str(i) for i in range(n)])
    (batch,) = batches(source, strengths(mixup=1.0), count=1, batch_size=n)
    weight = batch["mix_weight"][:, None, None, None]
    expected = weight * images[batch["label"]] + (1 - weight) * images[batch["label_mix"]]
    np.testing.assert_allclose(batch["inputs"], expected, atol=1e-6)
    np.testing.assert_array_equal(np.sort(batch["label_mix"]), np.arange(n))  # the partners are a permutation
    assert (batch["label_mix"] != batch["label"]).sum() > n / 2
    assert batch["label_mix"].dtype == np.int32
    assert batch["mix_weight"].dtype == np.float32


def test_partners_are_of_the_same_origin_and_a_permutation():
    n = 24
    images = np.zeros((n, 4, 4, 1), np.float32)
    real = data.from_arrays("real", images, np.arange(n), [str(k) for k in range(n)])
    mixed = data.mix(data.take(real, range(16)), data.take(real, range(16)), "add", 0.5, 0)
    source = dataclasses.replace(mixed, labels=np.arange(n, dtype=np.int32))
    (batch,) = batches(source, strengths(mixup=1.0), count=1, batch_size=n)
    np.testing.assert_array_equal(np.sort(batch["label_mix"]), np.arange(n))
    np.testing.assert_array_equal(source.origin[batch["label_mix"]], batch["origin"])
    for kind in (0, 1):
        of_kind = batch["origin"] == kind
        assert (batch["label_mix"] != batch["label"])[of_kind].any()


def test_cutmix_cuts_a_rectangle_out_of_one_partner():
    n = 200
    images = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None] / n, (n, 12, 10, 1)).copy()
    source = data.from_arrays("numbered", images, np.arange(n), [str(i) for i in range(n)])
    (batch,) = batches(source, strengths(cutmix=1.0), count=1, batch_size=n)
    np.testing.assert_array_equal(np.sort(batch["label_mix"]), np.arange(n))
    number = np.rint(batch["inputs"][..., 0] * n).astype(int)
    own, other = batch["label"], batch["label_mix"]
    differ = own != other
    taken = number == other[:, None, None]
    assert (taken | (number == own[:, None, None])).all()
    np.testing.assert_allclose(1 - taken[differ].mean((1, 2)), batch["mix_weight"][differ], atol=1e-6)
    for mask in taken[differ]:
        assert mask.sum() == mask.any(0).sum() * mask.any(1).sum()
    # Sides are sqrt(1 - w) of the image's, centres anywhere: E[share] = E[1 - w] minus what is cut off.
    assert 0.2 < 1 - batch["mix_weight"].mean() < 0.5


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_mixup_weights_are_beta(alpha):
    seeds = np.stack([np.arange(500), np.zeros(500)], axis=1).astype(np.int32)
    odds = tf.data.Dataset.from_tensor_slices(seeds).map(lambda s: pairs.log_odds_of_beta(alpha, s))
    odds = next(odds.batch(500).as_numpy_iterator())
    assert stats.kstest(tf.sigmoid(odds).numpy(), "beta", (alpha, alpha)).pvalue > 1e-3


def test_mixup_of_a_tiny_alpha_leaves_one_of_the_two(digits):
    (batch,) = batches(digits, strengths(mixup=1e-3), count=1)
    assert np.isfinite(batch["inputs"]).all()
    assert (np.minimum(batch["mix_weight"], 1 - batch["mix_weight"]) < 1e-3).mean() > 0.9


def test_a_user_s_own_function(digits):
    (plain,), (inverted,) = (batches(digits, f, count=1) for f in (None, lambda image, seed: 1 - image))
    np.testing.assert_array_equal(inverted["inputs"], 1 - plain["inputs"])
    with pytest.raises(InputError, match="must keep the shape"):
        batches(digits, lambda image, seed: image[1:])
