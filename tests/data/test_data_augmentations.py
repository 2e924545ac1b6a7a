"""Each augmentation: the identity at strength 0, its published magnitude above, and seeded by (seed, epoch, index)."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from rmtjax import config as config_lib
from rmtjax import data
from rmtjax.data import augmentations
from rmtjax.errors import InputError

OPS = augmentations.OPERATIONS
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
    assert set(NAMES) | {"mixup"} == set(config_lib.base().augment)


@pytest.mark.parametrize("op", OPS, ids=NAMES)
def test_strength_0_is_the_identity_bit_for_bit(op, digits):
    image = digits.images([0])[0]
    np.testing.assert_array_equal(draws(op, image, 0.0, 3), np.stack([image] * 3))
    # Also within the pipeline, next to operations that do act: switching one on leaves the others' draws alone.
    plain, identity = batches(digits, None), batches(digits, lambda image, seed: op(image, seed, 0.0))
    for batch, other in zip(plain, identity, strict=True):
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


@pytest.mark.parametrize("name", [*NAMES, "mixup"])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_above_0_batches_differ_and_stay_in_range(name, strength, digits):
    for plain, batch in zip(
        batches(digits, None), batches(digits, strengths(**{name: strength})), strict=True
    ):
        np.testing.assert_array_equal(plain["index"], batch["index"])
        changed = (plain["inputs"] != batch["inputs"]).any(axis=(1, 2, 3))
        assert changed.sum() >= 2
        assert batch["inputs"].min() >= 0
        assert batch["inputs"].max() <= 1
        assert batch["inputs"].dtype == np.float32


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("op", OPS, ids=NAMES)
def test_eager_equals_tf_data(op, channels):
    rng = np.random.default_rng(0)
    images = rng.random((6, 9, 12, channels), np.float32)
    seeds = rng.integers(0, 2**31, (6, 2)).astype(np.int32)
    dataset = tf.data.Dataset.from_tensor_slices((images, seeds)).map(
        lambda image, seed: op(image, seed, 0.8)
    )
    inside = np.stack(list(dataset.as_numpy_iterator()))
    outside = np.stack(
        [op(tf.constant(i), tf.constant(s), 0.8).numpy() for i, s in zip(images, seeds, strict=True)]
    )
    np.testing.assert_allclose(inside, outside, atol=1e-6)
    assert outside.shape == images.shape


def test_what_is_drawn_depends_on_seed_epoch_and_index_alone(digits):
    augment = strengths(gaussian_noise=0.5, shift_crop=0.5, mixup=0.5)

    def by_example(parts):  # of the first epoch
        return {int(i): b["inputs"][k] for b in parts for k, i in enumerate(b["index"])}

    one = by_example(batches(digits, augment, count=3, batch_size=16))
    other = by_example(batches(digits, augment, count=6, batch_size=8))
    assert one.keys() == other.keys()
    for i in one:
        np.testing.assert_array_equal(one[i], other[i])
    later = batches(digits, augment, count=1, start_step=2)
    np.testing.assert_array_equal(later[0]["inputs"], batches(digits, augment, count=3)[2]["inputs"])
    half = [batches(digits, augment, count=1, process_index=p, process_count=2)[0]["inputs"] for p in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(half), batches(digits, augment, count=1)[0]["inputs"])
    second_epoch = by_example(batches(digits, augment, count=3, start_step=3))
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


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_mixup_weights_are_beta(alpha):
    seeds = np.stack([np.arange(500), np.zeros(500)], axis=1).astype(np.int32)
    odds = tf.data.Dataset.from_tensor_slices(seeds).map(lambda s: augmentations.log_odds_of_beta(alpha, s))
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
