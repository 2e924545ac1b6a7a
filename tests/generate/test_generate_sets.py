import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from forked import start
from jax.experimental.compilation_cache import compilation_cache

from rmtjax import config as config_lib
from rmtjax import data, generate
from rmtjax.errors import InputError
from rmtjax.generate import judge, methods, store, synthetic_sets
from rmtjax.train import loop

STEPS = 400  # long enough to be killed in; checkpoints at 100, 200, 300 and 400


def small(cache, **changes):
    config = config_lib.smoke(config_lib.base())
    config.synthetic.update(share=0.5, cache=str(cache), width=16, total_steps=STEPS)
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return config


def tiny_splits(train_labels, classes=("a", "b")):
    """Splits of 4 x 4 images: class a dark, class b bright, class c in between."""

    def part(labels, seed):
        labels = np.asarray(labels, np.int32)
        noise = np.random.default_rng(seed).uniform(0, 0.2, (len(labels), 4, 4, 1))
        images = (noise + 0.4 * np.asarray([0, 2, 1])[labels][:, None, None, None]).astype(np.float32)
        return data.from_arrays("tiny", images, labels, classes)

    everything = np.arange(len(classes))
    return data.Splits(part(train_labels, 0), part(everything, 1), part(np.tile(everything, 5), 2))


def identity(config):
    """The set's name, without making it."""
    section = config.data.copy_and_resolve_references()
    section.image_size = config.synthetic.image_size
    splits = data.load(section, config.seed)
    return store.digest(synthetic_sets.made_from(config, splits, methods.imported(config, splits, print)))


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """What several tests compile, here or in processes they start, is compiled by the first."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    settings = {"jax_compilation_cache_dir": folder, "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: getattr(jax.config, name) for name in settings}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            jax.config.update(name, value)
            environment.setenv(name.upper(), str(value))
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="module")
def made(cache):
    return generate.ensure(small(cache))


@pytest.fixture
def no_fit(monkeypatch):
    def fit(**arguments):
        raise AssertionError("nothing is to be fitted here")

    monkeypatch.setattr(loop, "fit", fit)


def test_a_set_is_as_large_as_the_training_set_with_its_class_shares(made):
    config = small("")
    train = data.load(config.data, config.seed).train
    assert made.examples.shape == (40, 16, 16, 1)
    assert made.examples.dtype == np.float32
    assert made.examples.min() >= 0
    assert made.examples.max() <= 1
    assert made.labels.dtype == np.int32
    np.testing.assert_array_equal(
        np.bincount(made.labels, minlength=10), np.bincount(train.labels, minlength=10)
    )


def test_manifest_says_what_made_it_and_what_it_is_worth(made):
    manifest = made.manifest
    assert made.path.name == store.digest(manifest["made_from"])
    assert manifest["made_from"]["count"] == 40
    assert manifest["made_from"]["generator"]["total_steps"] == STEPS
    assert {"value", "low", "high", "n", "judge", "judge_accuracy"} <= manifest["recognised"].keys()
    ratio = manifest["nearest_training_distance"] / manifest["nearest_test_distance"]
    assert manifest["distance_ratio"] == pytest.approx(ratio)
    assert manifest["generator"]["parameters"] > 1000
    assert manifest["generator"]["final_loss"] > 0
    assert {"jax", "rmtjax"} <= manifest["versions"].keys()


def test_second_call_finds_the_same_set_and_trains_nothing(made, cache, no_fit):
    said = []
    config = small(cache, **{"synthetic.share": 0.9, "synthetic.mode": "replace", "model.name": "mlp"})
    again = generate.ensure(config, report=said.append)
    assert again.path == made.path
    np.testing.assert_array_equal(again.examples, made.examples)
    np.testing.assert_array_equal(again.labels, made.labels)
    assert len(said) == 1
    assert said[0].startswith("reused")
    assert "recognised" in said[0]


def test_other_guidance_or_count_is_another_set_of_the_same_generator(made, cache, no_fit):
    config = small(cache, **{"synthetic.guidance": 2.0, "synthetic.examples": 60})
    other = generate.ensure(config)
    assert other.path != made.path
    assert other.manifest["generator_path"] == made.manifest["generator_path"]
    assert len(other.labels) == 60
    assert np.abs(other.examples[:40] - made.examples).max() > 1e-3


def test_name_depends_on_data_seed_and_generator_and_not_on_share_mode_cache_or_model():
    base = identity(small("a"))
    same = {
        "synthetic.share": 0.25,
        "synthetic.mode": "replace",
        "model.name": "mlp",
        "optim.learning_rate": 1.0,
        "train.mesh.data": 1,
    }
    for name, value in same.items():
        assert identity(small("b", **{name: value})) == base, name
    other = {
        "seed": 1,
        "data.train_examples": 30,
        "synthetic.guidance": 1.5,
        "synthetic.examples": 41,
        "synthetic.sampling_steps": 4,
        "synthetic.width": 24,
        "synthetic.depth": 2,
        "synthetic.ema": 0.5,
        "synthetic.total_steps": 9,
        "synthetic.learning_rate": 0.1,
        "synthetic.label_dropout": 0.3,
        "synthetic.batch_size": 8,
        "synthetic.image_size": 4,
        # What the manifest's numbers are measured against.
        "data.image_size": 8,
        "data.test_examples": 20,
        "data.validation_examples": 10,
        "diversity.neighbours": 2,
    }
    names = {identity(small("a", **{name: value})) for name, value in other.items()}
    assert len(names | {base}) == len(other) + 1


def test_one_changed_pixel_changes_the_name():
    splits = tiny_splits([0, 0, 1])
    train = splits.train
    pixels = train.inputs().copy()
    pixels[1, 2, 3, 0] += 0.01
    changed = data.from_arrays("tiny", pixels, train.labels, train.classes)
    relabelled = data.from_arrays("tiny", train.inputs(), train.labels[::-1].copy(), train.classes)
    names = {
        store.digest(synthetic_sets.made_from(small(""), splits._replace(**{part: source})))
        for part in ("train", "test", "validation")
        for source in (train, changed, relabelled)
    }
    assert len(names) == 9


def test_an_altered_file_is_refused_by_name(made, cache):
    path = made.path / "images_00_00000.npz"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
        with pytest.raises(InputError, match=r"images_00_00000\.npz' was altered"):
            generate.ensure(small(cache))
    finally:
        path.write_bytes(whole)


def test_a_file_that_the_manifest_does_not_name_is_not_taken_for_samples(made, cache):
    stranger = made.path / "images_99_00000.npz"
    np.savez(stranger, images=np.ones((7, 8, 8, 1), np.float32), labels=np.full(7, 3))
    try:
        np.testing.assert_array_equal(generate.ensure(small(cache)).examples, made.examples)
    finally:
        stranger.unlink()


def test_a_fit_that_was_interrupted_goes_on_and_ends_in_the_same_set(made, tmp_path, monkeypatch):
    real_fit, starts = loop.fit, []

    def fit(*, interrupt, batches, on_start=None, **arguments):
        def interrupted(start):
            starts.append(start)
            for step, batch in enumerate(batches(start), start + 1):
                if interrupt and step == 250:
                    raise KeyboardInterrupt
                yield batch

        return real_fit(batches=interrupted, **arguments)

    monkeypatch.setattr(loop, "fit", lambda **arguments: fit(interrupt=True, **arguments))
    with pytest.raises(KeyboardInterrupt):
        generate.ensure(small(tmp_path))
    assert not (tmp_path / made.path.name).exists()
    monkeypatch.setattr(loop, "fit", lambda **arguments: fit(interrupt=False, **arguments))
    again = generate.ensure(small(tmp_path))
    assert starts == [0, 200]
    assert again.path.name == made.path.name
    np.testing.assert_array_equal(again.examples, made.examples)


def test_sampling_goes_on_after_the_files_that_are_there(made, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_sets, "SHARD", 16)
    labels = np.arange(40, dtype=np.int32) % 10
    calls = []

    def sample(of, numbers, ranks):
        calls.append(numbers[0])
        np.testing.assert_array_equal(ranks, numbers // 10)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return np.full((len(of), 2, 2, 1), numbers[0], np.float32)

    with pytest.raises(KeyboardInterrupt):
        synthetic_sets._sample_shards(tmp_path, sample, labels)
    synthetic_sets._sample_shards(tmp_path, sample, labels)
    assert calls == [0, 16, 16, 32]
    images, stored = synthetic_sets.read_shards(sorted(tmp_path.glob("images_*.npz")))
    np.testing.assert_array_equal(stored, labels)
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(40) // 16 * 16)


def test_a_killed_process_leaves_its_fit_to_the_other_one(made, tmp_path):
    """Two processes ask for one set; the one that fits is killed with SIGKILL, the other goes on and ends."""
    cache = tmp_path / "cache"
    (tmp_path / "small.py").write_text(
        "from rmtjax import config as config_lib\n"
        "def get_config():\n"
        "    config = config_lib.smoke(config_lib.base())\n"
        f"    config.synthetic.update(width=16, total_steps={STEPS})\n"
        "    return config\n"
    )
    command = [
        sys.executable,
        "-m",
        "rmtjax.generate",
        f"--config={tmp_path / 'small.py'}",
        "--cache",
        str(cache),
    ]
    processes = [start(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        deadline = time.monotonic() + 240
        while not list(cache.glob(f"generators/.*.building/checkpoints/{STEPS // 4}")):
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in processes)
            time.sleep(0.02)
        holders = [holds_a_lock(cache, process.pid) for process in processes]
        assert sorted(holders) == [False, True]
        killed, other = (processes[holders.index(wanted)] for wanted in (True, False))
        os.kill(killed.pid, signal.SIGKILL)
        said, _ = other.communicate(timeout=240)
        assert killed.wait() == -signal.SIGKILL
        assert other.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert "recognised" in said
    assert sorted(path.name for path in cache.iterdir()) == [
        made.path.name,
        "generators",
    ]  # nothing half-made
    survivor = store.read(cache / made.path.name)
    assert survivor["files"] == made.manifest["files"]  # every sample, bit for bit
    assert survivor["generator"] == made.manifest["generator"]


def holds_a_lock(cache, pid):
    """Whether a process has been granted the lock: lines of processes that wait begin with '->'."""
    inodes = {str(path.stat().st_ino) for path in cache.glob(".*.lock")}
    for line in pathlib.Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[4] == str(pid) and words[5].split(":")[-1] in inodes:
            return True
    return False


def test_files_of_a_run(made, tmp_path):
    generate.write_run_files(made, tmp_path)
    stored = np.load(tmp_path / "synthetic_by_class.npz", allow_pickle=False)
    assert stored["classes"].tolist() == list("0123456789")
    assert stored["images"].shape == (10, 4, 16, 16, 1)
    for k in range(10):
        np.testing.assert_array_equal(stored["images"][k], made.examples[made.labels == k][:4])
    text = (tmp_path / "synthetic.json").read_text()
    assert made.path.name in text
    assert '"recognised"' in text


def test_a_class_with_one_example_works(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda section, seed: tiny_splits([0, 0, 0, 0, 0, 1]))
    changes = {"data.source": "npz:tiny", "synthetic.image_size": 4, "synthetic.total_steps": 20}
    made = generate.ensure(small(tmp_path, **changes))
    assert np.bincount(made.labels).tolist() == [5, 1]
    generate.write_run_files(made, tmp_path)
    images = np.load(tmp_path / "synthetic_by_class.npz")["images"]
    assert images.shape == (2, 5, 16, 16, 1)
    assert np.isnan(images).any((2, 3, 4)).tolist() == [[False] * 5, [False] + [True] * 4]
    mixed = data.mix(
        data.from_arrays("real", made.examples, made.labels, ("a", "b")), generate.source(made), "add", 1.0, 0
    )
    assert np.bincount(mixed.labels).tolist() == [10, 2]


def test_a_class_without_examples_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda section, seed: tiny_splits([0, 0, 1, 1], ("a", "b", "c")))
    with pytest.raises(InputError, match="class 'c' has no training examples"):
        generate.ensure(small(tmp_path, **{"data.source": "npz:tiny", "synthetic.image_size": 4}))
    assert not any(path.name.endswith(".building") for path in tmp_path.rglob("*"))


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"synthetic\.batch_size=12 cannot be split over 8 devices"):
        generate.ensure(small(tmp_path, **{"synthetic.batch_size": 12}))


def test_a_loss_that_is_not_finite_is_one_sentence(tmp_path):
    with pytest.raises(
        InputError, match=r"generator's fit failed, the .* is .* at step .*: lower synthetic\.learning_rate"
    ):
        generate.ensure(small(tmp_path, **{"synthetic.learning_rate": 1e30}))


@pytest.mark.parametrize(
    ("shares", "count", "wanted"),
    [
        ([4, 4], 4, [2, 2]),
        ([5, 1], 6, [5, 1]),
        ([5, 1], 3, [3, 0]),
        ([3, 3, 3], 10, [4, 3, 3]),
        ([40, 39, 41], 60, [20, 20, 20]),
    ],
)
def test_class_shares(shares, count, wanted):
    labels = synthetic_sets.class_shares(np.repeat(np.arange(len(shares)), shares), count)
    assert np.bincount(labels, minlength=len(shares)).tolist() == wanted


def test_classes_are_spread_over_the_whole_set():
    labels = synthetic_sets.class_shares(np.repeat(np.arange(10), 40), 400)
    assert np.bincount(labels[:10]).tolist() == [1] * 10
    assert np.bincount(labels[:100]).tolist() == [10] * 10


def test_what_filters_leave_out_is_made_good_and_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_sets, "SHARD", 8)
    labels = np.arange(20, dtype=np.int32) % 2
    seen = []

    def sample(of, numbers, ranks):
        seen.extend(numbers.tolist())
        return numbers.reshape(-1, 1, 1, 1).astype(np.float32)

    def accept(images, of):
        return (images[:, 0, 0, 0] % 4 < 3) | (of == 0)  # of class 1 every other sample

    synthetic_sets._sample_shards(tmp_path, sample, labels, accept, "ab")
    images, kept = synthetic_sets.read_shards(sorted(tmp_path.glob("images_*.npz")))
    np.testing.assert_array_equal(np.bincount(kept), [10, 10])
    assert len(np.unique(images)) == 20
    assert accept(images, kept).all()
    np.testing.assert_array_equal(images[:, 0, 0, 0] % 2, kept)
    for path in sorted(tmp_path.glob("images_*.npz"))[2:]:
        path.unlink()  # as if killed after the second file
    synthetic_sets._sample_shards(tmp_path, sample, labels, accept, "ab")
    np.testing.assert_array_equal(
        synthetic_sets.read_shards(sorted(tmp_path.glob("images_*.npz")))[0], images
    )


def test_filters_that_nothing_passes_end_in_one_sentence(tmp_path):
    labels = np.zeros(4, np.int32)
    with pytest.raises(InputError, match="of class 'a' only 0 of 4 images passed the filters in 20 times"):
        synthetic_sets._sample_shards(
            tmp_path,
            lambda of, n, r: np.zeros((len(of), 1, 1, 1), np.float32),
            labels,
            lambda i, of: of > 0,
            "ab",
        )


def test_repeated_images_are_the_training_images(cache):
    config = small(cache, **{"synthetic.method": "repeat", "synthetic.examples": 60})
    made = generate.ensure(config)
    section = config.data.copy_and_resolve_references()
    section.image_size = 8
    train = data.load(section, config.seed).train
    distance = np.abs(data.resize(train.inputs(), 16)[:, None] - made.examples[None]).max((2, 3, 4))
    assert distance.min(0).max() == 0
    assert (distance.min(1) == 0).all()  # every one of the 40 is there
    assert made.manifest["distance_ratio"] == 0


def test_another_generators_images_are_taken_with_their_hash(cache, tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(0, 1, (50, 12, 12, 1)).astype(np.float32), np.arange(50) % 10
    np.savez(tmp_path / "theirs.npz", images=images, labels=labels)
    taken = {"synthetic.method": "import", "synthetic.images": f"npz:{tmp_path / 'theirs.npz'}"}
    made = generate.ensure(small(cache, **taken))
    assert len(made.examples) == 40
    assert made.manifest["imported_from"] == taken["synthetic.images"]
    first = np.flatnonzero(made.labels == 3)[0]
    np.testing.assert_allclose(
        made.examples[first], data.resize(data.resize(images[3:4], 8), 16)[0], atol=1e-6
    )
    images[0, 0, 0, 0] = 1 - images[0, 0, 0, 0]
    np.savez(tmp_path / "theirs.npz", images=images, labels=labels)
    assert identity(small(cache, **taken)) != made.path.name
    with pytest.raises(InputError, match="has 5 images of class '0' and 10 are needed"):
        generate.ensure(small(cache, **taken, **{"synthetic.examples": 100}))


def import_of(cache, tmp_path, labels, classes=None, **changes):
    images = np.linspace(0, 1, len(labels), dtype=np.float32)[:, None, None, None] * np.ones(
        (1, 8, 8, 1), np.float32
    )
    named = {} if classes is None else {"classes": np.asarray(classes)}
    np.savez(tmp_path / "theirs.npz", images=images, labels=np.asarray(labels), **named)
    taken = {"synthetic.method": "import", "synthetic.images": f"npz:{tmp_path / 'theirs.npz'}", **changes}
    return images, generate.ensure(small(cache, **taken))


def test_images_of_the_data_are_not_imported(cache, tmp_path):
    section = small(cache).data.copy_and_resolve_references()
    section.image_size = 8
    splits, said = data.load(section, 0), []
    others = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
    images = np.concatenate([np.rint(255 * splits.train.inputs()[:1]).astype(np.uint8), others])
    labels = np.concatenate([splits.train.labels[:1], np.arange(30) % 10])
    np.savez(tmp_path / "theirs.npz", images=images, labels=labels)
    taken = {"synthetic.method": "import", "synthetic.images": f"npz:{tmp_path / 'theirs.npz'}"}
    kept = methods.imported(small(cache, **taken), splits, said.append)
    assert kept.left_out == {"train": 1, "validation": 0, "test": 0}
    assert kept.source.num_examples == 30
    assert "1 of 31 images are left out" in said[0]


def test_each_class_to_import_has_as_many_images_as_are_needed(cache, tmp_path):
    digits = [str(k) for k in range(10)]
    with pytest.raises(InputError, match="has 0 images of class '8' and 1 are needed"):
        import_of(cache, tmp_path, [0, 1, 2, 3, 4, 5, 6, 7, 9] * 2, digits, **{"synthetic.examples": 10})
    images, made = import_of(cache, tmp_path, list(range(10)) * 2, digits, **{"synthetic.examples": 20})
    assert len(np.unique(made.examples[:, 0, 0, 0])) == len(images)
    for labels in ([*range(9)], [*range(10), 10]):
        lacks = "lacks the class '9'" if len(labels) == 9 else "has the class '10', which"
        with pytest.raises(InputError, match=rf"synthetic\.images='npz:.*' {lacks}"):
            import_of(cache, tmp_path, labels, [str(k) for k in labels])
    with pytest.raises(InputError, match=r"synthetic\.images='/nowhere' cannot be imported: .*'/nowhere'"):
        generate.ensure(small(cache, **{"synthetic.method": "import", "synthetic.images": "/nowhere"}))


def test_what_filters_leave_out_of_an_import_is_not_taken_twice(tmp_path):
    labels = np.zeros(4, np.int32)

    def sample(of, numbers, ranks):
        return (ranks % 6).reshape(-1, 1, 1, 1).astype(np.float32)

    def accept(images, of):
        return images[:, 0, 0, 0] % 6 > 1  # the first two of six are refused

    synthetic_sets._sample_shards(tmp_path, sample, labels, accept, "a", most=np.array([6]))
    found = synthetic_sets.read_shards(sorted(tmp_path.glob("*.npz")))[0]
    assert sorted(found[:, 0, 0, 0]) == [2, 3, 4, 5]
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="of class 'a' only 3 of 4 images passed the filters"):
        synthetic_sets._sample_shards(tmp_path / "b", sample, labels, accept, "a", most=np.array([5]))


def test_a_knob_that_the_method_has_not_is_refused(cache):
    with pytest.raises(
        InputError, match=r"synthetic\.guidance=2.0 does nothing with synthetic\.method='gaussian'"
    ):
        generate.ensure(small(cache, **{"synthetic.method": "gaussian", "synthetic.guidance": 2.0}))


def test_filters_by_judge_and_distance(cache, monkeypatch):
    monkeypatch.setattr(judge, "WIDTH", 8)
    config = small(
        cache,
        **{
            "synthetic.method": "gaussian",
            "synthetic.least_confidence": 0.3,
            "synthetic.least_distance": 0.3,
        },
    )
    made = generate.ensure(config)
    assert len(made.examples) == 40
    plain = generate.ensure(small(cache, **{"synthetic.method": "gaussian"}))
    assert made.manifest["recognised"]["value"] >= plain.manifest["recognised"]["value"]
    assert made.manifest["distance_ratio"] > 0.3
