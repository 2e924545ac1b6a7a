"""The observer of curvature in a run: against the exact Hessian, in the tables and on the page."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from rmtjax import checkpoints, data, report, results, train
from rmtjax import config as config_lib
from rmtjax.statistics import Arm
from rmtjax.train import curvature, members, sharding
from rmtjax.train.step import State

EXAMPLES = 30


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained MLP of 870 parameters, observed at steps 4 and 8, with dropout and smoothing."""
    config = config_lib.smoke(config_lib.base())
    config.data.image_size = 8
    config.model.update(name="mlp", init_from=None)
    config.model.mlp.update(width=10, depth=2)
    config.train.total_steps = 9
    config.regularization.update(dropout=0.2, label_smoothing=0.1, dropout_sites=("mlp",))
    config.spectra.update(curvature_every_steps=4, curvature_examples=EXAMPLES)
    folder = tmp_path_factory.mktemp("study") / "mlp" / "0"
    result = train.run(config, folder)
    result.record.update(status="finished")
    return config, folder, result


def exact_hessian(model, variables, inputs, label):
    flat, unravel = ravel_pytree(variables["params"])

    def loss(flat):
        logits = model.apply(variables | {"params": unravel(flat)}, jnp.asarray(inputs), train=False)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    return np.asarray(jax.jit(jax.hessian(loss))(flat), np.float64)


def test_trace_and_eigenvalues_are_those_of_the_weights(run, tmp_path):
    _, _, result = run
    source, state = result.splits.train, result.state
    observe = curvature.every(
        2, tmp_path, result.model, source, examples=EXAMPLES, batch_size=8, mesh=result.mesh, seed=0
    )
    assert observe(3, state) is None
    scalars = observe(4, state)
    inputs = np.concatenate([batch["inputs"] for batch in data.evaluation_batches(source, batch_size=8)])[
        :EXAMPLES
    ]
    exact = exact_hessian(result.model, {"params": state.params}, inputs, source.labels[:EXAMPLES])
    eigenvalues = np.linalg.eigvalsh(exact)
    assert scalars["curvature/hessian_largest"] == pytest.approx(eigenvalues[-1], rel=1e-3)
    assert scalars["curvature/hessian_smallest"] == pytest.approx(eigenvalues[0], rel=0.05)
    beside = np.square(exact).sum() - np.square(np.diag(exact)).sum()
    error = np.sqrt(2 * beside / curvature.PROBES)  # of Hutchinson's estimate
    assert abs(scalars["curvature/hessian_trace"] - eigenvalues.sum()) < 4 * error
    assert 0.3 * error < scalars["curvature/hessian_trace_error"] < 2 * error
    assert scalars["curvature/gauss_newton_smallest"] > -1e-4 * eigenvalues[-1]
    arrays = results.read_arrays(tmp_path / results.CURVATURE / "00000004.npz")
    np.testing.assert_allclose(arrays["hessian/largest"][:3], eigenvalues[::-1][:3], rtol=1e-3)
    assert np.trapezoid(arrays["hessian/density"], arrays["hessian/grid"]) == pytest.approx(1, abs=1e-3)
    assert observe(4, state) == scalars | {
        "curvature/overhead": pytest.approx(0.5, abs=0.5)
    }  # the same probes


def test_lines_tables_and_the_page_have_it(run):
    _, folder, _ = run
    lines = results.read_metrics(folder / results.METRICS)
    assert lines.loc[lines["curvature/hessian_trace"].notna(), "step"].tolist() == [4, 8]
    assert list(results.read_curvature(folder)) == [4, 8]
    last = lines.set_index("step").loc[8]
    arms = {"mlp": Arm("mlp", 0.0, "mlp")}
    table = results.collect(folder.parents[1], arms)
    study = results.study_table(table, arms).set_index(["group", "metric"])["value"]
    view = results.results_table(table).set_index(["set", "metric"])["value"]
    for name in ("hessian_trace", "hessian_largest", "gauss_newton_trace", "gauss_newton_largest"):
        assert study["run", name] == view["run", name]
        assert np.float32(study["run", name]) == np.float32(last[f"curvature/{name}"])
    page = report.run_page(folder).read_text()
    assert "Curvature of the loss" in page
    assert "Largest eigenvalues at step 8" in page
    assert f"{results.read_curvature(folder)[8]['hessian/largest'][2]:.3g}" in page
    assert (folder / results.FIGURES / "curvature.png").exists()


def test_a_run_that_is_observed_trains_alone_and_as_without(run, tmp_path):
    config, folder, _ = run
    assert members.key(config) is None
    plain = config.copy_and_resolve_references()
    plain.spectra.curvature_every_steps = None
    assert members.key(plain) is not None
    train.run(plain, tmp_path)
    trees = [checkpoints.nest(checkpoints.open(path)) for path in (folder, tmp_path)]
    jax.tree.map(np.testing.assert_array_equal, *trees)


class Scaled(nn.Module):
    """A linear model whose logits are divided by its state."""

    @nn.compact
    def __call__(self, x, *, train):
        assert not train
        flat = x.reshape(len(x), -1)
        scale = self.variable("batch_stats", "scale", jnp.ones, 3)
        return flat @ self.param("kernel", nn.initializers.normal(), (4, 3)) / scale.value, flat


def test_statistics_of_batch_norm_are_constants_of_each_step(tmp_path):
    rng = np.random.default_rng(0)
    label = (np.arange(20) % 3).astype(np.int32)
    source = data.from_arrays("made", rng.random((20, 2, 2, 1), np.float32), label, ("a", "b", "c"))
    model = Scaled()
    observe = curvature.every(
        1, tmp_path, model, source, examples=100, batch_size=8, mesh=sharding.make_mesh(), seed=0
    )
    params = {"kernel": jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)}
    for scale in (1.0, 3.0):
        state = {"batch_stats": {"scale": jnp.asarray([1.0, scale, 2.0])}}
        inputs = np.concatenate([batch["inputs"] for batch in data.evaluation_batches(source, batch_size=20)])
        exact = np.linalg.eigvalsh(exact_hessian(model, {"params": params} | state, inputs, label))
        scalars = observe(1, State(np.int32(1), params, state, ()))
        for matrix in ("hessian", "gauss_newton"):  # linear in the parameters: they are one
            assert scalars[f"curvature/{matrix}_largest"] == pytest.approx(exact[-1], rel=1e-4)


def test_weights_that_are_not_finite_are_told_as_such(tmp_path, run):
    _, _, result = run
    broken = jax.tree.map(lambda x: x * np.nan, result.state.params)
    observe = curvature.every(
        1, tmp_path, result.model, result.splits.train, examples=8, batch_size=8, mesh=result.mesh, seed=0
    )
    scalars = observe(1, result.state._replace(params=broken))
    assert np.isnan(pd.Series(scalars).drop("curvature/overhead")).all()
