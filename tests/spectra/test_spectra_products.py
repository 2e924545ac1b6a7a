"""Products within attention: the small matrix has the singular values of the whole one, in every layout."""

import jax
import numpy as np
import pandas as pd
import pytest

from rmtjax import spectra
from rmtjax.spectra import nulls

RNG = np.random.default_rng(11)
WIDTH, HEADS, HEAD_WIDTH = 12, 3, 4


class Stored(dict):
    """What `checkpoints.open` gives."""

    def __init__(self, tensors, layout="torch"):
        super().__init__(tensors)
        self.layout = layout
        self.specs = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in tensors.items()}


def attention(kv_heads=HEADS):
    """Query, key, value `[width, heads, head width]` and out `[heads, head width, width]`, as they act."""
    q, k, v = (RNG.standard_normal((WIDTH, heads, HEAD_WIDTH)) for heads in (HEADS, kv_heads, kv_heads))
    return {"query": q, "key": k, "value": v, "out": RNG.standard_normal((HEADS, HEAD_WIDTH, WIDTH))}


def whole_products(weights):
    """`W_Q W_K^T` and `W_V W_O` of each head, `[heads, width, width]`."""
    shared = HEADS // weights["key"].shape[1]
    key, value = (np.repeat(weights[name], shared, axis=1) for name in ("key", "value"))
    return {
        "qk": np.einsum("dhk,ehk->hde", weights["query"], key),
        "vo": np.einsum("dhk,hke->hde", value, weights["out"]),
    }


def assert_spectra_of(got, whole, name):
    for head in range(HEADS):
        expected = np.linalg.svd(whole[head], compute_uv=False) ** 2
        values = got[f"{name}[head {head}]"]
        np.testing.assert_allclose(values, expected[len(values) - 1 :: -1], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(expected[len(values) :], 0, atol=1e-20)


def flax(weights):
    return {"attention": {name: {"kernel": kernel} for name, kernel in weights.items()}}


def flat(weights):
    """All as [in, out]."""
    joined = {name: weights[name].reshape(WIDTH, -1) for name in ("query", "key", "value")}
    return joined | {"out": weights["out"].reshape(-1, WIDTH)}


def transposed(weights):
    return {name: kernel.T for name, kernel in flat(weights).items()}


def fused(weights, axis=1):
    whole = flat(weights) if axis == 1 else transposed(weights)
    return np.concatenate([whole[name] for name in ("query", "key", "value")], axis)


def named(names, weights):
    return Stored(dict(zip(names, weights.values(), strict=True)))


LLAMA = [f"layers.0.self_attn.{name}_proj.weight" for name in "qkvo"]
BERT = [f"layer.0.attention.self.{name}.weight" for name in ("query", "key", "value")]
BERT += ["layer.0.attention.output.dense.weight"]
KERAS = [f"layers/mha/{name}_dense/kernel" for name in ("query", "key", "value", "output")]
# weights -> the tree or file; how the names of its products begin; whether its shapes tell the heads
LAYOUTS = {
    "flax": (flax, "attention/", "attention/", True),
    "flax, heads joined": (lambda w: flax(flat(w)), "attention/", "attention/", False),
    "flax, fused": (
        lambda w: {
            "attention": {
                "qkv": {"kernel": np.stack([w[name] for name in ("query", "key", "value")], 1)},
                "out": {"kernel": w["out"]},
            }
        },
        "attention/qkv/",
        "attention/",
        True,
    ),
    "flax, fused columns": (
        lambda w: {"attention": {"qkv": {"kernel": fused(w)}, "out": {"kernel": flat(w)["out"]}}},
        "attention/qkv/",
        "attention/",
        False,
    ),
    "llama": (lambda w: named(LLAMA, transposed(w)), *["layers.0.self_attn."] * 2, False),
    "bert": (lambda w: named(BERT, transposed(w)), "layer.0.attention.self.", "layer.0.attention.", False),
    "timm": (
        lambda w: Stored({"b.0.attn.qkv.weight": fused(w, 0), "b.0.attn.proj.weight": transposed(w)["out"]}),
        "b.0.attn.qkv.",
        "b.0.attn.",
        False,
    ),
    "torch": (
        lambda w: Stored({"attn.in_proj_weight": fused(w, 0), "attn.out_proj.weight": transposed(w)["out"]}),
        "attn.in_proj_",
        "attn.",
        False,
    ),
    "gpt2": (
        lambda w: Stored({"attn.c_attn.weight": fused(w), "attn.c_proj.weight": flat(w)["out"]}),
        "attn.c_attn.",
        "attn.c_",
        False,
    ),
    "gpt2, Linear": (
        lambda w: Stored({"attn.c_attn.weight": fused(w, 0), "attn.c_proj.weight": transposed(w)["out"]}),
        "attn.c_attn.",
        "attn.c_",
        False,
    ),
    "keras": (
        lambda w: Stored(dict(zip(KERAS, w.values(), strict=True)), "keras"),
        "layers/mha/",
        "layers/mha/",
        True,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("layout", "kv_heads"), [
    *((layout, HEADS) for layout in LAYOUTS),
    *((layout, 1) for layout in ("flax", "flax, heads joined", "llama", "bert", "keras")),
])  # fmt: skip
def test_the_spectrum_is_that_of_the_whole_product(layout, kv_heads):
    make, qk, vo, told = LAYOUTS[layout]
    weights = attention(kv_heads)
    heads = {} if told else {"num_heads": HEADS, "num_kv_heads": kv_heads}
    got = spectra.eigenvalues(make(weights), products=True, layers=r"(qk|vo)\[head", **heads)
    assert len(got) == 2 * HEADS
    for name, whole in whole_products(weights).items():
        assert_spectra_of(got, whole, {"qk": qk, "vo": vo}[name] + name)


def test_layers_of_a_stack_and_of_a_model_are_not_mixed():
    weights = [attention() for _ in range(11)]
    stacked = flax({name: np.stack([w[name] for w in weights]) for name in weights[0]})
    got = spectra.eigenvalues({"layers": stacked}, products=True)
    apart = {f"block_{i}": flax(w) | {"mlp": {"out": {"kernel": np.eye(5)}}} for i, w in enumerate(weights)}
    got |= spectra.eigenvalues(apart, products=True)
    for i, of_layer in enumerate(weights):
        for name, whole in whole_products(of_layer).items():
            assert_spectra_of(got, whole, f"layers/attention/{name}[{i}]")
            assert_spectra_of(got, whole, f"block_{i}/attention/{name}")


def test_a_comparison_has_the_product_of_the_update():
    """The change of the product, not the product of the changes: its rank is that of both sides together."""
    before, change = attention(), attention()
    after = {name: before[name] + 0.3 * change[name] for name in before}
    found = spectra.compare(
        flax(before), flax(after), other=flax(change), metrics="default,alignment", products=True
    )
    sides = [whole_products(w) for w in (before, after)]
    rows = found.table.set_index(["stage", "name"])
    for name in ("qk", "vo"):
        old, new = (side[name] for side in sides)
        for stage, whole in (("before", old), ("after", new), ("update", new - old)):
            assert_spectra_of(found.eigenvalues, whole, f"{stage}/attention/{name}")
        for head in range(HEADS):
            row = rows.loc[("update", f"attention/{name}[head {head}]")]
            norms = np.linalg.norm(new[head] - old[head]), np.linalg.norm(old[head])
            assert row["norm_ratio"] == pytest.approx(norms[0] / norms[1])
            angle = (old[head] * new[head]).sum() / norms[1] / np.linalg.norm(new[head])
            assert row["cosine"] == pytest.approx(angle)
            assert row[["overlap_left", "cosine_other", "alpha_null", "stable_rank_null"]].isna().all()
    of_weights = rows.loc["update"].loc["attention/query/kernel"]
    assert of_weights[["overlap_left", "cosine_other", "alpha_null"]].notna().all()


def test_other_rows_are_as_without_products():
    tree = flax(attention())
    options = {"metrics": "scale,bulk,nulls", "precision": "single"}
    plain = spectra.analyze(tree, **options).table
    rows = spectra.analyze(tree, **options, products=True).table
    assert rows["kind"].tolist()[len(plain) :] == ["attention_qk"] * HEADS + ["attention_vo"] * HEADS
    pd.testing.assert_frame_equal(rows[: len(plain)], plain)


def test_noise_beside_a_product_is_a_product_of_noise():
    """Exact moments of tr W^T W and of tr (W^T W)^2 for L (100 x 6) and R (40 x 6) of unit variance."""
    left, right, inner = 100, 40, 6
    values = nulls.simulated_products(left, right, inner, 4000) * left * right
    first, second = values.sum(-1), (values**2).sum(-1)
    assert first.mean() == pytest.approx(left * right * inner, abs=4 * first.std() / 4000**0.5)
    whole = RNG.standard_normal((4000, left, inner)) @ RNG.standard_normal((4000, inner, right))
    direct = np.linalg.svd(whole, compute_uv=False)[:, :inner] ** 2
    error = (second.var() + (direct**2).sum(-1).var()) ** 0.5 / 4000**0.5
    assert second.mean() == pytest.approx((direct**2).sum(-1).mean(), abs=4 * error)
    assert (values[:, ::-1] / values.sum(-1, keepdims=True)).mean(0) == pytest.approx(
        (direct / direct.sum(-1, keepdims=True)).mean(0), rel=0.02
    )


def test_products_of_noise_look_like_it_and_have_no_bulk():
    shapes = {"query": (64, 8, 24), "key": (64, 8, 24), "value": (64, 8, 24), "out": (8, 24, 64)}
    tree = {f"block_{i}": flax({n: RNG.standard_normal(s) for n, s in shapes.items()}) for i in range(4)}
    rows = spectra.analyze(tree, metrics="default,shuffles,vectors", products=True, layers="qk|vo").table
    assert len(rows) == 64
    assert 0.35 < rows["alpha_null_p"].mean() < 0.65  # uniform: .5 with a standard error of .036
    for name in ("stable_rank", "entropy", "effective_rank", "nuclear_norm", "log_spectral_norm"):
        share = (rows[name] < rows[f"{name}_null"]).mean()
        assert 0.25 < share < 0.75, name  # half, with a standard error of .06
    absent = ["ks_mp", "ks_mp_null", "tw_p", "num_spikes", "noise_std", "num_traps", "ipr_bulk_N"]
    assert rows[absent].isna().all(axis=None)
    assert not rows["warning"].str.contains("to tell noise from spikes").any()
    assert set(rows["phase"]) | set(rows["ww_label"]) == {""}


def test_the_spread_of_alpha_is_that_of_noise_for_noise_alone():
    noise = {f"layer_{i}": {"kernel": RNG.standard_normal((64, 16 * (1 + i % 4)))} for i in range(24)}
    table = spectra.analyze(noise, precision="single").table
    found = spectra.alpha_spread(table)
    assert found["alpha_spread"] == pytest.approx(np.std(table["alpha"], ddof=1))
    assert found["alpha_spread_null_low"] < found["alpha_spread"] < found["alpha_spread_null_high"]
    assert found["alpha_spread_null_low"] < found["alpha_spread_null"] < found["alpha_spread_null_high"]
    even = spectra.alpha_spread(table.assign(alpha=3 + 0.1 * np.arange(24)))
    assert even["alpha_spread"] == pytest.approx(0.1 * 50**0.5)
    assert even["alpha_spread"] < even["alpha_spread_null_low"]
    assert spectra.alpha_spread(table.assign(kind="attention_qk")) == {}


def test_what_has_no_product_is_told():
    llama = named(LLAMA, transposed(attention()))
    with pytest.raises(
        ValueError, match=r"products needs num_heads: shape \(12, 12\) of layers.0.self_attn.q_p"
    ):
        spectra.weight_matrices(llama, products=True)
    grouped = flax(attention() | {"key": RNG.standard_normal((WIDTH, 2, HEAD_WIDTH))})
    with pytest.raises(
        ValueError, match="query/kernel has 3 heads 4 wide, attention/key/kernel has 2 heads 4"
    ):
        spectra.weight_matrices(grouped, products=True)
    found, left_out = spectra.weight_matrices({"mlp": {"kernel": np.eye(4)}}, products=True)
    assert len(found) == 1
    assert "no attention" in left_out["products"]
    del llama["layers.0.self_attn.k_proj.weight"]
    found, left_out = spectra.weight_matrices(Stored(llama), products=True, num_heads=HEADS)
    assert [matrix.kind for matrix in found if matrix.product] == ["attention_vo"] * HEADS
    assert "query and key" in left_out["product of layers.0.self_attn.q_proj.weight"]
