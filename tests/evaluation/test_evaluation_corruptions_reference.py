"""Spatial corruptions against NumPy, SciPy, Pillow and (stored) OpenCV, as CIFAR-10-C's generator uses them.

Random ones are functions of what was drawn: the same draws are given to both.
"""

import io
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage as ndi
from make_spatter_reference import white
from test_evaluation_corruptions import KEY, SHAPE, pictures

from rmtjax.evaluation import corrupt
from rmtjax.evaluation.corruptions import blur, digital, drops, weather

SEVERITIES = range(1, 6)
N, H, W, _ = SHAPE
RNG = np.random.default_rng(7)


def run(function, severity, x, *draws):
    """A random corruption's deterministic part on pictures and draws, compiled once for all severities."""
    programs = run.__dict__.setdefault("programs", {})
    program = programs.setdefault(function, jax.jit(jax.vmap(function, in_axes=(0, None, *[0] * len(draws)))))
    draws = [jnp.asarray(d, jnp.int32 if d.dtype.kind == "i" else jnp.float32) for d in draws]
    return np.asarray(program(jnp.asarray(x), jnp.int32(severity), *draws))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_equals_scipy(severity):
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    expected = ndi.gaussian_filter(
        pictures().astype(np.float64), (0, sigma, sigma, 0), mode="nearest", truncate=4.0
    )
    np.testing.assert_allclose(corrupt(pictures(), "gaussian_blur", severity, KEY), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur_equals_scipys_correlation_with_the_published_disk(severity):
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    side = np.arange(-8, 9)
    disk = (side[:, None] ** 2 + side**2 <= radius**2).astype(float)
    line = np.exp(-(np.arange(-1, 2) ** 2) / (2 * alias**2))
    kernel = ndi.convolve(disk / disk.sum(), np.outer(line, line) / line.sum() ** 2)
    expected = ndi.correlate(pictures().astype(np.float64), kernel[None, :, :, None], mode="mirror")
    np.testing.assert_allclose(corrupt(pictures(), "defocus_blur", severity, KEY), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_equals_the_loop_over_pixels(severity):
    sigma, rounds = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    x = pictures(n=2)
    offsets = RNG.integers(-1, 1, (2, 2, 2, H, W))
    for image, of_image, got in zip(x, offsets, run(blur._glass, severity, x, offsets), strict=True):
        out = ndi.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="nearest", truncate=4)
        for dy, dx in of_image[:rounds]:
            for h in range(H - 1, 1, -1):
                for w in range(W - 1, 1, -1):
                    out[h, w] = out[h + dy[h, w], w + dx[h, w]]
        out = ndi.gaussian_filter(out, (sigma, sigma, 0), mode="nearest", truncate=4)
        np.testing.assert_allclose(got, out, atol=1e-6)


def moved(image, radius, sigma, angle):
    """ImageMagick's MotionBlurImage, pixel by pixel of the line."""
    width = 2 * radius + 1
    kernel = np.array([math.exp(-(i * i) / (2 * sigma * sigma)) for i in range(width)])
    kernel /= kernel.sum()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    out = np.zeros(image.shape)
    for i, weight in enumerate(kernel):
        down = math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        right = math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        from_y, from_x = np.clip(y + down, 0, image.shape[0] - 1), np.clip(x + right, 0, image.shape[1] - 1)
        out += weight * image[from_y, from_x]
    return out


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur_equals_imagemagicks_kernel(severity):
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    angles = RNG.uniform(-45, 45, N)
    expected = [moved(x, radius, sigma, a) for x, a in zip(pictures(), angles, strict=True)]
    np.testing.assert_allclose(run(blur._motion, severity, pictures(), angles), expected, atol=1e-6)


def clipped_zoom(image, factor):
    """The middle of the image, zoomed to its size by scipy."""
    kept = [math.ceil(side / factor) for side in image.shape[:2]]
    top, left = ((side - k) // 2 for side, k in zip(image.shape[:2], kept, strict=True))
    zoomed = ndi.zoom(image[top : top + kept[0], left : left + kept[1]], (factor, factor, 1), order=1)
    trim = [(z - side) // 2 for z, side in zip(zoomed.shape[:2], image.shape[:2], strict=True)]
    return zoomed[trim[0] : trim[0] + image.shape[0], trim[1] : trim[1] + image.shape[1]]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur_equals_scipys_zooms(severity):
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    got = np.asarray(corrupt(pictures(), "zoom_blur", severity, KEY))
    for x, y in zip(pictures()[:2].astype(np.float64), got, strict=False):
        expected = (x + sum(clipped_zoom(x, f) for f in factors)) / (len(factors) + 1)
        np.testing.assert_allclose(y, expected, atol=2e-6)


def plasma(draws, decay, side=32):
    """Diamond-square in place on a torus, point by point."""
    draws, heights = iter(draws), np.zeros((side, side))
    step, level = side, 0
    while step >= 2:
        half, wibble = step // 2, (100 / decay**level) ** 2
        for oy, ox in ((half, half), (0, half), (half, 0)):  # centres, then the middles of the edges
            for y in range(oy, side, step):
                for x in range(ox, side, step):
                    away = [(-half, -half), (-half, half), (half, -half), (half, half)]
                    if (oy, ox) != (half, half):
                        away = [(-half, 0), (half, 0), (0, -half), (0, half)]
                    mean = np.mean([heights[(y + dy) % side, (x + dx) % side] for dy, dx in away])
                    heights[y, x] = mean + wibble * next(draws)
        step, level = half, level + 1
    heights -= heights.min()
    return heights / heights.max()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_equals_diamond_square_point_by_point(severity):
    thickness, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    x, draws = pictures(n=2), RNG.uniform(-1, 1, (2, 1023))
    for image, of_image, got in zip(x, draws, run(weather._fog, severity, x, draws), strict=True):
        foggy = image + thickness * plasma(of_image, decay)[:H, :W, None]
        expected = np.clip(foggy * image.max() / (image.max() + thickness), 0, 1)
        np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_equals_its_steps_in_scipy(severity):
    level, scale, zoom, threshold, radius, sigma, kept = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]  # fmt: skip
    noise, angles = RNG.normal(size=(N, H, W)), RNG.uniform(-135, -45, N)
    got = run(weather._snow, severity, pictures(), noise, angles)
    for x, white_noise, angle, y in zip(pictures(), noise, angles, got, strict=True):
        layer = clipped_zoom((level + scale * white_noise)[..., None], zoom)
        flakes = moved(np.where(layer < threshold, 0, np.clip(layer, 0, 1)), radius, sigma, angle)
        grey = (x @ [0.299, 0.587, 0.114])[..., None]
        whitened = kept * x + (1 - kept) * np.maximum(x, 1.5 * grey + 0.5)
        expected = np.clip(whitened + flakes + np.rot90(flakes, 2), 0, 1)
        np.testing.assert_allclose(y, expected, atol=1e-5)


def test_frost_mixes_a_texture_of_the_measured_statistics():
    rows = np.repeat(np.asarray(weather._FROST, np.float32), 60, 0)
    n = len(rows)
    texture = np.asarray(
        jax.vmap(lambda *a: weather._texture(*a, 3))(
            jnp.asarray(rows),
            jnp.asarray(RNG.normal(size=(n, 32, 32)), jnp.float32),
            jnp.asarray(RNG.normal(size=n), jnp.float32),
        )
    )  # fmt: skip
    for which, row in enumerate(weather._FROST):
        crops = texture[60 * which : 60 * (which + 1)]
        grey = crops.mean(-1)
        np.testing.assert_allclose(crops.mean((0, 1, 2)), row[:3], atol=4 * row[3] / np.sqrt(60) + 0.02)
        assert grey.std((1, 2)).mean() == pytest.approx(row[4], rel=0.1)
        power = np.abs(np.fft.rfft2(grey - grey.mean((1, 2), keepdims=True))).mean(0) ** 2
        assert math.log(power[0, 8] / power[0, 1], 8) == pytest.approx(-2 * row[5], abs=0.35)
    image = texture[:5] * 0.5
    for severity, (kept, added) in enumerate(((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)), 1):
        got = run(weather._frost, severity, image, texture[100:105])
        np.testing.assert_allclose(got, np.clip(kept * image + added * texture[100:105], 0, 1), atol=1e-6)


STORED = np.load(pathlib.Path(__file__).with_name("spatter_reference.npz"))


def test_edges_distances_and_histogram_equal_opencvs():
    """Bit for bit; the file is made by make_spatter_reference.py."""
    edges = jax.jit(jax.vmap(lambda plane: drops.canny(plane, 50, 150)))(STORED["bytes"].astype(np.float32))
    np.testing.assert_array_equal(edges, STORED["edges"])
    assert 0.05 < STORED["edges"].mean() < 0.5
    distance = np.asarray(jax.jit(jax.vmap(drops.chamfer_distance))(jnp.asarray(STORED["edges"])))
    np.testing.assert_allclose(distance / 10_000, STORED["distance"], rtol=1e-3)
    assert distance.max() > 5 * 10_000
    equalized = jax.jit(jax.vmap(drops.equalized))(jnp.asarray(distance // 10_000))
    np.testing.assert_array_equal(equalized, STORED["equalized"])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_spatter_lays_on_opencvs_mask(severity):
    mask = STORED[f"mask_{severity}"].astype(np.float64)[..., None]
    x = np.full((4, 32, 32, 3), 0.2, np.float32)
    colour = np.asarray((175, 238, 238) if severity < 4 else (63, 42, 20)) / 255
    expected = np.clip((x + mask * colour) if severity < 4 else (1 - mask) * x + mask * colour, 0, 1)
    np.testing.assert_allclose(run(drops._spatter, severity, x, white()), expected, atol=1e-3)
    assert mask.max() > 0.45


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform_equals_scipys_maps(severity):
    side = min(H, W)
    shares = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
    alpha, sigma, jitter = (side * share for share in shares[severity - 1])
    corners, fields = RNG.uniform(-1, 1, (N, 3, 2)), RNG.uniform(-1, 1, (N, 2, H, W))
    got = run(digital._elastic, severity, pictures(), corners, fields)
    centre, arm = np.asarray([W // 2, H // 2], float), side // 3
    y, x = np.mgrid[:H, :W].astype(float)
    for image, corner, field, out in zip(pictures().astype(np.float64), corners, fields, got, strict=True):
        points = np.stack([centre + arm, centre + np.asarray([arm, -arm]), centre - arm])
        after = np.c_[points + jitter * corner, np.ones(3)]
        back = np.linalg.solve(after, points)  # the affine map that takes the points back, [x y 1] @ back
        from_x, from_y = np.moveaxis(np.stack([x, y, np.ones_like(x)], -1) @ back, -1, 0)
        shift = [alpha * ndi.gaussian_filter(f, sigma, mode="reflect", truncate=3) for f in field]
        for channel in range(3):
            warped = ndi.map_coordinates(image[..., channel], [from_y, from_x], order=1, mode="mirror")
            expected = ndi.map_coordinates(warped, [y + shift[1], x + shift[0]], order=1, mode="reflect")
            np.testing.assert_allclose(out[..., channel], expected, atol=1e-4)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("shape", [(H, W), (33, 17)])
def test_pixelate_equals_pillow(severity, shape):
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    x = pictures() if shape == (H, W) else pictures(1, *shape, 1)
    height, width = shape
    picture = PIL.Image.fromarray(x[0, :, :, 0])
    for size in ((int(width * share), int(height * share)), (width, height)):
        picture = picture.resize(size, PIL.Image.Resampling.BOX)
    y = corrupt(x, "pixelate", severity, KEY)[0, :, :, 0]
    np.testing.assert_allclose(y, np.asarray(picture), atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("grey", [False, True])
def test_jpeg_compression_is_within_rounding_of_pillows_file(severity, grey):
    x = pictures()[..., :1] if grey else pictures()
    got = np.asarray(corrupt(x, "jpeg_compression", severity, KEY))
    np.testing.assert_allclose(got * 255, np.round(got * 255), atol=1e-3)
    difference, size = [], []
    for image, y in zip(x, got, strict=True):
        levels = np.round(image * 255).astype(np.uint8)
        file = io.BytesIO()
        PIL.Image.fromarray(levels[..., 0] if grey else levels).save(
            file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1]
        )
        read = np.asarray(PIL.Image.open(file), float).reshape(image.shape)
        difference.append(np.abs(y * 255 - read))
        size.append(np.abs(read - levels))
    # Where libjpeg's integers and our floats round a coefficient to different multiples, its block differs.
    assert np.mean(difference) < 0.12 * np.mean(size)
    assert np.mean(np.asarray(difference) > 1.01) < 0.1
