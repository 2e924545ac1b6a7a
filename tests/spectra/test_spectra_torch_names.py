"""Checkpoints of torch and Hugging Face: real names, fused tensors, and a plan that reads nothing."""

import re

import jax
import numpy as np
import pytest

from rmtjax import spectra
from rmtjax.spectra import layouts

RNG = np.random.default_rng(3)


class Stored(dict):
    """What `checkpoints.open` gives: names to arrays, with shapes known before anything is read."""

    layout = "torch"

    def __init__(self, shapes, layout="torch", refused=None):
        super().__init__(
            {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        )
        self.specs = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
        self.layout, self.refused, self.reads = layout, refused or {}, []

    def __getitem__(self, name):
        self.reads.append(name)
        return super().__getitem__(name)


KINDS = {
    # Megatron; the modulation of a diffusion transformer
    "decoder.layers.0.self_attention.linear_qkv.weight": ((24, 8), {"": "attention_qkv"}),
    "transformer_blocks.0.norm1.linear.weight": ((48, 8), {"": "dense"}),
    # BERT
    "bert.embeddings.word_embeddings.weight": ((50, 8), {"": "embedding"}),
    "bert.embeddings.position_embeddings.weight": ((16, 8), {"": "position_embedding"}),
    "bert.encoder.layer.0.attention.self.query.weight": ((8, 8), {"": "attention_query"}),
    "bert.encoder.layer.0.attention.self.key.weight": ((8, 8), {"": "attention_key"}),
    "bert.encoder.layer.0.attention.self.value.weight": ((8, 8), {"": "attention_value"}),
    "bert.encoder.layer.0.attention.output.dense.weight": ((8, 8), {"": "attention_out"}),
    "bert.encoder.layer.0.intermediate.dense.weight": ((32, 8), {"": "mlp"}),
    "bert.encoder.layer.0.output.dense.weight": ((8, 32), {"": "mlp"}),
    "bert.pooler.dense.weight": ((8, 8), {"": "dense"}),
    "classifier.weight": ((3, 8), {"": "head"}),
    # CLIP, timm
    "visual.transformer.resblocks.0.attn.in_proj_weight": (
        (24, 8), dict.fromkeys(("[query]", "[key]", "[value]")),
    ),
    "visual.transformer.resblocks.0.attn.out_proj.weight": ((8, 8), {"": "attention_out"}),
    "visual.transformer.resblocks.0.mlp.c_fc.weight": ((32, 8), {"": "mlp"}),
    "visual.conv1.weight": ((8, 3, 4, 4), {"": "patch_embedding"}),
    "visual.positional_embedding": ((5, 8), {"": "position_embedding"}),
    "blocks.0.attn.qkv.weight": ((24, 8), dict.fromkeys(("[query]", "[key]", "[value]"))),
    "blocks.0.attn.proj.weight": ((8, 8), {"": "attention_out"}),
    "patch_embed.proj.weight": ((8, 3, 4, 4), {"": "patch_embedding"}),
    "pos_embed": ((1, 5, 8), {"": "position_embedding"}),
    # GPT-2, GPT-NeoX
    "transformer.wte.weight": ((50, 8), {"": "embedding"}),
    "transformer.wpe.weight": ((16, 8), {"": "position_embedding"}),
    "transformer.h.0.attn.c_attn.weight": ((8, 24), dict.fromkeys(("[query]", "[key]", "[value]"))),
    "transformer.h.0.attn.c_proj.weight": ((8, 8), {"": "attention_out"}),
    "transformer.h.0.mlp.c_proj.weight": ((32, 8), {"": "mlp"}),
    "gpt_neox.layers.0.attention.query_key_value.weight": ((24, 8), {"": "attention_qkv"}),
    # Llama, Mixtral
    "model.embed_tokens.weight": ((50, 8), {"": "embedding"}),
    "model.layers.0.self_attn.q_proj.weight": ((8, 8), {"": "attention_query"}),
    "model.layers.0.self_attn.k_proj.weight": ((4, 8), {"": "attention_key"}),
    "model.layers.0.self_attn.v_proj.weight": ((4, 8), {"": "attention_value"}),
    "model.layers.0.self_attn.o_proj.weight": ((8, 8), {"": "attention_out"}),
    "model.layers.0.mlp.gate_proj.weight": ((24, 8), {"": "mlp"}),
    "model.layers.0.mlp.experts.gate_up_proj": (
        (4, 8, 12), dict.fromkeys(("[0]", "[1]", "[2]", "[3]"), "expert"),
    ),
    "lm_head.weight": ((50, 8), {"": "head"}),
    # T5, Whisper, RWKV, ModernBERT, ALBERT
    "decoder.block.0.layer.0.SelfAttention.q.weight": ((8, 8), {"": "attention_query"}),
    "decoder.block.0.layer.0.SelfAttention.o.weight": ((8, 8), {"": "attention_out"}),
    "decoder.block.0.layer.2.DenseReluDense.wi_0.weight": ((32, 8), {"": "mlp"}),
    "decoder.block.0.layer.2.DenseReluDense.wo.weight": ((8, 32), {"": "mlp"}),
    "encoder.blocks.0.attn.out.weight": ((8, 8), {"": "attention_out"}),
    "decoder.blocks.0.cross_attn.out.weight": ((8, 8), {"": "attention_out"}),
    "blocks.0.att.output.weight": ((8, 8), {"": "attention_out"}),
    "blocks.0.ffn.key.weight": ((32, 8), {"": "mlp"}),
    "layers.0.attn.Wo.weight": ((8, 8), {"": "attention_out"}),
    "layers.0.mlp.Wo.weight": ((8, 32), {"": "mlp"}),
    "albert.layers.0.attention.dense.weight": ((8, 8), {"": "attention_out"}),
    "albert.layers.0.ffn.weight": ((32, 8), {"": "mlp"}),
    # InternLM2, Baichuan, DeBERTa, PVT, DeepSeek, Phi-3, DINOv2, Llama's own
    "model.layers.0.attention.wqkv.weight": ((16, 8), {"": "attention_qkv"}),
    "model.layers.0.self_attn.W_pack.weight": ((24, 8), dict.fromkeys(("[query]", "[key]", "[value]"))),
    "deberta.encoder.layer.0.attention.self.in_proj.weight": ((24, 8), {"": "attention_qkv"}),
    "block1.0.attn.q.weight": ((8, 8), {"": "attention_query"}),
    "block1.0.attn.kv.weight": ((16, 8), dict.fromkeys(("[key]", "[value]"))),
    "model.layers.1.self_attn.q_b_proj.weight": ((24, 8), {"": "attention_query"}),
    "model.layers.1.self_attn.kv_a_proj_with_mqa.weight": ((12, 8), {"": "attention_kv"}),
    "model.layers.1.mlp.gate_up_proj.weight": ((24, 8), dict.fromkeys(("[gate]", "[up]"), "mlp")),
    "blocks.1.mlp.w12.weight": ((24, 8), dict.fromkeys(("[gate]", "[up]"), "mlp")),
    "layers.0.attention.wo.weight": ((8, 8), {"": "attention_out"}),
    "layers.0.feed_forward.w2.weight": ((8, 24), {"": "mlp"}),
    "output.weight": ((50, 8), {"": "head"}),
    # Mamba
    "backbone.layers.0.mixer.in_proj.weight": ((64, 8), {"": "dense"}),
    "backbone.layers.0.mixer.out_proj.weight": ((8, 32), {"": "dense"}),
    "backbone.layers.0.mixer.conv1d.weight": ((32, 1, 4), {"": "conv"}),
    # llama.cpp
    "token_embd.weight": ((50, 8), {"": "embedding"}),
    "blk.0.attn_q.weight": ((8, 8), {"": "attention_query"}),
    "blk.0.attn_k.weight": ((4, 8), {"": "attention_key"}),
    "blk.0.attn_output.weight": ((8, 8), {"": "attention_out"}),
    "blk.1.attn_qkv.weight": ((24, 8), dict.fromkeys(("[query]", "[key]", "[value]"))),
    "blk.0.ffn_up.weight": ((24, 8), {"": "mlp"}),
    "blk.0.ffn_down.weight": ((8, 24), {"": "mlp"}),
    "blk.1.ffn_gate_exps.weight": ((2, 12, 8), dict.fromkeys(("[0]", "[1]"), "expert")),
    # Diffusion transformers
    "transformer_blocks.0.attn.add_q_proj.weight": ((8, 8), {"": "attention_query"}),
    "transformer_blocks.0.attn.to_add_out.weight": ((8, 8), {"": "attention_out"}),
    "transformer_blocks.0.ff.net.2.weight": ((8, 32), {"": "mlp"}),
    "single_blocks.0.linear1.weight": ((56, 8), {"": "attention_qkv"}),
    # ResNet
    "module.layer1.0.conv1.weight": ((16, 8, 3, 3), {"": "conv"}),
    "module.layer2.0.downsample.0.weight": ((16, 8, 1, 1), {"": "conv"}),
    "module.linear.weight": ((10, 16), {"": "head"}),
    "encoder.conv_layers.0.conv.weight": ((8, 4, 5), {"": "conv"}),
    "stem.weight": ((8, 4, 3, 3, 3), {"": "conv"}),
    "features.0.depthwise.weight": ((16, 1, 3, 3), {"": "conv"}),
    # Tables of positions: BART, SAM, Hiera, Swin, T5
    "model.encoder.embed_positions.weight": ((16, 8), {"": "position_embedding"}),
    "image_encoder.pos_embed": ((1, 5, 5, 8), {"": "position_embedding"}),
    "hiera.pos_embed": ((1, 8, 7, 7), {"": "position_embedding"}),
    "image_encoder.blocks.0.attn.rel_pos_h": ((27, 8), {"": "position_embedding"}),
    "layers.0.blocks.0.attn.relative_position_bias_table": ((49, 4), {"": "position_embedding"}),
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (
        (32, 4), {"": "position_embedding"},
    ),
}  # fmt: skip


def test_names_of_real_models_give_their_kinds_and_nothing_is_read():
    shapes = {name: shape for name, (shape, _) in KINDS.items()}
    states = {"backbone.layers.0.mixer.A_log": (32, 4), "blocks.0.att.time_faaaa": (2, 4)}
    stored = Stored(shapes | states, refused={"q.weight": "4-bit"})
    found, left_out = spectra.weight_matrices(stored)
    assert stored.reads == []
    reason = "the decay of each state, not a matrix that multiplies"
    assert left_out == {"q.weight": "4-bit"} | dict.fromkeys(states, reason)
    got = {matrix.name: matrix.kind for matrix in found}
    expected = {}
    for name, (_, kinds) in KINDS.items():
        expected |= {
            name + suffix: kind or f"attention_{suffix.strip('[]')}" for suffix, kind in kinds.items()
        }
    assert got == expected


def test_names_of_hugging_face_models_in_flax_give_their_kinds():
    expected = {
        "transformer/h/0/attn/c_attn/kernel[query]": (8, "attention_query"),
        "transformer/h/0/attn/c_attn/kernel[key]": (8, "attention_key"),
        "transformer/h/0/attn/c_attn/kernel[value]": (8, "attention_value"),
        "transformer/h/0/attn/c_proj/kernel": (8, "attention_out"),
        "transformer/h/0/mlp/c_fc/kernel": (8, "mlp"),
        "encoder/block/0/SelfAttention/q/kernel": (8, "attention_query"),
        "encoder/block/0/SelfAttention/o/kernel": (8, "attention_out"),
        "encoder/block/0/DenseReluDense/wo/kernel": (8, "mlp"),
        "bert/encoder/layer/0/attention/self/key/kernel": (8, "attention_key"),
        "bert/encoder/layer/0/attention/output/dense/kernel": (8, "attention_out"),
        "bert/encoder/layer/0/intermediate/dense/kernel": (8, "mlp"),
        "bert/encoder/layer/0/output/dense/kernel": (8, "mlp"),
        "model/layers/0/self_attn/v_proj/kernel": (8, "attention_value"),
        "model/layers/0/self_attn/o_proj/kernel": (8, "attention_out"),
        "model/layers/0/mlp/gate_proj/kernel": (8, "mlp"),
        "model/encoder/layers/0/fc1/kernel": (8, "mlp"),
        "decoder/logits_dense/kernel": (8, "head"),
    }
    shapes = {name: (8, 24) if "mlp" in name or "fc1" in name else (8, 8) for name in expected}
    shapes = {name: shape for name, shape in shapes.items() if "c_attn" not in name}
    # Its FlaxConv1D keeps the outputs first.
    stored = Stored(shapes | {"transformer/h/0/attn/c_attn/kernel": (24, 8)}, layout="flax")
    found, _ = spectra.weight_matrices(stored)
    assert {matrix.name: (matrix.shape[2], matrix.kind) for matrix in found} == expected
    whole = stored["transformer/h/0/attn/c_attn/kernel"]
    key = next(matrix for matrix in found if matrix.name.endswith("[key]"))
    np.testing.assert_array_equal(key.load()[0], whole[8:16])


def test_what_is_no_matrix_is_listed():
    shapes = {
        "conv.weight": (8, 4, 3, 3), "bn.running_mean": (8,), "empty.weight": (0, 3), "odd.weight": (2, 3, 4),
        "cls_token": (1, 1, 8), "class_embedding": (8,),
    }  # fmt: skip
    _, left_out = spectra.weight_matrices(Stored(shapes))
    assert left_out == {
        "bn.running_mean": "fewer than two dimensions: no spectrum",
        "empty.weight": "empty: shape (0, 3)",
        "cls_token": "a token: one vector",
        "class_embedding": "fewer than two dimensions: no spectrum",
        "odd.weight": "no rule says how shape (2, 3, 4) is laid out as matrices",
    }


def test_masks_caches_scales_and_stacked_biases_are_no_weights():
    shapes = {
        "h.0.attn.bias": (1, 1, 9, 9), "h.0.attn.mask": (9, 9), "sa.heads.0.tril": (9, 9),
        "l.0.rotary_emb.cos_cached": (1, 1, 9, 4), "l.0.rotary_emb.sin": (9, 4), "freqs_cis": (9, 4),
        "l.0.k_cache": (1, 9, 2, 4), "stage.0.layer_scale": (1, 8, 1, 1), "stage.0.gamma": (1, 8, 1, 1),
        "unnamed": (1, 1, 9, 9), "mlp.experts.gate_up_proj_bias": (4, 12), "experts.b1": (4, 12),
        "pos_embed": (1, 4, 6, 8), "attn.rel_pos_bias": (1, 2, 9, 9), "other_table": (1, 2, 9, 9),
    }  # fmt: skip
    weights = {"experts.w1": (4, 12, 8), "stem.conv.weight": (1, 1, 3, 3)}
    found, left_out = spectra.weight_matrices(Stored(shapes | weights))
    assert left_out.keys() == shapes.keys()
    assert {matrix.name for matrix in found} == {*(f"experts.w1[{i}]" for i in range(4)), "stem.conv.weight"}
    assert "causal mask" in left_out["h.0.attn.bias"]
    assert "does not tell which axes are the grid" in left_out["pos_embed"]


def test_positions_of_a_grid_have_the_grid_as_rows():
    stored = Stored({"a.pos_embed": (1, 5, 5, 8), "b.pos_embed": (1, 8, 5, 5)})
    last, first = (matrix.load()[0] for matrix in spectra.weight_matrices(stored)[0])
    np.testing.assert_array_equal(last, stored["a.pos_embed"].reshape(25, 8))
    np.testing.assert_array_equal(first, stored["b.pos_embed"].reshape(8, 25).T)


def test_two_names_of_one_storage_are_one_matrix():
    stored = Stored({"wte.weight": (20, 8), "lm_head.weight": (20, 8)})
    stored.tied = {"lm_head.weight": "wte.weight"}
    (matrix,), left_out = spectra.weight_matrices(stored)
    assert matrix.name == "wte.weight"
    assert left_out == {"lm_head.weight": "the same storage as 'wte.weight'"}


@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_fused_projections_with_fewer_keys_are_cut_where_queries_end_or_refused(layout):
    """The output projection tells how many queries there are, or the numbers of heads do."""
    fused, out = (
        ("attn.qkv_proj.weight", "attn.o_proj.weight")
        if layout == "torch"
        else ("attn/qkv/kernel", "attn/out/kernel")
    )
    for width, keys in ((8, 2), (4, 2)):  # of (4, 2) there are 3 * 4 rows, as if keys were queries
        shapes = {fused: (8 + 2 * keys, width), out: (width, 8)}
        if layout == "flax":
            shapes = {name: shape[::-1] for name, shape in shapes.items()}
        stored = Stored(shapes, layout)
        whole = stored[fused] if layout == "torch" else stored[fused].T
        for given, heads in ((stored, {}), (stored, {"num_heads": 4, "num_kv_heads": keys // 2})):
            found, left_out = spectra.weight_matrices(given, **heads)
            matrices = {matrix.name: matrix for matrix in found}
            parts = np.split(whole, [8, 8 + keys])
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                own = [m for n, m in matrices.items() if n.startswith(f"{fused}[{name}]")]
                assert {m.kind for m in own} == {f"attention_{name}"}
                assert sum(np.square(m.load()).sum() for m in own) == pytest.approx(
                    np.square(part).sum(), rel=1e-5
                )
            assert not left_out
    shapes.pop(out)
    shapes[fused] = (16, 6) if layout == "torch" else (6, 16)
    _, left_out = spectra.weight_matrices(Stored(shapes, layout))
    assert "keys may be fewer than queries" in left_out[fused]
    found, _ = spectra.weight_matrices(Stored(shapes, layout), num_heads=4, num_kv_heads=2)
    assert len(found) == 8


def test_fused_projections_are_read_once_and_cut_where_they_were_joined():
    stored = Stored({"h.0.attn.in_proj_weight": (24, 8), "h.0.attn.c_attn.weight": (8, 24)})
    found, _ = spectra.weight_matrices(stored)
    parts = [matrix.load() for matrix in found]
    assert stored.reads == ["h.0.attn.in_proj_weight", "h.0.attn.c_attn.weight"]
    rows, columns = (stored[name] for name in stored.specs)
    for i in range(3):
        np.testing.assert_array_equal(parts[i][0], rows[8 * i : 8 * i + 8])
        np.testing.assert_array_equal(parts[3 + i][0], columns[:, 8 * i : 8 * i + 8])


@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_heads_are_cut_along_the_axis_that_holds_them(layout):
    names = (
        ("attn.q_proj.weight", "attn.o_proj.weight")
        if layout == "torch"
        else ("attn/query/kernel", "attn/out/kernel")
    )
    shapes = ((8, 12), (12, 8)) if layout == "flax" else ((12, 8), (8, 12))
    stored = Stored(dict(zip(names, shapes, strict=True)), layout)
    found = {matrix.name: matrix.load()[0] for matrix in spectra.weight_matrices(stored, num_heads=3)[0]}
    query, out = (stored[name] for name in names)
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        own = query[part].T if layout == "torch" else query[:, part]
        np.testing.assert_array_equal(found[f"{names[0]}[head {head}]"], own)
        own = out[:, part] if layout == "torch" else out[part].T
        np.testing.assert_array_equal(found[f"{names[1]}[head {head}]"], own)
    with pytest.raises(ValueError, match="cannot be split into 5 heads"):
        spectra.weight_matrices(stored, num_heads=5)


def test_gates_of_recurrent_layers():
    shapes = {
        "rnn.weight_ih_l0": (20, 7), "rnn.weight_hh_l0": (20, 5), "gru.weight_ih_l0_reverse": (15, 7),
        "gru.weight_hh_l0_reverse": (15, 5),
    }  # fmt: skip
    stored = Stored(shapes)
    found = {matrix.name: matrix for matrix in spectra.weight_matrices(stored)[0]}
    assert set(found) == {f"rnn.weight_{side}_l0[{gate}]" for side in ("ih", "hh") for gate in "ifgo"} | {
        f"gru.weight_{side}_l0_reverse[{gate}]" for side in ("ih", "hh") for gate in "rzn"
    }
    assert {matrix.kind for matrix in found.values()} == {"lstm"}
    np.testing.assert_array_equal(found["rnn.weight_ih_l0[f]"].load()[0], stored["rnn.weight_ih_l0"][5:10].T)
    keras = Stored({"lstm/cell/kernel": (7, 20), "lstm/cell/recurrent_kernel": (5, 20)}, "keras")
    found = {matrix.name: matrix for matrix in spectra.weight_matrices(keras)[0]}
    np.testing.assert_array_equal(found["lstm/cell/kernel[g]"].load()[0], keras["lstm/cell/kernel"][:, 10:15])


def test_c_attn_is_cut_as_its_shape_tells():
    """(D, 3 D) in GPT-2, (3 D, D) in nanoGPT; with fewer keys than queries, as in StarCoder, one matrix."""
    stored = Stored(
        {"gpt2.c_attn.weight": (6, 18), "nano.attn.c_attn.weight": (18, 6), "star.c_attn.weight": (8, 6)}
    )
    found = {matrix.name: matrix for matrix in spectra.weight_matrices(stored)[0]}
    gpt2, nano = (stored[name] for name in list(stored.specs)[:2])
    np.testing.assert_array_equal(found["gpt2.c_attn.weight[key]"].load()[0], gpt2[:, 6:12])
    np.testing.assert_array_equal(found["nano.attn.c_attn.weight[key]"].load()[0], nano[6:12])
    assert found["star.c_attn.weight"].kind == "attention_qkv"


def test_keras_stacks_no_layers():
    """Below its own folder `layers` a kernel of five dimensions is a convolution, of three a convolution or
    heads.
    """
    shapes = {
        "layers/conv3d/kernel": (3, 2, 2, 4, 5), "c1/c1/kernel": (3, 6, 7),
        "layers/mha/query_dense/kernel": (6, 2, 5),
        "layers/mha/query_dense/bias": (2, 5), "mha/mha/attention_output/kernel": (2, 5, 6),
        "sep/depthwise_kernel": (3, 3, 4, 2), "sep/pointwise_kernel": (1, 1, 8, 9), "tok/embeddings": (30, 8),
        "layers/dense/kernel": (5, 3), "head/head/kernel": (5, 3),
    }  # fmt: skip
    found, left_out = spectra.weight_matrices(Stored(shapes, "keras"))
    assert {matrix.name: (matrix.kind, matrix.shape) for matrix in found} == {
        "layers/conv3d/kernel": ("conv", (12, 5, 4)), "c1/c1/kernel": ("conv", (3, 7, 6)),
        "layers/mha/query_dense/kernel": ("attention_query", (1, 10, 6)),
        "mha/mha/attention_output/kernel": ("attention_out", (1, 10, 6)),
        "sep/depthwise_kernel": ("conv_depthwise", (1, 9, 8)), "sep/pointwise_kernel": ("conv", (1, 9, 8)),
        "tok/embeddings": ("embedding", (1, 30, 8)), "layers/dense/kernel": ("dense", (1, 5, 3)),
        "head/head/kernel": ("head", (1, 5, 3)),
    }  # fmt: skip
    assert list(left_out) == ["layers/mha/query_dense/bias"]


def test_lora_factors_are_multiplied_out():
    names = ("m.q_proj.lora_A.default.weight", "m.q_proj.lora_B.default.weight")
    stored = Stored({names[0]: (2, 8), names[1]: (6, 2), "m.v.lora_A.weight": (2, 8)})
    (matrix,), left_out = spectra.weight_matrices(stored, lora_scale=2.0)
    assert matrix.name == "m.q_proj.lora_BA.default.weight"
    assert matrix.shape == (1, 8, 6)
    expected = 2 * stored[names[1]] @ stored[names[0]]
    np.testing.assert_allclose(matrix.load()[0], expected.T, rtol=1e-5)
    assert left_out == {"m.v.lora_A.weight": "one factor of a LoRA product, without the other"}
    flax = Stored({"d/lora_a": (8, 2), "d/lora_b": (2, 6)}, "flax")
    (matrix,), _ = spectra.weight_matrices(flax)
    np.testing.assert_allclose(matrix.load()[0], flax["d/lora_a"] @ flax["d/lora_b"], rtol=1e-5)


def test_a_scale_of_lora_that_nothing_tells_is_said_once(caplog):
    shapes = {
        f"{m}.lora_{side}.weight": shape for m in "qkv" for side, shape in (("A", (4, 8)), ("B", (6, 4)))
    }
    stored = Stored(shapes)
    stored.source = "adapter.safetensors"
    spectra.weight_matrices(stored)
    (record,) = caplog.records
    assert record.getMessage().startswith("'adapter.safetensors': neither an alpha in the file")
    assert "on products of LoRA factors (3), so it is taken as 1: --lora_scale" in record.getMessage()
    caplog.clear()
    spectra.weight_matrices(stored, lora_scale=1.0)
    stored.adapter = {"lora_alpha": 4}
    spectra.weight_matrices(stored)
    stored.adapter = {}
    for module in "qkv":
        stored.specs[f"{module}.alpha"] = jax.ShapeDtypeStruct((), np.float32)
    spectra.weight_matrices(stored)
    assert not caplog.records


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("unet_q.lora_down.weight", "unet_q.lora_up.weight"),
        ("to_q.lora.down.weight", "to_q.lora.up.weight"),
        ("to_q_lora.down.weight", "to_q_lora.up.weight"),
        ("q.lora_A.weight", "q.lora_B.weight"),
        ("wte.lora_embedding_A", "wte.lora_embedding_B"),
    ],
)
def test_names_of_lora_and_its_alpha(down, up):
    module = down.split(".")[0].removesuffix("_lora")
    shapes = {down: (4, 8), up: (6, 4), f"{module}.alpha": ()}
    stored = Stored(shapes)
    dict.__setitem__(stored, f"{module}.alpha", np.float32(3))
    product = stored[up] @ stored[down]
    for given, factor in ((None, 3 / 4), (5.0, 5.0)):  # of an adapter with alpha 3 and rank 4; given by hand
        (matrix,), left_out = spectra.weight_matrices(stored, lora_scale=given)
        np.testing.assert_allclose(matrix.load()[0], factor * product.T, rtol=1e-5)
        assert "BA" in matrix.name
        assert list(left_out) == [f"{module}.alpha"]


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        ({}, 1),
        ({"lora_alpha": 64}, 64 / 4),
        ({"lora_alpha": 64, "r": 99, "use_rslora": True}, 64 / 2),
        ({"lora_alpha": 64, "alpha_pattern": {"q_proj": 8}}, 8 / 4),
        ({"lora_alpha": 64, "alpha_pattern": {"_proj": 8}, "use_dora": False}, 64 / 4),
    ],
)
def test_the_config_of_an_adapter_tells_its_scale(config, factor):
    a, b = "m.0.q_proj.lora_A.weight", "m.0.q_proj.lora_B.weight"
    stored = Stored({a: (4, 8), b: (6, 4)})
    stored.adapter = config
    (matrix,), _ = spectra.weight_matrices(stored)
    np.testing.assert_allclose(matrix.load()[0], factor * (stored[b] @ stored[a]).T, rtol=1e-5)
    stored.adapter = {"lora_alpha": "many"}
    (matrix,), _ = spectra.weight_matrices(stored)
    with pytest.raises(ValueError, match=r"has the alpha 'many' for m.0.q_proj: make it a number"):
        matrix.load()
    stored.adapter = {"alpha_pattern": {"(": 3}}
    (matrix,), _ = spectra.weight_matrices(stored)
    with pytest.raises(ValueError, match="an alpha_pattern that is none"):
        matrix.load()


PARTS = {"up": (6, 2, 1, 1), "mid": (2, 4, 3, 3), "down": (4, 5, 1, 1)}


@pytest.mark.parametrize("middle", [False, True])
def test_lora_of_convolutions(middle):
    """up (1 x 1) after down, and of LoCon with a core between two factors of 1 x 1, by their definition."""
    shapes = {"c.lora_down.weight": (4, 5, 3, 3), "c.lora_up.weight": (6, 4, 1, 1)}
    if middle:
        shapes = {f"c.lora_{part}.weight": shape for part, shape in PARTS.items()}
    stored = Stored(shapes)
    one = {part: np.squeeze(stored[f"c.lora_{part}.weight"]) for part in PARTS if part != "mid" or middle}
    if middle:
        kernel = np.einsum("or,rshw,si->oihw", one["up"], one["mid"], one["down"])
    else:
        kernel = np.einsum("or,rihw->oihw", one["up"], one["down"])
    (matrix,), left_out = spectra.weight_matrices(stored)
    assert not left_out
    np.testing.assert_allclose(
        matrix.load(), np.moveaxis(kernel.reshape(6, 5, 9), 2, 0), rtol=1e-4, atol=1e-5
    )
    (unfolded,), _ = spectra.weight_matrices(stored, conv="unfold")
    assert unfolded.shape == (1, 45, 6)


def test_adapters_that_are_not_products_are_refused_by_name():
    pair = {"q.lora_A.weight": (4, 8), "q.lora_B.weight": (6, 4)}
    for extra in ({"q.lora_magnitude_vector.weight": (6, 1)}, {"q.dora_scale": (6, 1)}):
        found, left_out = spectra.weight_matrices(Stored(pair | extra))
        assert not found
        assert left_out.keys() == (pair | extra).keys()
        assert "DoRA" in left_out["q.lora_A.weight"]
    stored = Stored(pair)
    stored.adapter = {"use_dora": True}
    assert spectra.weight_matrices(stored)[0] == []
    others = {"a.hada_w1_a": (8, 4), "a.lokr_w1": (4, 4), "b.ia3_l": (1, 8), "c.lora_B.weight": (6, 4)}
    found, left_out = spectra.weight_matrices(Stored(others))
    assert not found
    assert left_out.keys() == others.keys()


def convolve(kernel, groups, image):
    """A circular convolution in groups by its definition, `[H, W, C] -> [H, W, out]`."""
    taps, inputs, outputs = kernel.shape
    out = np.zeros((*image.shape[:1], outputs))
    for o in range(outputs):
        group = o // (outputs // groups)
        for t in range(taps):
            for i in range(inputs):
                out[:, o] += kernel[t, i, o] * np.roll(image[:, group * inputs + i], -t, 0)
    return out


def test_grouped_convolution_is_a_block_diagonal_operator():
    """Each tap's dense operator, zeros between groups, has the pooled eigenvalues of the blocks."""
    kernel = RNG.standard_normal((1, 3, 8))  # one tap, 2 groups of 3 channels, 8 outputs
    blocks = layouts.grouped(2)(kernel)[""]
    assert blocks.shape == (2, 3, 4)
    operator = np.stack([convolve(kernel, 2, row[None])[0] for row in np.eye(6)])
    pooled = np.concatenate([np.linalg.svd(block, compute_uv=False) for block in blocks])
    whole = np.linalg.svd(operator, compute_uv=False)
    np.testing.assert_allclose(np.sort(pooled), np.sort(whole), atol=1e-12)
    assert layouts.grouped(3)(kernel) == "its 8 outputs are not 3 groups"
    assert layouts.grouped(2, "unfold")(RNG.standard_normal((3, 3, 4, 8)))[""].shape == (2, 36, 4)


def test_convolutions_of_torch_are_those_of_flax():
    torch = Stored({"c.weight": (6, 4, 3, 5)})
    flax = Stored({"c/kernel": (3, 5, 4, 6)}, "flax")
    dict.__setitem__(flax, "c/kernel", torch["c.weight"].transpose(2, 3, 1, 0))
    for conv in ("slices", "unfold"):
        one, other = (spectra.eigenvalues(stored, conv=conv) for stored in (torch, flax))
        np.testing.assert_allclose(one["c.weight"], other["c/kernel"], rtol=1e-12)
    halved = spectra.eigenvalues(torch, conv_norm=True)["c.weight"]
    np.testing.assert_allclose(halved, spectra.eigenvalues(torch)["c.weight"] / 2, rtol=1e-6)


def test_the_projection_of_mamba_is_no_attention():
    shapes = {"mixer/in_proj/kernel": (8, 32), "mixer/out_proj/kernel": (16, 8)}
    found, _ = spectra.weight_matrices(Stored(shapes, "flax"))
    assert [(matrix.name, matrix.shape) for matrix in found if "in_proj" in matrix.name] == [
        ("mixer/in_proj/kernel", (1, 32, 8))
    ]


def test_factors_of_lora_under_other_names_are_refused():
    shapes = {"a.qkv_lora1.down.weight": (2, 8), "a.qkv_lora1.up.weight": (8, 2), "a.w": (8, 8)}
    found, left_out = spectra.weight_matrices(Stored(shapes))
    assert [matrix.name for matrix in found] == ["a.w"]
    assert len(left_out) == 2


def test_a_plan_for_a_huge_tensor_takes_no_memory():
    shapes = {"model.embed_tokens.weight": (1_000_000, 16_384), "a.in_proj_weight": (300_000, 100_000)}
    stored = Stored({})
    stored.specs = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    found, _ = spectra.weight_matrices(stored, num_heads=8)
    assert len(found) == 1 + 3 * 8
    assert found[0].shape == (1, 1_000_000, 16_384)
    assert found[1].shape == (1, 100_000, 12_500)


def test_a_rule_says_along_which_axis_heads_lie():
    """torch keeps (out, in), Flax and GPT-2's Conv1D (in, out)."""

    def axis(table, name, ndim=2):
        return next(r.head_axis for r in table if r.ndim in (None, ndim) and re.search(r.pattern, name))

    torch, flax = spectra.rules.torch_rules(), spectra.rules.default_rules()
    for name in ("a.q_proj.weight", "attention.self.key.weight", "attn.in_proj_weight", "attn.qkv.weight"):
        assert axis(torch, name) == 0
    for name in ("a.o_proj.weight", "attention.output.dense.weight", "h.0.attn.c_attn.weight"):
        assert axis(torch, name) == 1
    assert axis(torch, "h.0.attn.c_proj.weight") == 0
    for ndim in (2, 3, 4):
        assert axis(flax, "layers/attention/query/kernel", ndim) == 1
        assert axis(flax, "layers/attention/out/kernel", ndim) == 0
    assert axis(flax, "attn/qkv/kernel") == axis(flax, "attn/qkv/kernel", 4) == 1
    assert axis(torch, "fc1.weight") is axis(flax, "mlp/kernel") is None


def test_keys_with_fewer_heads_than_queries():
    shapes = {"attn.q_proj.weight": (16, 16), "attn.k_proj.weight": (4, 16), "attn.v_proj.weight": (4, 16)}
    stored = Stored(shapes)
    with pytest.raises(ValueError, match="give num_kv_heads"):
        spectra.weight_matrices(stored, num_heads=4)
    found, _ = spectra.weight_matrices(stored, num_heads=4, num_kv_heads=1)
    assert [matrix.shape for matrix in found] == [(1, 16, 4)] * 6
