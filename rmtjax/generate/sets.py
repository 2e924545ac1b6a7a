"""Synthetic sets on disk: made once from a training split, with a manifest, and reused."""

import dataclasses
import importlib.metadata
import os
import pathlib
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, Shaped
from ml_collections import ConfigDict
from tqdm import tqdm

from rmtjax import data, files, results
from rmtjax.data.tokens import Tokens
from rmtjax.errors import InputError
from rmtjax.generate import filters, fitting, methods, quality, store, text_quality, texts
from rmtjax.train import sharding as sharding_lib

SHARD = 512  # samples a file; files that are there are not sampled again
ROUNDS = 20  # as many samples as examples, until all have passed the filters
BY_CLASS = "synthetic_by_class.npz"
TEXTS_BY_CLASS = "synthetic_by_class.csv"
WORDS = "words.json"  # of texts: what the numbers in the shards mean
SHOWN = 12  # samples of a class in a picture or table
VERSIONS = ("rmtjax", "jax", "flax", "optax", "numpy", "scikit-learn")


class SyntheticSet(NamedTuple):
    """A stored set, at the size the classifier takes."""

    path: pathlib.Path
    # float32 [n, h, w, c] in [0, 1]; of texts the numbers of their words, int32 [n, w], 0 where a text has ended
    images: Shaped[np.ndarray, "n ..."]
    labels: Int[np.ndarray, " n"]  # int32
    manifest: dict[str, Any]
    text: Tokens | None = None  # what the numbers of words mean; None for images


def ensure(config: ConfigDict, *, report: Callable[[str], None] = print) -> SyntheticSet:
    """The synthetic set of a config: found under `synthetic.cache`, or made there.

    The generator is fitted to the training split alone, at `synthetic.image_size`; the images are then resized
    as real ones are. Texts are written with the words of the training split. A set is named by a hash of the training
    images (or words) and labels, the generator's config, the
    seed, knobs, filters and count, and what its worth is measured against; so runs that differ in `synthetic.share`, `synthetic.mode` or the model share it,
    and sets that differ in knobs or count share the generator. With several JAX processes, which share a
    file system, all must call this together.

    Args:
      config: the whole config, checked.
      report: gets sentences (in process 0): what is being made, and what came out.

    Raises:
      InputError: a method for other sources, a knob that it has not, a class without training examples, too few images to
        import or that pass the filters, a cache that cannot be made, a stored file that was altered.
      loop.Stopped: SIGTERM while fitting; the same call goes on from there.
    """
    synthetic = config.synthetic
    say = report if jax.process_index() == 0 else _silent
    methods.check(config)
    section = config.data.copy_and_resolve_references()
    section.image_size = synthetic.image_size
    splits = data.load(section, config.seed)
    kind = "images"
    if splits.train.text is not None:
        kind, splits = "texts", splits._replace(train=texts.closed(splits.train))
    train = splits.train
    made = made_from(config, splits)
    labels = class_shares(splits.train.labels, made["count"])

    def build(folder: pathlib.Path) -> dict[str, Any]:
        mesh = sharding_lib.make_mesh(config.train.mesh.data, config.train.mesh.fsdp)
        most = methods.at_hand(config, train, labels)
        sample, facts = methods.make(config, splits, mesh, say)
        if any(synthetic[name] for name in filters.NAMES):
            say("fitting the filters to the training split")
        accept = filters.make(config, splits, mesh)
        say(f"sampling {len(labels)} {kind}")
        _sample_shards(folder, sample, labels, accept, train.classes, kind, most)
        say(
            "measuring what the set is worth: judge, nearest training examples, classifiers trained on it, diversity"
        )
        if jax.process_index() > 0:
            return {}
        examples, kept = read_shards(sorted(folder.glob(f"{kind}_*.npz")), kind)
        _write_by_class(folder, examples, kept, train.classes, train.text)
        if train.text is None:
            worth = quality.describe(examples, kept, splits, config, mesh)
        else:
            files.write_json(folder / WORDS, list(train.text.words))
            worth = text_quality.describe(
                dataclasses.replace(train, pixels=examples, labels=kept), splits, config
            )
        return {
            **worth,
            "source": config.data.source,
            "training_examples": train.num_examples,
            "classes": list(train.classes),
            **facts,
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }

    stored = store.ensure(synthetic.cache, made, build, say)
    examples, kept = read_shards(shards(stored.path, stored.manifest, kind), kind)
    if train.text is None:
        examples = data.resize(examples, config.data.image_size)
    result = SyntheticSet(stored.path, examples, kept, stored.manifest, train.text)
    say(("made " if stored.fresh else "reused ") + summary(result))
    return result


def made_from(config: ConfigDict, splits: data.Splits) -> dict[str, Any]:
    """All that a set and the numbers in its manifest depend on, as plain data: its folder is named by the hash of this.

    Args:
      splits: at the generator's image size, or of texts.
    """
    synthetic, train = config.synthetic, splits.train
    return {
        "generator": methods.made_from(config, train),
        **{name: synthetic[name] for name in methods.KNOBS[synthetic.method]},
        **{name: synthetic[name] for name in filters.NAMES},
        "count": synthetic.examples or train.num_examples,
        "measured": {
            "test": fitting.data_hash(splits.test),
            "validation": fitting.data_hash(splits.validation),
            "neighbours": config.diversity.neighbours,
            **({} if train.text is not None else {"image_size": config.data.image_size}),
        },
    }


def source(synthetic: SyntheticSet) -> data.Source:
    """The set as a source, to be mixed with the training split."""
    name = f"the synthetic set {str(synthetic.path)!r}"
    if synthetic.text is not None:
        return data.Source(
            name,
            synthetic.labels,
            tuple(synthetic.manifest["classes"]),
            synthetic.images.shape[1:],
            np.zeros(len(synthetic.labels), np.int8),
            pixels=synthetic.images,
            text=synthetic.text,
        )
    return data.from_arrays(name, synthetic.images, synthetic.labels, tuple(synthetic.manifest["classes"]))


def summary(synthetic: SyntheticSet) -> str:
    """Where the set is, the share recognised and how near it comes to copies, in one line."""
    manifest = synthetic.manifest
    judged = manifest["recognised"]
    if judged["value"] is None:
        known = f"not judged ({judged['reason']})"
    else:
        known = f"{judged['value']:.3f} [{judged['low']:.3f}, {judged['high']:.3f}] recognised by the judge"
    if synthetic.text is not None:
        copies, of_test = (manifest["identical"][name]["value"] for name in ("synthetic", "test"))
        return (
            f"synthetic set {synthetic.path}: {len(synthetic.labels)} texts, {known}; {copies:.3f} are training texts word for "
            f"word ({of_test:.3f} of test texts are)"
        )
    ratio = manifest["distance_ratio"]
    near = "" if ratio is None else (
        f"; median distance to the nearest training image {manifest['nearest_training_distance']:.3f}, "
        f"{ratio:.2f} of that of test images (near 0: copies)"
    )  # fmt: skip
    return f"synthetic set {synthetic.path}: {len(synthetic.labels)} images, {known}{near}"


def write_run_files(synthetic: SyntheticSet, workdir: str | os.PathLike[str]) -> None:
    """Writes synthetic.json (the manifest) and samples to look at into a run's folder: synthetic_by_class.npz, or .csv of texts."""
    folder = pathlib.Path(workdir)
    manifest = {"path": str(synthetic.path)} | synthetic.manifest
    files.write_json(folder / results.SYNTHETIC, manifest)
    _write_by_class(folder, synthetic.images, synthetic.labels, manifest["classes"], synthetic.text)


def class_shares(labels: Int[np.ndarray, " m"], count: int) -> Int[np.ndarray, " count"]:
    """`count` labels in the shares of `labels` (largest remainder), the classes spread evenly over the whole."""
    shares = np.bincount(labels) * count / len(labels)
    counts = np.floor(shares).astype(np.int64)
    counts[np.argsort(counts - shares, kind="stable")[: count - counts.sum()]] += 1
    out = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(count) - np.repeat(np.cumsum(counts) - counts, counts)
    return out[np.argsort((rank + 0.5) / np.repeat(counts, counts), kind="stable")].astype(np.int32)


def _sample_shards(
    folder: pathlib.Path,
    sample: methods.Sample,
    labels: Int[np.ndarray, " n"],
    accept: filters.Accept | None = None,
    classes: Sequence[str] = (),
    kind: str = "images",
    most: Int[np.ndarray, " k"] | None = None,
) -> None:
    """Fills the folder with shards of samples of these labels, those that are not accepted made good in further rounds.

    Round r has the samples number r n to (r + 1) n, of the labels again, of classes of which some are missing yet. A shard
    holds what was accepted; shards that are there are not sampled again. `most`: samples there are of each class, where not any
    number.

    Raises:
      InputError: a class is not complete after so many rounds.
    """
    n = len(labels)
    counts = np.bincount(labels)
    left = counts.copy()
    rank = _ranks(labels)
    progress = tqdm(
        total=n,
        desc="samples",
        unit=kind[:-1],
        disable=jax.process_index() > 0,
        mininterval=0.5,
        dynamic_ncols=True,
    )
    with progress:
        for turn in range(ROUNDS):
            numbers = np.flatnonzero(left[labels] > 0)
            for piece, start in enumerate(range(0, len(numbers), SHARD)):
                part = numbers[start : start + SHARD]
                path = folder / f"{kind}_{turn:02d}_{piece:05d}.npz"
                if not store.agreed(path.exists()):
                    of = labels[part]
                    samples = sample(of, turn * n + part, turn * counts[of] + rank[part])
                    keep = np.ones(len(of), bool) if accept is None else accept(samples, of)
                    if most is not None:
                        keep &= turn * counts[of] + rank[part] < most[of]
                    keep[keep] = _ranks(of[keep]) < left[of[keep]]
                    if jax.process_index() == 0:
                        with files.atomic(path) as temporary:
                            np.savez(temporary, **{kind: samples[keep], "labels": of[keep]})
                    kept = of[keep]
                else:
                    kept = _read(path, kind)[1]
                left -= np.bincount(kept, minlength=len(left))
                progress.update(len(kept))
            if not left.any():
                return
    k = int(np.argmax(left))
    raise InputError(
        f"of class {classes[k]!r} only {counts[k] - left[k]} of {counts[k]} {kind} passed the filters in {ROUNDS} times as "
        f"many samples: lower synthetic.least_confidence{' or synthetic.least_distance' * (kind == 'images')}"
    )


def _ranks(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How many examples of its class stand before each example."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def shards(folder: pathlib.Path, manifest: dict[str, Any], kind: str = "images") -> list[pathlib.Path]:
    """The files of a stored set's samples, and no other that lies there."""
    return [folder / name for name in sorted(manifest["files"]) if name.startswith(f"{kind}_")]


def read_shards(
    paths: Sequence[pathlib.Path], kind: str = "images"
) -> tuple[Shaped[np.ndarray, "n ..."], Int[np.ndarray, " n"]]:
    """Samples and labels of a set's files.

    Raises:
      InputError: a file is damaged.
    """
    samples, labels = zip(*(_read(path, kind) for path in paths), strict=True)
    return np.concatenate(samples), np.concatenate(labels)


def _read(path: pathlib.Path, kind: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored[kind], stored["labels"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{str(path)!r} is damaged: run the same command again to make it anew") from error


def _write_by_class(
    folder: pathlib.Path,
    examples: Shaped[np.ndarray, "n ..."],
    labels: Int[np.ndarray, " n"],
    classes: Any,
    text: Tokens | None,
) -> None:
    """images [K, m, H, W, C], m at most 12, NaN where a class has fewer; of texts a table."""
    if text is not None:
        shown = texts.strings(examples, text.words)
        texts.write_by_class(folder / TEXTS_BY_CLASS, shown, labels, classes, SHOWN)
        return
    most = min(SHOWN, int(np.bincount(labels).max()))
    sheet = np.full((len(classes), most, *examples.shape[1:]), np.nan, np.float32)
    for k in range(len(classes)):
        some = examples[np.flatnonzero(labels == k)[:most]]
        sheet[k, : len(some)] = some
    with files.atomic(folder / BY_CLASS) as temporary:
        np.savez_compressed(temporary, images=sheet, classes=np.asarray(classes))


def _silent(sentence: str) -> None:
    pass
