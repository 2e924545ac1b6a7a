"""Augmentation policies: what they may do, how often, and that it is what was published."""

import collections
import importlib.util
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from pillow_ops import pillow
from scipy import stats

from rmtjax.data import draws, policies

SIGNED = (
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
)
H, W = 18, 24


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(3)
    coarse = rng.integers(20, 200, (H // 3, W // 3, 3)).repeat(3, 0).repeat(3, 1)
    return (coarse + rng.integers(0, 20, (H, W, 3))).astype(np.uint8)


def signs(name, magnitude):
    return [(name, magnitude), (name, -magnitude if name in SIGNED else magnitude)]


def sub_policies(policy):
    """(probability, operations) of everything that AutoAugment may do."""
    words = np.array(policy.replace("|", " ").split()).reshape(-1, 2, 3)
    assert len(words) == 25
    for pair in words:
        choices = []
        for name, p, level in pair:
            largest = {"shear": 0.3, "translate": 150 / 331 * (W if name[-1] == "x" else H), "rotate": 30}
            largest = largest.get(name.split("_")[0], 0.9)
            magnitude = largest * int(level) / 9
            magnitude = 8 - round(int(level) * 4 / 9) if name == "posterize" else magnitude
            magnitude = 255 - 255 * int(level) / 9 if name == "solarize" else magnitude
            choices.append([(1 - float(p), []), *[(float(p) / 2, [s]) for s in signs(name, magnitude)]])
        for (p, first), (q, second) in itertools.product(*choices):
            yield p * q / 25, first + second


def rand_augment():
    largest = {
        "shear_x": 0.3,
        "shear_y": 0.3,
        "translate_x": 150 / 331 * W,
        "translate_y": 150 / 331 * H,
        "rotate": 30,
    }
    names = [n for n in SIGNED if n not in largest]
    single = [(n, m * 9 / 30) for n, m in largest.items()] + [(n, 0.27) for n in names]
    single += [
        ("posterize", 8 - round(9 * 4 / 30)),
        ("solarize", 255 * 21 / 30),
        ("autocontrast", 0),
        ("equalize", 0),
    ]
    one = [[], []] + [[s] for n, m in single for s in signs(n, m)]
    for first, second in itertools.product(one, one):
        yield 1 / 28**2, first + second


def trivial_augment():
    names = [*SIGNED, "posterize", "solarize", "autocontrast", "equalize"]
    largest = {"shear_x": 0.99, "shear_y": 0.99, "translate_x": 32, "translate_y": 32, "rotate": 135}
    yield 1 / 14, []
    for name, level in itertools.product(names, range(31)):
        magnitude = largest.get(name, 0.99) * level / 30
        magnitude = 8 - np.round(level * 6 / 30) if name == "posterize" else magnitude
        magnitude = 255 - 255 * level / 30 if name == "solarize" else magnitude
        for s in signs(name, magnitude):
            yield 1 / 14 / 31 / 2, [s]


POLICIES = [
    (policies.auto_augment, lambda: sub_policies(policies._IMAGENET)),
    (policies.auto_augment_cifar10, lambda: sub_policies(policies._CIFAR10)),
    (policies.rand_augment, rand_augment),
    (policies.trivial_augment, trivial_augment),
]


def seeds(n):
    return tf.constant(np.stack([np.arange(n), np.full(n, 11)], axis=1), tf.int32)


@pytest.mark.parametrize(("policy", "outcomes"), POLICIES, ids=[p.__name__ for p, _ in POLICIES])
def test_outcomes_are_pillow_s_and_as_frequent_as_published(policy, outcomes, image):
    expected = collections.Counter()
    for probability, operations in outcomes():
        out = image
        for name, magnitude in operations:
            out = pillow(name, magnitude, out)
        expected[out.tobytes()] += probability
    assert sum(expected.values()) == pytest.approx(1)
    n = 3000
    images = tf.constant(np.broadcast_to(image / np.float32(255), (n, *image.shape)).copy())
    drawn = np.rint(np.asarray(policy(images, seeds(n), 1.0)) * 255).astype(np.uint8)
    counts = collections.Counter(x.tobytes() for x in drawn)
    assert set(counts) <= {key for key, p in expected.items() if p > 0}
    # Rare outcomes are counted together, so that chi-squared holds.
    common = [key for key, p in expected.items() if p * n >= 5]
    f = [counts[key] for key in common] + [n - sum(counts[key] for key in common)]
    p = [expected[key] * n for key in common]
    p = [*p, n - sum(p)]
    if p[-1] < 5:
        f, p = [*f[:-2], f[-2] + f[-1]], [*p[:-2], p[-2] + p[-1]]
    assert stats.chisquare(f, p).pvalue > 1e-3


def test_aug_mix_mixes_three_chains_of_up_to_three_operations(image):
    n = 60
    images = np.broadcast_to(image / np.float32(255), (n, *image.shape)).copy()
    out = np.asarray(policies.aug_mix(tf.constant(images), seeds(n), 1.0))
    names = [*SIGNED, "posterize", "solarize", "autocontrast", "equalize"]
    largest = {"shear_x": 0.3, "shear_y": 0.3, "translate_x": W / 3, "translate_y": H / 3, "rotate": 30}
    single = []
    for name, level in itertools.product(names, range(3)):
        magnitude = largest.get(name, 0.9) * level / 9
        magnitude = 4 - round(level * 4 / 9) if name == "posterize" else magnitude
        magnitude = 255 - 255 * level / 9 if name == "solarize" else magnitude
        single += signs(name, magnitude)
    # The draws in their order: applied or not, the image's weight, the chains' weights and lengths, then
    # operations.
    drawn = np.stack(draws.uniform(seeds(n), 17), axis=1)
    assert {1, 2, 3} == {1 + int(3 * u) for u in drawn[:, 5:8].ravel()}
    for k, u in enumerate(drawn):
        weights = -np.log(1 - u[2:5].astype(float))
        weights *= (1 - u[1]) / weights.sum()
        mixed = u[1] * images[k]
        for chain in range(3):
            result = image
            for step in range(1 + int(3 * u[5 + chain])):
                result = pillow(*single[int(u[8 + 3 * step + chain] * len(single))], result)
            mixed = mixed + weights[chain] * result / 255
        np.testing.assert_allclose(out[k], mixed, atol=1e-5)


@pytest.mark.parametrize("policy", [policies.auto_augment, policies.trivial_augment, policies.aug_mix])
def test_strength_is_the_share_of_images_that_a_policy_is_applied_to(policy):
    n = 800
    rng = np.random.default_rng(0)
    images = rng.random((n, 6, 6, 3), np.float32)  # no bytes: a policy that is applied rounds
    out = np.asarray(policy(tf.constant(images), seeds(n), 0.3))
    applied = (out != images).any(axis=(1, 2, 3))
    assert applied.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / n))


# In a process of its own: torch and TensorFlow in one have crashed.
TORCHVISION = """
import json
from torchvision.transforms import AugMix, AutoAugment, AutoAugmentPolicy, RandAugment, TrivialAugmentWide
spaces = {
    "auto": AutoAugment()._augmentation_space(10, (18, 24)),
    "random": RandAugment()._augmentation_space(31, (18, 24)),
    "wide": TrivialAugmentWide()._augmentation_space(31),
    "mix": AugMix()._augmentation_space(10, (18, 24)),
}
print(json.dumps({
    "imagenet": AutoAugment(AutoAugmentPolicy.IMAGENET).policies,
    "cifar10": AutoAugment(AutoAugmentPolicy.CIFAR10).policies,
    **{k: {name: [m.tolist(), signed] for name, (m, signed) in space.items()} for k, space in spaces.items()},
}))
"""


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_the_tables_are_torchvision_s():
    done = subprocess.run([sys.executable, "-c", TORCHVISION], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)
    axes = {
        "ShearX": "shear_x",
        "ShearY": "shear_y",
        "TranslateX": "translate_x",
        "TranslateY": "translate_y",
    }

    def ours(name):
        return axes.get(name, name.lower())

    for key, table in (("imagenet", policies._IMAGENET), ("cifar10", policies._CIFAR10)):
        words = np.array(table.replace("|", " ").split()).reshape(-1, 3)
        expected = [(ours(name), p, level or 0) for pair in theirs[key] for name, p, level in pair]
        assert [(name, float(p), int(level)) for name, p, level in words] == expected
    magnitudes = {
        "auto": lambda name: policies._magnitudes(name, 10, H, W),
        "random": lambda name: policies._magnitudes(name, 31, H, W),
        "wide": lambda name: policies._wide_magnitudes(name, 31),
        "mix": lambda name: policies._mix_magnitudes(name, 10, H, W),
    }
    for key, of_name in magnitudes.items():
        for name, (values, signed) in theirs[key].items():
            ours_now = of_name(ours(name))
            np.testing.assert_allclose(
                ours_now, np.broadcast_to(values, ours_now.shape), rtol=1e-5, err_msg=name
            )
            assert signed == (ours(name) in policies._SIGNED)
    for key in ("random", "wide"):
        assert [ours(name) for name in theirs[key]] == list(policies._RANDOM)
    assert sorted(map(ours, theirs["mix"])) == sorted(set(policies._RANDOM) - {"identity"})
