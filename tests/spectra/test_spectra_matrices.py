"""Which tensors are matrices, and whether each layout is the operator that the layer applies."""

import jax.numpy as jnp
import numpy as np
import pytest

from rmtjax import spectra
from rmtjax.spectra.layouts import conv_unfold

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def found(tree, **options) -> dict[str, spectra.Matrix]:
    return {matrix.name: matrix for matrix in spectra.weight_matrices(tree, **options)[0]}


def oriented(matrix: np.ndarray) -> np.ndarray:
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T


def vit_tree(width=8, heads=2, blocks=2):
    head_width = width // heads
    tree = {
        "cls": normal(1, 1, width),
        "embed": {
            "patch": {"kernel": normal(4, 4, 1, width), "bias": normal(width)},
            "position": normal(1, 5, width),
        },
        "head": {"kernel": normal(width, 3), "bias": normal(3)},
        "encoder": {},
    }
    for i in range(blocks):
        project = {"kernel": normal(width, heads, head_width), "bias": normal(heads, head_width)}
        tree["encoder"][f"block_{i}"] = {
            "attention": {name: dict(project) for name in ("query", "key", "value")}
            | {"out": {"kernel": normal(heads, head_width, width), "bias": normal(width)}},
            "mlp": {"up": {"kernel": normal(width, 32)}, "down": {"kernel": normal(32, width)}},
            "norm": {"scale": normal(width), "bias": normal(width)},
        }
    return tree


def test_vit_tree():
    tree = vit_tree()
    matrices, left_out = spectra.weight_matrices(tree)
    kinds = {matrix.name: matrix.kind for matrix in matrices}
    assert kinds["encoder/block_0/attention/query/kernel"] == "attention_query"
    assert kinds["encoder/block_1/attention/out/kernel"] == "attention_out"
    assert kinds["encoder/block_1/mlp/down/kernel"] == "mlp"
    assert kinds["embed/patch/kernel"] == "patch_embedding"
    assert kinds["embed/position"] == "position_embedding"
    assert kinds["head/kernel"] == "head"
    assert len(matrices) == 2 * 6 + 3
    assert "token" in left_out["cls"]
    assert "bias" in left_out["encoder/block_0/attention/query/bias"]
    assert "two dimensions" in left_out["encoder/block_0/norm/scale"]
    everything = {name for name, _ in spectra.matrices.named_tensors(tree)}
    assert set(kinds) | set(left_out) == everything
    for matrix in matrices:
        assert matrix.load().shape[1] >= matrix.load().shape[2]


def test_attention_layouts_are_the_operators():
    """y = x W for the query, heads joined; for the output, x is what the heads hand over."""
    query, out = normal(8, 2, 4), normal(2, 4, 6)
    tree = {"attention": {"query": {"kernel": query}, "out": {"kernel": out}}}
    x, mixed = normal(8), normal(2, 4)
    flat = found(tree)
    np.testing.assert_allclose(
        x @ flat["attention/query/kernel"].load()[0], np.einsum("d,dhk->hk", x, query).ravel(), rtol=1e-5
    )
    np.testing.assert_allclose(
        mixed.ravel() @ flat["attention/out/kernel"].load()[0], np.einsum("hk,hkd->d", mixed, out), rtol=1e-5
    )


def test_convolutions():
    kernel, grey, depthwise, line = (
        normal(3, 3, 4, 6),
        normal(3, 3, 1, 5),
        normal(3, 3, 1, 7),
        normal(5, 4, 6),
    )
    tree = {
        "conv": {"kernel": kernel},
        "stem": {"kernel": grey},
        "depthwise": {"kernel": depthwise},
        "conv_1d": {"kernel": line},
    }
    sliced = found(tree)
    assert sliced["conv/kernel"].load().shape == (9, 6, 4)
    np.testing.assert_array_equal(sliced["conv/kernel"].load()[5], kernel[1, 2].T)
    assert sliced["stem/kernel"].load().shape == (1, 9, 5)  # one input channel: a tap is a row, no matrix
    assert sliced["depthwise/kernel"].load().shape == (1, 9, 7)
    assert sliced["depthwise/kernel"].kind == "conv_depthwise"
    assert sliced["conv_1d/kernel"].load().shape == (5, 6, 4)
    unfolded = found(tree, conv="unfold")["conv/kernel"]
    assert unfolded.load().shape == (1, 36, 6)
    patch = normal(3, 3, 4)
    np.testing.assert_allclose(
        patch.ravel() @ unfolded.load()[0], np.einsum("hwi,hwio->o", patch, kernel), rtol=1e-4
    )


def test_embeddings():
    tree = {
        "tokens": {"embedding": normal(50, 8)},
        "pos_embedding": normal(16, 8),
        "position_embeddings": {"embedding": normal(16, 8)},
    }
    kinds = {name: matrix.kind for name, matrix in found(tree).items()}
    assert kinds == {
        "tokens/embedding": "embedding",
        "pos_embedding": "position_embedding",
        "position_embeddings/embedding": "position_embedding",
    }


def test_scanned_stacks_are_split_into_layers():
    layers = {
        "attention": {"query": {"kernel": normal(3, 8, 2, 4)}, "out": {"kernel": normal(3, 2, 4, 8)}},
        "mlp": {"up": {"kernel": normal(3, 8, 16), "bias": normal(3, 16)}},
        "other": {"kernel": normal(3, 8, 5)},
        "joined": {"attention": {"query": {"kernel": normal(3, 8, 6)}}},
    }
    tree = {"layers": layers}
    flat = found(tree)
    assert len(flat) == 15
    up = flat["layers/mlp/up/kernel[1]"]
    np.testing.assert_array_equal(up.load()[0], oriented(layers["mlp"]["up"]["kernel"][1]))
    out = flat["layers/attention/out/kernel[2]"].load()[0]
    np.testing.assert_array_equal(out, layers["attention"]["out"]["kernel"][2].reshape(8, 8))
    joined = flat["layers/joined/attention/query/kernel[0]"]
    np.testing.assert_array_equal(joined.load()[0], layers["joined"]["attention"]["query"]["kernel"][0])
    numbered = found({"layers": [{"query": {"kernel": normal(8, 2, 4)}}]})
    assert numbered["layers/0/query/kernel"].load().shape == (1, 8, 8)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("root", ["decoder/layers", "encoder/encoder"])
def test_the_axis_of_layers_is_the_one_that_all_tensors_of_a_stack_share(axis, root):
    one = {
        "mlp/wi/kernel": (8, 16), "mlp/wo/kernel": (16, 8), "attention/query/kernel": (8, 2, 4),
        "attention/out/kernel": (2, 4, 8), "norm/scale": (8,),
    }  # fmt: skip
    layers = {name: normal(3, *shape) for name, shape in one.items()}
    tree = {f"{root}/{name}": np.moveaxis(stack, 0, axis) for name, stack in layers.items()}
    matrices, left_out = spectra.weight_matrices(tree)
    assert list(left_out) == [f"{root}/norm/scale"]
    assert len(matrices) == 12
    for name, stack in layers.items():
        for i, layer in enumerate(stack if name != "norm/scale" else ()):
            flat = layer.reshape(8, 8) if "attention" in name else layer
            got = next(matrix for matrix in matrices if matrix.name == f"{root}/{name}[{i}]")
            np.testing.assert_array_equal(got.load()[0], oriented(flat))
    tree[f"{root}/attention/key/kernel"] = tree[f"{root}/attention/query/kernel"]
    products = [m for m in spectra.weight_matrices(tree, products=True)[0] if m.kind == "attention_qk"]
    assert [matrix.shape for matrix in products] == [(1, 4, 4)] * 6  # three layers of two heads


def test_attention_of_a_single_layer_is_no_stack_even_if_its_axes_agree():
    tree = {"attention": {"query": {"kernel": normal(64, 8, 8)}, "out": {"kernel": normal(8, 8, 64)}}}
    assert {matrix.shape for matrix in found(tree).values()} == {(1, 64, 64)}
    convolutions = {"layers": {"a": {"kernel": normal(5, 5, 3, 16)}, "b": {"kernel": normal(3, 3, 16, 16)}}}
    assert {matrix.shape for matrix in found(convolutions).values()} == {(25, 16, 3), (9, 16, 16)}


def test_buffers_and_stacked_biases_of_flax():
    tree = {
        "mlp": {"w": normal(3, 8, 16), "b": normal(3, 16)}, "attn": {"cached_key": normal(1, 9, 2, 4)},
        "bert": {"embeddings": {"word_embeddings": normal(50, 8), "position_embeddings": normal(16, 8)}},
    }  # fmt: skip
    rules = (spectra.Rule("mlp/w", "mlp", spectra.scanned(lambda w: {"": w})),)
    matrices, left_out = spectra.weight_matrices(tree, rules)
    assert left_out.keys() == {"attn/cached_key", "mlp/b"}
    kinds = {matrix.name: matrix.kind for matrix in matrices}
    assert kinds["bert/embeddings/word_embeddings"] == "embedding"
    assert kinds["bert/embeddings/position_embeddings"] == "position_embedding"


def test_unknown_layouts_are_listed_and_a_rule_mends_them():
    tree = {
        "routed": {"w": normal(4, 8, 16)},
        "gates": {"kernel": normal(2, 8, 16)},
        "dense": {"kernel": normal(8, 4)},
    }
    with pytest.raises(ValueError, match=r"gates/kernel \(2, 8, 16\), routed/w \(4, 8, 16\)"):
        spectra.weight_matrices(tree)
    rules = (
        spectra.Rule("routed/w", "expert", spectra.scanned(lambda w: {"": w})),
        spectra.Rule("gates", "gate", spectra.left_out("not wanted")),
    )
    matrices, left_out = spectra.weight_matrices(tree, rules)
    assert [m.name for m in matrices] == ["dense/kernel", *(f"routed/w[{i}]" for i in range(4))]
    assert left_out == {"gates/kernel": "not wanted"}


def test_the_first_rule_decides():
    rules = (spectra.Rule("kernel", "mine", conv_unfold), spectra.Rule("kernel", "other", conv_unfold))
    assert found({"conv": {"kernel": normal(3, 3, 4, 6)}}, rules=rules)["conv/kernel"].kind == "mine"


def test_a_rule_that_gives_no_matrix_is_an_error():
    rules = (spectra.Rule("kernel", "mine", lambda w: {"": w.ravel()}),)
    with pytest.raises(ValueError, match=r"the rule for a/kernel unfolds it to shape \(32,\)"):
        spectra.weight_matrices({"a": {"kernel": normal(8, 4)}}, rules)


def test_what_cannot_have_a_spectrum_is_left_out_with_the_reason():
    tree = {
        "counts": np.ones((3, 3), np.int32),
        "phases": np.ones((3, 3), complex),
        "none": np.zeros((0, 4)),
        "step": 3,
    }
    matrices, left_out = spectra.weight_matrices(tree)
    assert not matrices
    assert left_out["counts"] == "int32, not real floating point"
    assert left_out["phases"] == "complex128, not real floating point"
    assert left_out["none"] == "empty: shape (0, 4)"
    assert "two dimensions" in left_out["step"]


def test_half_precision_and_bare_arrays():
    assert found({"w": jnp.ones((4, 3), jnp.bfloat16)})["w"].load().shape == (1, 4, 3)
    assert list(found(normal(4, 3))) == ["matrix"]


def test_order_counts_numbers():
    tree = {f"block_{i}": {"kernel": normal(4, 3)} for i in (10, 9, 2, 1)}
    assert list(found(tree)) == [f"block_{i}/kernel" for i in (1, 2, 9, 10)]


def test_bad_conv_option():
    with pytest.raises(ValueError, match="'slices' or 'unfold'"):
        spectra.default_rules("flat")


def test_names_of_an_nnx_state_are_those_of_its_modules():
    from flax import nnx

    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(4, 5, rngs=rngs), nnx.Dropout(0.1, rngs=rngs), nnx.Conv(3, 4, (3, 3), rngs=rngs)
    )
    for tree in (nnx.state(model), nnx.state(model, nnx.Param)):
        assert {name: matrix.kind for name, matrix in found(tree).items()} == {
            "layers/0/kernel": "dense",
            "layers/2/kernel": "conv",
        }
    assert set(found({"attention": {"value": normal(3, 4)}})) == {"attention/value"}
