"""Properties of batches, mixtures and splits, for drawn sizes, seeds, shares and processes."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rmtjax import config as config_lib
from rmtjax import data

few = settings(max_examples=8, deadline=None)
fewer = settings(max_examples=4, deadline=None)  # where each example builds many pipelines
seeds = st.integers(0, 2**40)
mixings = st.sampled_from([{}, {"mixup": 0.3}, {"cutmix": 0.3}])
SIZE = 2  # of the images below, each of which holds its own number


def source(labels, first=0, classes=3):
    numbers = first + np.arange(len(labels), dtype=np.float32)
    pixels = np.broadcast_to(numbers[:, None, None, None] / 1000, (len(labels), SIZE, SIZE, 1))
    return data.from_arrays(
        f"from {first}", pixels.copy(), np.asarray(labels), [str(c) for c in range(classes)]
    )


def numbers(images):
    return np.rint(images[:, 0, 0, 0] * 1000).astype(int)


def train(n, steps, **options):
    """`steps` training batches of n numbered examples, joined: arrays over the positions of the stream."""
    batches = data.train_batches(source(np.arange(n) % 3), **options)
    return joined([next(batches) for _ in range(steps)])


def joined(batches):
    return {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}


@few
@given(n=st.integers(1, 30), batch_size=st.integers(1, 12), seed=seeds, mixing=mixings)
def test_no_example_is_lost_or_doubled_in_an_epoch(n, batch_size, seed, mixing):
    augment = data.Augmentation(**mixing)
    epochs, steps = 2, -(-2 * n // batch_size)
    stream = train(n, steps, batch_size=batch_size, seed=seed, augment=augment)
    index = stream["index"].reshape(-1)[: epochs * n].reshape(epochs, n)
    np.testing.assert_array_equal(np.sort(index, axis=1), [np.arange(n)] * epochs)
    np.testing.assert_array_equal(stream["label"], stream["index"] % 3)
    if not mixing:
        np.testing.assert_array_equal(
            numbers(stream["inputs"].reshape(-1, SIZE, SIZE, 1)), stream["index"].reshape(-1)
        )
        return
    # As many of each class on the second side of the mixtures as there are in the set.
    second = stream["label_mix"].reshape(-1)[: epochs * n].reshape(epochs, n)
    np.testing.assert_array_equal(np.sort(second, axis=1), [np.sort(np.arange(n) % 3)] * epochs)


def noisy(image, seed):
    return image + tf.random.stateless_normal(image.shape, seed)


@fewer
@given(
    n=st.integers(1, 30),
    batch_size=st.integers(1, 12),
    seed=seeds,
    skipped=st.integers(0, 12),
    mixing=mixings,
    noise=st.booleans(),
)
def test_a_start_at_any_step_equals_skipping(n, batch_size, seed, skipped, mixing, noise):
    augment = data.Augmentation(noisy if noise else None, **mixing)
    options = {"batch_size": batch_size, "seed": seed, "augment": augment}
    whole = train(n, skipped + 2, **options)
    later = train(n, 2, start_step=skipped, **options)
    assert whole.keys() == later.keys()
    for key in later:
        np.testing.assert_array_equal(later[key], whole[key][skipped:], err_msg=key)


@fewer
@given(
    n=st.integers(1, 30),
    processes=st.integers(1, 4),
    local=st.integers(1, 4),
    seed=seeds,
    start=st.integers(0, 5),
)
def test_processes_are_disjoint_and_jointly_complete(n, processes, local, seed, start):
    batch_size = processes * local
    options = {"batch_size": batch_size, "seed": seed, "start_step": start}
    steps = -(-2 * n // batch_size)
    whole = train(n, steps, **options)
    parts = [train(n, steps, process_index=p, process_count=processes, **options) for p in range(processes)]
    for key in whole:  # [steps, local] of each process, one after another, are the batches
        np.testing.assert_array_equal(np.concatenate([part[key] for part in parts], axis=1), whole[key])
    first = -start * batch_size % n  # the first epoch that begins in these batches
    index = np.concatenate([part["index"] for part in parts], axis=1).reshape(-1)[first : first + n]
    np.testing.assert_array_equal(np.sort(index), np.arange(n))

    passes = [
        list(
            data.evaluation_batches(
                source(np.arange(n) % 3), batch_size=batch_size, process_index=p, process_count=processes
            )
        )
        for p in range(processes)
    ]
    assert len({len(batches) for batches in passes}) == 1
    seen = [joined(batches) for batches in passes]
    index = [part["index"][part["mask"]] for part in seen]
    np.testing.assert_array_equal(np.sort(np.concatenate(index)), np.arange(n))


@st.composite
def mixtures(draw):
    """Labels of a real set, with enough synthetic examples for the largest share, and a share."""
    labels = draw(st.lists(st.integers(0, 2), min_size=1, max_size=40))
    spare = draw(st.integers(0, 3))
    synthetic = np.repeat(np.arange(3), np.bincount(labels, minlength=3) + spare)
    return labels, draw(st.permutations(synthetic.tolist())), draw(st.floats(0, 1))


@few
@given(drawn=mixtures(), mode=st.sampled_from(["add", "replace"]), seed=seeds)
def test_shares_of_synthetic_examples_are_exact(drawn, mode, seed):
    labels, others, share = drawn
    real, synthetic = source(labels), source(others, first=500)
    mixed = data.mix(real, synthetic, mode, share, seed)
    n, wanted = len(labels), round(share * len(labels))
    assert mixed.origin.sum() == wanted
    assert mixed.num_examples == (n + wanted if mode == "add" else n)
    number = numbers(mixed.inputs())
    assert len(set(number)) == len(number)
    np.testing.assert_array_equal(number >= 500, mixed.origin == 1)
    np.testing.assert_array_equal(mixed.labels, [labels[k] if k < 500 else others[k - 500] for k in number])
    counts, added = (np.bincount(x, minlength=3) for x in (labels, mixed.labels[mixed.origin == 1]))
    assert abs(added - counts * wanted / n).max() < 1  # each class's own share, rounded
    kept = np.bincount(mixed.labels[mixed.origin == 0], minlength=3)
    np.testing.assert_array_equal(kept, counts if mode == "add" else counts - added)


@few
@given(
    n=st.integers(10, 40),
    classes=st.integers(2, 3),
    seed=seeds,
    validation=st.integers(1, 5),
    train_examples=st.none() | st.integers(1, 3),
)
def test_the_parts_of_a_set_are_disjoint(n, classes, seed, validation, train_examples, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "properties.npz"
    whole = source(np.arange(n) % classes)
    np.savez(file, images=whole.examples, labels=whole.labels)
    config = config_lib.base().data
    config.update(
        {
            "source": f"npz:{file}",
            "image_size": SIZE,
            "train_examples": train_examples,
            "validation_examples": validation,
            "test_examples": None,
        }
    )
    splits = data.load(config, seed)
    rest = n - round(n / 5) - validation
    sizes = [train_examples or rest, validation, round(n / 5)]
    assert [part.num_examples for part in splits] == sizes
    together = np.concatenate([numbers(part.inputs()) for part in splits])
    assert len(set(together)) == len(together)
    if train_examples is None:
        np.testing.assert_array_equal(np.sort(together), np.arange(n))
    for part in splits:
        np.testing.assert_array_equal(part.labels, numbers(part.inputs()) % classes)
