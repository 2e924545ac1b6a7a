"""Corruptions against scipy, Pillow and colour conversions, and what severity must do."""

import colorsys
import itertools

import jax
import numpy as np
import PIL.Image
import pytest
from scipy.ndimage import gaussian_filter

from rmtjax import config, evaluation
from rmtjax.errors import InputError
from rmtjax.evaluation import CORRUPTIONS, corrupt

KEY = jax.random.key(0)


SHAPE = (32, 12, 16, 3)  # one for all tests of noise: each new shape is compiled


def images(n=3, h=16, w=16, c=1, seed=0):
    return np.random.default_rng(seed).random((n, h, w, c)).astype(np.float32)


def test_names_are_those_of_the_config():
    assert set(CORRUPTIONS) == set(config.CORRUPTIONS)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_severity_range_shape_and_seed(name):
    x = images(*SHAPE)
    distance = []
    for severity in range(1, 6):
        y = np.asarray(corrupt(x, name, severity, KEY))
        assert y.shape == x.shape
        assert y.dtype == np.float32
        assert y.min() >= 0
        assert y.max() <= 1
        np.testing.assert_array_equal(y, corrupt(x, name, severity, KEY))
        distance.append(np.mean((y - x) ** 2))
    assert all(a < b for a, b in itertools.pairwise(distance)), distance
    other = np.asarray(corrupt(x, name, 5, jax.random.key(1)))
    assert np.array_equal(other, y) != name.endswith("noise")


@pytest.mark.parametrize(("severity", "scale"), [(1, 0.04), (5, 0.10)])
def test_gaussian_noise_has_the_published_scale(severity, scale):
    y = np.asarray(corrupt(np.full(SHAPE, 0.5, np.float32), "gaussian_noise", severity, KEY))
    assert y.mean() == pytest.approx(0.5, abs=5 * scale / 135)
    assert y.std() == pytest.approx(scale, rel=0.03)


@pytest.mark.parametrize(("severity", "rate"), [(1, 500), (5, 50)])
def test_shot_noise_is_poisson(severity, rate):
    y = np.asarray(corrupt(np.full(SHAPE, 0.4, np.float32), "shot_noise", severity, KEY)) * rate
    np.testing.assert_allclose(y, np.round(y), atol=1e-3)
    assert y.mean() == pytest.approx(0.4 * rate, rel=0.02)
    assert y.var() == pytest.approx(0.4 * rate, rel=0.06)
    assert not np.any(corrupt(np.zeros(SHAPE, np.float32), "shot_noise", severity, KEY))


@pytest.mark.parametrize(("severity", "share"), [(1, 0.01), (5, 0.07)])
def test_impulse_noise_is_salt_and_pepper(severity, share):
    y = np.asarray(corrupt(np.full(SHAPE, 0.5, np.float32), "impulse_noise", severity, KEY))
    assert set(np.unique(y)) == {0.0, 0.5, 1.0}
    assert (y == 0).mean() == pytest.approx(share / 2, rel=0.3)
    assert (y == 1).mean() == pytest.approx(share / 2, rel=0.3)


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate((0.4, 0.6, 0.7, 0.8, 1.0), start=1)))
def test_gaussian_blur_equals_scipy(severity, sigma):
    x = images(h=9, w=16, c=3)
    expected = gaussian_filter(x.astype(np.float64), (0, sigma, sigma, 0), mode="nearest", truncate=4.0)
    np.testing.assert_allclose(corrupt(x, "gaussian_blur", severity, KEY), expected, atol=1e-6)


@pytest.mark.parametrize(("severity", "factor"), list(enumerate((0.75, 0.5, 0.4, 0.3, 0.15), start=1)))
def test_contrast_scales_the_deviations(severity, factor):
    x = images(c=3)
    y = np.asarray(corrupt(x, "contrast", severity, KEY))
    np.testing.assert_allclose(y.mean((1, 2)), x.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(y.std((1, 2)), factor * x.std((1, 2)), rtol=1e-4)


def test_brightness_adds_to_the_value_of_hsv():
    x = images(n=1, h=4, w=4, c=3)
    x[0, 0, 0] = 0  # black turns grey
    y = np.asarray(corrupt(x, "brightness", 3, KEY))
    for before, after in zip(x.reshape(-1, 3), y.reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before)
        np.testing.assert_allclose(after, colorsys.hsv_to_rgb(h, s, min(v + 0.15, 1)), atol=1e-6)
    grey = images()
    np.testing.assert_allclose(corrupt(grey, "brightness", 5, KEY), np.minimum(grey + 0.3, 1), atol=1e-6)


@pytest.mark.parametrize(("severity", "share"), list(enumerate((0.95, 0.9, 0.85, 0.75, 0.65), start=1)))
@pytest.mark.parametrize("side", [16, 32, 33])
def test_pixelate_equals_pillow(severity, share, side):
    x = images(n=1, h=side, w=side)
    coarse = int(side * share)
    picture = PIL.Image.fromarray(x[0, :, :, 0])
    for size in (coarse, side):
        picture = picture.resize((size, size), PIL.Image.Resampling.BOX)
    y = corrupt(x, "pixelate", severity, KEY)[0, :, :, 0]
    np.testing.assert_allclose(y, np.asarray(picture), atol=1e-6)


def test_constant_images_survive_what_only_moves_pixels():
    x = np.full((2, 16, 16, 1), 0.3, np.float32)
    for name in ("gaussian_blur", "pixelate", "contrast"):
        np.testing.assert_allclose(corrupt(x, name, 5, KEY), x, atol=1e-6)


def test_bad_input_is_one_sentence():
    x = images()
    for arguments, message in [
        ((x, "fog", 1, KEY), "unknown corruption 'fog'"),
        ((x, "contrast", 6, KEY), "severity=6"),
        ((x, "contrast", 0, KEY), "severity=0"),
        ((x * 255, "contrast", 1, KEY), r"scale them to \[0, 1\]"),
        ((x * np.float32(np.nan), "contrast", 1, KEY), r"scale them to \[0, 1\]"),
    ]:
        with pytest.raises(InputError, match=message):
            corrupt(*arguments)
    assert evaluation.corrupt(x[:0], "contrast", 1, KEY).shape == (0, 16, 16, 1)
