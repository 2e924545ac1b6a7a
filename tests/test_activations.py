"""Activations of a run's layers: rows of its table that are of no weights."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from rmtjax import config as config_lib
from rmtjax import data, measure, results, train
from rmtjax.measure import activations
from rmtjax.statistics import Arm

EXAMPLES = 35


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = config_lib.smoke(config_lib.base())
    config.data.image_size = 8
    config.model.update(name="mlp", init_from=None)
    config.model.mlp.update(width=24, depth=2)
    config.spectra.metrics = "scale"
    folder = tmp_path_factory.mktemp("run")
    return config, folder, train.run(config, folder)


def test_rows_are_those_of_the_activations_and_leave_the_weights_alone(run):
    config, folder, result = run
    measure.spectra_of_runs(config, [folder], lambda k: result)
    plain, of_weights = results.read_spectral_table(folder), results.of_run(folder)
    config.spectra.activation_examples = EXAMPLES
    measure.spectra_of_runs(config, [folder], lambda k: result)
    table, eigenvalues, compared = results.read_spectra(folder)
    assert compared
    rows = table[table["kind"] == "activation"]
    layers = ["head", "hidden_0", "hidden_1"]
    assert rows["name"].tolist() == [f"{name}/activation" for name in layers]
    assert set(rows["stage"]) == {"after"}
    assert set(zip(rows["N"], rows["M"], strict=True)) == {(EXAMPLES - 1, 24), (EXAMPLES - 1, 10)}

    inputs = np.concatenate([b["inputs"] for b in data.evaluation_batches(result.splits.train, batch_size=8)])
    x = (inputs[:EXAMPLES].reshape(EXAMPLES, -1) - 0.5) / 0.5
    for name in ("hidden_0", "hidden_1", "head"):
        layer = result.state.params[name]
        output = x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        exact = np.linalg.svd(output - output.mean(0), compute_uv=False)[::-1] ** 2
        found = eigenvalues[f"after/{name}/activation"]
        np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-6 * exact[-1])
        x = np.maximum(output, 0)

    weights = table[table["kind"] != "activation"].reset_index(drop=True)
    pd.testing.assert_frame_equal(weights[plain.columns], plain, check_like=True)
    numbers = results.of_run(folder)
    assert (numbers["group"] == "activation").any()
    study = results.study_table(numbers.assign(run="run", arm="mlp", seed=0), {"mlp": Arm("mlp", 0.0, "mlp")})
    assert set(study["group"]) == {"backbone", "head", "run"}
    rest = numbers[numbers["group"] != "activation"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, of_weights.reset_index(drop=True))


def test_an_example_gives_one_position():
    rng = np.random.default_rng(0)
    output = jnp.asarray(rng.standard_normal((6, 4, 3)), jnp.float32)
    place = jnp.asarray([0.0, 0.24, 0.25, 0.5, 0.99, 0.75], jnp.float32)
    chosen = [0, 0, 1, 2, 3, 3]
    got = activations._row("mlp/up", output, place, None)
    np.testing.assert_array_equal(got, np.asarray(output)[np.arange(6), chosen])
    heads = activations._row("attention/query", output[:, :, None].repeat(2, 2), place, None)
    np.testing.assert_array_equal(heads, np.concatenate([got, got], 1))
    grid = activations._row("stem", output.reshape(6, 2, 2, 3), place, None)
    np.testing.assert_array_equal(grid, got)
    np.testing.assert_array_equal(activations._row("head", output[:, 0], place, None), output[:, 0])
    texts = jnp.asarray([[7, 8, 0, 0]] * 6)  # two tokens, then padding
    of_texts = activations._row("mlp/up", output, place, texts)
    np.testing.assert_array_equal(of_texts, np.asarray(output)[np.arange(6), [0, 0, 0, 1, 1, 1]])
