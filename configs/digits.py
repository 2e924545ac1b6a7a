"""The base task: 400 handwritten digits, fine-tuned from the letters ViT, no regulariser.

python -m rmtjax.train --config=configs/digits.py
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    return config_lib.base()
