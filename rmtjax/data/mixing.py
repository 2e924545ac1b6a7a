"""Mixes real and synthetic examples into one source."""

import dataclasses

import numpy as np
import tensorflow as tf
from jaxtyping import Int

from rmtjax.data.modalities import unit_floats
from rmtjax.data.sources import Source, take
from rmtjax.errors import InputError


def mix(real: Source, synthetic: Source, mode: str, share: float, seed: int) -> Source:
    """Mixes synthetic examples into a real set, with the class shares of the real set.

    Args:
      real: the training set.
      synthetic: the set from which synthetic examples are drawn, without replacement. A larger share draws a
        superset.
      mode: "add" keeps all real examples and adds round(share * n) synthetic ones; "replace" keeps the total
        and the count of every class, and replaces round(share * n) real examples by synthetic ones.
      share: a number in [0, 1]; 0 returns `real` itself.
      seed: seed of the draw.

    Returns:
      A source whose `origin` is 1 for synthetic examples; real examples come first, in their order.

    Raises:
      InputError: the mode is unknown, the share is out of range, classes or shapes differ, or there are too
        few synthetic examples.
    """
    if mode not in ("add", "replace"):
        raise InputError(f"synthetic.mode={mode!r} is unknown: it must be add or replace")
    if not 0 <= share <= 1:
        raise InputError(f"synthetic.share={share!r} is out of range: it must be between 0 and 1")
    if real.classes != synthetic.classes:
        raise InputError(
            f"{synthetic.name} has the classes {', '.join(synthetic.classes)} but {real.name} has "
            f"{', '.join(real.classes)}: mix sets of the same classes"
        )
    if real.modality.kind != synthetic.modality.kind:
        raise InputError(f"{synthetic.name} and {real.name} are images and texts: mix sets of one kind")
    if real.shape != synthetic.shape:
        raise InputError(
            f"{synthetic.name} has images of shape {list(synthetic.shape)} but {real.name} of "
            f"{list(real.shape)}: resize one of them"
        )
    counts = np.bincount(real.labels, minlength=len(real.classes))
    wanted = proportional(counts, round(share * real.num_examples))
    if not wanted.sum():
        return real
    available = np.bincount(synthetic.labels, minlength=len(real.classes))
    if (wanted > available).any():
        k = int(np.argmax(wanted - available))
        raise InputError(
            f"{synthetic.name} has {available[k]} examples of class {real.classes[k]!r} and {wanted[k]} are "
            "needed for "
            f"synthetic.share={share}: make a larger set (synthetic.examples) or lower the share"
        )
    drawn = _first_of_each_class(synthetic.labels, wanted, [seed, 0])
    if mode == "replace":
        dropped = _first_of_each_class(real.labels, wanted, [seed, 1])
        real = take(real, np.setdiff1d(np.arange(real.num_examples), dropped))
    return concatenate(real, dataclasses.replace(take(synthetic, drawn), origin=np.ones(len(drawn), np.int8)))


def proportional(counts: Int[np.ndarray, " k"], total: int) -> Int[np.ndarray, " k"]:
    """Divides `total` in the shares of `counts`, rounded by largest remainder; ties go to the first."""
    exact = counts * total / counts.sum()
    whole = np.floor(exact).astype(np.int64)
    most_left = np.argsort(whole - exact, kind="stable")[: total - whole.sum()]
    whole[most_left] += 1
    return whole


def concatenate(first: Source, second: Source) -> Source:
    """The examples of `first`, then those of `second`, under the name and classes of `first`."""
    n = first.num_examples
    modality, of_second = first.modality.joined(second.modality, second.examples)
    both = dataclasses.replace(
        first,
        modality=modality,
        labels=np.concatenate([first.labels, second.labels]),
        origin=np.concatenate([first.origin, second.origin]),
        stored=None,
    )
    if first.examples is not None and of_second is not None:
        parts = first.examples, of_second
        if parts[0].dtype != parts[1].dtype:
            parts = tuple(map(unit_floats, parts))
        return dataclasses.replace(both, examples=np.concatenate(parts))

    def describe(i: int) -> str:
        source, number = (first, i) if i < n else (second, i - n)
        return source.describe(number) if source.describe else f"example {number} of {source.name}"

    return dataclasses.replace(
        both,
        examples=None,
        decode=lambda i: tf.cond(i < n, lambda: first.read(i), lambda: second.read(i - n)),
        describe=describe,
    )


def _first_of_each_class(
    labels: Int[np.ndarray, " n"], wanted: Int[np.ndarray, " k"], seed: list[int]
) -> Int[np.ndarray, " m"]:
    """The sorted numbers of the first `wanted[c]` examples of every class c, in a seeded order."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels, minlength=len(wanted))
    ranks = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[ranks < np.repeat(wanted, counts)])
