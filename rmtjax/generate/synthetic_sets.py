"""Synthetic sets on disk: made once from a training split, with a manifest, and reused."""

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
from rmtjax.errors import InputError
from rmtjax.generate import filters, kinds, methods, store
from rmtjax.train import selection
from rmtjax.train import sharding as sharding_lib

SHARD = 512  # samples per file; existing files are not sampled again
ROUNDS = 20  # at most, each of as many samples as there are labels, until enough have passed the filters
VERSIONS = ("rmtjax", "jax", "flax", "optax", "numpy", "scikit-learn")


class SyntheticSet(NamedTuple):
    """A stored set, at the size the classifier takes.

    Attributes:
      examples: float32 [n, h, w, c] in [0, 1]; of texts the numbers of their words, int32 [n, w], 0 after the
        last.
      labels: int32.
      modality: that of the training split; of texts it says what the numbers mean.
    """

    path: pathlib.Path
    examples: Shaped[np.ndarray, "n ..."]
    labels: Int[np.ndarray, " n"]
    manifest: dict[str, Any]
    modality: Any


def ensure(config: ConfigDict, *, report: Callable[[str], None] = print) -> SyntheticSet:
    """The synthetic set of a config: found under `synthetic.cache`, or made there.

    The generator is fitted to the training split alone, at `synthetic.image_size`; the images are then
    resized as real ones are. Texts are written with the words of the training split, unless they are
    imported. A set is named by a hash of the training images (or words) and labels, the generator's config,
    the seed, knobs, filters and count, and the data that its worth is measured against. So runs that differ
    in `synthetic.share`, `synthetic.mode` or the model share a set, and sets that differ in knobs or count
    share the generator. With several JAX processes, which must see the same file system, all must call this
    together.

    Args:
      config: the whole config, checked.
      report: gets sentences (in process 0) about what is being made and what came out.

    Raises:
      InputError: the method is for other sources or has no such knob, a class has no training examples, what
        is to be imported has a fault, too few examples are imported or pass the filters, the cache cannot be
        made, or a stored file was altered.
      loop.Stopped: SIGTERM while fitting; the same call goes on from there.
    """
    synthetic = config.synthetic
    say = report if jax.process_index() == 0 else _silent
    methods.check(config)
    splits = selection.load(config, synthetic.image_size)
    kind = kinds.kind_of(splits.train)
    splits = splits._replace(train=kind.prepare(splits.train))
    foreign = methods.imported(config, splits, say)
    if foreign is not None:
        splits = splits._replace(train=foreign.train)
    made = made_from(config, splits, foreign)

    def build(folder: pathlib.Path) -> dict[str, Any]:
        return _build(folder, config, splits, foreign, made["count"], say)

    stored = store.ensure(synthetic.cache, made, build, say)
    examples, labels = read_shards(shards(stored.path, stored.manifest, kind.name), kind.name)
    examples = kind.resize(examples, config.data.image_size)
    result = SyntheticSet(stored.path, examples, labels, stored.manifest, splits.train.modality)
    say(("made " if stored.fresh else "reused ") + summary(result))
    return result


def _build(
    folder: pathlib.Path,
    config: ConfigDict,
    splits: data.Splits,
    foreign: methods.Imported | None,
    count: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Fills the folder of a set and returns what the manifest says of it (in process 0)."""
    synthetic, train, kind = config.synthetic, splits.train, kinds.kind_of(splits.train)
    labels = class_shares(train.labels, count)
    mesh = sharding_lib.make_mesh(config.train.mesh.data, config.train.mesh.fsdp)
    most = methods.at_hand(config, foreign, labels)
    sample, facts = methods.make(config, splits, foreign, mesh, say)
    accept, least = None, [synthetic[name] for name in filters.NAMES]
    if any(least):
        say("fitting the filters to the training split")
        accept = kind.accept(*least, splits, config.seed, mesh)
    say(f"sampling {count} {kind.name}")
    _sample_shards(folder, sample, labels, accept, train.classes, kind.name, most)
    say(
        "measuring what the set is worth: judge, nearest training examples, classifiers trained on it, "
        "diversity"
    )
    if jax.process_index() > 0:
        return {}
    examples, labels = read_shards(sorted(folder.glob(f"{kind.name}_*.npz")), kind.name)
    kind.write_by_class(folder, examples, labels, train.classes, train.modality)
    if (words := kind.vocabulary(train)) is not None:
        files.write_json(folder / kinds.WORDS, words)
    return {
        **kind.describe(examples, labels, splits, config, mesh),
        "source": config.data.source,
        "training_examples": train.num_examples,
        "classes": list(train.classes),
        **facts,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def made_from(
    config: ConfigDict, splits: data.Splits, foreign: methods.Imported | None = None
) -> dict[str, Any]:
    """All that a set and its manifest's numbers depend on, as plain data whose hash names the set's folder.

    Args:
      splits: at the generator's image size, or of texts.
      foreign: what `methods.imported` gives.
    """
    synthetic, train, kind = config.synthetic, splits.train, kinds.kind_of(splits.train)
    return {
        "generator": methods.made_from(config, train, foreign),
        **{name: synthetic[name] for name in methods.KNOBS[synthetic.method]},
        **{name: synthetic[name] for name in filters.NAMES},
        "count": synthetic.examples or train.num_examples,
        "measured": {
            "test": kind.data_hash(splits.test),
            "validation": kind.data_hash(splits.validation),
            "neighbours": config.diversity.neighbours,
            **({"image_size": config.data.image_size} if kind.sized else {}),
        },
    }


def source(synthetic: SyntheticSet) -> data.Source:
    """The set as a source, to be mixed with the training split."""
    name = f"the synthetic set {str(synthetic.path)!r}"
    classes, modality = tuple(synthetic.manifest["classes"]), synthetic.modality
    return kinds.KINDS[modality.kind].source(name, synthetic.examples, synthetic.labels, classes, modality)


def summary(synthetic: SyntheticSet) -> str:
    """Where the set is, the share recognised and how near it comes to copies, in one line."""
    manifest, kind = synthetic.manifest, kinds.KINDS[synthetic.modality.kind]
    judged = manifest["recognised"]
    if judged["value"] is None:
        known = f"not judged ({judged['reason']})"
    else:
        known = f"{judged['value']:.3f} [{judged['low']:.3f}, {judged['high']:.3f}] recognised by the judge"
    number = len(synthetic.labels)
    return f"synthetic set {synthetic.path}: {number} {kind.name}, {known}{kind.nearness(manifest)}"


def write_run_files(synthetic: SyntheticSet, workdir: str | os.PathLike[str]) -> None:
    """Writes synthetic.json (the manifest) and synthetic_by_class.npz or .csv into a run's folder."""
    folder, modality = pathlib.Path(workdir), synthetic.modality
    manifest = {"path": str(synthetic.path)} | synthetic.manifest
    files.write_json(folder / results.SYNTHETIC, manifest)
    write = kinds.KINDS[modality.kind].write_by_class
    write(folder, synthetic.examples, synthetic.labels, manifest["classes"], modality)


def class_shares(labels: Int[np.ndarray, " m"], count: int) -> Int[np.ndarray, " count"]:
    """`count` labels in the shares of `labels` (largest remainder), classes spread evenly."""
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
    """Fills a folder with shards of samples of these labels; later rounds make up for those refused.

    Round r has the samples number r n to (r + 1) n, of the same labels, for those classes that are not
    complete yet. A shard holds what was accepted; existing shards are not sampled again.

    Args:
      most: how many samples there are of each class; None: any number.

    Raises:
      InputError: a class is not complete after the last round.
    """
    n, counts, rank = len(labels), np.bincount(labels), _ranks(labels)
    left = counts.copy()
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
                if store.agreed(path.exists()):
                    kept = _read(path, kind)[1]
                else:
                    wanted, place = labels[part], turn * counts[labels[part]] + rank[part]
                    samples = sample(wanted, turn * n + part, place)
                    keep = _kept(samples, wanted, place, left, accept, most)
                    kept = wanted[keep]
                    if jax.process_index() == 0:
                        with files.atomic(path) as temporary:
                            np.savez(temporary, **{kind: samples[keep], "labels": kept})
                left -= np.bincount(kept, minlength=len(left))
                progress.update(len(kept))
            if not left.any():
                return
    k = int(np.argmax(left))
    lower = " or ".join(f"synthetic.{name}" for name in kinds.KINDS[kind].filters)
    raise InputError(
        f"of class {classes[k]!r} only {counts[k] - left[k]} of {counts[k]} {kind} passed the filters in "
        f"{ROUNDS} "
        f"times as many samples: lower {lower}"
    )


def _kept(
    samples: Shaped[np.ndarray, "n ..."],
    labels: Int[np.ndarray, " n"],
    place: Int[np.ndarray, " n"],
    left: Int[np.ndarray, " k"],
    accept: filters.Accept | None,
    most: Int[np.ndarray, " k"] | None,
) -> np.ndarray:
    """Marks samples to be stored: accepted, among the `most` of their class by `place`, and still missing."""
    keep = np.ones(len(labels), bool) if accept is None else accept(samples, labels)
    if most is not None:
        keep &= place < most[labels]
    keep[keep] = _ranks(labels[keep]) < left[labels[keep]]
    return keep


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


def _silent(sentence: str) -> None:
    pass
