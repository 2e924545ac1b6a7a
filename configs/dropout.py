"""The base task with dropout at every site.

python -m rmtjax.train --config=configs/dropout.py
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.regularization.dropout = 0.1
    return config
