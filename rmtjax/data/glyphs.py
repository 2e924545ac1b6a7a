"""Printed letters and digits, drawn with the fonts of matplotlib.

There are two ways of drawing. `letters` are drawn at the resolution of the image, and their size shows their
case. `printed_digits` and `letters_unlike_digits` are made as UCI made its handwritten digits: the glyph is
cropped to its box, scaled to 32 x 32, and its black pixels are counted in blocks of 4 x 4. So they differ
from handwritten digits in what is written, not in how it was scanned. All images are white on black, in [0,
1], and do not depend on the seed of a run.
"""

import functools
import pathlib
import string
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFont

from rmtjax.data.digits import CLASSES as DIGITS
from rmtjax.data.digits import from_counts
from rmtjax.data.sources import Source, from_arrays
from rmtjax.errors import InputError

LETTERS = tuple(string.ascii_uppercase + string.ascii_lowercase)
LIKE_DIGITS = "OoIilSsZzBgq"

_STYLES = {
    "DejaVu": ("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique", "SansMono", "SansMono-Bold",
               "SansMono-Oblique", "SansMono-BoldOblique", "Serif", "Serif-Bold", "Serif-Italic",
               "Serif-BoldItalic"),
    "STIXGeneral": ("", "Bol", "Italic", "BolIta"),
    # cmsy10 and cmex10 have symbols at the letters' codes.
    "cm": ("r10", "b10", "ti10", "ss10", "tt10", "mi10"),
}  # fmt: skip
_EM = 128  # pixels at which glyphs are drawn before they are distorted
_OVERSAMPLING = 4
_CAP_HEIGHT = 13 / 16  # of the image's side, in `letters`


class Distortion(NamedTuple):
    """Half-widths of uniform draws: degrees, shear, log scale along each axis, shift over the side."""

    rotation: float
    shear: float
    scale: float
    shift: float


_OF_LETTERS = Distortion(rotation=15, shear=0.2, scale=0.12, shift=0.06)
_OF_PRINT = Distortion(rotation=6, shear=0.1, scale=0.08, shift=0.0)


@functools.lru_cache(maxsize=4)
def letters(image_size: int) -> tuple[Source, Source]:
    """A-Z and a-z (52 classes), distorted by a random affine map: 9,984 in DejaVu fonts to train on, and
    1,040 in STIX and Computer Modern fonts to test on."""
    train = _draw_glyph(_fonts("DejaVu"), copies=16, image_size=image_size, seed=0)
    test = _draw_glyph(_fonts("STIXGeneral", "cm"), copies=2, image_size=image_size, seed=1)
    return from_arrays("letters", *train, LETTERS), from_arrays("letters (test fonts)", *test, LETTERS)


@functools.lru_cache(maxsize=4)
def printed_digits(image_size: int) -> Source:
    """1,100 digits, as if scanned by UCI: 22 fonts, 5 slightly distorted copies of each digit."""
    counts, labels = _scan(DIGITS, _fonts(*_STYLES), copies=5, seed=2)
    return from_arrays("printed_digits", from_counts(counts, image_size), labels, DIGITS)


@functools.lru_cache(maxsize=4)
def letters_unlike_digits(image_size: int) -> Source:
    """1,200 letters, without O o I i l S s Z z B g q, made as `printed_digits` are: 10 fonts, 3 copies."""
    classes = tuple(c for c in LETTERS if c not in LIKE_DIGITS)
    counts, labels = _scan(classes, _fonts("STIXGeneral", "cm"), copies=3, seed=3)
    return from_arrays("letters_unlike_digits", from_counts(counts, image_size), labels, classes)


def _fonts(*families: str) -> list[pathlib.Path]:
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    folder = pathlib.Path(get_data_path(), "fonts", "ttf")
    fonts = [folder / f"{family}{style}.ttf" for family in families for style in _STYLES[family]]
    for font in fonts:
        if (
            not font.is_file()
            or not {*map(ord, LETTERS), *map(ord, DIGITS)} <= FT2Font(str(font)).get_charmap().keys()
        ):
            raise InputError(f"matplotlib's font {font} is missing or has no letters: reinstall matplotlib")
    return fonts


@functools.lru_cache(maxsize=4096)
def _glyph(font: pathlib.Path, character: str) -> Image.Image:
    """The glyph at `_EM` pixels an em, cropped to its box."""
    mask = ImageFont.truetype(font, _EM).getmask(character, mode="L")
    glyph = Image.frombytes("L", mask.size, bytes(mask))
    return glyph.crop(glyph.getbbox())


def _maps(n: int, by: Distortion, seed: int) -> tuple[Float[np.ndarray, "n 2 2"], Float[np.ndarray, "n 2"]]:
    """n linear maps (from output to input offsets) and shifts; those of example i do not depend on n."""
    draws = np.random.default_rng(seed).uniform(-1, 1, (n, 6))
    angle = np.deg2rad(by.rotation) * draws[:, 0]
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros(n), np.ones(n)
    rotation = np.stack([cos, -sin, sin, cos], -1).reshape(n, 2, 2)
    shear = np.stack([one, by.shear * draws[:, 1], zero, one], -1).reshape(n, 2, 2)
    return rotation @ shear * np.exp(by.scale * draws[:, None, 2:4]), by.shift * draws[:, 4:6]


def _distort(
    glyph: Image.Image,
    side: int,
    scale: float,
    linear: Float[np.ndarray, "2 2"],
    shift: Float[np.ndarray, "2"],
) -> Image.Image:
    """The glyph in the middle of a square of `side` pixels, `scale` times as large, then mapped."""
    a = linear / scale
    offset = np.array(glyph.size) / 2 - a @ (side * (0.5 + shift))
    coefficients = (*a[0], offset[0], *a[1], offset[1])
    return glyph.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _draw_glyph(
    fonts: list[pathlib.Path], copies: int, image_size: int, seed: int
) -> tuple[UInt8[np.ndarray, "n s s 1"], np.ndarray]:
    side = image_size * _OVERSAMPLING
    glyphs = [_glyph(font, c) for font in fonts for c in LETTERS] * copies
    capitals = [_glyph(font, "H").height for font in fonts for _ in LETTERS] * copies
    images = np.empty((len(glyphs), image_size, image_size, 1), np.uint8)
    maps = zip(*_maps(len(glyphs), _OF_LETTERS, seed), strict=True)
    for i, (glyph, capital, (linear, shift)) in enumerate(zip(glyphs, capitals, maps, strict=True)):
        scale = min(_CAP_HEIGHT * side / capital, 0.95 * side / max(glyph.size))
        images[i, ..., 0] = _distort(glyph, side, scale, linear, shift).reduce(_OVERSAMPLING)
    return images, np.tile(np.arange(len(LETTERS)), len(fonts) * copies)


def _scan(
    characters: tuple[str, ...], fonts: list[pathlib.Path], copies: int, seed: int
) -> tuple[Float[np.ndarray, "n 8 8"], np.ndarray]:
    """Counts 0..16 of 8 x 8 blocks, and labels."""
    glyphs = [_glyph(font, c) for font in fonts for c in characters] * copies
    counts = np.empty((len(glyphs), 8, 8))
    for i, (glyph, linear, shift) in enumerate(
        zip(glyphs, *_maps(len(glyphs), _OF_PRINT, seed), strict=True)
    ):
        image = _distort(glyph, 2 * max(glyph.size), 1.0, linear, shift)
        image = image.crop(image.getbbox())
        ratio = 32 / max(image.size)
        image = image.resize([max(1, round(ratio * length)) for length in image.size], Image.Resampling.BOX)
        bitmap = Image.new("L", (32, 32))
        bitmap.paste(image, ((32 - image.width) // 2, (32 - image.height) // 2))
        counts[i] = (np.asarray(bitmap) >= 128).reshape(8, 4, 8, 4).sum((1, 3))
    return counts, np.tile(np.arange(len(characters)), len(fonts) * copies)
