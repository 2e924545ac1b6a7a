"""Linear filters of one image that several corruptions use, with the borders of their original libraries."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

Image = Float[Array, "h w c"]
Plane = Float[Array, "h w"]
Severity = Int[Array, ""]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def at(severity: Severity, *constants: float | int) -> Float[Array, ""]:
    """The constant of a severity; the first one is that of severity 1."""
    return jnp.asarray(constants, jnp.float32)[severity - 1]


def grey(image: Image) -> Plane:
    """Luma of a colour image, the level of a grey one."""
    return image[..., 0] if image.shape[-1] == 1 else image @ jnp.asarray(LUMA)


def in_colour(colour: tuple[float, float, float], channels: int) -> Float[Array, "1 1 c"]:
    """A colour for images of that many channels: its luma if they are grey."""
    levels = colour if channels == 3 else [np.dot(colour, LUMA)]
    return jnp.asarray(levels, jnp.float32)[None, None]


def separable(
    image: Image, severity: Severity, matrix: Callable[[int, int], Float[np.ndarray, "s s"]]
) -> Image:
    """Applies one matrix to the rows and one to the columns of every channel.

    Args:
      matrix: `(severity from 1, side) -> [side, side]`; its rows are weights of the old pixels.
    """
    height, width, _ = image.shape
    rows, columns = (
        jnp.asarray(np.stack([matrix(s, side) for s in range(1, 6)]), jnp.float32)[severity - 1]
        for side in (height, width)
    )
    return between(rows, image, columns)


def between(rows: Float[Array, "i h"], image: Image, columns: Float[Array, "j w"]) -> Float[Array, "i j c"]:
    """rows @ channel @ columns^T for every channel."""
    return jnp.einsum("ih,jw,hwc->ijc", rows, columns, image, precision=jax.lax.Precision.HIGHEST)


def gaussian_matrix(
    side: int, sigma: float, border: str = "edge", truncate: float = 4.0
) -> Float[np.ndarray, "s s"]:
    """Convolution with a Gaussian, as in scipy.ndimage.gaussian_filter1d.

    Args:
      border: "edge" (scipy's nearest) or "symmetric" (scipy's reflect).
      truncate: number of standard deviations after which the kernel ends.
    """
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / max(sigma, 1e-3)) ** 2)
    kernel /= kernel.sum()
    source = np.pad(np.arange(side), radius, mode=border)  # type: ignore[call-overload]
    matrix = np.zeros((side, side))
    for start, weight in enumerate(kernel):
        matrix[np.arange(side), source[start : start + side]] += weight
    return matrix


def correlate(image: Image, kernel: Float[Array, "k k"]) -> Image:
    """OpenCV's filter2D for a small kernel of odd side; borders are mirrored at pixels (reflect 101)."""
    radius, (height, width, _) = kernel.shape[0] // 2, image.shape
    padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    total = jnp.zeros_like(image)
    for y in range(kernel.shape[0]):
        for x in range(kernel.shape[1]):
            total += kernel[y, x] * padded[y : y + height, x : x + width]
    return total


def motion(
    image: Image,
    radius: Float[Array, ""],
    sigma: Float[Array, ""],
    angle: Float[Array, ""],
    longest: int,
) -> Image:
    """ImageMagick's MotionBlurImage: half a Gaussian along a line of whole pixels.

    Outside the image the values of the border are repeated.

    Args:
      radius: 2 * radius + 1 pixels are averaged.
      sigma: standard deviation of the Gaussian, in pixels.
      angle: angle of the line, in degrees.
      longest: the largest radius that can occur.
    """
    height, width, channels = image.shape
    reach = 2 * longest
    step = jnp.arange(reach + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * (step / sigma) ** 2) * (step <= 2 * radius).astype(jnp.float32)
    weights /= jnp.sum(weights)
    radians = jnp.deg2rad(angle)
    down = jnp.ceil(step * jnp.sin(radians) - 0.5).astype(jnp.int32)
    right = jnp.ceil(step * jnp.cos(radians) - 0.5).astype(jnp.int32)
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")

    def add(total: Image, tap: tuple[Array, Array, Array]) -> tuple[Image, None]:
        weight, y, x = tap
        moved = jax.lax.dynamic_slice(padded, (reach + y, reach + x, 0), (height, width, channels))
        return total + weight * moved, None

    total: Image = jax.lax.scan(add, jnp.zeros_like(image), (weights, down, right))[0]
    return total


def zoom_matrix(side: int, factor: float) -> Float[np.ndarray, "s s"]:
    """The published clipped_zoom of one side: its middle, zoomed by `factor` (at least 1) to the whole side.

    ceil(side / factor) pixels are interpolated linearly to round(that * factor), end to end as in
    scipy.ndimage.zoom, and the middle is kept.
    """
    kept = int(np.ceil(side / factor))
    top, zoomed = (side - kept) // 2, round(kept * factor)
    place = np.arange(zoomed) * (kept - 1) / max(zoomed - 1, 1)
    low = np.minimum(place.astype(int), max(kept - 2, 0))
    matrix = np.zeros((zoomed, side))
    matrix[np.arange(zoomed), top + low] = 1 - (place - low)
    matrix[np.arange(zoomed), np.minimum(top + low + 1, side - 1)] += place - low
    trim = (zoomed - side) // 2
    return matrix[trim : trim + side]


def bilinear(image: Image, y: Plane, x: Plane, border: str) -> Image:
    """The image at places (y, x), interpolated between pixels.

    Args:
      border: how the image continues outside: "reflect" (mirrored at the centre of the border pixel) or
        "symmetric" (mirrored at its edge).
    """
    height, width, channels = image.shape
    flat = image.reshape(-1, channels)
    total = jnp.zeros_like(image)
    for near_y, weight_y in _neighbours(y):
        for near_x, weight_x in _neighbours(x):
            where = _folded(near_y, height, border) * width + _folded(near_x, width, border)
            total += (weight_y * weight_x)[..., None] * flat[where]
    return total


def _neighbours(place: Plane) -> Sequence[tuple[Int[Array, "h w"], Plane]]:
    low = jnp.floor(place)
    return [(low.astype(jnp.int32), 1 - (place - low)), (low.astype(jnp.int32) + 1, place - low)]


def _folded(index: Int[Array, "h w"], side: int, border: str) -> Int[Array, "h w"]:
    """Reflects whole numbers into 0 .. side - 1."""
    period = max(2 * side - 2, 1) if border == "reflect" else 2 * side
    index = jnp.mod(index, period)
    return jnp.where(index < side, index, period - index - int(border == "symmetric"))
