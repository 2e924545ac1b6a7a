"""The curves that pages draw: the same numbers as the table's, each against its definition."""

import numpy as np
import pandas as pd
import pytest

from rmtjax import spectra
from rmtjax.spectra import curves, laws

RNG = np.random.default_rng(2)


@pytest.fixture(scope="module")
def analysed():
    tree = {
        "wide": RNG.standard_normal((96, 48)),
        "small": RNG.standard_normal((30, 12)),
        "zero": np.zeros((20, 10)),
    }
    found = spectra.analyze({name: {"kernel": value} for name, value in tree.items()})
    return found, curves.curves(found.table, found.eigenvalues)


def test_every_matrix_that_is_not_zero_has_its_curves(analysed):
    _, drawn = analysed
    assert {key.split("/")[0] for key in drawn} == {"wide", "small"}
    assert {key.rpartition("/")[2] for key in drawn} >= {
        "density",
        "log_density",
        "law",
        "fit",
        "exponents",
        "survival",
    }


def test_the_law_is_that_of_the_fitted_noise(analysed):
    found, drawn = analysed
    row = found.table.set_index("name").loc["wide/kernel"]
    x, density = drawn["wide/kernel/law"]
    share = 1 - row["num_spikes"] / row["num_evals"]
    expected = laws.marchenko_pastur_pdf(x / row["N"], row["M"] / row["N"], row["noise_std"] ** 2) / row["N"]
    np.testing.assert_allclose(density, share * expected, atol=1e-9)
    assert np.trapezoid(density, x) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    "name", ["wide", "small"]
)  # of 48 and of 12 eigenvalues: the exponent is the unbiased one
def test_the_chosen_exponent_lies_on_the_curve_of_exponents(analysed, name):
    found, drawn = analysed
    row = found.table.set_index("name").loc[f"{name}/kernel"]
    xmin, alpha, error = drawn[f"{name}/kernel/exponents"]
    here = np.argmin(np.abs(xmin - row["xmin"]))
    np.testing.assert_allclose([xmin[here], alpha[here]], [row["xmin"], row["alpha"]], rtol=1e-6)
    np.testing.assert_allclose(error[here], row["alpha_se"], rtol=1e-6)


def test_densities_hold_the_whole_spectrum():
    values = np.sort(RNG.exponential(size=300))
    drawn = curves.curves(pd.DataFrame({"name": ["w"]}), {"w": values})
    for name in ("w/density", "w/log_density"):
        edges, heights = drawn[name]
        assert (heights[:-1] * np.diff(edges)).sum() == pytest.approx(1, abs=0.01)


def test_thinning_keeps_both_ends_and_the_tail():
    kept = curves._thinned(5000)
    assert kept[0] == 0
    assert list(kept[-30:]) == list(range(4970, 5000))
    assert (np.diff(kept) > 0).all()
    assert len(kept) == 60


def test_the_shift_is_of_singular_values():
    before, after = np.array([1.0, 4.0]), np.array([1.0, 9.0])
    table = pd.DataFrame({"stage": ["before", "after", "update"], "name": "w"})
    drawn = curves.curves(table, {"before/w": before, "after/w": after, "update/w": np.array([0.5, 1.0])})
    np.testing.assert_allclose(drawn["update/w/shift"], [[1, 2], [0.5, 0.0]])


def test_what_single_precision_does_not_hold_is_stored_in_double():
    stored = curves.compact(
        {"a": np.array([1.0, 2.0]), "b": np.array([1e-50, 1.0]), "c": np.array([np.nan, 1e200])}
    )
    assert [str(values.dtype) for values in stored.values()] == ["float32", "float64", "float64"]
