"""What differs between synthetic images and synthetic texts: one `Kind` for each."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Int, Shaped
from ml_collections import ConfigDict

from rmtjax import data, files
from rmtjax.generate import dit, filters, flow, language, mlp, quality, text_quality, unet, word_rows

BY_CLASS = "synthetic_by_class.npz"
TEXTS_BY_CLASS = "synthetic_by_class.csv"
WORDS = "words.json"  # of texts: what the numbers in the shards mean
SHOWN = 12  # samples of a class in a picture or table
CHUNK = 1024  # images in memory at a time while a data set is hashed
FITTED_BY = (
    "network",
    "width",
    "depth",
    "dtype",
    "time",
    "total_steps",
    "batch_size",
    "learning_rate",
    "ema",
    "label_dropout",
)
SHAPED_BY = {"mlp": (), "unet": ("multipliers",), "dit": ("patch", "heads")}
TEXTS_BY = ("width", "depth", "heads", "dtype", "total_steps", "batch_size", "learning_rate", "ema")

Samples = Shaped[np.ndarray, "n ..."]
Labels = Int[np.ndarray, " n"]


class Kind(NamedTuple):
    """How examples of one kind are generated, stored and measured.

    Attributes:
      name: "images" or "texts"; also the name of the samples' array in a shard, and how the shard's file name
        begins.
      sized: whether examples have a size, on which a set then depends.
      filters: fields of `config.synthetic` that may refuse samples.
      prepare: `(training split) -> the split as generators see it`.
      stored: `(source, numbers) -> examples` as a set stores them.
      resize: `(examples, side) -> examples` of the size that the classifier gets.
      source: `(name, examples, labels, classes, modality) -> Source`.
      identities: `(source) -> values`, one for each example, that are equal where examples are.
      data_hash: `(source) -> SHA-256` of labels and examples, in their order.
      fitted_by: `(config.synthetic) -> fields` on which a fitted generator depends.
      network: `(config.synthetic, train) -> module`.
      objective: `(config.synthetic, module, train) -> source to draw batches from, init, loss_fn`.
      mean_loss: `(module) -> function` of parameters, inputs and labels.
      known: `(train, test) -> both`, as `mean_loss` takes them.
      accept: `(least confidence, least distance, splits, seed, mesh) -> filters.Accept`.
      describe: `(examples, labels, splits, config, mesh) -> facts` for the manifest.
      vocabulary: `(train) -> words` to be stored with the set, or None.
      write_by_class: writes some samples of each class, to be looked at, into a folder, and returns the file.
      nearness: `(manifest) -> clause` that says how near a set comes to copies.
    """

    name: str
    sized: bool
    filters: tuple[str, ...]
    prepare: Callable[[data.Source], data.Source]
    stored: Callable[[data.Source, np.ndarray], Samples]
    resize: Callable[[Samples, int], Samples]
    source: Callable[..., data.Source]
    identities: Callable[[data.Source], list[Any]]
    data_hash: Callable[[data.Source], str]
    fitted_by: Callable[[ConfigDict], tuple[str, ...]]
    network: Callable[[ConfigDict, data.Source], nn.Module]
    objective: Callable[[ConfigDict, Any, data.Source], tuple[data.Source, Any, Any]]
    mean_loss: Callable[[Any], Callable[..., float]]
    known: Callable[[data.Source, data.Source], tuple[data.Source, data.Source]]
    accept: Callable[..., filters.Accept]
    describe: Callable[..., dict[str, Any]]
    vocabulary: Callable[[data.Source], list[str] | None]
    write_by_class: Callable[..., pathlib.Path]
    nearness: Callable[[dict[str, Any]], str]


def kind_of(source: data.Source) -> Kind:
    return KINDS[source.modality.kind]


def _image_hash(source: data.Source) -> str:
    total = hashlib.sha256(np.asarray((source.num_examples, *source.shape), "<i8").tobytes())
    total.update(np.ascontiguousarray(source.labels, "<i4").tobytes())
    for images in _chunks(source):
        total.update(np.ascontiguousarray(images, "<f4").tobytes())
    return total.hexdigest()


def _image_identities(source: data.Source) -> list[bytes]:
    """Images that are one when they are rounded to bytes, as files of images are."""
    rounded = (np.rint(255 * image).astype(np.uint8) for images in _chunks(source) for image in images)
    return [hashlib.sha256(image.tobytes()).digest() for image in rounded]


def _chunks(source: data.Source) -> Iterator[np.ndarray]:
    for start in range(0, source.num_examples, CHUNK):
        yield source.inputs(np.arange(start, min(start + CHUNK, source.num_examples)))


def _velocity_field(synthetic: ConfigDict, train: data.Source) -> nn.Module:
    dtype, num_classes = jnp.dtype(synthetic.dtype), len(train.classes)
    if synthetic.network == "mlp":
        return mlp.VelocityMLP(num_classes, synthetic.width, synthetic.depth, dtype)
    if synthetic.network == "unet":
        return unet.VelocityUNet(num_classes, synthetic.width, synthetic.depth, synthetic.multipliers, dtype)
    return dit.VelocityDiT(
        num_classes, synthetic.width, synthetic.depth, synthetic.heads, synthetic.patch, dtype
    )


def _language_model(synthetic: ConfigDict, train: data.Source) -> nn.Module:
    return language.LanguageModel(
        len(train.classes),
        len(train.tokens.words) - 1,
        synthetic.width,
        synthetic.depth,
        synthetic.heads,
        causal=synthetic.method == "lm",
        dtype=jnp.dtype(synthetic.dtype),
    )


def _flow_objective(synthetic: ConfigDict, model: Any, train: data.Source) -> tuple[data.Source, Any, Any]:
    loss_fn = flow.make_loss(model, len(train.classes), synthetic.label_dropout, synthetic.time)
    return train, flow.make_init(model, train.shape), loss_fn


def _language_objective(
    synthetic: ConfigDict, model: Any, train: data.Source
) -> tuple[data.Source, Any, Any]:
    return word_rows.as_rows(train), language.make_init(model, *train.shape), language.make_loss(model)


def _known_texts(train: data.Source, test: data.Source) -> tuple[data.Source, data.Source]:
    """Both as rows of words, of the test texts those that hold no word but the training split's."""
    return word_rows.as_rows(train), word_rows.as_rows(word_rows.known(test, train.tokens))


def _image_source(
    name: str, images: Samples, labels: Labels, classes: Sequence[str], modality: Any
) -> data.Source:
    return data.from_arrays(name, images, labels, classes)


def _text_source(
    name: str, rows: Samples, labels: Labels, classes: Sequence[str], modality: Any
) -> data.Source:
    origin = np.zeros(len(labels), np.int8)
    return data.Source(name, labels, tuple(classes), rows.shape[1:], origin, examples=rows, modality=modality)


def _describe_texts(
    rows: Samples, labels: Labels, splits: data.Splits, config: ConfigDict, mesh: jax.sharding.Mesh
) -> dict[str, Any]:
    made = dataclasses.replace(splits.train, examples=rows, labels=labels)
    return text_quality.describe(made, splits, config)


def _write_images_by_class(
    folder: pathlib.Path, images: Samples, labels: Labels, classes: Sequence[str], modality: Any
) -> pathlib.Path:
    """images [K, m, H, W, C], m at most 12, NaN where a class has fewer."""
    most = min(SHOWN, int(np.bincount(labels).max()))
    sheet = np.full((len(classes), most, *images.shape[1:]), np.nan, np.float32)
    for k in range(len(classes)):
        some = images[np.flatnonzero(labels == k)[:most]]
        sheet[k, : len(some)] = some
    with files.atomic(folder / BY_CLASS) as temporary:
        np.savez_compressed(temporary, images=sheet, classes=np.asarray(classes))
    return folder / BY_CLASS


def _write_texts_by_class(
    folder: pathlib.Path, rows: Samples, labels: Labels, classes: Sequence[str], modality: Any
) -> pathlib.Path:
    shown = word_rows.strings(rows, modality.words)
    word_rows.write_by_class(folder / TEXTS_BY_CLASS, shown, labels, classes, SHOWN)
    return folder / TEXTS_BY_CLASS


def _distance_to_images(manifest: dict[str, Any]) -> str:
    ratio = manifest["distance_ratio"]
    if ratio is None:
        return ""
    return (
        f"; median distance to the nearest training image {manifest['nearest_training_distance']:.3f}, "
        f"{ratio:.2f} of that of test images (near 0: copies)"
    )


def _share_of_copies(manifest: dict[str, Any]) -> str:
    copies, of_test = (manifest["identical"][name]["value"] for name in ("synthetic", "test"))
    return f"; {copies:.3f} are training texts word for word ({of_test:.3f} of test texts are)"


KINDS = {
    "images": Kind(
        name="images",
        sized=True,
        filters=filters.NAMES,
        prepare=lambda train: train,
        stored=lambda source, numbers: source.inputs(numbers),
        resize=data.resize,
        source=_image_source,
        identities=_image_identities,
        data_hash=_image_hash,
        fitted_by=lambda synthetic: (*FITTED_BY, *SHAPED_BY[synthetic.network]),
        network=_velocity_field,
        objective=_flow_objective,
        mean_loss=flow.make_mean_loss,
        known=lambda train, test: (train, test),
        accept=filters.accept_images,
        describe=quality.describe,
        vocabulary=lambda train: None,
        write_by_class=_write_images_by_class,
        nearness=_distance_to_images,
    ),
    "texts": Kind(
        name="texts",
        sized=False,
        filters=("least_confidence",),
        prepare=word_rows.closed,
        stored=lambda source, numbers: source.examples[numbers],
        resize=lambda rows, side: rows,
        source=_text_source,
        identities=word_rows.of_source,
        data_hash=word_rows.data_hash,
        fitted_by=lambda synthetic: TEXTS_BY,
        network=_language_model,
        objective=_language_objective,
        mean_loss=language.make_mean_loss,
        known=_known_texts,
        accept=filters.accept_texts,
        describe=_describe_texts,
        vocabulary=lambda train: list(train.tokens.words),
        write_by_class=_write_texts_by_class,
        nearness=_share_of_copies,
    ),
}
