"""The base task with classical augmentation: shifts, rotation, contrast and brightness, noise.

python -m rmtjax.train --config=configs/augmented.py
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.augment.shift_crop = 0.5
    config.augment.rotation = 0.5
    config.augment.contrast_brightness = 0.5
    config.augment.gaussian_noise = 0.3
    return config
