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
from jaxtyping import Float, Int
from ml_collections import ConfigDict
from tqdm import tqdm

from rmtjax import config as config_lib
from rmtjax import data, files
from rmtjax.errors import InputError
from rmtjax.generate import filters, methods, quality, store
from rmtjax.train import sharding as sharding_lib

SHARD = 512  # samples a file; files that are there are not sampled again
ROUNDS = 20  # as many samples as images, until all have passed the filters
BY_CLASS = "synthetic_by_class.npz"
SHOWN = 12  # samples of a class in a picture
VERSIONS = ("rmtjax", "jax", "flax", "optax", "numpy", "scikit-learn")


class SyntheticSet(NamedTuple):
    """A stored set, at the size the classifier takes."""

    path: pathlib.Path
    images: Float[np.ndarray, "n h w c"]  # float32 in [0, 1]
    labels: Int[np.ndarray, " n"]  # int32
    manifest: dict[str, Any]


def ensure(config: ConfigDict, *, report: Callable[[str], None] = print) -> SyntheticSet:
    """The synthetic set of a config: found under `synthetic.cache`, or made there.

    The generator is fitted to the training split alone, at `synthetic.image_size`; the images are then resized
    as real ones are. A set is named by a hash of the training images and labels, the generator's config, the
    seed, knobs, filters and count; so runs that differ in `synthetic.share`, `synthetic.mode` or the model share it,
    and sets that differ in knobs or count share the generator. With several JAX processes, which share a
    file system, all must call this together.

    Args:
      config: the whole config, checked.
      report: gets sentences (in process 0): what is being made, and what came out.

    Raises:
      InputError: texts are to be made, a knob that the method has not, a class without training examples, too few images to
        import or that pass the filters, a cache that cannot be made, a stored file that was altered.
      loop.Stopped: SIGTERM while fitting; the same call goes on from there.
    """
    synthetic = config.synthetic
    if config_lib.is_text(config.data.source):
        raise InputError(
            f"synthetic.share={synthetic.share}: the generator makes images, and data.source={config.data.source!r} holds "
            "texts: set it to 0, or pass texts of your own to train.run by synthetic="
        )
    say = report if jax.process_index() == 0 else _silent
    methods.check(synthetic)
    section = config.data.copy_and_resolve_references()
    section.image_size = synthetic.image_size
    splits = data.load(section, config.seed)
    made = made_from(config, splits.train)
    labels = class_shares(splits.train.labels, made["count"])

    def build(folder: pathlib.Path) -> dict[str, Any]:
        mesh = sharding_lib.make_mesh(config.train.mesh.data, config.train.mesh.fsdp)
        sample, facts = methods.make(config, splits, mesh, say)
        accept = filters.make(config, splits, mesh)
        say(f"sampling {len(labels)} images")
        _sample_shards(folder, sample, labels, accept, splits.train.classes)
        if jax.process_index() > 0:
            return {}
        images, kept = _read_shards(folder)
        _write_by_class(folder / BY_CLASS, images, kept, splits.train.classes)
        return {
            **quality.describe(images, kept, splits, config, mesh),
            "source": config.data.source,
            "training_examples": splits.train.num_examples,
            "classes": list(splits.train.classes),
            **facts,
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }

    stored = store.ensure(synthetic.cache, made, build, say)
    images, kept = _read_shards(stored.path)
    result = SyntheticSet(stored.path, data.resize(images, config.data.image_size), kept, stored.manifest)
    say(("made " if stored.fresh else "reused ") + summary(result))
    return result


def made_from(config: ConfigDict, train: data.Source) -> dict[str, Any]:
    """All that a set depends on, as plain data: its folder is named by the hash of this.

    Args:
      train: the training split at the generator's image size.
    """
    synthetic = config.synthetic
    return {
        "generator": methods.made_from(config, train),
        **{name: synthetic[name] for name in methods.KNOBS[synthetic.method]},
        **{name: synthetic[name] for name in filters.NAMES},
        "count": synthetic.examples or train.num_examples,
    }


def source(synthetic: SyntheticSet) -> data.Source:
    """The set as a source, to be mixed with the training split."""
    name = f"the synthetic set {str(synthetic.path)!r}"
    return data.from_arrays(name, synthetic.images, synthetic.labels, tuple(synthetic.manifest["classes"]))


def summary(synthetic: SyntheticSet) -> str:
    """Where the set is, the share recognised and how near it comes to copies, in one line."""
    manifest = synthetic.manifest
    judged, ratio = manifest["recognised"], manifest["distance_ratio"]
    if judged["value"] is None:
        known = f"not judged ({judged['reason']})"
    else:
        known = f"{judged['value']:.3f} [{judged['low']:.3f}, {judged['high']:.3f}] recognised by the judge"
    near = "" if ratio is None else (
        f"; median distance to the nearest training image {manifest['nearest_training_distance']:.3f}, "
        f"{ratio:.2f} of that of test images (near 0: copies)"
    )  # fmt: skip
    return f"synthetic set {synthetic.path}: {len(synthetic.labels)} images, {known}{near}"


def write_run_files(synthetic: SyntheticSet, workdir: str | os.PathLike[str]) -> None:
    """Writes synthetic.json (the manifest) and synthetic_by_class.npz (samples to look at) into a run's folder."""
    folder = pathlib.Path(workdir)
    manifest = {"path": str(synthetic.path)} | synthetic.manifest
    files.write_json(folder / "synthetic.json", manifest)
    _write_by_class(folder / BY_CLASS, synthetic.images, synthetic.labels, manifest["classes"])


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
) -> None:
    """Fills the folder with shards of samples of these labels, those that are not accepted made good in further rounds.

    Round r has the samples number r n to (r + 1) n, of the labels again, of classes of which some are missing yet. A shard
    holds what was accepted; shards that are there are not sampled again.

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
        unit="image",
        disable=jax.process_index() > 0,
        mininterval=0.5,
        dynamic_ncols=True,
    )
    with progress:
        for turn in range(ROUNDS):
            numbers = np.flatnonzero(left[labels] > 0)
            for piece, start in enumerate(range(0, len(numbers), SHARD)):
                part = numbers[start : start + SHARD]
                path = folder / f"images_{turn:02d}_{piece:05d}.npz"
                if not store.agreed(path.exists()):
                    of = labels[part]
                    images = sample(of, turn * n + part, turn * counts[of] + rank[part])
                    keep = np.ones(len(of), bool) if accept is None else accept(images, of)
                    keep[keep] = _ranks(of[keep]) < left[of[keep]]
                    if jax.process_index() == 0:
                        with files.atomic(path) as temporary:
                            np.savez(temporary, images=images[keep], labels=of[keep])
                    kept = of[keep]
                else:
                    kept = _read(path)[1]
                left -= np.bincount(kept, minlength=len(left))
                progress.update(len(kept))
            if not left.any():
                return
    k = int(np.argmax(left))
    raise InputError(
        f"of class {classes[k]!r} only {counts[k] - left[k]} of {counts[k]} images passed the filters in {ROUNDS} times as "
        "many samples: lower synthetic.least_confidence or synthetic.least_distance"
    )


def _ranks(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How many examples of its class stand before each example."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def _read_shards(folder: pathlib.Path) -> tuple[Float[np.ndarray, "n h w c"], Int[np.ndarray, " n"]]:
    images, labels = zip(*map(_read, sorted(folder.glob("images_*.npz"))), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["images"], stored["labels"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{str(path)!r} is damaged: run the same command again to make it anew") from error


def _write_by_class(
    path: pathlib.Path, images: Float[np.ndarray, "n h w c"], labels: Int[np.ndarray, " n"], classes: Any
) -> None:
    """images [K, m, H, W, C], m at most 12; NaN where a class has fewer."""
    most = min(SHOWN, int(np.bincount(labels).max()))
    sheet = np.full((len(classes), most, *images.shape[1:]), np.nan, np.float32)
    for k in range(len(classes)):
        some = images[np.flatnonzero(labels == k)[:most]]
        sheet[k, : len(some)] = some
    with files.atomic(path) as temporary:
        np.savez_compressed(temporary, images=sheet, classes=np.asarray(classes))


def _silent(sentence: str) -> None:
    pass
