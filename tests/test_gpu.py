"""What needs a GPU: `JAX_PLATFORMS= pytest -m gpu` on a machine that has one."""

import jax
import numpy as np
import pytest

from rmtjax import spectra

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu():
    try:
        return jax.devices("gpu")[0]
    except RuntimeError:
        pytest.skip("no GPU here")


@pytest.mark.parametrize("precision", ["single", "double"])
def test_spectra_on_a_gpu_equal_numpys(gpu, precision):
    generator = np.random.default_rng(0)
    params = {f"layer_{i}": {"kernel": generator.standard_normal((384, 128), np.float32)} for i in range(4)}
    with jax.default_device(gpu):
        values = spectra.eigenvalues(params, precision=precision)
    for name, found in values.items():
        kernel = params[name.split("/")[0]]["kernel"].astype(np.float64)
        np.testing.assert_allclose(
            found, np.linalg.eigvalsh(kernel.T @ kernel), rtol=1e-3 if precision == "single" else 1e-6
        )
