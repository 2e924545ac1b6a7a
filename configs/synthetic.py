"""The base task with synthetic digits: half as many again as the 400 real ones, from a flow-matching
generator fitted to those 400.

    python -m rmtjax.train --config=configs/synthetic.py
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.synthetic.share = 0.5
    return config
