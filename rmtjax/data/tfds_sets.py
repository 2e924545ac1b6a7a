"""Image classification sets that TensorFlow Datasets has prepared on this machine.

Their records are read by number: one pass over the files notes the place and the label of each record; later
a record is read from its place and decoded. So large sets can be shuffled as a whole, cut into stratified
parts and resumed at any step exactly as small ones, without reading or decoding records that are not used.
"""

import dataclasses
import difflib
import functools
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rmtjax.data.modalities import unit_tensor
from rmtjax.data.sources import Source, resize_tensor
from rmtjax.errors import InputError

# TFDS has numbers in place of class names for sets derived from CIFAR-10, but a shift must have the names.
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_OF_CIFAR10 = ("cifar10_corrupted", "cifar10_1")

_FRAME = 16  # bytes of a TFRecord around its data: length and checksums
_BUFFER = 2**14  # bytes read at a time


class _Records(NamedTuple):
    """Where the records of a split begin (file number, byte), and their labels."""

    files: tuple[str, ...]
    file: np.ndarray
    offset: np.ndarray
    label: np.ndarray


def splits(name: str, image_size: int) -> dict[str, Source]:
    """The labelled splits of a prepared set, among "train", "validation" and "test".

    Args:
      name: the name in TFDS, with configuration and version if needed: "cifar10", "cifar100", "cars196",
        "domainnet/real", "cifar10_corrupted/brightness_1", "cifar10_1/v6".
      image_size: images are resized to this side.

    Raises:
      InputError: the set is not prepared, has not one image and one label in each record, or is not stored in
        TFRecord files.
    """
    builder = _builder(name, _folder())
    image_key, label_key = _keys(name, builder)
    feature = builder.info.features[image_key]
    decoded = _only(builder, image_key)
    classes = CIFAR10 if builder.name in _OF_CIFAR10 else tuple(builder.info.features[label_key].names)
    found = {}
    for split in ("train", "validation", "test"):
        if split not in builder.info.splits:
            continue
        records = _records(builder, split, label_key)
        if records.label.min() < 0:  # a test split without labels, as ImageNet's
            continue
        files, file, offset = map(tf.constant, (records.files, records.file, records.offset))

        def decode(i: tf.Tensor, files: Any = files, file: Any = file, offset: Any = offset) -> tf.Tensor:
            return unit_tensor(decoded.deserialize_example(_record(files[file[i]], offset[i]))[image_key])

        resized = Source(
            name=f"tfds:{name}",
            labels=records.label.astype(np.int32),
            classes=classes,
            shape=(image_size, image_size, feature.shape[-1]),
            origin=np.zeros(len(records.label), np.int8),
            decode=lambda i, decode=decode: resize_tensor(decode(i), image_size),
            describe=lambda i, split=split: f"example {i} of the {split} split of tfds:{name}",
        )
        smaller = None not in feature.shape and max(feature.shape[:2]) < image_size
        stored = dataclasses.replace(resized, shape=feature.shape, decode=decode) if smaller else None
        found[split] = dataclasses.replace(resized, stored=stored)
    return found


def _record(file: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """The record of a TFRecord file that begins at a byte; its checksum is verified.

    It calls the operation directly, because tf.data.TFRecordDataset does not expose `byte_offsets`.
    """
    from_there = tf.raw_ops.TFRecordDatasetV2(
        filenames=file[None],
        compression_type="",
        buffer_size=tf.constant(_BUFFER, tf.int64),
        byte_offsets=offset[None],
    )
    records = tf.data.experimental.from_variant(from_there, tf.TensorSpec((), tf.string))
    return records.take(1).get_single_element()


def _folder() -> pathlib.Path:
    if root := os.environ.get("RMTJAX_DATA"):
        return pathlib.Path(root, "tfds")
    import tensorflow_datasets as tfds

    return pathlib.Path(tfds.core.constants.get_default_data_dir())


@functools.lru_cache(maxsize=8)
def _builder(name: str, folder: pathlib.Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        # Look on disk first, since TFDS asks its servers about sets that are missing.
        prepared = (folder / _base(name)).is_dir()
        builder = tfds.builder(name, data_dir=folder) if prepared else None
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError, RuntimeError) as error:
        raise InputError(
            _unknown_configuration(name)
            or f"tfds:{name} cannot be opened in {folder}: {str(error).splitlines()[0]}"
        ) from error
    if builder is None or not builder.is_prepared():
        raise InputError(_unknown_configuration(name) or _explain_not_prepared(name, folder))
    if builder.info.file_format.value != "tfrecord":
        raise InputError(
            f"tfds:{name} in {folder} is stored as {builder.info.file_format.value}: "
            f"prepare it with file_format='tfrecord'"
        )
    return builder


def _explain_not_prepared(name: str, folder: pathlib.Path) -> str:
    base = _base(name)
    there = _subfolders(folder)
    near = [] if _configurations(name) is not None else difflib.get_close_matches(name, there, 1)
    if near:
        hint = f"did you mean tfds:{near[0]}?"
    elif base in there:
        hint = f"of {base} are prepared there: {', '.join(_subfolders(folder / base)) or 'nothing'}."
    else:
        hint = f"prepared there: {', '.join(there) or 'nothing'}."
    return (
        f"tfds:{name} is not prepared in {folder}: {hint} Where it can be downloaded, prepare it once with "
        f"tensorflow_datasets.builder({name!r}, data_dir={str(folder)!r}).download_and_prepare(), "
        f"or point RMTJAX_DATA at a folder whose tfds/ has it"
    )


def _unknown_configuration(name: str) -> str:
    """A sentence if TFDS knows the set but not the configuration; else empty."""
    configuration = name.partition("/")[2].partition(":")[0]
    known = _configurations(name)
    if not configuration or known is None or configuration in known:
        return ""
    near = difflib.get_close_matches(configuration, known, 3) or known
    comes = f"it comes as {', '.join(near)}" if known else "it has none"
    return f"tfds:{name}: {_base(name)} has no configuration {configuration!r}: {comes}"


def _configurations(name: str) -> list[str] | None:
    """The configurations of a set from the code of TFDS, without its servers; None for an unknown set."""
    import tensorflow_datasets as tfds

    try:
        return [config.name for config in tfds.builder_cls(_base(name)).BUILDER_CONFIGS]
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError):
        return None


def _base(name: str) -> str:
    return name.split("/")[0].split(":")[0]


def _subfolders(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*") if path.is_dir() and path.name != "downloads")


def _keys(name: str, builder: Any) -> tuple[str, str]:
    """The names of the image and of its label among the features of a set."""
    import tensorflow_datasets as tfds

    def only(kind: type) -> str | None:
        names = [key for key, feature in builder.info.features.items() if type(feature) is kind]
        usual = [key for key in builder.info.supervised_keys or () if key in names]
        return usual[0] if usual else names[0] if len(names) == 1 else None

    image, label = only(tfds.features.Image), only(tfds.features.ClassLabel)
    if image is None or label is None:
        raise InputError(
            f"tfds:{name} is not a set of images with one class label each: its features are "
            f"{', '.join(builder.info.features)}"
        )
    feature = builder.info.features[image]
    if feature.shape[-1] not in (1, 3) or feature.np_dtype != np.uint8:
        raise InputError(
            f"tfds:{name} has images of shape {feature.shape} and type {feature.np_dtype}: "
            f"they must have 1 or 3 channels of bytes"
        )
    return image, label


def _only(builder: Any, key: str) -> Any:
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict({key: builder.info.features[key]})


@functools.lru_cache(maxsize=8)
def _records(builder: Any, split: str, label_key: str) -> _Records:
    label_of = _only(builder, label_key).deserialize_example

    @tf.autograph.experimental.do_not_convert
    def measure(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.strings.length(serialized), label_of(serialized)[label_key]

    files = tuple(str(file) for file in builder.info.splits[split].filepaths)
    parts = []
    for number, file in enumerate(files):
        records = tf.data.TFRecordDataset(file).map(measure, num_parallel_calls=tf.data.AUTOTUNE).batch(1024)
        try:
            batches = list(records.as_numpy_iterator())
        except tf.errors.OpError as error:
            raise InputError(
                f"{file} is damaged: prepare tfds:{builder.name} anew ({error.message})"
            ) from error
        if batches:
            length, label = (np.concatenate(column).astype(np.int64) for column in zip(*batches, strict=True))
            offset = np.cumsum(length + _FRAME) - length - _FRAME
            parts.append((np.full(len(length), number), offset, label))
    return _Records(files, *map(np.concatenate, zip(*parts, strict=True)))
