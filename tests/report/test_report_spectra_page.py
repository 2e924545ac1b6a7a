"""The page of a checkpoint's spectra, of one model and of a comparison."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from rmtjax import report, results, spectra
from rmtjax.errors import InputError
from rmtjax.report import depth, layers
from rmtjax.report.chart import Dots, Line, fitted, ticks

RNG = np.random.default_rng(6)


def tree(blocks: int) -> dict:
    def kernel(rows: int, columns: int) -> dict:
        return {"kernel": RNG.standard_normal((rows, columns)).astype(np.float32)}

    attention = ("query", "key", "value")
    return {
        f"block_{i}": {
            "attention": {name: kernel(32, 32) for name in attention},
            "mlp": {"up": kernel(32, 64)},
        }
        for i in range(blocks)
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    before = tree(3)
    before["block_1"]["mlp"]["up"]["kernel"][:] = 0
    after = tree(3)
    after["block_0"]["attention"]["query"]["kernel"][0, 0] = np.nan
    folder = tmp_path_factory.mktemp("pages")
    spectra.analyze(before, precision="single").save(folder / "one")
    spectra.compare(before, after, precision="single").save(folder / "two")
    return folder


@pytest.mark.parametrize("which", ["one", "two"])
def test_the_page_holds_every_matrix_and_its_warnings(folders, which):
    path = report.spectra_page(folders / which)
    assert path == folders / which / "report.html"
    page = path.read_text()
    table = pd.read_parquet(folders / which / "spectra.parquet")
    for name in table["name"].unique():
        assert name.removesuffix("/kernel").split("/")[-1] in page
    if which == "one":
        assert "all weights are zero" in page
    if which == "two":
        assert "weights are not finite" in page
        assert "update" in page
    for kind in ("attention query", "attention key", "mlp"):
        assert kind in page
    assert page.count("<svg") >= 12
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= set(re.findall(r'id="([^"]+)"', page))
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_without_eigenvalues_and_without_a_table(folders, tmp_path):
    rows = pd.read_parquet(folders / "one" / "spectra.parquet")
    rows.to_parquet(tmp_path / "spectra.parquet")
    assert report.spectra_page(tmp_path).is_file()
    with pytest.raises(InputError, match=r"no spectra\.parquet in"):
        report.spectra_page(folders)
    with pytest.raises(InputError):
        report.spectra_page(tmp_path / "nowhere")


def test_a_page_of_a_single_matrix(tmp_path):
    """One value a chart, some of them negative: axes need two different ends."""
    small = {"w": {"kernel": 1e-3 * RNG.standard_normal((24, 12)).astype(np.float32)}}
    spectra.analyze(small).save(tmp_path / "one")
    spectra.compare(small, {"w": {"kernel": 2 * small["w"]["kernel"]}}).save(tmp_path / "two")
    assert "<svg" in report.spectra_page(tmp_path / "one").read_text()
    page = report.spectra_page(tmp_path / "two").read_text()
    assert "Shift of each singular value of w/kernel" in page


def test_curves_are_stored_and_an_older_folder_is_drawn_alike(folders, tmp_path):
    """Without spectra_curves.npz they are computed from the eigenvalues; spectra.npz may be missing."""
    report.spectra_page(folders / "two")
    stored = results.read_arrays(folders / "two" / results.CURVES)
    assert {key.rpartition("/")[2] for key in stored} >= {"density", "law", "exponents", "shift"}
    for left_out in (results.CURVES, results.EIGENVALUES):
        folder = tmp_path / left_out
        shutil.copytree(folders / "two", folder)
        (folder / left_out).unlink()
        page = report.spectra_page(folder).read_text()
        assert page.count("<svg") == (folders / "two" / "report.html").read_text().count("<svg")


def test_a_head_is_what_its_kind_says(tmp_path):
    weights = {
        "classifier": {"kernel": RNG.standard_normal((24, 12))},
        "dense": {"kernel": RNG.standard_normal((24, 12))},
    }
    spectra.analyze(weights).save(tmp_path)
    page = report.spectra_page(tmp_path).read_text()
    assert "2 weight matrices (1 head, 1 dense)" in page or "2 weight matrices (1 dense, 1 head)" in page


def test_a_single_model_has_no_stages_in_its_tips(folders):
    page = report.spectra_page(folders / "one").read_text()
    tips = re.findall("<title>([^<]*: [^<]*)</title>", page)
    assert tips
    assert not any(", after" in tip for tip in tips)


def test_an_alpha_as_in_noise_is_no_warning_but_said(tmp_path):
    rng = np.random.default_rng(0)
    noise = {f"layer_{i}": {"kernel": rng.standard_normal((60, 40))} for i in range(14)}
    spectra.analyze(noise).save(tmp_path)
    table = pd.read_parquet(tmp_path / "spectra.parquet")
    common = int(table["warning"].str.contains("common in noise").sum())
    page = report.spectra_page(tmp_path).read_text()
    assert common > 7
    assert f"α tells {14 - common or 'none'} of 14 matrices from noise" in page
    assert page.count("as in noise</small>") == common
    assert "No matrix has a warning." in page
    assert "common in noise of this shape" not in page


def test_lines_join_matrices_of_one_role(tmp_path):
    """Projections up and down alternate in the model: one line through both would be a saw."""
    rng = np.random.default_rng(0)
    parts = {f"block_{i}/mlp/{part}/kernel": rng.standard_normal((24, 12)) for i in range(3) for part in "ud"}
    found = spectra.analyze(parts, metrics="scale")
    rows = layers.measured(found.table.assign(stage=""))
    rows.index = rows["name"]
    (chart,) = depth.charts(rows, ["stable_rank"], list(parts), {})
    lines = [mark.x.tolist() for mark in chart.marks if isinstance(mark, Line) and mark.colour != "null"]
    assert sorted(lines) == [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]


def test_probabilities_of_hundreds_of_decades_end_at_the_least_that_is_told_apart(tmp_path):
    rng = np.random.default_rng(0)
    parts = {f"block_{i}/kernel": rng.standard_normal((24, 12)) for i in range(3)}
    rows = layers.measured(spectra.analyze(parts).table.assign(stage="", tw_p=[0.5, 1e-300, 0.01]))
    rows.index = rows["name"]
    (chart,) = depth.charts(rows, ["tw_p"], list(parts), {})
    assert [text for _, text in ticks(chart.y)] == ["10⁻⁶", "10⁻⁴", "0.01", "1"]
    values = [mark for mark in chart.marks if isinstance(mark, Dots) and mark.tips]
    assert [mark.y.tolist() for mark in values] == [[0.5, 1e-6, 0.01]]
    assert values[0].tips[1] == "block_1/kernel: < 1e−6"
    wide = fitted([[1e-300, 1e300]], log=True)  # whose ends have no quotient
    assert len(ticks(wide)) in range(3, 8)


def test_charts_with_links_are_no_images_to_a_screen_reader(folders):
    page = report.spectra_page(folders / "one").read_text()
    charts = re.findall(r'<svg class="chart" role="(\w+)".*?</svg>', page)
    assert set(charts) == {"group", "img"}
    for role, drawn in re.findall(r'<svg class="chart" role="(\w+)"(.*?)</svg>', page):
        assert (role == "group") == ("<a " in drawn)
