"""Spatter: drops of water (severities 1 to 3) or of mud (4 and 5) on the lens.

Water is lit along the edges of its drops. Edges, distances and histogram are those of OpenCV's Canny,
distanceTransform and equalizeHist on bytes, as the published generator has them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from rmtjax.evaluation.corruptions.filters import (
    Image,
    Plane,
    Severity,
    at,
    correlate,
    gaussian_matrix,
    in_colour,
    separable,
)

_WATER, _MUD = (175 / 255, 238 / 255, 238 / 255), (63 / 255, 42 / 255, 20 / 255)
_WIDTHS = (0.7, 0.8, 1.0, 0.7, 0.5)  # of the drops' blur, pixels
_SMOOTH = 0.6  # of the mud's rim, pixels
_FARTHEST = 20  # distances beyond are cut off, pixels
_PIXEL = 10_000  # distances are whole numbers of so small a part: no sum of them is rounded
_RELIEF = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
# Chamfer distances of a 5 x 5 mask (Borgefors 1986, the constants of OpenCV's DIST_L2): straight, diagonal,
# knight.
_CHAMFER = {(0, 1): _PIXEL, (1, 1): 14_000, (1, 2): 21_969}


def spatter(image: Image, severity: Severity, key: Array) -> Image:
    """Drops of water or mud, where smoothed noise is above a threshold."""
    return _spatter(image, severity, jax.random.normal(key, image.shape[:2]))


def _spatter(image: Image, severity: Severity, white: Plane) -> Image:
    level, scale = at(severity, 0.62, 0.65, 0.65, 0.65, 0.65), at(severity, 0.1, 0.1, 0.3, 0.1, 0.1)
    threshold = at(severity, 0.7, 0.7, 0.69, 0.69, 0.68)
    liquid = (level + scale * white)[..., None]
    liquid = separable(liquid, severity, lambda s, side: gaussian_matrix(side, _WIDTHS[s - 1]))[..., 0]
    liquid = jnp.where(liquid < threshold, 0, liquid)
    water = jnp.clip(image + _water(liquid)[..., None] * in_colour(_WATER, image.shape[-1]), 0, 1)
    mud = _mud(liquid, threshold)[..., None]
    muddy = jnp.clip(image * (1 - mud) + mud * in_colour(_MUD, image.shape[-1]), 0, 1)
    return jnp.where(severity > 3, muddy, water)


def _mud(liquid: Plane, threshold: Float[Array, ""]) -> Plane:
    drops = (liquid > threshold).astype(jnp.float32)[..., None]
    rows, columns = (jnp.asarray(gaussian_matrix(side, _SMOOTH), jnp.float32) for side in liquid.shape)
    smooth = jnp.einsum("ih,jw,hw->ij", rows, columns, drops[..., 0], precision=jax.lax.Precision.HIGHEST)
    return jnp.where(smooth < 0.8, 0, smooth)


def _water(liquid: Plane) -> Plane:
    """How much of the colour of water is added: the liquid, lit along the edges of drops."""
    # The liquid is noise round .65 of small spread; beyond a byte it wraps, as numpy's conversion does.
    liquid = jnp.mod(jnp.floor(liquid * 255), 256)
    distance = _sum_of_9(chamfer_distance(canny(liquid, 50, 150))) // (9 * _PIXEL)
    relief = correlate(equalized(distance)[..., None], jnp.asarray(_RELIEF, jnp.float32))[..., 0]
    relief = _sum_of_9(jnp.clip(relief, 0, 255).astype(jnp.int32))
    lit = liquid * ((relief + 4) // 9).astype(jnp.float32)  # the mean, rounded
    most = jnp.max(lit)
    return 0.5 * lit / jnp.where(most > 0, most, 1)


def _sum_of_9(plane: Int[Array, "h w"]) -> Int[Array, "h w"]:
    """Over 3 x 3 pixels; the border pixel is the mirror."""
    rows = jnp.pad(plane, 1, mode="reflect")
    rows = rows[:-2] + rows[1:-1] + rows[2:]
    return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]


def canny(plane: Plane, low: int, high: int) -> Bool[Array, "h w"]:
    """Edges by Canny 1986 as in OpenCV: Sobel of side 3, L1 norm, 8-connected hysteresis.

    Args:
      plane: whole numbers in 0..255.
      low, high: thresholds for the norm of the gradient.
    """
    across, down = (_sobel(plane, axis) for axis in (1, 0))
    norm = jnp.abs(across) + jnp.abs(down)
    here, around = norm, _around(norm)
    # Tangents of 22.5 and 67.5 degrees in OpenCV's fixed point.
    x = jnp.abs(across) * 13573
    y = jnp.abs(down) << 15
    flat, steep = y < x, y > x + (jnp.abs(across) << 16)
    same_sign = (across < 0) == (down < 0)
    first = jnp.where(same_sign, around(-1, -1), around(-1, 1))
    second = jnp.where(same_sign, around(1, 1), around(1, -1))
    largest = jnp.where(
        flat,
        (here > around(0, -1)) & (here >= around(0, 1)),
        jnp.where(steep, (here > around(-1, 0)) & (here >= around(1, 0)), (here > first) & (here > second)),
    )
    candidates = largest & (here > low)

    def grow(state: tuple[Array, Array]) -> tuple[Array, Array]:
        edges, _ = state
        near = _around(edges)
        touched = edges
        for dy, dx in np.ndindex(3, 3):
            touched |= near(dy - 1, dx - 1)
        grown = touched & candidates
        return grown, jnp.any(grown != edges)

    edges: Array = jax.lax.while_loop(lambda s: s[1], grow, (candidates & (here > high), jnp.asarray(True)))[
        0
    ]
    return edges


def _sobel(plane: Plane, axis: int) -> Int[Array, "h w"]:
    padded = jnp.pad(plane, 1, mode="edge").astype(jnp.int32)
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) if axis else (
        padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    )  # fmt: skip
    return smooth[:, 2:] - smooth[:, :-2] if axis else smooth[2:] - smooth[:-2]


def _around(plane: Array) -> Callable[[int, int], Array]:
    """A function `(dy, dx)` of the values of a plane at that offset (at most 2); 0 or False outside."""
    height, width = plane.shape
    padded = jnp.pad(plane, 2)

    def shifted(dy: int, dx: int) -> Array:
        return padded[2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]

    return shifted


def chamfer_distance(edges: Bool[Array, "h w"]) -> Int[Array, "h w"]:
    """Distance to the nearest edge by steps of a 5 x 5 chamfer mask, at most 20, in pixels / 10,000."""
    steps = {(sy * a, sx * b): length for (one, other), length in _CHAMFER.items()
             for a, b in ((one, other), (other, one)) for sy in (-1, 1) for sx in (-1, 1)}  # fmt: skip
    farthest = _FARTHEST * _PIXEL

    def relax(state: tuple[Array, Array]) -> tuple[Array, Array]:
        distance, _ = state
        near = _around(distance - farthest)  # outside lies at the farthest
        closer = distance
        for (dy, dx), length in steps.items():
            closer = jnp.minimum(closer, near(dy, dx) + farthest + length)
        return closer, jnp.any(closer < distance)

    start = jnp.where(edges, 0, farthest)
    distance: Array = jax.lax.while_loop(lambda s: s[1], relax, (start, jnp.asarray(True)))[0]
    return distance


def equalized(plane: Int[Array, "h w"]) -> Plane:
    """Histogram equalisation of whole numbers in 0 .. 20 to 0 .. 255, as in OpenCV."""
    values = jnp.arange(_FARTHEST + 1)
    member = plane[..., None] == values[None, None]
    counts = jnp.sum(member, axis=(0, 1))
    lowest = counts[jnp.argmax(counts > 0)]
    rest = plane.size - lowest
    above = (jnp.cumsum(counts) - lowest).astype(jnp.float32)
    lut = jnp.round(above * (255 / jnp.where(rest > 0, rest, 1)))
    looked_up = jnp.sum(member.astype(jnp.float32) * jnp.maximum(lut, 0)[None, None], axis=-1)
    return jnp.where(rest > 0, looked_up, plane.astype(jnp.float32))
