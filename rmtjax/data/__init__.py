"""Data: sources, splits, mixtures with synthetic examples, augmentation and batches.

This is the only room that computes with TensorFlow. It returns numpy arrays.
"""

import contextlib
import os

# TensorFlow reads these on import: log only errors, and do not use oneDNN kernels, which change last bits.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf

# Leave accelerators and most cores to JAX. A program that has already used TensorFlow keeps its settings.
with contextlib.suppress(RuntimeError):
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(min(os.cpu_count() or 1, 16))
    # Rewriting the graph takes half a second a pipeline with augmentation and makes no batch faster.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

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
