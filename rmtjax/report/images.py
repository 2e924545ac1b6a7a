"""Pictures of examples, pixel by pixel: training examples, and synthetic ones of each class."""

import os
import pathlib

import numpy as np

from rmtjax import results
from rmtjax.errors import InputError
from rmtjax.report import png
from rmtjax.report.colours import LIGHT
from rmtjax.report.numbers import shortened

_DPI = 200
_CELL = 104  # approximate side of an enlarged example, in pixels
_TEXT = 26  # height of a line of text, in pixels
_SOURCES = (
    ("real", "real"),
    ("augmented", "augmented\n(as the model\nsaw them)"),
    ("synthetic", "synthetic"),
)


def samples(path: str | os.PathLike[str]) -> pathlib.Path:
    """Draws `samples.png` of a workdir: real, augmented and synthetic examples with their classes.

    Raises:
      InputError: the workdir has no samples.npz.
    """
    stored = _stored(path, "samples.npz")
    facts = results.read_json(pathlib.Path(path) / results.RECORD) or {}
    names = [str(name) for name in facts.get("classes") or stored.get("classes", [])]
    rows: list[tuple[str, np.ndarray, list[str]]] = []
    most = max((len(stored.get(source, ())) for source, _ in _SOURCES), default=0)
    lines = 1 if most <= 12 else 2
    columns = min(12, -(-most // lines))
    for source, title in _SOURCES:
        images = stored.get(source)
        if images is None or not len(images):
            continue
        labels = stored.get(f"{source}_label")
        captions = (
            [_class_name(label, names) for label in labels] if labels is not None else [""] * len(images)
        )
        for line in range(min(lines, -(-len(images) // columns))):
            part = slice(line * columns, (line + 1) * columns)
            rows.append((title if line == 0 else "", images[part], captions[part]))
    return _grid(rows, pathlib.Path(path) / "samples.png", "samples.npz")


def synthetic(path: str | os.PathLike[str]) -> pathlib.Path:
    """Draws `synthetic.png` of a workdir: synthetic examples, one row for each class (at most 26 rows).

    Raises:
      InputError: the workdir has no synthetic_by_class.npz.
    """
    stored = _stored(path, "synthetic_by_class.npz")
    images = stored.get("images", np.zeros((0, 0, 1, 1, 1)))
    names = [str(name) for name in stored.get("classes", np.arange(len(images)))]
    # Classes with few examples are filled up with NaN.
    images = [of_class[np.isfinite(of_class).any((1, 2, 3))] for of_class in images]
    shown = np.unique(np.linspace(0, len(images) - 1, min(len(images), 26)).round().astype(int))
    rows = [(names[k], images[k][:12], [""] * len(images[k][:12])) for k in shown if len(images[k])]
    return _grid(rows, pathlib.Path(path) / "synthetic.png", "synthetic_by_class.npz")


def _stored(path: str | os.PathLike[str], name: str) -> dict[str, np.ndarray]:
    stored = results.read_arrays(results.folder(path) / name)
    if stored is None:
        raise InputError(
            f"no {name} in workdir {os.fspath(path)!r}: run it again, which writes the data of the picture"
        )
    return stored


def _class_name(label: object, names: list[str]) -> str:
    index = int(label)  # type: ignore[call-overload]
    return names[index] if 0 <= index < len(names) else str(index)


def _grid(rows: list[tuple[str, np.ndarray, list[str]]], path: pathlib.Path, source: str) -> pathlib.Path:
    """Writes rows of (title, images [n, H, W, C], captions) to a PNG; a pixel becomes a block of pixels."""
    if not rows:
        raise InputError(f"{source} beside {str(path)!r} holds no images, so there is nothing to draw")
    pixels = [_enlarged(images) for _, images, _ in rows]
    cells = 2 * ((max(p.shape[2] for p in pixels) + 9) // 2)
    captioned = [any(captions) for _, _, captions in rows]
    heights = [p.shape[1] + (_TEXT if has else 0) + 8 for p, has in zip(pixels, captioned, strict=True)]
    # A new source starts after a gap; the lines of one source stay together.
    gaps = [12 if title and any(captioned) else 0 for title, _, _ in rows]
    longest = max(len(line) for title, _, _ in rows for line in title.split("\n"))
    left = 24 + 16 * min(longest, 24)
    width = left + cells * max(len(p) for p in pixels) + 8
    height = sum(heights) + sum(gaps) + 8
    with png.drawing():
        drawn = png.figure(width / _DPI, height / _DPI, _DPI)
        top = 8
        for (title, _, captions), block, gap, tall in zip(rows, pixels, gaps, heights, strict=True):
            top += gap
            title = "\n".join(shortened(line, 24) for line in title.split("\n"))
            middle = 1 - (top + block.shape[1] / 2) / height
            look = {"ha": "right", "va": "center", "fontsize": 8, "linespacing": 1.25}
            drawn.text((left - 18) / width, middle, title, **look)
            for column, (image, caption) in enumerate(zip(block, captions, strict=False)):
                x = left + column * cells
                # figimage copies entries to pixels; imshow would resample them.
                drawn.figimage(image, x, height - top - image.shape[0], origin="upper", vmin=0, vmax=1)
                below = (x + image.shape[1] / 2) / width, 1 - (top + image.shape[0] + 4) / height
                short = shortened(caption, max(4, image.shape[1] // 11))
                drawn.text(*below, short, ha="center", va="top", fontsize=6.5, color=LIGHT["muted"])
            top += tall
        return png.write(drawn, path)


def _enlarged(images: np.ndarray) -> np.ndarray:
    """Converts images [n, H, W, C] to RGB in [0, 1], enlarged or averaged by a whole factor."""
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    images = np.clip(np.nan_to_num(np.asarray(images, np.float32) / scale), 0, 1)
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[-1] not in (3, 4):
        images = np.repeat(images.mean(-1, keepdims=True), 3, -1)
    images = images[..., :3]
    side = max(images.shape[1:3])
    if side > 2 * _CELL:
        factor = -(-side // (2 * _CELL))
        h, w = (size // factor * factor for size in images.shape[1:3])
        blocks = images[:, :h, :w].reshape(len(images), h // factor, factor, w // factor, factor, 3)
        return blocks.mean((2, 4))
    # The factor is even, so that pixels stay whole blocks on a page, which halves the size.
    factor = 2 * round(_CELL / 2 / side) or 1
    return images.repeat(factor, 1).repeat(factor, 2)
