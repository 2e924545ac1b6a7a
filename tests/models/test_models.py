import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rmtjax import config as config_lib
from rmtjax import models, spectra
from rmtjax.errors import InputError
from rmtjax.models import pretrained
from rmtjax.models.layers import Dropout, standardise


def config_for(name: str, dropout: float = 0.0, sites=config_lib.DROPOUT_SITES):
    config = config_lib.base()
    config.model.init_from = None
    config.model.name = name
    config.regularization.dropout = dropout
    config.regularization.dropout_sites = sites
    if name == "clip_vit":
        config.model.name = "vit"
        config.model.vit.update(class_token=True, pool="class_token", pre_norm=True, projection=12)
    elif name == "relatives":  # all that DINOv2, DeiT and SigLIP add
        config.model.name = "vit"
        config.model.vit.update(class_token=True, distillation_token=True, registers=2, layer_scale=0.1)
        config.model.vit.update(activation="swiglu", pool="probe")
    elif name in ("imagenet", "clip"):
        config.model.name = "resnet"
        config.model.resnet.kind = name
    return config_lib.smoke(config)


def variables_and_inputs(config, num_classes=10):
    model = models.build(config, num_classes)
    side = 32 if config.model.name == "resnet" and config.model.resnet.kind == "clip" else 16
    x = jax.random.uniform(jax.random.key(1), (3, side, side, 1))
    init = jax.jit(
        lambda key, x: model.init(key, x, train=False)
    )  # arguments: constants would be folded, slowly
    return model, init(jax.random.key(0), x), x


@functools.cache
def made(name):
    return variables_and_inputs(config_for(name, dropout=0.5))


@functools.cache
def dropping(name):
    """`rates -> {path of a dropout layer: zeros that it adds}`, one program for each model."""
    model, variables, x = made(name)
    mutable = [collection for collection in variables if collection != "params"]

    @jax.jit
    def run(variables, x, rates):
        more = {}

        def watch(next_fun, args, kwargs, context):
            out = next_fun(*args, **kwargs)
            if isinstance(context.module, Dropout) and context.method_name == "__call__":
                more["/".join(context.module.path)] = jnp.mean(out == 0) - jnp.mean(args[0] == 0)
            return out

        rngs = {"dropout": jax.random.key(2, impl="unsafe_rbg")}  # quicker to compile
        with nn.intercept_methods(watch):
            model.clone(rates=rates).apply(variables, x, train=True, rngs=rngs, mutable=mutable)
        return more

    return lambda rates: run(variables, x, rates)


@pytest.mark.parametrize("name", ["vit", "clip_vit", "resnet", "imagenet", "clip", "mlp"])
def test_shapes_and_determinism(name):
    model, variables, x = made(name)
    run = jax.jit(lambda variables, x: model.apply(variables, x, train=False))
    logits, features = run(variables, x)
    assert logits.shape == (3, 10)
    assert features.ndim == 2
    again, _ = run(variables, x)
    np.testing.assert_array_equal(logits, again)


def test_letters_vit_has_its_size_and_names():
    model = models.build(config_lib.base(), 52)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)), train=False))
    params = variables["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == pytest.approx(0.8e6, rel=0.03)
    attention = params["encoder"]["block_3"]["attention"]
    assert attention["query"]["kernel"].shape == (128, 4, 32)
    assert attention["out"]["kernel"].shape == (4, 32, 128)


@pytest.mark.parametrize(
    ("name", "site", "touched"),
    [
        ("vit", "attention", {"encoder/block_0/attention", "encoder/block_1/attention"}),
        ("vit", "mlp", {"encoder/block_0/mlp", "encoder/block_1/mlp"}),
        ("vit", "residual", {"encoder/block_0", "encoder/block_1"}),
        ("vit", "head", {""}),
        ("clip_vit", "attention", {"encoder/block_0/attention", "encoder/block_1/attention"}),
        ("clip_vit", "head", {""}),
        ("imagenet", "mlp", {f"stage_{s}_block_0" for s in range(4)}),
        ("imagenet", "residual", {f"stage_{s}_block_0" for s in range(4)}),
        ("imagenet", "head", {""}),
        ("clip", "attention", {"pool/attention"}),
        ("clip", "mlp", {f"stage_{s}_block_0" for s in range(4)}),
        ("clip", "residual", {f"stage_{s}_block_0" for s in range(4)}),
        ("clip", "head", {""}),
        ("resnet", "mlp", {f"stage_{s}_block_0" for s in range(3)}),
        ("resnet", "residual", {f"stage_{s}_block_0" for s in range(3)}),
        ("resnet", "head", {""}),
        ("mlp", "mlp", {""}),
        ("mlp", "head", {""}),
    ],
)
def test_dropout_reaches_every_block(name, site, touched):
    """The layers in which a site drops, found by what they put out, not by how they are configured."""
    rates = models.build(config_for(name, dropout=0.5, sites=(site,)), 10).rates
    more = dropping(name)(rates)
    dropped = {path.rpartition("/")[0] for path, zeros in more.items() if zeros > 0.1}
    assert dropped == touched


def test_dropout_zeroes_the_stated_share_and_keeps_the_mean():
    x = jnp.ones((200, 200))
    out = Dropout(0.3).apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    assert float(jnp.mean(out == 0)) == pytest.approx(0.3, abs=0.01)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.02)
    np.testing.assert_array_equal(Dropout(0.3).apply({}, x, False), x)


def test_dropout_takes_a_traced_rate():
    x = jnp.ones((50, 50))
    run = jax.jit(lambda rate: Dropout(rate).apply({}, x, True, rngs={"dropout": jax.random.key(0)}))
    np.testing.assert_array_equal(
        run(0.3), Dropout(0.3).apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    )
    np.testing.assert_array_equal(run(0.0), x)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
    config = config_for("vit")
    config.train.dtype = "bfloat16"
    model, variables, x = variables_and_inputs(config)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, exact = (
        jax.jit(lambda variables, m=m: m.apply(variables, x, train=False)[0])(variables)
        for m in (model, models.build(config_for("vit"), 10))
    )
    assert logits.dtype == jnp.float32
    assert 0 < float(jnp.abs(logits - exact).max()) < 0.1


def test_resnet_depth_must_be_6n_plus_2():
    config = config_for("resnet")
    config.model.resnet.depth = 21
    with pytest.raises(InputError, match=r"model.resnet.depth=21 is not 6 n"):
        models.build(config, 10)


def test_an_nnx_model_fits_the_seam():
    class Small(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(256, 8, rngs=rngs)
            self.head = nnx.Linear(8, 10, rngs=rngs)

        def __call__(self, x, *, train):
            features = nnx.relu(self.hidden(x.reshape(x.shape[0], -1)))
            return self.head(features), features

    model = nnx.bridge.to_linen(Small)
    x = jnp.ones((2, 16, 16, 1))
    variables = model.init(jax.random.key(0), x, train=False)
    logits, features = model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)})
    assert logits.shape == (2, 10)
    assert features.shape == (2, 8)
    assert variables["params"]["head"]["kernel"].shape == (8, 10)


def test_grey_images_become_as_many_channels_as_the_model_has_statistics():
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    grey = jnp.full((2, 4, 4, 1), 0.5)
    out = standardise(grey, mean, std, jnp.float32)
    assert out.shape == (2, 4, 4, 3)
    np.testing.assert_allclose(out[0, 0, 0], [1.0, 0.0, -1 / 3], rtol=1e-5)


def test_every_kernel_of_every_model_is_a_weight_matrix():
    for name in ("vit", "clip_vit", "relatives", "resnet", "imagenet", "clip", "mlp"):
        model = models.build(config_for(name), 10)
        x = jnp.zeros((1, 32, 32, 3))
        params = jax.eval_shape(lambda m=model, x=x: m.init(jax.random.key(0), x, train=False))["params"]
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
        matrices, left_out = spectra.weight_matrices(zeros)
        kernels = {path for path in pretrained.flat(params) if path.endswith("kernel")}
        assert {matrix.name for matrix in matrices} >= kernels
        assert not [path for path in left_out if path.endswith("kernel")]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "vit"}, {"name": "bert"}, {"name": "mlp"}, {"name": "mlp", "mlp.depth": 1},
        {"name": "resnet"}, {"name": "resnet", "resnet.kind": "clip"},
    ],
)  # fmt: skip
def test_dropout_acts_at_the_sites_that_the_config_says_a_model_has(fields):
    config = config_lib.base()
    config.model.init_from = None
    config.model.update_from_flattened_dict(fields)
    config_lib.smoke(config)
    config.model.batch_norm.frozen = True
    config.regularization.dropout = 0.5
    bert = config.model.name == "bert"
    inputs = (
        jnp.ones((2, 6), jnp.int32) if bert else jnp.linspace(0, 1, 2 * 32 * 32 * 3).reshape(2, 32, 32, 3)
    )
    vocabulary = 9 if bert else 0
    model = models.build(config, 3, vocabulary)
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(inputs)
    plain, _ = model.apply(variables, inputs, train=False)
    acting = []
    for site in config_lib.DROPOUT_SITES:
        config.regularization.dropout_sites = (site,)
        model = models.build(config, 3, vocabulary)
        dropped, _ = model.apply(variables, inputs, train=True, rngs={"dropout": jax.random.key(1)})
        if np.any(dropped != plain):
            acting.append(site)
    assert tuple(acting) == config_lib.dropout_sites(config)


def test_sites_that_a_model_lacks_are_logged(monkeypatch):
    messages = []
    monkeypatch.setattr(models.LOG, "info", lambda text, *values: messages.append(text % values))
    config = config_lib.smoke(config_lib.base())
    config.model.name = "mlp"
    models.build(config, 3)
    assert not messages  # there is no dropout
    config.regularization.dropout = 0.1
    models.build(config, 3)
    assert messages == ["dropout: mlp has no site attention, residual"]


def test_hidden_layers_of_an_mlp_have_their_own_widths():
    config = config_lib.base()
    config.model.name = "mlp"
    config.model.mlp.widths = (12, 7)
    model = models.build(config, 10)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)["params"]
    shapes = {name: layer["kernel"].shape for name, layer in params.items()}
    assert shapes == {"hidden_0": (64, 12), "hidden_1": (12, 7), "head": (7, 10)}
