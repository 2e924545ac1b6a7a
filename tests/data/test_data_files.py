"""Folders of images, npz files and TFDS sets; every bad one is refused in one sentence."""

import io
import os
import pathlib
import zipfile

import numpy as np
import pytest
from PIL import Image

from rmtjax import config as config_lib
from rmtjax import data, files
from rmtjax.data import doubts, folders, modalities, npz, part_names, sources
from rmtjax.errors import InputError


def section(source, **values):
    config = config_lib.base().data
    config.update(
        {"source": source, "image_size": 8, "train_examples": None, "validation_examples": 2} | values
    )
    return config


def refused(source, message, **values):
    with pytest.raises(InputError, match=message) as caught:
        data.load(section(source, **values), 0)
    assert "\n" not in str(caught.value)


# Folders


def write_image(path, value, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(value)
    shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    return path


def write_folder(root, mode="RGB", parts=("",), size=None):
    for p, part in enumerate(parts):
        for c, name in enumerate(["cat", "dog", "eel"]):
            for i in range(6):
                write_image(
                    root / part / name / f"{i}.png", 100 * p + 10 * c + i, size or (8 + i, 8 + c), mode
                )
    return root


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_folder_s_sub_folders_are_its_classes(tmp_path, mode, channels):
    write_folder(tmp_path, mode, size=(8, 8))
    (tmp_path / "cat" / "notes.txt").write_text("passed over")
    splits = data.load(section(f"folder:{tmp_path}"), 0)
    assert [part.num_examples for part in splits] == [12, 2, 4]
    assert splits.train.classes == ("cat", "dog", "eel")
    assert splits.train.shape == (8, 8, channels)
    for part in splits:
        for image, label in zip(part.inputs(), part.labels, strict=True):
            folder = tmp_path / ("cat", "dog", "eel")[label]
            files = [np.asarray(Image.open(f)).reshape(image.shape) for f in sorted(folder.glob("*.png"))]
            assert any(np.array_equal(modalities.unit_floats(f), image) for f in files)


def test_a_folder_of_varied_sizes_is_resized(tmp_path):
    whole = data.load_source(f"folder:{write_folder(tmp_path)}", 8)
    assert whole.num_examples == 18
    pixels = np.asarray(Image.open(tmp_path / "dog" / "5.png"))
    expected = data.resize(modalities.unit_floats(pixels[None]), 8)
    np.testing.assert_allclose(whole.inputs([11]), expected, atol=1e-6)


def test_a_folder_may_be_divided_already(tmp_path):
    splits = data.load(section(f"folder:{write_folder(tmp_path, parts=('train', 'val', 'test'))}"), 0)
    assert [part.num_examples for part in splits] == [18, 2, 18]
    np.testing.assert_array_equal(data.load_source(f"folder:{tmp_path}", 8).inputs(), splits.test.inputs())


def test_large_sets_are_decoded_on_demand_to_the_same_batches(tmp_path, monkeypatch):
    config = section(f"folder:{write_folder(tmp_path)}", image_size=9)
    held = data.load(config, 0).train
    monkeypatch.setattr(sources, "_IN_MEMORY", 0)
    on_demand = data.load(config, 0).train
    assert on_demand.examples is None
    assert held.decode is None
    np.testing.assert_array_equal(on_demand.inputs(), held.inputs())
    streams = [data.train_batches(s, batch_size=5, seed=1, start_step=3) for s in (held, on_demand)]
    for _ in range(4):
        one, other = map(next, streams)
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    synthetic = data.from_arrays(
        "synthetic", np.full((18, 9, 9, 3), 0.25, np.float32), np.arange(18) % 3, held.classes
    )
    mixed = [data.mix(s, synthetic, "add", 0.5, 0) for s in (held, on_demand)]
    np.testing.assert_array_equal(mixed[0].inputs(), mixed[1].inputs())
    for one, other in zip(*(data.evaluation_batches(m, batch_size=7) for m in mixed), strict=True):
        np.testing.assert_array_equal(one["inputs"], other["inputs"])


def test_a_broken_image_is_named_before_training(tmp_path):
    file = write_folder(tmp_path) / "dog" / "3.png"
    whole = file.read_bytes()
    for damaged in (b"", b"not an image", whole[:60], whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:]):
        file.write_bytes(damaged)
        refused(f"folder:{tmp_path}", f"{file} cannot be read as an image: remove it or put it right")


def test_a_jpeg_cut_short_is_named(tmp_path, monkeypatch):
    file = write_folder(tmp_path) / "dog" / "3.jpg"  # its header is whole
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:-500])
    refused(f"folder:{tmp_path}", f"{file} cannot be read as an image")
    # Too large a set to be decoded beforehand: named when a batch needs it.
    monkeypatch.setattr(sources, "_IN_MEMORY", 0)
    train = data.load(section(f"folder:{tmp_path}"), 0).train
    with pytest.raises(InputError, match=f"{file} cannot be read as an image"):
        next(data.train_batches(train, batch_size=train.num_examples, seed=0))
    with pytest.raises(InputError, match=f"{file} cannot be read as an image"):
        list(data.evaluation_batches(train, batch_size=4))


def test_bad_folders_are_refused(tmp_path):
    refused(f"folder:{tmp_path}/none", "there is no such folder")
    refused(f"folder:{tmp_path}", "has no sub-folders: put the images of each class")
    write_folder(tmp_path / "a")
    (tmp_path / "a" / "fox").mkdir()
    refused(f"folder:{tmp_path}/a", r"fox has no images \(.png, .jpg, .jpeg, .*\): add some or remove it")
    write_folder(tmp_path / "b", parts=("train", "test"))
    write_image(tmp_path / "b" / "test" / "fox" / "1.png", 1)
    refused(f"folder:{tmp_path}/b", "train/ has no class 'fox'")
    write_folder(tmp_path / "c", parts=("val", "test"))
    refused(f"folder:{tmp_path}/c", "has test/, val/ but no train/")
    write_folder(tmp_path / "d", parts=("train", "val", "valid"))
    refused(f"folder:{tmp_path}/d", "has val/ and valid/: keep one of them")
    write_image(tmp_path / "e" / "images" / "1.png", 1)
    refused(f"folder:{tmp_path}/e", "has one class, 'images'")


def test_parts_have_the_names_that_people_give_them(tmp_path):
    folder = write_folder(tmp_path, parts=("Train", "valid", "TEST"))
    splits = data.load(section(f"folder:{folder}"), 0)
    assert [part.num_examples for part in splits] == [18, 2, 18]  # two validation examples are asked for
    assert splits.train.classes == ("cat", "dog", "eel")


@pytest.fixture
def said(monkeypatch):
    """What is said of a set, a warning each."""
    warned = []
    for module in (folders, doubts, npz):
        monkeypatch.setattr(module.logging, "warning", lambda text, *parts: warned.append(text % parts))
    return warned


def test_what_is_hidden_or_no_image_is_passed_over_and_counted(tmp_path, said):
    write_folder(tmp_path)
    (tmp_path / "cat" / "._0.png").write_bytes(b"a fork of a Mac")
    for hidden in (".ipynb_checkpoints", "__MACOSX"):
        write_image(tmp_path / "cat" / hidden / "0.png", 1)
        write_image(tmp_path / hidden / "0.png", 1)
    for name in ("a.heic", "b.HEIC", "c.txt", "d", "._d.heic"):
        (tmp_path / "dog" / name).write_bytes(b"no image that is read")
    write_image(tmp_path / "beside.png", 1)
    (tmp_path / "dog" / "nowhere.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    assert data.load_source(f"folder:{tmp_path}", 8).num_examples == 18
    assert len(said) == 1
    assert "12 files are passed over (5 hidden, 3 .png, 2 .heic, 1 .txt, 1 without ending): images" in said[0]


# Whatever their endings say. Read by Pillow in another way than by `folders`, pixel by pixel.
PICTURES = {
    "palette.bmp": lambda image: image.quantize(16),
    "palette.png": lambda image: image.quantize(5),
    "one_bit.bmp": lambda image: image.convert("1"),
    "alpha.bmp": lambda image: with_alpha(image),
    "alpha.png": lambda image: with_alpha(image),
    "alpha.webp": lambda image: with_alpha(image),
    "grey_alpha.png": lambda image: image.convert("LA"),
    "cmyk.jpg": lambda image: image.convert("CMYK"),
    "cmyk.tif": lambda image: image.convert("CMYK"),
    "colour.JFIF": lambda image: image,
    "colour.webp": lambda image: image,
    "colour.gif": lambda image: image,
    "colour.tiff": lambda image: image,
    "colour.ppm": lambda image: image,
}


def with_alpha(image):
    image = image.copy()
    image.putalpha(image.convert("L"))
    return image


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))


def examples(folder, size=8):
    """The examples of a folder by the names of their files, in 0..255."""
    source = data.load_source(f"folder:{folder}", size)
    whole = folders.parts(str(folder), size)["all"]
    names = [pathlib.Path(whole.describe(i)).name for i in range(whole.num_examples)]
    return dict(zip(names, 255 * source.inputs(), strict=True))


def test_the_pixels_of_every_kind_of_image_are_those_of_pillow(tmp_path, picture):
    write_folder(tmp_path)
    expected = {}
    for name, made in PICTURES.items():
        file = tmp_path / "cat" / name
        form = "JPEG" if name.endswith("JFIF") else None
        made(picture).save(file, form, **({"lossless": True} if name.endswith("webp") else {}))
        misnamed = f"{name}_misnamed.png"
        (file.with_name(misnamed)).write_bytes(file.read_bytes())
        with Image.open(file) as image:
            image = image.convert("RGB")
            pixels = [[image.getpixel((x, y)) for x in range(8)] for y in range(8)]
        expected |= {name: pixels, misnamed: pixels}
    indexed = picture.quantize(16)
    for name, transparency in (("one.png", 3), ("many.png", bytes(range(0, 256, 16)))):
        indexed.save(tmp_path / "cat" / name, transparency=transparency)
        expected[name] = np.reshape(indexed.getpalette(), (-1, 3))[np.asarray(indexed)]
    found = examples(tmp_path)
    for name, pixels in expected.items():
        np.testing.assert_allclose(found[name], pixels, atol=1e-3, err_msg=name)


TURNS = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


def test_images_are_turned_as_exif_says(tmp_path):
    write_folder(tmp_path)
    quarters = np.zeros((32, 32, 3), np.uint8)
    quarters[:16, :16], quarters[:16, 16:], quarters[16:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    expected = {}
    for orientation, turn in TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for ending in ("jpg", "png", "webp", "tif"):
            name = f"{orientation}.turned.{ending}"
            Image.fromarray(quarters).save(tmp_path / "cat" / name, exif=exif, quality=100)
            expected[name] = turn(quarters)
    found = examples(tmp_path, size=32)
    for name, pixels in expected.items():
        np.testing.assert_allclose(found[name][4::8, 4::8], pixels[4::8, 4::8], atol=6, err_msg=name)


def test_damaged_exif_does_not_keep_an_image_from_being_read(tmp_path, picture):
    write_folder(tmp_path)
    picture.save(tmp_path / "cat" / "a.png", exif=b"Exif\0\0no exif at all")
    np.testing.assert_allclose(examples(tmp_path)["a.png"], np.asarray(picture), atol=1e-3)


def test_of_16_bits_the_upper_8_are_kept(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (8, 8), np.uint16)
    write_folder(tmp_path, "L", size=(8, 8))
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(values).save(tmp_path / "cat" / name)
    found = examples(tmp_path)
    for name in ("deep.png", "deep.tif"):
        np.testing.assert_allclose(found[name][..., 0], values // 256, atol=1e-3)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_numbers_without_a_white_are_refused(tmp_path, kind):
    write_folder(tmp_path)
    Image.fromarray(np.arange(64, dtype=kind).reshape(8, 8)).save(tmp_path / "cat" / "deep.tif")
    refused(f"folder:{tmp_path}", "deep.tif holds numbers of 32 bits, of which none is known to be white")


def test_of_several_pictures_the_first_is_read_and_that_is_said(tmp_path, picture, said):
    write_folder(tmp_path)
    for name in ("a.gif", "b.tif", "c.png"):
        more = [picture.rotate(90), picture.rotate(180)]
        picture.quantize(64).convert("RGB").save(tmp_path / "cat" / name, save_all=True, append_images=more)
    found, first = examples(tmp_path), np.asarray(picture.quantize(64).convert("RGB"))
    for name in ("b.tif", "c.png"):
        np.testing.assert_allclose(found[name], first, atol=1e-3)
    assert f"folder:{tmp_path}: of 3 images with several pictures the first is read" in said


def test_too_large_an_image_is_refused(tmp_path, monkeypatch):
    write_folder(tmp_path)
    large = write_image(tmp_path / "dog" / "large.png", 1, (100, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # above it Pillow warns, above twice that it refuses
    refused(f"folder:{tmp_path}", f"{large} has more pixels than Pillow takes for safe.*: make it smaller")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    refused(f"folder:{tmp_path}", f"{large} has more pixels than Pillow takes for safe.*: make it smaller")


def test_names_may_have_spaces_and_any_letters(tmp_path):
    write_image(tmp_path / "ein Hund" / "1 a.PNG", 1)
    write_image(tmp_path / "дом" / "é.png", 2)
    whole = data.load_source(f"folder:{tmp_path}", 8)
    assert whole.classes == ("ein Hund", "дом")
    for found, value in zip(whole.inputs(), (1, 2), strict=True):
        pixels = np.random.default_rng(value).integers(0, 256, (8, 8, 3), np.uint8)
        np.testing.assert_allclose(255 * found, pixels, atol=1e-3)


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (
            ("images",),
            "has one class, 'images', with folders of its own .cat, dog, eel.: .* name folder:.*/images",
        ),
        (
            ("train/images", "test"),
            "train has one class, 'images', with .*: if these are the classes, put them into train/",
        ),
        (("images/train", "images/test"), "images has test/, train/ inside: .* name folder:.*/images"),
        (
            ("seg_train", "seg_test"),
            "has seg_test/, seg_train/, which look like parts .* name them train/, val/",
        ),
        (("my train 1", "my val 1"), "which look like parts and not like classes"),
        (("train", "training"), "has train/ and training/: keep one of them"),
        (("valid", "invalid"), "has valid/ but no train/: add it, or rename what is a class"),
    ],
)
def test_folders_at_another_level_are_refused_with_the_mend(tmp_path, inside, message):
    refused(f"folder:{write_folder(tmp_path, parts=inside)}", message)


def test_parts_inside_classes_are_refused(tmp_path):
    for name in ("cat", "dog"):
        write_image(tmp_path / name / "train" / "1.png", 1)
        write_image(tmp_path / name / "test" / "1.png", 2)
    refused(f"folder:{tmp_path}", "cat has test/, train/ inside: .* put them above the classes")


@pytest.mark.parametrize(
    "name", ["train", "TRAINING", "train_set", "TrainSet", "Training images", "train-data"]
)
def test_usual_names_of_a_part(name):
    assert part_names.part_of(name) == "train"


@pytest.mark.parametrize("name", ["crash test", "trainers", "cat", "terrain", "images", "set", "contest"])
def test_names_that_are_no_parts(name):
    assert part_names.part_of(name) is None


def test_classes_of_one_name_and_shared_examples_are_said(tmp_path, said):
    write_folder(tmp_path, parts=("train", "test"))
    for i in range(3):
        image = write_image(tmp_path / "train" / "Cat" / f"{i}.png", i)
        write_image(tmp_path / "test" / "Cat" / f"{i}.png", 50 + i)
    (tmp_path / "test" / "dog" / "copy.png").write_bytes(image.read_bytes())
    data.load(section(f"folder:{tmp_path}", validation_examples=1), 0)
    assert any("has the classes 'Cat' and 'cat': if they are one" in sentence for sentence in said)
    shared = [sentence for sentence in said if "are also in the" in sentence]
    assert len(shared) == 1
    assert "1 of 22 examples of the test split are also in the" in shared[0]


def test_a_folder_without_doubts_says_nothing(tmp_path, said):
    data.load(section(f"folder:{write_folder(tmp_path)}"), 0)
    assert not said


def test_nothing_decodes_images_once_the_program_ends(tmp_path):
    """Threads of tf.data that call Python would be waited for when Python has ended."""
    source = folders.parts(str(write_folder(tmp_path)), 8)["all"]
    streams = [
        data.train_batches(source, batch_size=4, seed=0),
        data.evaluation_batches(source, batch_size=4),
    ]
    for stream in streams:
        next(stream)
    sources.close_all()  # as Python does when it ends
    for stream in streams:
        assert next(stream, None) is None


# npz


IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
LABELS = np.arange(20) % 2


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_an_npz_file(tmp_path):
    source = data.load_source(write_npz(tmp_path / "a.npz", images=IMAGES, label=LABELS), 8)
    np.testing.assert_array_equal(source.inputs()[..., 0], modalities.unit_floats(IMAGES))
    np.testing.assert_array_equal(source.labels, LABELS)
    assert source.classes == ("0", "1")
    name = write_npz(
        tmp_path / "b.npz", image=IMAGES[..., None] / 255, labels=LABELS, classes=np.array(["no", "yes"])
    )
    floats = data.load_source(name, 16)
    assert floats.classes == ("no", "yes")
    assert floats.shape == (16, 16, 1)
    np.testing.assert_allclose(floats.inputs(), data.resize(source.inputs(), 16), atol=1e-6)
    assert [part.num_examples for part in data.load(section(name), 0)] == [14, 2, 4]


def test_an_npz_file_divided_already(tmp_path):
    arrays = {
        "image_train": IMAGES,
        "label_train": LABELS,
        "image_test": IMAGES[:5],
        "label_test": LABELS[:5],
    }
    name = write_npz(tmp_path / "a.npz", **arrays)
    splits = data.load(section(name), 0)
    assert [part.num_examples for part in splits] == [18, 2, 5]
    np.testing.assert_array_equal(splits.test.inputs()[..., 0], modalities.unit_floats(IMAGES[:5]))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, r"has the arrays \(none\): it must have image and label"),
        ({"x": IMAGES, "y": LABELS}, "has the arrays x, y: it must have image and label"),
        ({"image": IMAGES}, "has image: one array of images and one of labels are wanted"),
        ({"image": IMAGES, "images": IMAGES, "label": LABELS}, "one array of images and one of labels"),
        ({"image_test": IMAGES, "label_test": LABELS}, "it must have image and label, or image_train"),
        (
            {"image": IMAGES, "label": LABELS, "image_test": IMAGES, "label_test": LABELS},
            "keep one or the other",
        ),
        ({"image": IMAGES[:, 0], "label": LABELS}, r"images have shape \[20, 8\]"),
        ({"image": IMAGES.reshape(20, 4, 4, 4), "label": LABELS}, r"images have shape \[20, 4, 4, 4\]"),
        ({"image": IMAGES, "label": LABELS[:7]}, r"labels have shape \[7\] but images \[20, 8, 8, 1\]"),
        ({"image": IMAGES * 1.0, "label": LABELS}, "floats must lie in"),
        ({"image": IMAGES, "label": LABELS * 0.5}, "labels are of type float64"),
        ({"image": IMAGES, "label": LABELS, "classes": np.array(["one"])}, "with 1 classes"),
        (
            {"image": IMAGES, "label": LABELS, "classes": np.array("one")},
            r"classes have shape \[\]: give a name",
        ),
        (
            {"image": IMAGES, "label": LABELS.astype(np.uint64) * 2**63},
            "label 9223372036854775808: labels .* below",
        ),
        (
            {"image": IMAGES, "label": LABELS * 100_000},
            "has the label 100000: labels .* must be below 100,000",
        ),
    ],
)
def test_npz_files_of_other_arrays_are_refused(tmp_path, arrays, message):
    refused(write_npz(tmp_path / "a.npz", **arrays), message)


def test_parts_of_an_npz_file_have_their_usual_names(tmp_path, said):
    arrays = {
        "images_Train": IMAGES,
        "labels_Train": LABELS,
        "image_val": IMAGES[:6],
        "label_val": LABELS[:6],
    }
    name = write_npz(tmp_path / "a.npz", **arrays, mean=IMAGES.mean(0))
    splits = data.load(section(name, validation_examples=0), 0)
    assert [part.num_examples for part in splits] == [20, 0, 6]
    assert f"{name}: other arrays are passed over (mean)" in said
    assert f"{name}: 6 of 6 examples of the test split are also in the train split" in said[-1]


def test_classes_without_examples_are_said(tmp_path, said):
    data.load(section(write_npz(tmp_path / "a.npz", image=IMAGES, label=LABELS * 3)), 0)
    assert [sentence for sentence in said if "2 classes without examples (1, 2)" in sentence]


def test_arrays_that_claim_more_than_their_file_has_are_refused(tmp_path):
    for ending, size in (("npz", 2**43), ("npy", 2**43)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (size,)}
        )
        file = tmp_path / f"a.{ending}"
        file.write_bytes(header.getvalue())
        if ending == "npz":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("image.npy", header.getvalue())
        with pytest.raises(ValueError, match=r"of shape \(8796093022208,\) claims .* there are 0"):
            files.read_arrays(file)
    np.savez_compressed(tmp_path / "b.npz", image=np.zeros((2**26), np.uint8))
    assert len(files.read_arrays(tmp_path / "b.npz")["image"]) == 2**26


def test_a_header_with_negative_sides_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (-2, -3)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(6))
    with pytest.raises(ValueError, match=r"its header claims the shape \(-2, -3\)"):
        files.read_arrays(tmp_path / "a.npy")


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_HARMLESS", 2**16)
    np.savez_compressed(tmp_path / "a.npz", image=np.zeros(2**20, np.uint8))
    refused(f"npz:{tmp_path}/a.npz", "bytes unpack to 1,048,704: save it without compression")


def test_unreadable_npz_files_are_refused(tmp_path):
    refused(f"npz:{tmp_path}/none.npz", "there is no such file")
    refused(f"npz:{tmp_path}", "cannot be read as an npz file")
    objects = tmp_path / "objects.npz"
    np.savez(objects, image=np.array([None, {}], object), label=np.zeros(2, int))
    refused(f"npz:{objects}", "cannot be read as an npz file of plain arrays")
    text = tmp_path / "text.npz"
    text.write_text("not an npz file")
    refused(f"npz:{text}", "cannot be read as an npz file")
    single = tmp_path / "single.npy"
    np.save(single, IMAGES)
    refused(f"npz:{single}", "cannot be read as an npz file")
    cut = tmp_path / "cut.npz"
    np.savez(cut, image=IMAGES, label=LABELS)
    cut.write_bytes(cut.read_bytes()[:-100])
    refused(f"npz:{cut}", "cannot be read as an npz file")
    cut.write_bytes(b"")
    refused(f"npz:{cut}", "cannot be read as an npz file")


# TFDS


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """RMTJAX_DATA with two small sets in it: one of images of varied size, one that is not of images."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def examples(n, labelled=True):
        for i in range(n):
            image = rng.integers(0, 256, (8 + i % 3, 8, 3), np.uint8)
            yield i, {"number": i, "image": image, "label": i % 3 if labelled else -1}

    image_features = tfds.features.FeaturesDict(
        {
            "number": np.int64,
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["ash", "elm", "fir"]),
        }
    )
    for name, features, splits in (
        (
            "trees",
            image_features,
            {"train": examples(30), "validation": examples(9), "test": examples(5, False)},
        ),
        ("numbers", tfds.features.FeaturesDict({"number": np.int64}), {"train": [(0, {"number": 1})]}),
    ):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            data_dir=root / "tfds",
            features=features,
            split_datasets=splits,
            config="plain",
            description="",
        )
    return root


def test_a_tfds_set(prepared, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setenv("RMTJAX_DATA", str(prepared))
    splits = data.load(section("tfds:trees"), 0)
    # Its test split has no labels, so its validation split is the test part.
    assert [part.num_examples for part in splits] == [28, 2, 9]
    assert splits.train.classes == ("ash", "elm", "fir")
    assert splits.train.shape == (8, 8, 3)
    stored = tfds.as_numpy(tfds.load("trees", data_dir=prepared / "tfds", split="validation"))
    for example, image, label in zip(stored, splits.test.inputs(), splits.test.labels, strict=True):
        assert example["label"] == label
        np.testing.assert_allclose(
            data.resize(modalities.unit_floats(example["image"][None]), 8)[0], image, atol=1e-6
        )
    np.testing.assert_array_equal(data.load_source("tfds:trees", 8).inputs(), splits.test.inputs())


def test_tfds_sets_that_cannot_be_used_are_refused(prepared, monkeypatch, tmp_path):
    monkeypatch.setenv("RMTJAX_DATA", str(prepared))
    refused("tfds:tree", "tfds:tree is not prepared in .*: did you mean tfds:trees?")
    refused("tfds:mnist", "tfds:mnist is not prepared in .*: prepared there: numbers, trees.")
    refused("tfds:trees/leafless", "tfds:trees/leafless")
    refused("tfds:trees:9.9.9", "tfds:trees:9.9.9")
    refused("tfds:numbers", "is not a set of images with one class label each: its features are number")
    monkeypatch.setenv("RMTJAX_DATA", str(tmp_path))
    refused("tfds:trees", "prepared there: nothing")


def test_a_damaged_tfds_set_is_refused(prepared, monkeypatch, tmp_path):
    import shutil

    shutil.copytree(prepared, tmp_path / "copy")
    monkeypatch.setenv("RMTJAX_DATA", str(tmp_path / "copy"))
    (file,) = (tmp_path / "copy" / "tfds" / "trees").rglob("*train.tfrecord*")
    file.write_bytes(file.read_bytes()[:-7])
    refused("tfds:trees", "is damaged: prepare tfds:trees anew")


CIFAR10 = pathlib.Path(os.environ.get("RMTJAX_DATA", "-"), "tfds", "cifar10")


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="RMTJAX_DATA has no tfds/cifar10")
def test_cifar10_is_as_tfds_reads_it():
    import tensorflow_datasets as tfds

    splits = data.load(section("tfds:cifar10", image_size=32, train_examples=50, test_examples=100), 0)
    assert [part.num_examples for part in splits] == [50, 2, 100]
    np.testing.assert_array_equal(np.bincount(splits.test.labels), 10)
    assert splits.test.shape == (32, 32, 3)
    assert splits.test.examples.dtype == np.uint8
    stored = tfds.as_numpy(
        tfds.load("cifar10", data_dir=CIFAR10.parent, split="test[:20]", shuffle_files=False)
    )
    from rmtjax.data import tfds_sets

    test = data.take(tfds_sets.splits("cifar10", 32)["test"], np.arange(20))
    for example, image, label in zip(stored, test.inputs(), test.labels, strict=True):
        np.testing.assert_array_equal(modalities.unit_floats(example["image"]), image)
        assert example["label"] == label
