"""The stream of training batches, and the one pass of evaluation."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rmtjax import data
from rmtjax.errors import InputError


def numbered(n, decoded=False):
    """n images of 4 x 3 pixels that hold their own number, in two classes."""
    images = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None] / n, (n, 4, 3, 1)).copy()
    source = data.from_arrays("numbered", images, np.arange(n) % 2, ("even", "odd"))
    if not decoded:
        return source
    table = tf.constant(images)
    return data.Source(
        "numbered",
        source.labels,
        source.classes,
        (4, 3, 1),
        source.origin,
        decode=lambda i: tf.gather(table, i),
    )


def first(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


@pytest.mark.parametrize("decoded", [False, True])
def test_a_batch_holds_the_examples_it_names(decoded):
    source = numbered(23, decoded)
    for batch in first(data.train_batches(source, batch_size=8, seed=3), 5):
        assert {key: (value.shape, str(value.dtype)) for key, value in batch.items()} == {
            "inputs": ((8, 4, 3, 1), "float32"),
            "label": ((8,), "int32"),
            "index": ((8,), "int32"),
            "origin": ((8,), "int32"),
        }
        np.testing.assert_array_equal(batch["label"], batch["index"] % 2)
        np.testing.assert_array_equal(batch["inputs"], source.inputs(batch["index"]))


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 30),
    seed=st.integers(0, 2**40),
    start=st.integers(0, 10**6),
)
def test_every_epoch_has_every_example_once(n, batch_size, seed, start):
    steps = -(-3 * n // batch_size) + 1
    stream = np.concatenate(
        [
            b["index"]
            for b in first(
                data.train_batches(numbered(n), batch_size=batch_size, seed=seed, start_step=start), steps
            )
        ]
    )
    offset = -start * batch_size % n  # up to the first whole epoch
    epochs = stream[offset:][: (len(stream) - offset) // n * n].reshape(-1, n)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(n), (len(epochs), 1)))


@pytest.mark.parametrize("decoded", [False, True])
def test_starting_at_a_step_equals_running_up_to_it(decoded):
    source = numbered(23, decoded)
    whole = first(data.train_batches(source, batch_size=8, seed=1), 12)
    assert_same(first(data.train_batches(source, batch_size=8, seed=1, start_step=7), 5), whole[7:])


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_out_each_batch(decoded, processes):
    source = numbered(23, decoded)
    whole = first(data.train_batches(source, batch_size=8, seed=1), 6)
    parts = [
        first(data.train_batches(source, batch_size=8, seed=1, process_index=p, process_count=processes), 6)
        for p in range(processes)
    ]
    joined = [{key: np.concatenate([part[k][key] for part in parts]) for key in whole[k]} for k in range(6)]
    assert_same(joined, whole)


def test_reading_in_memory_equals_decoding_on_demand():
    streams = [first(data.train_batches(numbered(23, d), batch_size=8, seed=1), 6) for d in (False, True)]
    assert_same(*streams)


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = [
        np.concatenate(
            [b["index"] for b in first(data.train_batches(numbered(20), batch_size=10, seed=s), 4)]
        )
        for s in (0, 0, 1)
    ]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()
    assert (orders[0][:20] != orders[0][20:]).any()


def test_every_place_in_an_epoch_is_equally_likely_for_every_example():
    n, epochs = 5, 2000
    index = next(data.train_batches(numbered(n), batch_size=n * epochs, seed=0))["index"].reshape(epochs, n)
    counts = np.stack([np.bincount(index[:, place], minlength=n) for place in range(n)])
    chi2 = ((counts - epochs / n) ** 2 / (epochs / n)).sum()
    assert stats.chi2.sf(chi2, (n - 1) ** 2) > 1e-3
    pairs = (np.diff(index, axis=1) == 1).mean()  # P(next = this + 1) = (n - 1) / (n (n - 1))
    assert pairs == pytest.approx(1 / n, abs=4 * np.sqrt(1 / n / (epochs * (n - 1))))


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize(("n", "batch_size"), [(23, 8), (24, 8), (3, 8)])
def test_evaluation_passes_once_and_pads_under_a_mask(decoded, n, batch_size):
    source = numbered(n, decoded)
    batches = list(data.evaluation_batches(source, batch_size=batch_size))
    assert len(batches) == -(-n // batch_size)
    together = {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}
    mask = together["mask"]
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, np.arange(len(mask)) < n)
    np.testing.assert_array_equal(together["index"][mask], np.arange(n))
    np.testing.assert_array_equal(together["label"][mask], source.labels)
    np.testing.assert_array_equal(together["inputs"][mask], source.inputs())
    assert (together["index"][~mask] == -1).all()
    assert not together["inputs"][~mask].any()
    assert not together["label"][~mask].any()


def test_processes_evaluate_contiguous_parts_in_equally_many_batches():
    whole = list(data.evaluation_batches(numbered(9), batch_size=8))
    parts = [
        list(data.evaluation_batches(numbered(9), batch_size=8, process_index=p, process_count=4))
        for p in range(4)
    ]
    joined = [{key: np.concatenate([part[k][key] for part in parts]) for key in whole[k]} for k in range(2)]
    assert_same(joined, whole)


def test_a_batch_that_processes_cannot_share_equally_is_refused():
    with pytest.raises(InputError, match="batch size 9 is not a multiple of the number of processes 2"):
        data.train_batches(numbered(5), batch_size=9, seed=0, process_count=2)
    with pytest.raises(InputError, match="batch size 9 is not a multiple of the number of processes 2"):
        data.evaluation_batches(numbered(5), batch_size=9, process_count=2)


def test_no_pipeline_calls_back_into_python_but_to_decode_files():
    """A thread of tf.data that waits for the interpreter when it exits hangs the program, at times.

    `sources.closed_at_exit` ends the pipelines with decoders before that.
    """
    for file in pathlib.Path(data.__file__).parent.glob("*.py"):
        if file.name == "folders.py":
            continue
        assert not re.search(r"numpy_function|py_function|py_func|from_generator", file.read_text()), file


def test_tensorflow_sees_no_gpu():
    assert tf.config.get_visible_devices("GPU") == []
