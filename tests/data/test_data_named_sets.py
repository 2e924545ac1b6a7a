"""The paper's sets by name: as TFDS lays them out, and CIFAR-10.1 from its own files."""

import os
import pathlib

import numpy as np
import PIL.Image
import pytest

from rmtjax import config as config_lib
from rmtjax import data
from rmtjax.data import cifar10_1, tfds_sets
from rmtjax.errors import InputError
from rmtjax.train import experiment

SPLITS = {  # those of TFDS
    "cifar100": ("train", "test"),
    "cars196": ("train", "test"),
    "domainnet/clipart": ("train", "test"),
    "cifar10_corrupted/fog_3": ("test",),
    "cifar10_1/v6": ("test",),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """RMTJAX_DATA with a few random examples of each set, in the features of TFDS's own code."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, splits in SPLITS.items():
        info = tfds.builder(name, data_dir=root / "tfds").info
        base, _, config = name.partition("/")

        def example(i, features=info.features):
            others = {
                "id": str(i),
                "bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
                "coarse_label": 19 - i,
                "label": i,
                "image": rng.integers(0, 256, (32, 32, 3), np.uint8),
            }
            return {key: others[key] for key in features}

        tfds.dataset_builders.store_as_tfds_dataset(
            name=base,
            version=str(info.version),
            data_dir=root / "tfds",
            features=info.features,
            description="",
            split_datasets={split: [(i, example(i)) for i in range(10)] for split in splits},
            **({"config": config} if config else {}),
        )
    return root


@pytest.mark.parametrize("name", SPLITS)
def test_a_set_of_the_paper_is_read_by_name(prepared, monkeypatch, name):
    monkeypatch.setenv("RMTJAX_DATA", str(prepared))
    splits = tfds_sets.splits(name, 32)
    assert tuple(splits) == SPLITS[name]
    for source in splits.values():
        assert sorted(source.labels) == list(range(10))  # the fine labels, where there are coarse ones
        assert source.shape == (32, 32, 3)
        assert source.inputs([0]).max() > 0.9
    assert data.load_source(f"tfds:{name}", 32).num_examples == 10
    if name.startswith("cifar10_"):
        assert splits["test"].classes == tfds_sets.CIFAR10
    else:
        assert (
            len(splits["test"].classes) == {"cifar100": 100, "cars196": 196, "domainnet/clipart": 345}[name]
        )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cifar10",
            "tfds:cifar10 is not prepared in .*: prepared there: cars196, cifar100, .*download_and_prepare",
        ),
        (
            "domainnet/sketch",
            "is not prepared in .*: of domainnet are prepared there: clipart. Where it can be",
        ),
        ("domainnet/sketches", "domainnet has no configuration 'sketches': it comes as sketch"),
        ("domainnet/photo", "domainnet has no configuration 'photo': it comes as real, painting, clipart"),
        ("cars196/small", "cars196 has no configuration 'small': it has none"),
        ("cifar1000", "tfds:cifar1000 is not prepared in .*: did you mean tfds:cifar100?"),
    ],
)
def test_a_set_that_is_not_here_is_refused_in_one_sentence(prepared, monkeypatch, name, message):
    monkeypatch.setenv("RMTJAX_DATA", str(prepared))
    with pytest.raises(InputError, match=message) as caught:
        tfds_sets.splits(name, 32)
    assert "\n" not in str(caught.value)


CIFAR10 = pathlib.Path(os.environ.get("RMTJAX_DATA", "-"), "tfds", "cifar10")


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="RMTJAX_DATA has no tfds/cifar10")
def test_the_names_of_cifar10_are_its_own():
    assert tfds_sets.splits("cifar10", 32)["test"].classes == tfds_sets.CIFAR10


# CIFAR-10.1


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
LABELS = np.array([3, 8, 8, 0, 6, 9])


def write(folder, version="v6", images=IMAGES, labels=LABELS):
    folder.mkdir(exist_ok=True)
    np.save(folder / f"cifar10.1_{version}_data.npy", images)
    np.save(folder / f"cifar10.1_{version}_labels.npy", labels)
    return folder


def test_cifar10_1_from_its_files(tmp_path):
    folder = write(tmp_path)
    (source,) = cifar10_1.parts(str(folder), 32).values()
    np.testing.assert_array_equal(source.inputs(), IMAGES.astype(np.float32) * np.float32(1 / 255))
    np.testing.assert_array_equal(source.labels, LABELS)
    assert source.classes == tfds_sets.CIFAR10
    small = cifar10_1.parts(str(folder / "cifar10.1_v6_data.npy"), 16)["test"]
    np.testing.assert_allclose(small.inputs(), data.resize(source.inputs(), 16), atol=1e-6)
    write(folder, "v4", IMAGES[::-1])
    with pytest.raises(
        InputError, match=r"has cifar10.1_v4_data.npy, cifar10.1_v6_data.npy: name one of them"
    ):
        cifar10_1.parts(str(folder), 32)
    v4 = cifar10_1.parts(str(folder / "cifar10.1_v4_data.npy"), 32)["test"]
    np.testing.assert_array_equal(v4.inputs(), source.inputs()[::-1])


def of_classes(tmp_path, classes):
    """A config to train on 32x32 colours with those classes, from arrays."""
    n = 2 * max(100, len(classes))
    images = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8)
    np.savez(
        tmp_path / "set.npz", image=images, label=np.arange(n) % len(classes), classes=np.asarray(classes)
    )
    config = config_lib.base()
    config.data.update(source=f"npz:{tmp_path / 'set.npz'}", image_size=32, train_examples=60)
    config.data.update(validation_examples=20)
    config.evaluation.ood = (f"npz:{tmp_path / 'set.npz'}",)
    return config


def test_the_papers_sets_serve_as_shifts(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("RMTJAX_DATA", str(prepared))
    folder = write(tmp_path / "files")
    config = of_classes(tmp_path, tfds_sets.CIFAR10)
    shifts = ("tfds:cifar10_1/v6", "tfds:cifar10_corrupted/fog_3", f"cifar10_1:{folder}")
    config.evaluation.shifts = ("corrupted", *shifts)
    experiment._check_evaluation_sets(config, data.load(config.data, 0))
    assert [data.load_source(name, 32).num_examples for name in shifts] == [10, 10, 6]

    config.evaluation.shifts = ("tfds:cifar10_corrupted/snow_1",)
    with pytest.raises(InputError, match="of cifar10_corrupted are prepared there: fog_3"):
        experiment._check_evaluation_sets(config, data.load(config.data, 0))


def test_a_shift_of_other_classes_is_refused_by_their_names(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("RMTJAX_DATA", str(prepared))
    domain = data.load_source("tfds:domainnet/clipart", 32)
    cases = [
        (domain.classes, None),
        (domain.classes[:-1], "has not the same classes \\('zigzag' too many\\) as data.source="),
        (
            (*domain.classes[1:], "rocket", "zeppelin"),
            "'aircraft_carrier' too many, 'rocket' and 1 more missing",
        ),
        (domain.classes[::-1], "has not the same classes \\(another order\\) as data.source="),
    ]
    for classes, message in cases:
        config = of_classes(tmp_path, classes)
        config.evaluation.shifts = ("tfds:domainnet/clipart",)
        splits = data.load(config.data, 0)
        if message is None:
            experiment._check_evaluation_sets(config, splits)
        else:
            with pytest.raises(InputError, match=message):
                experiment._check_evaluation_sets(config, splits)


def test_a_folder_comes_in_the_papers_shares(tmp_path):
    """70/10/20 by class: Office-Home's split, of a folder without parts of its own."""
    for name, count in (("chair", 40), ("lamp", 60)):
        (tmp_path / name).mkdir()
        for i in range(count):
            PIL.Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / name / f"{i}.png")
    config = config_lib.base().data
    config.update(source=f"folder:{tmp_path}", image_size=8, train_examples=None, validation_examples=10)
    splits = data.load(config, 0)
    assert [np.bincount(part.labels).tolist() for part in splits] == [[28, 42], [4, 6], [8, 12]]


def test_cifar10_1_files_that_are_not_so_are_refused(tmp_path):
    def refused(path, message):
        with pytest.raises(InputError, match=message) as caught:
            cifar10_1.parts(str(path), 32)
        assert "\n" not in str(caught.value)

    refused(tmp_path, "the path must be of cifar10.1_v6_data.npy, or of its folder")
    refused(tmp_path / "other.npy", "the path must be of cifar10.1_v6_data.npy")
    refused(tmp_path / "cifar10.1_v6_data.npy", "is not there; download it from")
    folder = write(tmp_path / "objects", images=np.array([{}], object))
    refused(folder, "data.npy cannot be read as an npy file of plain numbers")
    (folder / "cifar10.1_v6_data.npy").write_bytes(b"")
    refused(folder, "cannot be read as an npy file")
    refused(write(tmp_path / "short", labels=LABELS[:3]), r"labels have shape \[3\]")
    folder = write(tmp_path / "alone")
    (folder / "cifar10.1_v6_labels.npy").unlink()
    refused(folder, "cifar10.1_v6_labels.npy is not there")
