"""Sources, splits and mixtures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from rmtjax import config as config_lib
from rmtjax import data
from rmtjax.data.mixing import proportional
from rmtjax.data.sources import of_classes
from rmtjax.data.splits import stratified_order
from rmtjax.errors import InputError


def section(**values):
    config = config_lib.base().data
    config.update(values)
    return config


def keys(source):
    """One hashable value per image."""
    return [image.tobytes() for image in source.inputs()]


def test_digits_at_8_are_the_native_ones():
    source = data.load_source("digits", 8)
    np.testing.assert_array_equal(source.inputs()[..., 0] * 16, load_digits().images)
    np.testing.assert_array_equal(source.labels, load_digits().target)
    assert source.shape == (8, 8, 1)
    assert source.classes == tuple("0123456789")
    assert not source.origin.any()


def test_the_digits_are_split_once_each():
    splits = data.load(section(image_size=8, train_examples=None), seed=0)
    assert [part.num_examples for part in splits] == [800, 200, 797]
    together = sorted(key for part in splits for key in keys(part))
    assert together == sorted(keys(data.load_source("digits", 8)))


def test_the_test_part_is_fixed_and_the_others_are_drawn_by_seed():
    first, second = (data.load(section(image_size=8), seed) for seed in (0, 1))
    assert keys(first.test) == keys(second.test)
    assert set(keys(first.validation)) != set(keys(second.validation))
    assert set(keys(first.train)) != set(keys(second.train))
    again = data.load(section(image_size=8), 0)
    assert [keys(part) for part in again] == [keys(part) for part in first]


def test_small_training_sets_are_parts_of_larger_ones():
    sets = [set(keys(data.load(section(image_size=8, train_examples=n), 3).train)) for n in (100, 400, 800)]
    assert [len(s) for s in sets] == [100, 400, 800]
    assert sets[0] < sets[1] < sets[2]


def test_the_split_does_not_depend_on_the_image_size():
    small, large = (data.load(section(image_size=size), 0) for size in (8, 16))
    for part, other in zip(small, large, strict=True):
        np.testing.assert_array_equal(data.resize(part.inputs(), 16), other.inputs())
        np.testing.assert_array_equal(part.labels, other.labels)


def test_fewer_test_examples_are_a_stratified_part():
    whole, part = (data.load(section(image_size=8, test_examples=n), 0).test for n in (None, 100))
    assert set(keys(part)) < set(keys(whole))
    assert np.ptp(np.bincount(part.labels)) <= 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=120), st.integers(0, 100))
def test_every_prefix_of_a_stratified_order_has_the_classes_shares(labels, seed):
    labels = np.array(labels)
    order = stratified_order(labels, seed)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
    seen = np.cumsum(labels[order][:, None] == np.arange(5), axis=0)
    expected = np.arange(1, len(labels) + 1)[:, None] * np.bincount(labels, minlength=5) / len(labels)
    assert abs(seen - expected).max() <= 1.5


def test_the_stratified_order_is_shuffled():
    labels = np.repeat(np.arange(2), 50)
    orders = np.stack([stratified_order(labels, seed) for seed in range(200)])
    first = np.bincount(orders[:, 0], minlength=100)
    assert first.max() <= 12  # 2 expected of each example
    assert abs(first[:50].sum() - 100) < 4 * np.sqrt(50)  # each class is first half the time


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "digitz"}, "data source 'digitz' is unknown: it must be letters, digits"),
        (
            {"train_examples": 900},
            "data.train_examples=900 is more than there are: digits has 800 training examples",
        ),
        ({"test_examples": 798}, "data.test_examples=798 is more than there are: digits has 797"),
        ({"validation_examples": 1000}, "data.validation_examples=1000 leaves nothing to train on"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        data.load(section(**values), 0)


def test_resize_is_bilinear_between_pixel_centres():
    ramp = np.tile(np.arange(8, dtype=np.float32) / 10, (8, 1))[None, ..., None]
    larger = 10 * data.resize(ramp, 16)[0, 3, :, 0]
    np.testing.assert_allclose(larger, np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7), atol=1e-6)
    smaller = 10 * data.resize(ramp, 4)[0, 1, 1:-1, 0]
    np.testing.assert_allclose(
        smaller, [2.5, 4.5], atol=1e-6
    )  # a wider triangle, still centred: a ramp stays one
    checks = ((np.indices((16, 16)).sum(0) % 2)[None, ..., None]).astype(np.float32)
    np.testing.assert_allclose(data.resize(checks, 4), 0.5, atol=0.05)  # averaged, not sampled
    assert data.resize(ramp, 8) is ramp
    white = data.resize(np.ones((1, 32, 32, 3), np.float32), 13)
    assert white.max() <= 1
    np.testing.assert_allclose(
        data.resize(np.full((2, 5, 9, 3), 0.3, np.float32), 7), np.full((2, 7, 7, 3), 0.3), atol=1e-6
    )


def test_bytes_become_floats_alike_in_memory_and_in_tf_data():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    source = data.from_arrays("bytes", every, np.array([0]), ["only"])
    images = source.inputs()
    np.testing.assert_allclose(images, every / 255, rtol=1e-6)
    assert images.max() == 1
    batch = next(data.train_batches(source, batch_size=1, seed=0))
    np.testing.assert_array_equal(batch["inputs"], images)


IMAGES, LABELS = np.zeros((4, 5, 5, 1), np.uint8), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            IMAGES[..., 0],
            LABELS,
            r"images have shape \[4, 5, 5\]: they must be \[number, height, width, channels\]",
        ),
        (np.zeros((4, 5, 5, 2)), LABELS, r"shape \[4, 5, 5, 2\]"),
        (IMAGES[:0], LABELS[:0], r"shape \[0, 5, 5, 1\]"),
        (IMAGES, LABELS[:3], r"labels have shape \[3\] but images \[4, 5, 5, 1\]"),
        (IMAGES, np.eye(2)[LABELS], r"labels have shape \[4, 2\]"),
        (IMAGES, LABELS * 1.0, "labels are of type float64: they must be integers"),
        (IMAGES, LABELS + 1, "labels run from 1 to 2: with 2 classes they must lie in 0..1"),
        (IMAGES, LABELS - 1, "labels run from -1 to 0"),
        (IMAGES + 255.0, LABELS, "image values run from 255 to 255"),
        (IMAGES + np.nan, LABELS, "image values run from nan"),
        (IMAGES.astype(np.int64), LABELS, "images are of type int64"),
    ],
)
def test_arrays_of_the_wrong_shape_or_type_are_refused(images, labels, message):
    with pytest.raises(InputError, match=f"^mine: .*{message}"):
        data.from_arrays("mine", images, labels, ["a", "b"])


def real_and_synthetic(n_real=60, n_synthetic=100, classes=3):
    def make(n, offset):
        images = np.broadcast_to(
            (np.arange(n, dtype=np.float32)[:, None, None, None] + offset) / 1000, (n, 2, 2, 1)
        )
        return data.from_arrays(
            f"set{offset}",
            images.copy(),
            np.array([0, 0, 0, 1, 1, 2])[np.arange(n) % 6] % classes,
            list("abc")[:classes],
        )

    return make(n_real, 0), make(n_synthetic, 500)


def numbers(source):
    return np.rint(source.inputs()[:, 0, 0, 0] * 1000).astype(int)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_add_keeps_all_real_examples(share):
    real, synthetic = real_and_synthetic()
    mixed = data.mix(real, synthetic, "add", share, seed=0)
    n = round(share * 60)
    np.testing.assert_array_equal(mixed.origin, np.repeat([0, 1], [60, n]))
    np.testing.assert_array_equal(numbers(mixed)[:60], np.arange(60))
    added = numbers(mixed)[60:]
    assert len(set(added)) == n
    assert added.min() >= 500
    np.testing.assert_array_equal(mixed.labels[60:], synthetic.labels[added - 500])
    np.testing.assert_array_equal(
        np.bincount(mixed.labels[60:], minlength=3), proportional(np.bincount(real.labels), n)
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_replace_keeps_the_total_and_each_class(share):
    real, synthetic = real_and_synthetic()
    mixed = data.mix(real, synthetic, "replace", share, seed=0)
    assert mixed.num_examples == 60
    assert mixed.origin.sum() == round(share * 60)
    np.testing.assert_array_equal(np.bincount(mixed.labels), np.bincount(real.labels))
    assert len(set(numbers(mixed))) == 60
    assert ((numbers(mixed) >= 500) == mixed.origin).all()


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_a_larger_share_draws_a_superset(mode):
    real, synthetic = real_and_synthetic()
    drawn = [set(numbers(data.mix(real, synthetic, mode, s, 0))) for s in (0.2, 0.5)]
    synthetic_only = [{k for k in d if k >= 500} for d in drawn]
    assert synthetic_only[0] < synthetic_only[1]
    other = {k for k in numbers(data.mix(real, synthetic, mode, 0.5, 1)) if k >= 500}
    assert other != synthetic_only[1]


def test_share_0_is_the_real_set_itself():
    real, synthetic = real_and_synthetic()
    assert data.mix(real, synthetic, "add", 0.0, 0) is real


def test_a_mixture_reaches_the_batches():
    real, synthetic = real_and_synthetic()
    mixed = data.mix(real, synthetic, "add", 0.5, seed=0)
    batch = next(data.train_batches(mixed, batch_size=90, seed=0))
    assert batch["origin"].sum() == 30
    np.testing.assert_array_equal(batch["inputs"][:, 0, 0, 0] >= 0.4999, batch["origin"] == 1)


def test_a_mixture_of_bytes_and_floats_keeps_both():
    real = data.from_arrays(
        "bytes", np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1), np.array([0, 1]), ["a", "b"]
    )
    floats = data.from_arrays(
        "floats", np.full((2, 2, 2, 1), 0.123, np.float32), np.array([0, 1]), ["a", "b"]
    )
    mixed = data.mix(real, floats, "add", 1.0, 0)
    np.testing.assert_array_equal(mixed.inputs()[:2], real.inputs())
    np.testing.assert_array_equal(mixed.inputs()[2:], floats.inputs())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any), st.floats(0, 1))
def test_proportional_parts_are_within_one_and_add_up(counts, share):
    counts = np.array(counts)
    total = round(share * counts.sum())
    parts = proportional(counts, total)
    assert parts.sum() == total
    assert abs(parts - counts * total / counts.sum()).max() < 1
    assert (parts <= counts).all()


def test_mixtures_that_cannot_be_made_are_refused():
    real, synthetic = real_and_synthetic(60, 20)
    with pytest.raises(
        InputError, match=r"set500 has \d+ examples of class '.' and \d+ are needed for synthetic.share=1"
    ):
        data.mix(real, synthetic, "add", 1.0, 0)
    with pytest.raises(InputError, match=r"synthetic.share=1\.5 is out of range"):
        data.mix(real, synthetic, "add", 1.5, 0)
    with pytest.raises(InputError, match=r"synthetic\.mode='subtract' is unknown"):
        data.mix(real, synthetic, "subtract", 0.5, 0)
    with pytest.raises(InputError, match="mix sets of the same classes"):
        data.mix(real, real_and_synthetic(classes=2)[1], "add", 0.1, 0)
    wide = data.from_arrays("wide", np.zeros((9, 2, 3, 1), np.uint8), np.arange(9) % 3, list("abc"))
    with pytest.raises(InputError, match=r"wide has images of shape \[2, 3, 1\] but set0 of \[2, 2, 1\]"):
        data.mix(real, wide, "add", 0.1, 0)


def test_some_classes_are_kept_and_numbered_in_the_order_named():
    real, _ = real_and_synthetic()
    kept = of_classes(real, ("c", "a"))
    assert kept.classes == ("c", "a")
    was = real.labels[np.isin(real.labels, [0, 2])]
    np.testing.assert_array_equal(kept.labels, np.where(was == 2, 0, 1))
    np.testing.assert_array_equal(kept.inputs(), real.inputs(np.flatnonzero(np.isin(real.labels, [0, 2]))))
    assert of_classes(real, ()) is real
    with pytest.raises(
        InputError, match=r"data\.classes names 'd', which .* does not have: its classes are a, b, c"
    ):
        of_classes(real, ("d",))


def test_splits_and_shifts_of_some_classes():
    config = config_lib.base()
    config.data.update(classes=("3", "8"), train_examples=40, validation_examples=20)
    splits = data.load(config.data, 0)
    assert splits.train.classes == splits.test.classes == ("3", "8")
    np.testing.assert_array_equal(np.bincount(splits.train.labels), [21, 19])
    shift = data.load_source("printed_digits", 16, classes=config.data.classes)
    assert shift.classes == ("3", "8")
    np.testing.assert_array_equal(np.bincount(shift.labels), [110, 110])


def test_label_noise_replaces_that_share_of_training_labels_by_other_classes():
    clean = data.load(section(image_size=8, train_examples=800), seed=3)
    wrong = {}
    for share in (0.25, 0.5, 1.0):
        noisy = data.load(section(image_size=8, train_examples=800, label_noise=share), seed=3)
        wrong[share] = np.flatnonzero(noisy.train.labels != clean.train.labels)
        assert len(wrong[share]) == share * 800
        assert keys(noisy.train) == keys(clean.train)
        for noisy_part, part in zip(noisy[1:], clean[1:], strict=True):
            np.testing.assert_array_equal(noisy_part.labels, part.labels)
    assert set(wrong[0.25]) < set(wrong[0.5])
    shift = (noisy.train.labels - clean.train.labels) % 10  # of all 800 at share 1: uniform over 1 to 9
    assert np.abs(np.bincount(shift, minlength=10)[1:] - 800 / 9).max() < 4 * np.sqrt(800 / 9)
    again = data.load(section(image_size=8, train_examples=800, label_noise=1.0), seed=3)
    np.testing.assert_array_equal(again.train.labels, noisy.train.labels)


def test_label_noise_needs_two_classes():
    with pytest.raises(InputError, match=r"data\.label_noise=0\.5 needs a second class"):
        data.load(section(classes=("3",), train_examples=20, validation_examples=5, label_noise=0.5), seed=0)
