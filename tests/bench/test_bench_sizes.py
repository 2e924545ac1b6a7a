"""The bench of sizes: its laws are what they are called, and no p rejects a true null much too often."""

import argparse

import numpy as np
import pytest
from scipy import stats

from rmtjax.bench import sizes
from rmtjax.errors import InputError
from rmtjax.spectra import analysis, laws, neighbours

DRAWS = 48


@pytest.fixture(scope="module")
def draws():
    with pytest.MonkeyPatch.context() as patch:
        # As many rows and values everywhere: few programs are compiled.
        patch.setattr(analysis, "REPLICATES", DRAWS)
        patch.setattr(sizes, "VALUES", sizes.M)
        yield sizes.Draws(DRAWS)


def test_an_exact_test_has_its_size_and_its_power():
    """2 (α - 1) Σ ln x of n Pareto variables is χ² with 2n degrees of freedom."""

    def columns(values):
        return {"p": stats.chi2.sf(3 * np.log(values).sum(1), 2 * sizes.VALUES)}

    exact = sizes.Test(
        "exact", columns, lambda found: found["p"] < sizes.LEVEL, "Pareto, α 2.5", "exponential"
    )
    (row,) = sizes.compare(sizes.Draws(2000), [exact])
    assert row.n == str(sizes.VALUES)
    assert row.size.low < 0.05 < row.size.high
    assert row.power.mean < 0.01  # exponential variables have the smaller logarithms


def test_the_laws_are_what_they_are_called(draws):
    cut = sizes.LAWS["Pareto, cut off at 10"](np.random.default_rng(0), 50)
    fit = sizes.known_xmin(cut.reshape(1, -1))
    assert fit["alpha_tpl"] == pytest.approx(2.5, abs=0.1)
    assert fit["Lambda"] == pytest.approx(0.1, abs=0.02)
    x = sizes.LAWS["lognormal as far from both"](np.random.default_rng(0), 5000).ravel()
    pareto = stats.pareto.logpdf(x, 1 / np.log(x).mean()).mean()
    assert stats.expon.logpdf(x, 1, x.mean() - 1).mean() == pytest.approx(pareto, abs=0.005)
    spiked = draws.columns(sizes.table, "a spike of 1.3 thresholds")
    s = np.sqrt(spiked["spectral_norm"] / sizes.N)
    assert np.median(s) == pytest.approx(laws.bbp_singular_value(1.3 * 0.5**0.25, 0.5), abs=0.03)
    independent = draws.columns(sizes.table, "independent eigenvalues")
    ratio = independent["spacing_ratio"].mean()
    assert ratio == pytest.approx(neighbours.SPACING_RATIO_POISSON, abs=0.02)


def test_no_p_rejects_a_true_null_much_too_often(draws):
    tests = [test for test in sizes.TESTS if test.columns is not sizes.bootstrap]  # see test_spectra_goodness
    for row in sizes.compare(draws, tests):
        assert row.size.mean * DRAWS <= stats.binom.ppf(0.999, DRAWS, 0.08), row
        assert row.power.mean > row.size.mean, row


def test_a_number_of_draws_below_one_is_refused():
    with pytest.raises(InputError, match="--draws=0 is out of range: it must be 1 or more"):
        sizes.main(argparse.Namespace(draws=0), [])
