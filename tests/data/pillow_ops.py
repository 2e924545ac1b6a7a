"""The operations of augmentation policies by Pillow, as what ours are held against."""

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


def pillow(name, magnitude, image):
    """The operation by Pillow, on bytes [h, w, c]."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    h, w = image.shape[:2]
    if name in ("contrast", "color", "sharpness", "brightness"):
        out = getattr(ImageEnhance, name.capitalize())(picture).enhance(1 + magnitude)
    elif name == "rotate":
        out = picture.rotate(magnitude)
    elif name in ("shear_x", "shear_y", "translate_x", "translate_y"):
        matrix = {
            "shear_x": (1, magnitude, 0, 0, 1, 0),
            "shear_y": (1, 0, 0, magnitude, 1, 0),
            "translate_x": (1, 0, -int(magnitude), 0, 1, 0),
            "translate_y": (1, 0, 0, 0, 1, -int(magnitude)),
        }[name]
        out = picture.transform((w, h), Image.Transform.AFFINE, matrix)
    else:
        arguments = {"posterize": [int(magnitude)], "solarize": [magnitude]}.get(name, [])
        out = getattr(ImageOps, name)(picture, *arguments)
    return np.asarray(out).reshape(image.shape)
