"""Letters and printed digits drawn from fonts."""

import string

import numpy as np
import pytest
from sklearn.svm import SVC

from rmtjax import config as config_lib
from rmtjax import data


@pytest.fixture(scope="module")
def letters():
    config = config_lib.base().data
    config.update(source="letters", train_examples=None)
    return data.load(config, 0)


def test_letters_have_52_classes_in_equal_parts(letters):
    assert letters.train.classes == tuple(string.ascii_uppercase + string.ascii_lowercase)
    assert [part.num_examples for part in letters] == [9784, 200, 1040]
    assert letters.train.shape == (16, 16, 1)
    np.testing.assert_array_equal(np.bincount(letters.test.labels), 20)
    assert np.ptp(np.bincount(letters.train.labels)) <= 1


def test_letters_are_white_on_black_and_within_the_frame(letters):
    images = letters.train.inputs()
    assert images.max() == 1
    assert images.min() == 0
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert border.mean() < 0.08 < images[:, 4:12, 4:12].mean()
    assert 0.1 < images.mean() < 0.35


def test_letters_are_distorted_differently_in_every_copy(letters):
    assert len({image.tobytes() for image in letters.train.inputs()}) > 0.99 * letters.train.num_examples


def test_letters_can_be_told_apart_across_fonts(letters):
    train, test = letters.train, letters.test
    svm = SVC(C=10).fit(train.inputs(np.arange(3000)).reshape(3000, -1), train.labels[:3000])
    right = svm.predict(test.inputs().reshape(1040, -1)) == test.labels
    assert 0.6 < right.mean() < 0.99


def test_printed_digits_are_as_hard_as_the_design_says():
    """An SVM trained on 100, 400 or 1,000 handwritten digits reads .57, .61 or .67 of them."""
    printed, handwritten = data.load_source("printed_digits", 8), data.load_source("digits", 8)
    assert printed.classes == handwritten.classes
    np.testing.assert_array_equal(np.bincount(printed.labels), 110)
    order = np.random.default_rng(0).permutation(handwritten.num_examples)
    for n, expected in ((100, 0.57), (400, 0.61), (1000, 0.67)):
        numbers = order[:n]
        svm = SVC(C=10).fit(handwritten.inputs(numbers).reshape(n, -1), handwritten.labels[numbers])
        accuracy = svm.score(printed.inputs().reshape(printed.num_examples, -1), printed.labels)
        assert accuracy == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("name", ["printed_digits", "letters_unlike_digits"])
def test_print_is_scanned_as_uci_scanned_handwriting(name):
    small, large = (data.load_source(name, size) for size in (8, 16))
    counts = small.inputs() * 16
    np.testing.assert_array_equal(counts, np.rint(counts))
    assert counts.max() == 16
    # Cropped to their box: every glyph touches two opposite sides of the 8 x 8 blocks.
    rows, columns = (counts.sum(axis=axes) > 0 for axes in ((2, 3), (1, 3)))
    assert ((rows[:, 0] & rows[:, -1]) | (columns[:, 0] & columns[:, -1])).mean() > 0.95
    np.testing.assert_array_equal(data.resize(small.inputs(), 16), large.inputs())


def test_letters_unlike_digits_leave_out_those_alike():
    source = data.load_source("letters_unlike_digits", 8)
    assert not set(source.classes) & set("OoIilSsZzBgq")
    assert len(source.classes) == 40
    assert source.num_examples == 1200


def test_glyphs_are_the_same_every_time():
    from rmtjax.data import glyphs

    first = glyphs.printed_digits(8).inputs()
    glyphs.printed_digits.cache_clear()
    np.testing.assert_array_equal(glyphs.printed_digits(8).inputs(), first)
