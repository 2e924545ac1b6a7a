"""LoRA: the same model at first, W + (alpha / rank) A B afterwards, whatever the kernel's layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from rmtjax import spectra
from rmtjax.errors import InputError
from rmtjax.models import lora
from rmtjax.models.layers import Dropout
from rmtjax.train import rules

LAYOUTS = (  # of the model below: layer, shape of its kernel, rows of the kernel's matrix
    ("up", (5, 6), 5),
    ("attention/query", (6, 2, 3), 6),
    ("attention/out", (2, 3, 6), 6),
    ("head", (6, 4), 6),
)
ALL = r".*kernel"


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.DenseGeneral((2, 3), name="query")(x)
        return nn.DenseGeneral(6, axis=(-2, -1), name="out")(x)


class Small(nn.Module):
    """Every layout of kernel that transformers have, dropout and batch statistics."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(6, name="up")(x))
        features = Attention(name="attention")(Dropout(0.5)(x, train))
        return nn.Dense(4, name="head")(features), features


X = jnp.asarray(np.random.default_rng(0).standard_normal((7, 5)), jnp.float32)
KEY = jax.random.key(3)


def adapted(rank=2, alpha=6.0, targets=ALL):
    model = lora.Lora(Small(), rank, alpha, targets)
    return model, model.init(KEY, X, train=False)


def flat(params):
    return traverse_util.flatten_dict(params, sep="/")


def trained(variables):
    """The variables with B moved away from zero."""
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            leaf + 0.1 * np.arange(leaf.size).reshape(leaf.shape) % 0.7
            if path[-1].key.endswith("_lora_b")
            else leaf
        ),
        variables["params"],
    )
    return variables | {"params": params}


def test_step_0_is_the_base_model_bit_for_bit():
    model, variables = adapted()
    base = Small().init(KEY, X, train=False)
    named = flat(variables["params"])
    for name, leaf in flat(base["params"]).items():
        np.testing.assert_array_equal(named[name], leaf)
    merged = model.merged(variables["params"])
    assert jax.tree.structure(merged) == jax.tree.structure(base["params"])
    jax.tree.map(np.testing.assert_array_equal, merged, base["params"])
    jax.tree.map(
        np.testing.assert_array_equal,
        model.apply(variables, X, train=False),
        Small().apply(base, X, train=False),
    )


def test_the_product_is_added_in_each_kernel_s_own_layout():
    model, variables = adapted()
    named = flat(trained(variables)["params"])
    merged = flat(model.merged(trained(variables)["params"]))
    for layer, shape, rows in LAYOUTS:
        kernel, a, b = (named[f"{layer}/kernel{leaf}"] for leaf in ("", "_lora_a", "_lora_b"))
        assert kernel.shape == shape
        assert a.shape == (rows, 2)
        assert b.shape == (2, np.prod(shape) // rows)
        wanted = kernel.reshape(rows, -1) + 3.0 * (a @ b)  # alpha / rank = 3
        np.testing.assert_allclose(merged[f"{layer}/kernel"].reshape(rows, -1), wanted, rtol=1e-5, atol=1e-6)
        assert not np.allclose(merged[f"{layer}/kernel"], kernel)


def test_apply_passes_on_dropout_and_batch_statistics():
    model, variables = adapted()
    variables = trained(variables)
    base = variables | {"params": model.merged(variables["params"])}
    kwargs = {"train": True, "rngs": {"dropout": jax.random.key(5)}, "mutable": ["batch_stats"]}
    ours, theirs = model.apply(variables, X, **kwargs), Small().apply(base, X, **kwargs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert np.any(ours[1]["batch_stats"]["norm"]["mean"])
    other, _ = model.apply(variables, X, **kwargs | {"rngs": {"dropout": jax.random.key(6)}})
    assert np.any(other[0] != ours[0][0])


def test_gradients_of_the_factors_are_those_of_a_dense_change():
    model, variables = adapted()
    variables = trained(variables)

    def loss(params):
        return jnp.sum(model.apply(variables | {"params": params}, X, train=False)[0] ** 2)

    gradient = jax.jit(jax.grad(loss))(variables["params"])["attention"]["query"]
    layer = variables["params"]["attention"]["query"]
    change = gradient["kernel"].reshape(6, -1)  # dL/dW; then dL/dA = s dL/dW B', dL/dB = s A' dL/dW
    np.testing.assert_allclose(
        gradient["kernel_lora_a"], 3 * change @ layer["kernel_lora_b"].T, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        gradient["kernel_lora_b"], 3 * layer["kernel_lora_a"].T @ change, rtol=1e-4, atol=1e-5
    )


def test_the_stated_regex_leaves_the_factors_and_the_head():
    _, variables = adapted(targets=r".*/query/kernel")
    mask = rules.mask(lora.FREEZE, variables["params"], "optim.freeze")
    free = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, frozen in jax.tree_util.tree_flatten_with_path(mask)[0]
        if not frozen
    ]
    assert free == [
        "attention/query/kernel_lora_a", "attention/query/kernel_lora_b", "head/bias", "head/kernel",
    ]  # fmt: skip


def test_a_layer_s_factor_does_not_depend_on_the_other_targets():
    _, all_of_them = adapted()
    _, one = adapted(targets=r".*/query/kernel")
    one, every = flat(one["params"]), flat(all_of_them["params"])
    a, other = one["attention/query/kernel_lora_a"], every["attention/out/kernel_lora_a"]
    np.testing.assert_array_equal(a, every["attention/query/kernel_lora_a"])
    assert "attention/out/kernel_lora_a" not in one
    assert a.shape == other.shape
    assert np.any(a != other)


def test_the_scale_of_a_does_not_depend_on_the_width():
    params = {"narrow": {"kernel": jnp.zeros((64, 4))}, "wide": {"kernel": jnp.zeros((4096, 4))}}
    factors = lora.Lora(None, 16, 1.0, ALL).adapted(params, KEY)
    for name, rows in (("narrow", 64), ("wide", 4096)):
        a = factors[name]["kernel_lora_a"]
        assert np.var(a) * rows == pytest.approx(1, abs=4 * np.sqrt(2 / a.size))


def test_spectra_lists_the_product_beside_the_kernel():
    model, variables = adapted()
    params = trained(variables)["params"]
    matrices, _ = spectra.weight_matrices(params, lora_scale=model.alpha / model.rank)
    found = {matrix.name: matrix for matrix in matrices}
    assert found.keys() == {
        f"{layer}/kernel{suffix}" for layer, _, _ in LAYOUTS for suffix in ("", "_lora_BA")
    }
    named, merged = flat(params), flat(model.merged(params))
    for layer, _, rows in LAYOUTS:
        product = found[f"{layer}/kernel_lora_BA"]
        assert product.kind == "lora"
        change = (merged[f"{layer}/kernel"] - named[f"{layer}/kernel"]).reshape(rows, -1)
        values = (np.linalg.svd(matrix, compute_uv=False) for matrix in (product.load()[0], change))
        np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5)


def test_analyze_finds_the_rank_of_a_product():
    model, variables = adapted(targets=r".*/query/kernel")
    params = trained(variables)["params"]
    rows = spectra.analyze(params, layers="query", metrics="scale", lora_scale=model.alpha / model.rank).table
    assert dict(zip(rows["name"], rows["matrix_rank"], strict=True)) == {
        "attention/query/kernel": 6,
        "attention/query/kernel_lora_BA": 2,
    }


@pytest.mark.parametrize(
    ("rank", "targets", "message"),
    [
        (0, ALL, "rank=0 is out of range: it must be 1 or more"),
        (2, "attention/kernel", "targets='attention/kernel' matches no parameter: there are names like '"),
        (2, "up/.*", r"match up/bias of shape \(6,\), which is no matrix: name kernels alone"),
    ],
)  # fmt: skip
def test_what_cannot_be_adapted_is_refused(rank, targets, message):
    with pytest.raises(InputError, match=message):
        adapted(rank, 1.0, targets)
