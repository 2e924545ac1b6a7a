"""Draws `contact_sheet.png` beside this file: every augmentation at four strengths, on two drawn pictures.

python rmtjax/data/contact_sheet.py
"""

import pathlib

import numpy as np
import tensorflow as tf
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from rmtjax import config as config_lib
from rmtjax import data
from rmtjax.data import augmentations, pairs

CELL = 56
STRENGTHS = (0.0, 0.1, 0.3, 0.5, 1.0, 1.0, 1.0)  # at strength 1 three seeds
COMPOSITIONS = {
    "Auto1": {"auto_augment": 1.0, "gaussian_noise": 0.5},
    "Auto2": {"auto_augment": 1.0, "horizontal_flip": 0.5, "vertical_flip": 0.3, "gaussian_noise": 0.5},
    "Auto3": {"auto_augment": 1.0, "horizontal_flip": 0.5, "elastic": 1.0, "gaussian_noise": 0.5},
}


def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def scenes(side: int) -> np.ndarray:
    """Two pictures [2, side, side, 3] in [0, 1]: a house before hills at noon, and a boat at night."""
    big = 4 * side
    rows = np.linspace(0, 1, big)[:, None, None]
    pictures = []
    for night in (False, True):
        top, bottom = ((20, 20, 70), (90, 60, 120)) if night else ((90, 160, 230), (220, 235, 250))
        sky = (1 - rows) * np.array(top) + rows * np.array(bottom)
        picture = Image.fromarray(np.broadcast_to(sky, (big, big, 3)).astype(np.uint8))
        draw = ImageDraw.Draw(picture)

        def at(*numbers: float) -> list[float]:
            return [number * big for number in numbers]

        if night:
            draw.ellipse(at(0.65, 0.08, 0.85, 0.28), fill=(245, 240, 200))
            draw.rectangle(at(0, 0.7, 1, 1), fill=(15, 45, 80))
            for k in range(8):
                draw.line(
                    at(0.1 * k, 0.78 + 0.02 * k, 0.1 * k + 0.25, 0.78 + 0.02 * k),
                    fill=(70, 110, 150),
                    width=big // 60,
                )
            draw.polygon(at(0.2, 0.65, 0.8, 0.65, 0.7, 0.78, 0.3, 0.78), fill=(170, 50, 40))
            draw.polygon(at(0.48, 0.2, 0.48, 0.62, 0.22, 0.62), fill=(235, 235, 225))
            draw.polygon(at(0.52, 0.26, 0.52, 0.62, 0.72, 0.62), fill=(240, 180, 60))
        else:
            draw.ellipse(at(0.08, 0.06, 0.26, 0.24), fill=(255, 220, 60))
            draw.ellipse(at(-0.3, 0.55, 0.7, 1.4), fill=(70, 150, 70))
            draw.ellipse(at(0.4, 0.62, 1.4, 1.5), fill=(40, 110, 60))
            draw.rectangle(at(0.42, 0.45, 0.85, 0.88), fill=(225, 200, 165))
            draw.polygon(at(0.36, 0.47, 0.635, 0.22, 0.91, 0.47), fill=(180, 60, 50))
            draw.rectangle(at(0.5, 0.66, 0.62, 0.88), fill=(95, 60, 35))
            draw.text(at(0.755, 0.68), "7", font=font(big // 4), fill=(30, 50, 140), anchor="mm")
        pictures.append(np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS)))
    return np.stack(pictures).astype(np.float32) / 255


def rows(images: np.ndarray) -> dict[str, list[np.ndarray]]:
    """The rows of the sheet: each operation by name, with one image for each strength."""
    image, other = tf.constant(images[:1]), tf.constant(images[1:])
    seeds = [tf.constant([[5, k]], tf.int32) for k in range(len(STRENGTHS))]
    out = {}
    for op in augmentations.OPERATIONS:
        out[op.__name__] = [
            op(image, seed, strength) for seed, strength in zip(seeds, STRENGTHS, strict=True)
        ]
    for mix in (pairs.mixup, pairs.cutmix):
        alphas = zip(seeds, STRENGTHS, strict=True)
        out[mix.__name__] = [mix(image, other, seed, alpha)[0] if alpha else image for seed, alpha in alphas]
    for name, strengths in COMPOSITIONS.items():
        drawn = [image]
        for seed, strength in list(zip(seeds, STRENGTHS, strict=True))[1:]:
            config = config_lib.base().augment
            config.update({field: strength * value for field, value in strengths.items()})
            drawn.append(data.augmentation(config).image(image, seed))
        out[name] = drawn
    return {name: [np.asarray(x)[0] for x in row] for name, row in out.items()}


def main() -> None:
    content = rows(scenes(CELL))
    left, top, gap = 168, 22, 4
    width, height = left + len(STRENGTHS) * (CELL + gap), top + len(content) * (CELL + gap)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, strength in enumerate(STRENGTHS):
        draw.text(
            (left + column * (CELL + gap) + CELL // 2, top - 6),
            f"{strength:g}",
            font=font(12),
            fill="black",
            anchor="ms",
        )
    for line, (name, images) in enumerate(content.items()):
        y = top + line * (CELL + gap)
        draw.text((left - 10, y + CELL // 2), name, font=font(12), fill="black", anchor="rm")
        for column, image in enumerate(images):
            cell = Image.fromarray(np.rint(image * 255).astype(np.uint8))
            sheet.paste(cell, (left + column * (CELL + gap), y))
    sheet.quantize(256, dither=Image.Dither.NONE).save(
        pathlib.Path(__file__).with_name("contact_sheet.png"), optimize=True
    )


if __name__ == "__main__":
    main()
