"""Digital: elastic deformation, pixelation and JPEG compression."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from rmtjax.evaluation.corruptions.filters import (
    Image,
    Plane,
    Severity,
    at,
    bilinear,
    gaussian_matrix,
    separable,
)

_QUALITY = (80, 65, 58, 50, 40)
# Tables K.1 and K.2 of ITU-T T.81 (JPEG), for quality 50.
_LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *((99,) * 8 for _ in range(4)),
)  # fmt: skip


def elastic_transform(image: Image, severity: Severity, key: Array) -> Image:
    """A random affine map, then smooth random displacements of every pixel, in shares of the image's side."""
    height, width, _ = image.shape
    uniform = jax.random.uniform(key, (6 + 2 * height * width,), minval=-1, maxval=1)
    return _elastic(image, severity, uniform[:6].reshape(3, 2), uniform[6:].reshape(2, height, width))


def _elastic(
    image: Image, severity: Severity, corners: Float[Array, "3 2"], field: Float[Array, "2 h w"]
) -> Image:
    """Moves three points (x, y) by `corners`, and all pixels by displacements (x, y) made from `field`."""
    height, width, _ = image.shape
    side = min(height, width)
    widths = [share * side for share in (0.0, 0.2, 0.06, 0.04, 0.03)]
    centre, arm = jnp.asarray([width // 2, height // 2], jnp.float32), side // 3
    points = centre[None] + arm * jnp.asarray([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    moved = points + at(severity, 0.08, 0.07, 0.06, 0.05, 0.03) * side * corners
    # Each output pixel is looked up in the input, so the map is the inverse of the movement.
    back = (points[:2] - points[2:]).T @ _inverse((moved[:2] - moved[2:]).T)
    x, y = jnp.meshgrid(jnp.arange(width, dtype=jnp.float32), jnp.arange(height, dtype=jnp.float32))
    offset = jnp.stack([x - moved[2, 0], y - moved[2, 1]])
    from_x, from_y = (points[2, i] + back[i, 0] * offset[0] + back[i, 1] * offset[1] for i in (0, 1))
    warped = bilinear(image, from_y, from_x, "reflect")

    smooth = separable(
        jnp.moveaxis(field, 0, -1),
        severity,
        lambda s, n: gaussian_matrix(n, widths[s - 1], border="symmetric", truncate=3.0),
    )
    shift = at(severity, 0, 0.05, 0.08, 0.1, 0.1) * side * smooth
    return jnp.clip(bilinear(warped, y + shift[..., 1], x + shift[..., 0], "symmetric"), 0, 1)


def _inverse(m: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    determinant = m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]
    return jnp.stack([jnp.stack([m[1, 1], -m[0, 1]]), jnp.stack([-m[1, 0], m[0, 0]])]) / determinant


def pixelate(image: Image, severity: Severity, key: Array) -> Image:
    """Downsamples to a share of the side with a box filter and back up to the nearest pixel."""
    del key
    shares = (0.95, 0.9, 0.85, 0.75, 0.65)
    return jnp.clip(separable(image, severity, lambda s, side: _pixelate_matrix(side, shares[s - 1])), 0, 1)


def _pixelate_matrix(side: int, share: float) -> Float[np.ndarray, "s s"]:
    """The matrix that maps a side to int(share * side) pixels and back; rows are weights of old pixels.

    A pixel belongs to a coarse one if its centre does, as in Pillow's box filter.
    """
    coarse = max(1, int(share * side))
    scale = side / coarse
    centres = (np.arange(coarse) + 0.5) * scale
    distance = (np.arange(side)[None, :] + 0.5 - centres[:, None]) / scale
    down = ((distance > -0.5) & (distance <= 0.5)).astype(np.float64)
    down /= down.sum(axis=1, keepdims=True)
    nearest = np.minimum(((np.arange(side) + 0.5) / scale).astype(int), coarse - 1)
    return np.asarray(down[nearest])


def jpeg_compression(image: Image, severity: Severity, key: Array) -> Image:
    """JPEG as libjpeg writes and reads it at qualities 80 to 40.

    It has 4:2:0 subsampling, standard tables, and smooth upsampling of chroma. The entropy coding is lossless
    and therefore left out.
    """
    del key
    levels = jnp.round(image * 255)
    luma_steps, chroma_steps = (
        jnp.asarray(np.stack([_steps(table, q) for q in _QUALITY]), jnp.float32)[severity - 1]
        for table in (_LUMA_STEPS, _CHROMA_STEPS)
    )
    if image.shape[-1] == 1:
        return _coded(levels[..., 0], luma_steps)[..., None] / 255
    # JFIF's YCbCr, every plane rounded to bytes.
    red, green, blue = (levels[..., c] for c in range(3))
    luma = jnp.round(0.299 * red + 0.587 * green + 0.114 * blue)
    chroma = [
        jnp.round(128 - 0.168735892 * red - 0.331264108 * green + 0.5 * blue),
        jnp.round(128 + 0.5 * red - 0.418687589 * green - 0.081312411 * blue),
    ]
    luma = _coded(luma, luma_steps)
    cb, cr = (_upsampled(_coded(_halved(c), chroma_steps), *image.shape[:2]) - 128 for c in chroma)
    colours = [luma + 1.402 * cr, luma - 0.344136286 * cb - 0.714136286 * cr, luma + 1.772 * cb]
    return jnp.round(jnp.clip(jnp.stack(colours, -1), 0, 255)) / 255


def _steps(table: tuple[tuple[int, ...], ...], quality: int) -> Float[np.ndarray, "8 8"]:
    """A quantisation table at a quality of 1 to 100, by libjpeg's rule."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.asarray(np.clip((np.asarray(table) * percent + 50) // 100, 1, 255), float)


def _dct_matrix() -> Float[np.ndarray, "8 8"]:
    """The orthonormal DCT of 8 values: rows are frequencies."""
    frequency, place = np.mgrid[:8, :8]
    matrix = np.cos((2 * place + 1) * frequency * np.pi / 16) / 2
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix)


def _coded(plane: Plane, steps: Float[Array, "8 8"]) -> Plane:
    """A plane of bytes after the DCT of its 8 x 8 blocks was rounded to multiples of `steps`."""
    height, width = plane.shape
    padded = jnp.pad(plane, ((0, -height % 8), (0, -width % 8)), mode="edge") - 128
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8)
    dct = jnp.asarray(_dct_matrix(), jnp.float32)
    exact = jax.lax.Precision.HIGHEST
    coefficients = jnp.einsum("uy,vx,aybx->aubv", dct, dct, blocks, precision=exact)
    # libjpeg's DCT ends in whole eighths. Halves are then common; they round away from zero, independent of
    # rounding errors.
    multiples = jnp.floor(8 * coefficients + 0.5) / 8 / steps[None, :, None, :]
    quantised = jnp.sign(multiples) * jnp.floor(jnp.abs(multiples) + 0.5001) * steps[None, :, None, :]
    back = jnp.einsum("uy,vx,aubv->aybx", dct, dct, quantised, precision=exact).reshape(padded.shape) + 128
    return jnp.round(jnp.clip(back, 0, 255))[:height, :width]


def _halved(plane: Plane) -> Float[Array, "half_h half_w"]:
    """Means of 2 x 2 pixels; halves are rounded down in even columns and up in odd ones, as in libjpeg.

    As there, the last column is repeated to fill whole blocks before averaging.
    """
    height, width = plane.shape
    padded = jnp.pad(plane, ((0, height % 2), (0, -width % 16)), mode="edge")
    total = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).sum((1, 3))
    bias = (1 + jnp.arange(total.shape[1]) % 2).astype(jnp.float32)
    return jnp.floor((total + bias[None]) / 4)


def _upsampled(plane: Plane, height: int, width: int) -> Float[Array, "{height} {width}"]:
    """Doubles the side by libjpeg's triangle filter: 3/4 of the nearer pixel and 1/4 of the farther one."""
    plane = plane[:, : -(-width // 2)]
    padded = jnp.pad(plane, ((1, 1), (0, 0)), mode="edge")
    before, after = padded[:-2], padded[2:]
    rows = jnp.stack([3 * plane + before, 3 * plane + after], 1).reshape(-1, plane.shape[1])
    padded = jnp.pad(rows, ((0, 0), (1, 1)), mode="edge")
    left, right = 3 * rows + padded[:, :-2] + 8, 3 * rows + padded[:, 2:] + 7
    return jnp.floor(jnp.stack([left, right], 2).reshape(rows.shape[0], -1) / 16)[:height, :width]
