"""Pictures of examples keep every pixel; the figure over seeds has the right intervals."""

import pathlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rmtjax import report
from rmtjax.errors import InputError
from rmtjax.report import chart as charts
from rmtjax.report import images as report_images


def size(picture: pathlib.Path) -> tuple[int, int]:
    with Image.open(picture) as opened:
        return opened.size


def blocks(picture: pathlib.Path, image: np.ndarray, factor: int) -> bool:
    """Whether an RGB uint8 image is somewhere in the picture, each pixel a square of pixels."""
    with Image.open(picture) as opened:
        canvas = np.asarray(opened.convert("RGB"))
    wanted = image.repeat(factor, 0).repeat(factor, 1)
    h, w = wanted.shape[:2]
    corners = np.argwhere((canvas[: -h + 1, : -w + 1] == wanted[0, 0]).all(-1))
    return any(np.array_equal(canvas[y : y + h, x : x + w], wanted) for y, x in corners)


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.float32), (3, np.float32), (3, np.uint8)])
def test_samples_are_drawn_pixel_by_pixel(tmp_path: pathlib.Path, channels: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (15, 8, 8, channels), dtype=np.uint8)
    stored = levels if dtype is np.uint8 else (levels / 255).astype(np.float32)
    labels = np.arange(15, dtype=np.int32)
    np.savez(
        tmp_path / "samples.npz",
        real=stored,
        real_label=labels,
        synthetic=stored[::-1],
        synthetic_label=labels,
    )
    picture = report.samples(tmp_path)
    assert picture == tmp_path / "samples.png"
    grey = np.broadcast_to(levels, (15, 8, 8, 3))
    for k in (0, 11, 14):
        assert blocks(picture, grey[k], 12)
    assert not blocks(picture, grey[0].transpose(1, 0, 2), 12)


def test_rows_are_there_for_the_sources_that_are(tmp_path: pathlib.Path) -> None:
    stored = np.zeros((3, 16, 16, 1), np.float32)
    np.savez(tmp_path / "samples.npz", real=stored, real_label=np.arange(3))
    one = size(report.samples(tmp_path))
    np.savez(
        tmp_path / "samples.npz", real=stored, real_label=np.arange(3), augmented=stored, synthetic=stored
    )
    assert size(report.samples(tmp_path))[1] > 2.5 * one[1]


@pytest.mark.parametrize("side", [1, 28, 32, 96, 224, 600])
def test_any_size_of_image_gives_a_picture_of_sane_size(tmp_path: pathlib.Path, side: int) -> None:
    np.savez(tmp_path / "samples.npz", real=np.full((13, side, side, 3), np.nan, np.float32))
    width, height = size(report.samples(tmp_path))
    assert 200 < width < 4000
    assert 100 < height < 1000


def test_large_images_are_averaged() -> None:
    image = np.random.default_rng(0).random((2, 600, 300, 3), dtype=np.float32)
    small = report_images._enlarged(image)
    assert small.shape == (2, 200, 100, 3)
    np.testing.assert_allclose(small[1, 5, 7], image[1, 15:18, 21:24].mean((0, 1)), rtol=1e-5)


def test_values_outside_the_unit_interval_are_clipped() -> None:
    image = np.array([-1.0, 0.5, 2.0, np.nan], np.float32).reshape(1, 2, 2, 1)
    assert sorted(np.unique(report_images._enlarged(image))) == [0, 0.5, 1]


@pytest.mark.parametrize("classes", [1, 10, 300])
def test_synthetic_by_class(tmp_path: pathlib.Path, classes: int) -> None:
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 256, (classes, 4, 16, 16, 1), dtype=np.uint8)
    names = np.array([f"class number {k} of many with a long name" for k in range(classes)])
    np.savez(tmp_path / "synthetic_by_class.npz", images=(levels / 255).astype(np.float32), classes=names)
    picture = report.synthetic(tmp_path)
    assert picture == tmp_path / "synthetic.png"
    assert blocks(picture, np.broadcast_to(levels[-1, 3], (16, 16, 3)), 6)
    assert size(picture)[1] < 3000


def test_a_class_of_few_is_shorter(tmp_path: pathlib.Path) -> None:
    """NaN fills the places that a class of few examples leaves."""
    sheet = np.full((2, 5, 8, 8, 1), np.nan, np.float32)
    sheet[0, :2] = 1
    np.savez(tmp_path / "synthetic_by_class.npz", images=sheet, classes=np.array(["a", "b"]))
    few = size(report.synthetic(tmp_path))
    with Image.open(tmp_path / "synthetic.png") as opened:
        assert (np.asarray(opened.convert("L")) == 0).mean() < 0.01
    sheet[0] = 1
    np.savez(tmp_path / "synthetic_by_class.npz", images=sheet, classes=np.array(["a", "b"]))
    assert size(report.synthetic(tmp_path))[0] > few[0]


@pytest.mark.parametrize(
    ("draw", "name"), [(report.samples, "samples.npz"), (report.synthetic, "synthetic_by_class.npz")]
)
def test_missing_and_empty_files_are_named(tmp_path: pathlib.Path, draw, name: str) -> None:
    with pytest.raises(InputError, match=name):
        draw(tmp_path)
    np.savez(
        tmp_path / name,
        real=np.zeros((0, 8, 8, 1)),
        images=np.zeros((0, 4, 8, 8, 1)),
        classes=np.array([], str),
    )
    with pytest.raises(InputError, match=name):
        draw(tmp_path)
    assert not list(tmp_path.glob("*.png"))


def seeds_table() -> pd.DataFrame:
    rows = [
        {"config": config, "seed": seed, "set": name, "metric": metric, "value": 0.1 * seed + place}
        for place, config in enumerate(("scratch", "a config with a name as long as people choose them"))
        for seed in range(3)
        for name in ("test", "corrupted", "corrupted/contrast")
        for metric in ("accuracy", "ece", "nll")
    ]
    return pd.DataFrame(rows)


def test_seeds_figure(tmp_path: pathlib.Path) -> None:
    seeds_table().to_csv(tmp_path / "runs.csv", index=False)
    picture = report.seeds_figure(tmp_path / "runs.csv", tmp_path / "deep" / "runs.png")
    assert picture == tmp_path / "deep" / "runs.png"
    again = report.seeds_figure(seeds_table(), tmp_path / "again.png")
    assert picture.read_bytes() == again.read_bytes()
    only = report.seeds_figure(seeds_table(), tmp_path / "only.png", metrics=("nll",))
    assert size(only)[1] < size(again)[1]


def test_seeds_figure_of_one_seed_and_missing_values(tmp_path: pathlib.Path) -> None:
    table = seeds_table()
    table = table[(table["seed"] == 0) & ((table["config"] == "scratch") | (table["set"] == "test"))]
    assert report.seeds_figure(table, tmp_path / "one.png").exists()


def test_seeds_figure_refuses_in_one_sentence(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"no column 'seed'.*config"):
        report.seeds_figure(seeds_table().drop(columns="seed"), tmp_path / "a.png")
    with pytest.raises(InputError, match="no finite value of beauty"):
        report.seeds_figure(seeds_table(), tmp_path / "a.png", metrics=("beauty",))
    with pytest.raises(InputError, match="nowhere"):
        report.seeds_figure(tmp_path / "nowhere.csv", tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("none", "long name of an arm", "all"), False),  # long beside short: they do not touch
        (("none", "long name of an arm", "long name of another arm"), True),
        (("none", "all"), False),
        (None, False),
    ],
)
def test_names_below_a_chart_are_turned_where_two_would_touch(names, expected) -> None:
    ticks = names and tuple(enumerate(names))
    y = charts.Axis(0, 1)
    wide, narrow = (
        charts.Chart(charts.Axis(-0.5, 2.5, ticks=ticks), y, (), "", size=(side, 190)) for side in (320, 120)
    )
    assert charts.turned(wide) == expected
    assert charts.pixels(wide)[3] < 160 if expected else charts.pixels(wide)[3] >= 160
    if names == ("none", "long name of an arm", "all"):
        assert charts.turned(narrow)
