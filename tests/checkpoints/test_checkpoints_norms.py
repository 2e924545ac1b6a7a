"""Flax's wrappers that normalise weights: what `checkpoints.open` gives is what the layer multiplies by."""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, serialization

from rmtjax import checkpoints
from rmtjax.train import weights

KEY = jax.random.key(3)


def variables_of(model, *args, **options):
    """Variables that no initialiser makes: every scale, vector and bias is random."""
    return random_like(model.init(KEY, *args, **options))


def random_like(tree):
    leaves, shape = jax.tree.flatten(tree)
    keys = jax.random.split(KEY, len(leaves))
    made = [jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(shape, made)


def kernel_of(layer, variables):
    """What a layer multiplies by: its values at the rows of the identity, less the bias."""
    size = len(variables["params"]["layer"]["kernel"])
    return np.asarray(layer.apply(variables, jnp.eye(size)) - layer.apply(variables, jnp.zeros((1, size))))


class Weight(nn.Module):
    features: int = 4
    feature_axes: int | None = -1

    @nn.compact
    def __call__(self, x):
        return nn.WeightNorm(nn.Dense(self.features, name="layer"), feature_axes=self.feature_axes)(x)


class Spectral(nn.Module):
    features: int = 4
    collection: str = "batch_stats"

    @nn.compact
    def __call__(self, x, update_stats=False):
        layer = nn.Dense(self.features, name="layer")
        return nn.SpectralNorm(layer, collection_name=self.collection)(x, update_stats=update_stats)


def flat(tree):
    return {"/".join(path): np.asarray(x) for path, x in flax.traverse_util.flatten_dict(tree).items()}


def saved(path, variables, kind):
    """A file of variables."""
    if kind == "msgpack":
        path.write_bytes(serialization.to_bytes(variables))
    elif kind == "npz":
        np.savez(path.with_suffix(".npz"), **flat(variables))
        return path.with_suffix(".npz")
    else:
        import orbax.checkpoint as ocp

        with ocp.StandardCheckpointer() as saver:
            saver.save(path, variables)
    return path


KINDS = pytest.mark.parametrize("kind", ["msgpack", "orbax", "npz"])


@KINDS
@pytest.mark.parametrize(("features", "axes"), [(4, -1), (6, -1), (4, 0), (4, None), (4, (0, 1))])
def test_weight_norm_of_flax(tmp_path, kind, features, axes):
    layer = Weight(features, axes)
    variables = variables_of(layer, jnp.ones((1, 6)))
    opened = checkpoints.open(saved(tmp_path / "a", variables, kind))
    assert set(opened) == {"layer/kernel", "layer/bias"}
    np.testing.assert_allclose(opened["layer/kernel"], kernel_of(layer, variables), rtol=1e-5)
    np.testing.assert_array_equal(opened["layer/bias"], variables["params"]["layer"]["bias"])


@KINDS
@pytest.mark.parametrize("collection", ["batch_stats", "spectral"])
def test_spectral_norm_of_flax(tmp_path, kind, collection):
    layer = Spectral(collection=collection)
    variables = variables_of(layer, jnp.ones((1, 6)))
    opened = checkpoints.open(saved(tmp_path / "a", variables, kind))
    assert set(opened) == {"layer/kernel", "layer/bias"}
    np.testing.assert_allclose(opened["layer/kernel"], kernel_of(layer, variables), rtol=1e-5)
    for _ in range(100):  # the vector converges: the norm is 1
        _, updated = layer.apply(variables, jnp.ones((1, 6)), update_stats=True, mutable=[collection])
        variables = variables | updated
    opened = checkpoints.open(saved(tmp_path / "b", variables, kind))
    assert np.linalg.norm(opened["layer/kernel"], 2) == pytest.approx(1, rel=1e-4)
    kernel = variables["params"]["layer"]["kernel"]
    np.testing.assert_array_equal(
        checkpoints.open(saved(tmp_path / "c", variables["params"], kind))["layer/kernel"], kernel
    )


class Wrapped(nn.Module):
    """A plain layer, one with a weight norm and one with a spectral norm, inside another module or not."""

    inside: bool = False
    collection: str = "batch_stats"

    @nn.compact
    def __call__(self, x, train=False):
        if self.inside:
            return Wrapped(collection=self.collection, name="block")(x, train)
        x = nn.LayerNorm()(nn.Dense(4)(x))
        x = nn.WeightNorm(nn.Dense(4))(x)
        return nn.SpectralNorm(nn.Dense(5), collection_name=self.collection)(x, update_stats=train)


class Adopted(nn.Module):
    """The same wrappers in `setup`, where the layer becomes a part of its wrapper."""

    def setup(self):
        self.first = nn.WeightNorm(nn.Dense(4))
        self.second = nn.SpectralNorm(nn.Conv(5, (3,)))

    def __call__(self, x):
        return self.second(self.first(x), update_stats=False)


def test_wrappers_inside_of_modules_and_in_setup(tmp_path):
    model = Wrapped(inside=True)
    variables = variables_of(model, jnp.ones((1, 4)))
    opened = checkpoints.open(saved(tmp_path / "a", variables, "msgpack"))
    layers = [f"block/Dense_{i}/{part}" for i in range(3) for part in ("kernel", "bias")]
    assert set(opened) == {*layers, "block/LayerNorm_0/scale", "block/LayerNorm_0/bias"}
    params = variables["params"]["block"]
    of_weight = {"layer": params["Dense_1"], "WeightNorm_0": {
        "layer/kernel/scale": params["WeightNorm_0"]["Dense_1/kernel/scale"]
    }}  # fmt: skip
    expected = kernel_of(Weight(), {"params": of_weight})
    np.testing.assert_allclose(opened["block/Dense_1/kernel"], expected, rtol=1e-5)
    np.testing.assert_array_equal(opened["block/Dense_0/kernel"], params["Dense_0"]["kernel"])

    model, x = Adopted(), jnp.ones((1, 7, 3))
    variables = variables_of(model, x)
    opened = checkpoints.open(saved(tmp_path / "b", variables, "msgpack"))
    assert set(opened) == {
        f"{n}/layer_instance/{part}" for n in ("first", "second") for part in ("kernel", "bias")
    }
    dense, conv = nn.Dense(4), nn.Conv(5, (3,))
    first, second = (
        {part: opened[f"{name}/layer_instance/{part}"] for part in ("kernel", "bias")}
        for name in ("first", "second")
    )
    got = conv.apply({"params": second}, dense.apply({"params": first}, x))
    np.testing.assert_allclose(got, model.apply(variables, x), rtol=1e-4)


def test_a_wrapper_of_several_layers_with_a_name_of_its_own_in_a_file_of_dotted_names(tmp_path):
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(5)(x)
            return nn.Dense(4)(x)

    class Named(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.WeightNorm(Two(name="inside"), variable_filter=None, name="norm")(x)

    variables = variables_of(Named(), jnp.ones((1, 6)))
    paths = flax.traverse_util.flatten_dict(variables["params"])
    np.savez(tmp_path / "a.npz", **{".".join(path): x for path, x in paths.items()})
    opened = checkpoints.open(tmp_path / "a.npz")
    x = jnp.ones((2, 6))
    for name in ("Dense_0", "Dense_1"):
        x = x @ opened[f"inside.{name}.kernel"] + opened[f"inside.{name}.bias"]
    np.testing.assert_allclose(x, Named().apply(variables, jnp.ones((2, 6))), rtol=1e-5)
    assert len(opened) == 4


@pytest.mark.parametrize("axis", [0, 1])
def test_stacks_of_normalised_layers(tmp_path, axis):
    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x):
            def one(module, x, _):
                x = nn.WeightNorm(nn.Dense(4, name="first"))(x)
                return nn.SpectralNorm(nn.Dense(4, name="second"))(x, update_stats=False), None

            stacked = nn.scan(
                one, variable_axes={"params": axis, "batch_stats": 0}, split_rngs={"params": True}, length=3
            )
            return stacked(self, x, None)[0]

    model, x = Layers(), jnp.ones((1, 4))
    variables = variables_of(model, x)
    opened = checkpoints.open(saved(tmp_path / "a", variables, "msgpack"))
    if axis:
        assert "second/kernel" not in opened
        assert "parametrised in a way that is not read" in opened.refused["second/kernel"]
        return
    for i in range(3):
        for name in ("first", "second"):
            x = nn.Dense(4).apply(
                {"params": {part: opened[f"{name}/{part}"][i] for part in ("kernel", "bias")}}, x
            )
    np.testing.assert_allclose(x, model.apply(variables, jnp.ones((1, 4))), rtol=1e-4)


class OfNnx(nnx.Module):
    def __init__(self, rngs):
        self.weight = nnx.WeightNorm(nnx.Linear(6, 4, rngs=rngs), rngs=rngs)
        self.spectral = nnx.SpectralNorm(nnx.Linear(6, 4, rngs=rngs), rngs=rngs)


@pytest.mark.parametrize("kind", ["msgpack", "orbax"])
def test_the_norms_of_nnx(tmp_path, kind):
    model = OfNnx(nnx.Rngs(0))
    nnx.update(model, random_like(nnx.state(model)))
    state = nnx.state(model)
    opened = checkpoints.open(
        saved(tmp_path / "a", nnx.to_pure_dict(state) if kind == "msgpack" else state, kind)
    )
    layers = {f"{n}/layer_instance/{part}" for n in ("weight", "spectral") for part in ("kernel", "bias")}
    assert set(opened) == layers
    for name, layer, options in (
        ("weight", model.weight, {}),
        ("spectral", model.spectral, {"update_stats": False}),
    ):
        bias = opened[f"{name}/layer_instance/bias"]
        expected = np.asarray(layer(jnp.eye(6), **options)) - bias
        np.testing.assert_allclose(opened[f"{name}/layer_instance/kernel"], expected, rtol=1e-4, atol=1e-6)


def test_arrays_that_do_not_fit_are_refused_with_their_weights(tmp_path):
    params = {
        "Dense_0": {"kernel": np.ones((6, 4), np.float32)},
        "Dense_1": {"kernel": np.ones((4, 4), np.float32)},
    }
    wrapper = {"WeightNorm_0": {"Dense_0/kernel/scale": np.ones(3, np.float32)}}
    opened = checkpoints.open(saved(tmp_path / "a", {"params": params | wrapper}, "msgpack"))
    assert list(opened) == ["Dense_1/kernel"]
    assert set(opened.refused) == {"Dense_0/kernel", "WeightNorm_0/Dense_0/kernel/scale"}


def test_a_model_with_the_wrappers_takes_their_parts(tmp_path):
    model = Wrapped()
    variables = variables_of(model, jnp.ones((1, 4)))
    path = saved(tmp_path / "a.msgpack", variables, "msgpack")
    fresh = jax.tree.map(jnp.zeros_like, variables)
    params, state = weights.load(str(path), fresh["params"], {"batch_stats": fresh["batch_stats"]})
    jax.tree.map(np.testing.assert_array_equal, {"params": params} | state, variables)
