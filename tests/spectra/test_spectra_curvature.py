"""Curvature against the exact Hessian of a net of 1,840 parameters, and activations against their own law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rmtjax import spectra
from rmtjax.spectra import activations, curvature, laws

CLASSES, INPUTS, HIDDEN = 10, 20, 40
PROBES = 128


@pytest.fixture(autouse=True)
def strict_double():
    with (
        jax.enable_x64(True),
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):
        yield


def outputs(params, examples):
    hidden = jnp.tanh(examples["inputs"] @ params["in"] + params["bias"][None])
    return jnp.tanh(hidden @ params["middle"]) @ params["out"]


def loss(z, examples):
    right = jnp.take_along_axis(z, examples["label"][:, None], 1)[:, 0]
    return jax.nn.logsumexp(z, -1) - right


# The products: made once, since each is compiled once.
HESSIAN, GAUSS_NEWTON = curvature.hessian(outputs, loss), curvature.gauss_newton(outputs, loss)


@pytest.fixture(scope="module")
def net():
    """A net after 100 steps of gradient descent, its data (the last batch is padded), and both matrices."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, 200)
    x = rng.standard_normal((CLASSES, INPUTS))[label] + rng.standard_normal((200, INPUTS))
    with jax.enable_x64(True):
        examples = {"inputs": jnp.asarray(x), "label": jnp.asarray(label)}
        params = {
            "in": rng.standard_normal((INPUTS, HIDDEN)) / INPUTS**0.5,
            "bias": np.zeros(HIDDEN),
            "middle": rng.standard_normal((HIDDEN, HIDDEN // 2)) / HIDDEN**0.5,
            "out": rng.standard_normal((HIDDEN // 2, CLASSES)) / (HIDDEN / 2) ** 0.5,
        }
        start, unravel = ravel_pytree(jax.tree.map(jnp.asarray, params))

        def mean_loss(flat):
            return loss(outputs(unravel(flat), examples), examples).mean()

        def descend(_, flat):
            return flat - 0.1 * jax.grad(mean_loss)(flat)

        flat = jax.jit(lambda flat: jax.lax.fori_loop(0, 100, descend, flat))(start)
        # With softmax outputs p, the Hessian of the loss in z is diag(p) - p pᵀ.
        z, jacobian = jax.jit(
            lambda f: (
                outputs(unravel(f), examples),
                jax.jacobian(lambda g: outputs(unravel(g), examples))(f),
            )
        )(flat)
        p = jax.nn.softmax(z)
        inner = jnp.eye(CLASSES)[None] * p[:, :, None] - p[:, :, None] * p[:, None, :]
        exact_gauss_newton = jnp.einsum("nki,nkl,nlj->ij", jacobian, inner / len(z), jacobian)
        matrices = np.asarray(jax.jit(jax.hessian(mean_loss))(flat)), np.asarray(exact_gauss_newton)
        return unravel(flat), curvature.batched(jax.device_get(examples), 64, np.float64), *matrices


def test_products_are_those_of_the_matrices(net):
    params, batches, *matrices = net
    vector = jax.tree.map(lambda x: jnp.asarray(np.random.default_rng(1).standard_normal(x.shape)), params)
    for product, matrix in zip((HESSIAN, GAUSS_NEWTON), matrices, strict=True):
        got = ravel_pytree(jax.jit(product)(vector, params, batches))[0]
        np.testing.assert_allclose(got, matrix @ ravel_pytree(vector)[0], atol=1e-10)


def test_batches_weigh_every_example_once():
    batches = curvature.batched({"x": np.arange(10)}, 4)
    assert batches.examples["x"].shape == batches.weights.shape == (3, 4)
    assert batches.weights.sum() == pytest.approx(1)
    assert sorted(batches.examples["x"][batches.weights > 0]) == list(range(10))


def test_ends_of_the_spectrum(net):
    params, batches, *matrices = net
    for product, matrix in zip((HESSIAN, GAUSS_NEWTON), matrices, strict=True):
        exact = np.linalg.eigvalsh(matrix)
        found = curvature.lanczos(product, params, batches, probes=2, depth=80)
        top, bottom = curvature.largest(found, 10), curvature.smallest(found, 1)
        np.testing.assert_allclose(top.values, exact[::-1][:10], rtol=1e-5)
        assert bottom.values[0] == pytest.approx(exact[0], abs=2e-4 * exact[-1])
        # Short processes have large errors, and the bound holds for them.
        short = curvature.lanczos(product, params, batches, probes=2, depth=12)
        for values, errors in (curvature.largest(short, 5), curvature.smallest(short, 5)):
            distance = np.abs(values[:, None] - exact).min(1)
            assert (distance <= errors + 1e-9).all()
            assert errors.max() > 1e-4


def test_gauss_newton_has_no_negative_eigenvalue_where_the_hessian_has(net):
    params, batches, *_ = net
    least = [
        curvature.smallest(curvature.lanczos(product, params, batches, probes=2, depth=80), 1).values[0]
        for product in (HESSIAN, GAUSS_NEWTON)
    ]
    assert least[0] < -0.05
    assert least[1] > -1e-9


def test_both_matrices_are_one_where_the_model_is_linear(net):
    _, batches, *_ = net

    def linear(params, examples):
        return examples["inputs"] @ params["kernel"]

    params = {"kernel": jnp.asarray(np.random.default_rng(2).standard_normal((INPUTS, CLASSES)))}
    vector = jax.tree.map(lambda x: jnp.cos(x), params)
    found = [
        make(linear, loss)(vector, params, batches)["kernel"]
        for make in (curvature.hessian, curvature.gauss_newton)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-14)
    assert float(jnp.abs(found[0]).max()) > 1e-3


def test_the_interval_of_the_trace_has_its_rate(net):
    params, batches, matrix, _ = net
    exact, seeds = np.trace(matrix), 300
    found = curvature.lanczos(HESSIAN, params, batches, probes=8 * seeds, depth=1)
    of_seeds = [
        curvature.trace(curvature.Quadrature(*(part[8 * s : 8 * s + 8] for part in found[:3]), found.size))
        for s in range(seeds)
    ]
    covered = np.mean([low <= exact <= high for low, high in (one.interval() for one in of_seeds)])
    assert 0.90 <= covered <= 0.99
    spread = np.std([one.value for one in of_seeds])
    assert np.sqrt(np.mean([one.error**2 for one in of_seeds])) == pytest.approx(spread, rel=0.15)
    # Random signs: the variance of a probe is twice the squared entries beside the diagonal.
    beside = np.square(matrix).sum() - np.square(np.diag(matrix)).sum()
    assert spread == pytest.approx(np.sqrt(2 * beside / 8), rel=0.15)


@pytest.fixture(scope="module")
def many_probes(net):
    with jax.enable_x64(True):
        return curvature.lanczos(HESSIAN, *net[:2], probes=PROBES, depth=60)


@pytest.mark.parametrize("probes", [1, 8])
def test_the_band_of_the_density_has_its_rate(net, many_probes, probes):
    exact, found = np.linalg.eigvalsh(net[2]), many_probes
    width = 0.02 * (exact[-1] - exact[0])
    grid = np.linspace(exact[0], exact[-1], 40)
    kernel = np.exp(-0.5 * np.square((grid[:, None] - exact) / width))
    broadened = kernel.mean(1) / (width * np.sqrt(2 * np.pi))
    inside = []
    for s in range(0, PROBES, probes):
        one = curvature.Quadrature(*(part[s : s + probes] for part in found[:3]), found.size)
        band = curvature.density(one, grid, width)
        assert (band.low <= band.density).all()
        assert (band.density <= band.high).all()
        inside.append((band.low <= broadened) & (broadened <= band.high))
    assert 0.90 <= np.mean(inside) <= 0.99
    if probes == 1:  # at no place of the spectrum is it far off: in the bulk, at a lone eigenvalue, in a gap
        assert np.mean(inside, 0).min() > 0.85
    whole = curvature.density(found)
    assert np.trapezoid(whole.density, whole.grid) == pytest.approx(1, abs=1e-4)


def test_a_process_that_ends_early_is_exact():
    """Of a matrix of rank 3 and of none: what follows the invariant space is left out."""

    def outputs(params, examples):
        return examples @ params

    def squared(z, examples):
        return 0.5 * jnp.square(z)

    product = curvature.hessian(outputs, squared)
    rows = np.diag([3.0, 2.0, 1.0] + [0.0] * 7)[:3]
    batches = curvature.batched(rows, 3, np.float64)
    found = curvature.lanczos(product, jnp.zeros(10), batches, probes=3, depth=8)
    np.testing.assert_allclose(curvature.largest(found, 3).values, [3, 4 / 3, 1 / 3], rtol=1e-10)
    assert np.isfinite(found.values).sum(1).tolist() == [4, 4, 4]
    assert np.isnan(curvature.largest(found, 8).values[4:]).all()
    np.testing.assert_allclose(found.weights.sum(1), 1)
    np.testing.assert_allclose(curvature.trace(found).of_probes, 14 / 3)  # diagonal: signs do not matter
    empty = curvature.lanczos(
        product, jnp.zeros(10), curvature.batched(0 * rows, 3, np.float64), probes=2, depth=8
    )
    assert curvature.trace(empty).value == 0
    broken = curvature.lanczos(
        product, jnp.zeros(10), curvature.batched(np.nan * rows, 3, np.float64), probes=2, depth=8
    )
    assert np.isnan(curvature.trace(broken).value)
    assert np.isnan(curvature.largest(broken, 1).values[0])


def test_single_precision(net):
    params, batches, matrix, _ = net
    params, batches = jax.tree.map(
        lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, (params, batches)
    )
    found = curvature.lanczos(HESSIAN, params, batches, probes=2, depth=40)
    exact = np.linalg.eigvalsh(matrix)
    np.testing.assert_allclose(curvature.largest(found, 5).values, exact[::-1][:5], rtol=1e-5)
    halves = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    with pytest.raises(ValueError, match="bfloat16"):
        curvature.lanczos(HESSIAN, halves, batches, probes=1, depth=2)


@pytest.mark.parametrize(("examples", "features"), [(301, 100), (81, 100)])
def test_activations_are_rows_of_a_matrix(examples, features):
    """Noise lies on the law, a planted direction is a spike, and the table is that of the matrix itself."""
    rng = np.random.default_rng(3)
    x = 5 + rng.standard_normal((examples, features))
    x[:, 0] += 4 * rng.standard_normal(examples)

    def layers(params, batch):
        return {"noise": batch[:, 1:] * params, "planted": batch * params}

    # The metrics of spectra are not strict.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        found = activations.analyze(layers, jnp.float64(2), curvature.batched(x, 50, np.float64))
    centred = 2 * (x - x.mean(0))
    both = {"noise": centred[:, 1:], "planted": centred}
    assert set(found.table["kind"]) == {"activation"}
    for _, row in found.table.iterrows():
        exact = np.linalg.svd(both[row["name"]], compute_uv=False)[: row["M"]] ** 2
        np.testing.assert_allclose(found.eigenvalues[row["name"]], exact[::-1], rtol=1e-8)
        assert {row["N"], row["M"]} == {examples - 1, both[row["name"]].shape[1]}
        assert row["num_spikes"] == (row["name"] == "planted")
        assert row["noise_std"] == pytest.approx(2, rel=0.05)
        _, high = laws.marchenko_pastur_edges(row["M"] / row["N"], 4 * row["N"])
        assert row["bulk_max"] == pytest.approx(high, rel=0.1)
        assert row["ks_mp"] < 0.1
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        own = spectra.analyze({"planted": both["planted"]}).table.iloc[0]
    shared = [name for name in ("norm", "stable_rank", "entropy") if name in own]
    planted = found.table.set_index("name").loc["planted"]
    np.testing.assert_allclose(planted[shared].astype(float), own[shared].astype(float), rtol=1e-4)
