"""Augmented images a second of processor time, beside torchvision and albumentations if installed.

Ours run through the whole pipeline, from bytes in memory to batches of float32. The peers do the same work on
each image, from the same bytes to a float32 array, in a process that neither hands images over nor collects
batches, which is less than their data loaders do. Processor time of all threads together is measured: it says
what a core does whatever else the machine is doing, and all ways here use as many cores as they are given.
"""

import contextlib
import functools
import importlib.util
import itertools
import multiprocessing
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from rmtjax.bench import corruptions
from rmtjax.bench.timing import IMAGES, images, rate

BATCH = {32: 128, 224: 32}
STRENGTH = {"horizontal_flip": 0.5, "vertical_flip": 0.5}  # of all others 1
PEERS = ("torchvision", "torchvision_pil", "albumentations")


def compare(sizes: tuple[int, ...], names: tuple[str, ...], seconds: float, repeats: int) -> pd.DataFrame:
    """A row per augmentation and size: images a second of each way (medians), our ratio to the best peer."""
    peers = [peer for peer in PEERS if importlib.util.find_spec(peer.split("_")[0]) is not None]
    rows = []
    # Spawned: a process that has run TensorFlow cannot be forked safely.
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1) if peers else contextlib.nullcontext() as pool:
        for size in sizes:
            for name in names:
                times: dict[str, list[float]] = {}
                for _ in range(repeats):  # in turns, so that all meet the same load of the machine
                    times.setdefault("rmtjax", []).append(_ours(name, size, seconds))
                    for peer in peers:
                        rate = pool.apply(_peer, (peer, name, size, seconds))
                        times.setdefault(peer, []).append(rate)
                rates = {way: float(np.median(values)) for way, values in times.items()}
                best = pd.Series([rates[peer] for peer in peers], dtype=float).max()
                rows.append({"augmentation": name, "size": size} | rates | {"ratio": rates["rmtjax"] / best})
                print(f"{name}, {size} x {size}: {rates['rmtjax']:.0f} ({best:.0f})", file=sys.stderr)
    return pd.DataFrame(rows)


@functools.lru_cache(maxsize=1)
def _stream(name: str, size: int) -> Any:
    from rmtjax import config as config_lib
    from rmtjax import data

    config = config_lib.base().augment
    if name != "none":
        config[name] = STRENGTH.get(name, 1.0)
    pixels = images(size)
    source = data.from_arrays("images", pixels, np.arange(len(pixels)) % 10, [str(k) for k in range(10)])
    return data.train_batches(source, batch_size=BATCH[size], seed=0, augment=data.augmentation(config))


def _ours(name: str, size: int, seconds: float) -> float:
    stream = _stream(name, size)
    for _ in range(3):  # what was made ahead while others were timed
        next(stream)
    return rate(lambda: next(stream), BATCH[size], seconds)


def _peer(peer: str, name: str, size: int, seconds: float) -> float:
    """Images a second of one process; NaN where the peer has no such augmentation."""
    work, number = _work(peer, name, size)
    return float("nan") if work is None else rate(work, number, seconds)


@functools.lru_cache(maxsize=len(PEERS))
def _work(peer: str, name: str, size: int) -> tuple[Callable[[], Any] | None, int]:
    """A function that augments the next images, to float32 in [0, 1], and how many it does at a time."""
    pixels = images(size)
    order = itertools.cycle(np.random.default_rng(1).permutation(len(pixels)).tolist())
    if peer == "albumentations":
        transform = _albumentations(name, size)
        return transform and (lambda: transform(image=pixels[next(order)])["image"] * np.float32(1 / 255)), 1
    import torch
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    if name in ("mixup", "cutmix"):
        mix = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[name](num_classes=10)
        batch = BATCH[size]

        def mixed() -> Any:
            chosen = torch.from_numpy(pixels[[next(order) for _ in range(batch)]])
            return mix(chosen.permute(0, 3, 1, 2).float() * (1 / 255), torch.arange(batch) % 10)

        return mixed if peer == "torchvision" else None, batch
    transform = _torchvision(v2, name, size)
    to_float = v2.ToDtype(torch.float32, scale=True)
    of_floats = name in ("gaussian_noise", "random_erasing")
    if peer == "torchvision":
        ready = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in pixels]
        steps = [to_float, transform] if of_floats else [transform, to_float]
    else:
        from PIL import Image

        ready = [Image.fromarray(image) for image in pixels]
        steps = [transform, v2.PILToTensor(), to_float]
    whole = v2.Compose(steps)
    return None if of_floats and peer != "torchvision" else lambda: whole(ready[next(order)]), 1


def _torchvision(v2: Any, name: str, size: int) -> Any:
    bilinear = {"interpolation": v2.InterpolationMode.BILINEAR}
    from torchvision.transforms import AutoAugmentPolicy

    made: dict[str, Callable[[], Any]] = {
        "none": v2.Identity,
        "auto_augment": v2.AutoAugment,
        "auto_augment_cifar10": lambda: v2.AutoAugment(AutoAugmentPolicy.CIFAR10),
        "rand_augment": v2.RandAugment,
        "trivial_augment": v2.TrivialAugmentWide,
        "aug_mix": v2.AugMix,
        "horizontal_flip": v2.RandomHorizontalFlip,
        "vertical_flip": v2.RandomVerticalFlip,
        "random_resized_crop": lambda: v2.RandomResizedCrop(size),
        "rotation": lambda: v2.RandomRotation(30, **bilinear),
        "shift_crop": lambda: v2.RandomCrop(size, padding=size // 8),
        "elastic": lambda: v2.ElasticTransform(40.0, 6.0),
        "colour_jitter": lambda: v2.ColorJitter(0.8, 0.8, 0.8, 0.2),
        "contrast_brightness": lambda: v2.ColorJitter(brightness=0.9, contrast=0.9),
        "random_erasing": lambda: v2.RandomErasing(p=1.0, scale=(0.02, 0.4), value="random"),
        "gaussian_noise": lambda: v2.GaussianNoise(sigma=0.1),
    }
    return made[name]()


def _albumentations(name: str, size: int) -> Any:
    import albumentations as a

    pad = size // 8
    made: dict[str, Callable[[], Any]] = {
        "none": a.NoOp,
        "horizontal_flip": lambda: a.HorizontalFlip(p=0.5),
        "vertical_flip": lambda: a.VerticalFlip(p=0.5),
        "random_resized_crop": lambda: a.RandomResizedCrop((size, size), p=1),
        "rotation": lambda: a.Rotate(30, p=1),
        "shift_crop": lambda: a.Compose(
            [a.PadIfNeeded(size + 2 * pad, size + 2 * pad, p=1), a.RandomCrop(size, size, p=1)]
        ),
        "elastic": lambda: a.ElasticTransform(alpha=40, sigma=6, p=1),
        "colour_jitter": lambda: a.ColorJitter((0.2, 1.8), (0.2, 1.8), (0.2, 1.8), (-0.2, 0.2), p=1),
        "contrast_brightness": lambda: a.RandomBrightnessContrast(0.9, 0.9, p=1),
        "gaussian_noise": lambda: a.GaussNoise(std_range=(0.1, 0.1), p=1),
    }
    return made[name]() if name in made else None


def main(arguments: Any, overrides: list[str]) -> None:
    from rmtjax.data import augmentations
    from rmtjax.errors import InputError
    from rmtjax.evaluation import CORRUPTIONS

    known = ("none", *(op.__name__ for op in augmentations.OPERATIONS), "mixup", "cutmix")
    names = tuple(arguments.names.split(",")) if arguments.names else (*known, *CORRUPTIONS)
    for name in names:
        if name not in (*known, *CORRUPTIONS):
            raise InputError(
                f"--names has {name!r}, which is no augmentation: they are {', '.join(known)}, "
                f"or the corruptions {', '.join(CORRUPTIONS)}"
            )
    if augmented := tuple(dict.fromkeys(name for name in names if name in known)):
        print(_shown(compare(tuple(IMAGES), augmented, arguments.seconds, arguments.repeats)))
    if corrupted := tuple(dict.fromkeys(name for name in names if name in CORRUPTIONS)):
        print(_shown(corruptions.compare(corrupted, arguments.seconds, arguments.repeats)))


def _shown(table: pd.DataFrame) -> str:
    return table.to_string(
        index=False, na_rep="", float_format=lambda x: f"{x:.2f}" if x < 50 else f"{x:.0f}"
    )
