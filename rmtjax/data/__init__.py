"""Which examples: sources, splits, mixtures with synthetic data, augmentation and batches.

The only room that imports TensorFlow. What leaves it are numpy arrays.
"""

import contextlib
import os

# TensorFlow reads these when it is imported: errors alone are logged, and no oneDNN kernels (they change last
# bits).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf

# Accelerators belong to JAX, and so do most cores. A program that has used TensorFlow before keeps its own
# settings.
with contextlib.suppress(RuntimeError):
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(min(os.cpu_count() or 1, 16))

from rmtjax.data.augmentations import Augmentation as Augmentation
from rmtjax.data.augmentations import augmentation as augmentation
from rmtjax.data.batches import evaluation_batches as evaluation_batches
from rmtjax.data.batches import train_batches as train_batches
from rmtjax.data.mixing import mix as mix
from rmtjax.data.sources import Source as Source
from rmtjax.data.sources import from_arrays as from_arrays
from rmtjax.data.sources import resize as resize
from rmtjax.data.sources import take as take
from rmtjax.data.splits import Splits as Splits
from rmtjax.data.splits import load as load
from rmtjax.data.splits import load_source as load_source
from rmtjax.data.splits import stratified as stratified
