"""What all corruptions keep to, and the noise and the levels against their definitions."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.ndimage import gaussian_filter

from rmtjax import config, evaluation
from rmtjax.errors import InputError
from rmtjax.evaluation import CORRUPTIONS, corrupt
from rmtjax.evaluation import corruptions as corruptions_module
from rmtjax.evaluation.corruptions.noise import poisson

KEY = jax.random.key(0)
SHAPE = (8, 32, 24, 3)  # one for all tests: each new shape is compiled
# The distance from the image does not grow with every step of these, by their constants.
UNEVEN = {"glass_blur", "elastic_transform", "frost", "saturate", "spatter"}
DETERMINISTIC = {
    "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression",
    "gaussian_blur", "saturate",
}  # fmt: skip


def pictures(n=SHAPE[0], h=SHAPE[1], w=SHAPE[2], c=SHAPE[3], seed=0):
    """Smooth colours on a scale of bytes, as photographs are."""
    noise = np.random.default_rng(seed).normal(size=(n, h, w, c))
    smooth = gaussian_filter(noise, (0, 2, 2, 0)) * 1.3 + 0.5
    return (np.round(np.clip(smooth, 0, 1) * 255) / 255).astype(np.float32)


def flat(value):
    return np.full(SHAPE, value, np.float32)


def test_names_are_those_of_the_config():
    assert tuple(CORRUPTIONS) == config.CORRUPTIONS
    assert len(config.CIFAR10_C) == 15
    assert len(CORRUPTIONS) == 19


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_severity_range_shape_and_seed(name):
    x = pictures()
    distance = []
    for severity in range(1, 6):
        y = np.asarray(corrupt(x, name, severity, KEY))
        assert y.shape == x.shape
        assert y.dtype == np.float32
        assert y.min() >= 0
        assert y.max() <= 1
        distance.append(np.mean((y - x) ** 2))
    np.testing.assert_array_equal(y, corrupt(x, name, 5, KEY))
    assert min(distance) > 1e-6
    if name not in UNEVEN:
        assert np.all(np.diff(distance) >= 0), distance
        assert distance[4] > 1.5 * distance[0]
    other = np.asarray(corrupt(x, name, 5, jax.random.key(1)))
    assert np.array_equal(other, y) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", ["brightness", "saturate", "spatter", "jpeg_compression", "frost", "snow"])
def test_grey_images_have_the_grey_of_what_colour_images_have(name):
    """A picture whose channels are alike: what is done to it in colour is done to its grey level."""
    x = pictures(c=1)
    grey = np.asarray(corrupt(x, name, 4 if name == "spatter" else 2, KEY))
    colour = np.asarray(corrupt(np.repeat(x, 3, -1), name, 4 if name == "spatter" else 2, KEY))
    assert grey.shape == x.shape
    assert (name == "saturate") == np.array_equal(grey, x)
    luma = colour @ np.asarray([0.299, 0.587, 0.114], np.float32)
    differs = np.abs(grey[..., 0] - luma) > (2.01 / 255 if name == "jpeg_compression" else 1e-4)
    assert differs.mean() < 0.05  # where a texture or drop was clipped channel by channel, they may


def test_an_example_is_corrupted_alike_in_any_batch(monkeypatch):
    """Randomness belongs to the example's number; blocks of another size are another place in a batch."""
    x = pictures()
    whole = np.asarray(corrupt(x, "impulse_noise", 3, KEY))
    np.testing.assert_array_equal(
        corrupt(x[::-1], "impulse_noise", 3, KEY, index=np.arange(8)[::-1].copy()), whole[::-1]
    )
    monkeypatch.setattr(corruptions_module, "_ELEMENTS", 3 * x[0].size)
    np.testing.assert_array_equal(corrupt(x, "impulse_noise", 3, KEY), whole)


@pytest.mark.parametrize(("severity", "scale"), list(enumerate((0.04, 0.06, 0.08, 0.09, 0.10), 1)))
def test_gaussian_noise_has_the_published_scale(severity, scale):
    y = np.asarray(corrupt(flat(0.5), "gaussian_noise", severity, KEY))
    assert y.mean() == pytest.approx(0.5, abs=5 * scale / 135)
    assert y.std() == pytest.approx(scale, rel=0.03)


@pytest.mark.parametrize(("severity", "scale"), list(enumerate((0.06, 0.1, 0.12, 0.16, 0.2), 1)))
def test_speckle_noise_is_in_proportion(severity, scale):
    for level in (0.0, 0.25, 0.4):
        y = np.asarray(corrupt(flat(level), "speckle_noise", severity, KEY))
        assert y.std() == pytest.approx(scale * level, rel=0.03)
        assert y.mean() == pytest.approx(level, abs=5 * scale * level / 135)


@pytest.mark.parametrize(("severity", "rate"), list(enumerate((500, 250, 100, 75, 50), 1)))
def test_shot_noise_is_poisson(severity, rate):
    y = np.asarray(corrupt(flat(0.4), "shot_noise", severity, KEY)) * rate
    np.testing.assert_allclose(y, np.round(y), atol=1e-3)
    assert y.mean() == pytest.approx(0.4 * rate, rel=0.02)
    assert y.var() == pytest.approx(0.4 * rate, rel=0.06)
    assert not np.any(corrupt(flat(0), "shot_noise", severity, KEY))


@pytest.mark.parametrize("mean", [0, 0.3, 4, 9.9, 10, 11.5, 40, 500])
def test_poisson_counts_are_scipys_quantiles(mean):
    uniform = (np.arange(20000) + 0.5) / 20000
    counts = np.asarray(poisson(jnp.asarray(uniform, jnp.float32), jnp.full(20000, float(mean))))
    assert np.mean(counts != scipy.stats.poisson.ppf(uniform, mean)) < 1e-3
    assert np.max(np.abs(counts - scipy.stats.poisson.ppf(uniform, mean))) <= 1


@pytest.mark.parametrize(("severity", "share"), list(enumerate((0.01, 0.02, 0.03, 0.05, 0.07), 1)))
def test_impulse_noise_is_salt_and_pepper(severity, share):
    y = np.asarray(corrupt(flat(0.5), "impulse_noise", severity, KEY))
    assert set(np.unique(y)) == {0.0, 0.5, 1.0}
    assert (y == 0).mean() == pytest.approx(share / 2, rel=0.3)
    assert (y == 1).mean() == pytest.approx(share / 2, rel=0.3)


@pytest.mark.parametrize(("severity", "factor"), list(enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1)))
def test_contrast_scales_the_deviations(severity, factor):
    x = pictures()
    y = np.asarray(corrupt(x, "contrast", severity, KEY))
    np.testing.assert_allclose(y.mean((1, 2)), x.mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(y.std((1, 2)), factor * x.std((1, 2)), rtol=1e-4)


def in_hsv(x, change):
    """`change(h, s, v) -> s, v` of the first rows of the first picture, by the standard library."""
    out = []
    for pixel in x[0, :4].reshape(-1, 3):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        out.append(colorsys.hsv_to_rgb(h, *change(s, v)))
    return np.reshape(out, (4, -1, 3))


@pytest.mark.parametrize("severity", range(1, 6))
def test_brightness_and_saturation_are_those_of_hsv(severity):
    x = pictures()
    x[0, 0, 0] = 0  # black turns grey
    x[0, 0, 1] = 0.5  # grey turns red where saturation is added
    shift = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    expected = in_hsv(x, lambda s, v: (s, min(v + shift, 1)))
    np.testing.assert_allclose(corrupt(x, "brightness", severity, KEY)[0, :4], expected, atol=1e-6)
    scale, more = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    expected = in_hsv(x, lambda s, v: (min(s * scale + more, 1), v))
    np.testing.assert_allclose(corrupt(x, "saturate", severity, KEY)[0, :4], expected, atol=1e-6)


def test_constant_images_survive_what_only_moves_pixels():
    for name in ("gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
                 "elastic_transform",
                 "pixelate", "contrast"):  # fmt: skip
        np.testing.assert_allclose(corrupt(flat(0.3), name, 5, KEY), 0.3, atol=1e-5, err_msg=name)


def test_bad_input_is_one_sentence():
    x = pictures(n=2)
    for arguments, message in [
        ((x, "rain", 1, KEY), "unknown corruption 'rain'"),
        ((x, "contrast", 6, KEY), "severity=6"),
        ((x, "contrast", 0, KEY), "severity=0"),
        ((x * 255, "contrast", 1, KEY), r"scale them to \[0, 1\]"),
        ((x * np.float32(np.nan), "contrast", 1, KEY), r"scale them to \[0, 1\]"),
        ((x[..., :2], "contrast", 1, KEY), "have 2 channels"),
    ]:
        with pytest.raises(InputError, match=message):
            corrupt(*arguments)
    assert evaluation.corrupt(x[:0], "contrast", 1, KEY).shape == (0, 32, 24, 3)
