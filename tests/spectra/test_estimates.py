"""Metrics estimated from products: how often their errors cover the truth, and where they are shown."""

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from rmtjax import report, spectra
from rmtjax.spectra import estimates, text

M = 400


def eigenvalues_of(kind):
    rng = np.random.default_rng(0)
    noise = np.linalg.eigvalsh((lambda w: w.T @ w)(rng.standard_normal((2 * M, M)) / np.sqrt(2 * M)))
    spikes = np.sort(np.r_[noise[:-5], 3, 5, 8, 20, 50])
    places = np.arange(1, M + 1) / M
    return {
        "noise": noise,
        "spikes": spikes,
        "power law": np.sort(places**-1.2),
        "decay": np.exp(9 * places),
    }[kind]


def metrics_of(values):
    share, roots = values / values.sum(), np.sqrt(values)
    of_roots = roots / roots.sum()
    shannon = -(share * np.log(share)).sum()
    return {
        "norm": values.sum(),
        "spectral_norm": values[-1],
        "stable_rank": values.sum() / values[-1],
        "sv_max": roots[-1],
        "nuclear_norm": roots.sum(),
        "participation_ratio": 1 / (share**2).sum(),
        "effective_rank": np.exp(shannon),
        "effective_rank_sv": np.exp(-(of_roots * np.log(of_roots)).sum()),
        "entropy": shannon / np.log(M),
        "renyi_entropy_2": -np.log((share**2).sum()) / np.log(M),
        "renyi_entropy_inf": -np.log(share[-1]) / np.log(M),
        "log_det": np.log(values).sum(),
    }


@pytest.mark.parametrize("kind", ["noise", "spikes", "power law", "decay"])
def test_intervals_cover_the_truth_at_their_rate(kind):
    values = eigenvalues_of(kind)
    truth, reach = metrics_of(values), scipy.stats.t.ppf(0.975, 14)
    covered = []
    for seed in range(120):
        found = estimates.quadrature(
            lambda x: values[:, None] * x, M, np.random.default_rng(seed), columns=16, steps=10
        )
        metrics, errors = estimates._metrics(found, values.sum())
        assert set(metrics) == set(errors) == set(truth)
        covered.append(
            [abs(metrics[n] - truth[n]) <= reach * errors[n] + 1e-9 * abs(truth[n]) for n in truth]
        )
    # 120 draws of 95 % lie above .89. Errors of a quadrature that has not ended are larger.
    assert (np.mean(covered, 0) > 0.89).all(), dict(zip(truth, np.mean(covered, 0), strict=True))
    assert all(errors[name] < 0.1 * abs(truth[name]) for name in truth)


def test_with_all_steps_it_is_exact():
    values = eigenvalues_of("power law")
    found = estimates.quadrature(
        lambda x: values[:, None] * x, M, np.random.default_rng(0), columns=10, steps=40
    )
    metrics, errors = estimates._metrics(found, values.sum())
    assert metrics == pytest.approx(metrics_of(values), rel=1e-8)
    assert not any(errors.values())


@pytest.mark.parametrize("precision", ["single", "double"])
def test_a_large_matrix_is_read_in_blocks_of_rows_and_the_others_are_exact(precision, monkeypatch):
    monkeypatch.setattr(estimates, "_BYTES", 4 * 200 * 77)  # a last block that is not full
    rng = np.random.default_rng(1)
    large = (rng.standard_normal((1000, 200)) / 30 * np.linspace(0.3, 2, 200)).astype(ml_dtypes.bfloat16)
    params = {name: {"kernel": rng.standard_normal((60, 40))} for name in ("a", "c")} | {
        "b": {"kernel": large.T}
    }
    exact = spectra.analyze(params, precision=precision).table.set_index("name")
    both = spectra.analyze(params, precision=precision, exact_up_to=100)
    table = both.table.set_index("name")
    assert list(table.index) == ["a/kernel", "b/kernel", "c/kernel"]
    assert table["estimated"].tolist() == [False, True, False]
    small = ["a/kernel", "c/kernel"]
    pd.testing.assert_frame_equal(table.loc[small, exact.columns], exact.loc[small], rtol=1e-3)
    one, true = table.loc["b/kernel"], exact.loc["b/kernel"]
    for name in ("norm", "log_norm", "spectral_norm", "stable_rank", "nuclear_norm", "entropy", "log_det"):
        error = one[f"{name}_se"] if f"{name}_se" in table else 0.0
        assert one[name] == pytest.approx(true[name], abs=5 * error + 1e-4 * abs(true[name])), name
        if f"{name}_null" in table:
            assert one[f"{name}_null"] == pytest.approx(true[f"{name}_null"], rel=1e-4)
    assert np.isnan(one["alpha"])
    assert one["warning"] == "estimated from products with the matrix: no tail, bulk or rank"
    assert (np.diff(both.eigenvalues["b/kernel"]) >= 0).all()
    assert len(both.eigenvalues["b/kernel"]) == 200
    assert f"~{true['stable_rank']:.3g}" in text.table(both.table)


def test_it_is_marked_on_the_page_with_its_error(tmp_path):
    rng = np.random.default_rng(1)
    weights = {"b": {"kernel": rng.standard_normal((900, 300)) * np.geomspace(0.01, 1, 300)}}
    found = spectra.analyze(weights, exact_up_to=100)
    found.save(tmp_path)
    page = report.spectra_page(tmp_path).read_text()
    assert "estimated from products with the matrix" in page
    error = found.table["entropy_se"][0]
    assert 0 < error < 0.01
    assert f"± {error:.1e}".replace("-", "−") in page


def test_entries_that_are_not_finite_and_zeros():
    weights = np.ones((300, 150), np.float32)
    weights[3, 4] = np.nan
    params = {"bad": {"kernel": weights}, "empty": {"kernel": np.zeros((300, 150))}}
    table = spectra.analyze(params, exact_up_to=100).table.set_index("name")
    assert table.loc["bad/kernel", "warning"] == "1 of 45000 weights are not finite"
    assert table.loc["empty/kernel", "warning"] == "all weights are zero"
    assert np.isnan(table.loc["bad/kernel", "norm"])
    assert table.loc["empty/kernel", "norm"] == 0
