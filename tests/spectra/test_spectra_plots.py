"""Figures and the summary of an analysis, as a notebook shows them."""

import numpy as np
import pytest

from rmtjax import spectra
from rmtjax.errors import InputError


@pytest.fixture(scope="module")
def trees():
    rng = np.random.default_rng(0)
    before = {f"block_{i}": {"mlp": {"kernel": rng.standard_normal((64, 32))}} for i in range(3)}
    after = {
        name: {"mlp": {"kernel": block["mlp"]["kernel"] + np.outer(np.ones(64), np.ones(32))}}
        for name, block in before.items()
    }
    return before, after


def test_the_figure_of_a_matrix_has_its_spectrum_the_law_and_the_fit(trees):
    analysis = spectra.analyze(trees[1])
    figure = analysis.plot("block_1")
    bulk, tail = figure.axes
    row = analysis.table.set_index("name").loc["block_1/mlp/kernel"]
    assert row["num_spikes"] == 1
    assert bulk.get_title() == "block_1/mlp/kernel\nspikes: 1, 1 beyond the axis"
    assert tail.get_title().startswith(f"alpha {row['alpha']:.2f} (noise ")
    points = tail.get_lines()[0].get_xydata()
    np.testing.assert_allclose(points[:, 0], analysis.eigenvalues["block_1/mlp/kernel"])
    assert points[-1, 1] == pytest.approx(1 / 32)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_figure_over_depth_has_each_matrix_and_what_noise_shows(trees):
    analysis = spectra.compare(*trees)
    figure = analysis.plot_depth("stable_rank")
    assert [axis.get_title() for axis in figure.axes] == ["before", "after", "update"]
    null, values = figure.axes[2].get_lines()
    update = analysis.table[analysis.table["stage"] == "update"]
    np.testing.assert_allclose(values.get_ydata(), update["stable_rank"])
    np.testing.assert_allclose(null.get_ydata(), update["stable_rank_null"])
    bars = spectra.analyze(trees[0]).plot_depth("alpha").axes[0].collections[0].get_segments()
    table = spectra.analyze(trees[0]).table
    np.testing.assert_allclose([bar[:, 1] for bar in bars], table[["alpha_null_low", "alpha_null_high"]])


def test_a_notebook_shows_medians_by_kind(trees):
    analysis = spectra.compare(*trees)
    summary = analysis.summary()
    assert summary.index.tolist() == [("before", "mlp"), ("after", "mlp"), ("update", "mlp")]
    of_update = analysis.table.query("stage == 'update'")
    assert summary.loc[("update", "mlp"), "stable_rank"] == of_update["stable_rank"].median()
    page = analysis._repr_html_()
    assert "9 rows, 0 tensors left out; medians by kind of layer" in page
    assert "alpha_null" in page


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda found: found.plot("block"), "it is in the names of block_0/mlp/kernel, .*: give more of one"),
        (lambda found: found.plot("blok_1"), "'blok_1' does not tell a matrix: the nearest are block_"),
        (lambda found: found.plot_depth("alfa"), "'alfa' is no column of numbers in the table: .* alpha"),
    ],
)
def test_what_is_not_there_is_named(trees, draw, message):
    analysis = spectra.analyze(trees[0])
    with pytest.raises(InputError, match=message):
        draw(analysis)
