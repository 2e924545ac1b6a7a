"""Names of weights: one table a program and model, read in both directions (see `pretrained`).

A row pairs a name there with a name here, in a small language: `{i}` is a number, `{i+1}` the same number as
it is counted there, `{name*}` any text, `[...]` may be absent there. A name here begins with its collection,
`params` or `batch_stats`. The layout says how the array turns from one into the other (`pretrained.LAYOUTS`).
"""

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    theirs: str
    ours: str
    layout: str = "same"
    part: int | None = None  # of several stacked along the first axis there, such as query, key, value
    parts: int = 3


class Table(NamedTuple):
    """The names of one program for one of our models.

    Attributes:
      rows: as the module's docstring says.
      unused: regex of names there that our models have no use for.
    """

    rows: Sequence[Row]
    unused: str = r"(?!)"


def _norm(theirs: str, ours: str) -> list[Row]:
    return [Row(f"{theirs}.weight", f"params/{ours}/scale"), Row(f"{theirs}.bias", f"params/{ours}/bias")]


def _batch_norm(theirs: str, ours: str) -> list[Row]:
    return [
        *_norm(theirs, ours),
        Row(f"{theirs}.running_mean", f"batch_stats/{ours}/mean"),
        Row(f"{theirs}.running_var", f"batch_stats/{ours}/var"),
    ]


def _conv(theirs: str, ours: str) -> list[Row]:
    return [Row(f"{theirs}.weight", f"params/{ours}/kernel", "conv")]


def _dense(theirs: str, ours: str) -> list[Row]:
    return [
        Row(f"{theirs}.weight", f"params/{ours}/kernel", "dense"),
        Row(f"{theirs}.bias", f"params/{ours}/bias"),
    ]


def _attention(theirs: Sequence[str], out: str, ours: str) -> list[Row]:
    """Query, key and value under their names, or stacked under one of three equal ones."""
    rows = []
    for part, (name, kind) in enumerate(zip(theirs, ("query", "key", "value"), strict=True)):
        stacked = part if theirs[0] == theirs[1] else None
        rows += [
            Row(f"{name}weight", f"params/{ours}/{kind}/kernel", "project", stacked),
            Row(f"{name}bias", f"params/{ours}/{kind}/bias", "vector", stacked),
        ]
    return [
        *rows,
        Row(f"{out}.weight", f"params/{ours}/out/kernel", "merge"),
        Row(f"{out}.bias", f"params/{ours}/out/bias"),
    ]


_BLOCK = "encoder/block_{i}"


def _resnet(root: str, stem: Sequence[Row], head: Sequence[Row]) -> tuple[Row, ...]:
    block = "layer{s+1}.{b}."
    return (
        *stem,
        *_conv(f"{root}{block}conv{{c}}", "stage_{s}_block_{b}/conv_{c}"),
        *_batch_norm(f"{root}{block}bn{{c}}", "stage_{s}_block_{b}/norm_{c}"),
        *_conv(f"{root}{block}downsample.0", "stage_{s}_block_{b}/shortcut"),
        *_batch_norm(f"{root}{block}downsample.1", "stage_{s}_block_{b}/norm_shortcut"),
        *head,
    )


_STEM = (*_conv("conv1", "stem"), *_batch_norm("bn1", "norm_stem"))
_COUNTERS = r".*\.num_batches_tracked"
_TEXT_TOWER = r"(?!visual\.).*"


def _flax_vit(root: str, norms: Sequence[int], attention: int, mlp: int) -> tuple[Row, ...]:
    """vit_jax and big_vision number the same modules apart; arrays lie as ours."""
    pairs = [
        (f"LayerNorm_{norms[0]}", "norm_attention"), (f"LayerNorm_{norms[1]}", "norm_mlp"),
        *(
            (f"MultiHeadDotProductAttention_{attention}/{kind}", f"attention/{kind}")
            for kind in ("query", "key", "value", "out")
        ),
        (f"MlpBlock_{mlp}/Dense_0", "mlp/up"), (f"MlpBlock_{mlp}/Dense_1", "mlp/down"),
    ]  # fmt: skip
    leaves = ("scale", "bias", "kernel")
    return (
        *(Row(f"{root}embedding/{leaf}", f"params/embed/patch/{leaf}") for leaf in leaves),
        *(
            Row(f"{root}Transformer/encoderblock_{{i}}/{a}/{leaf}", f"params/{_BLOCK}/{b}/{leaf}")
            for a, b in pairs
            for leaf in leaves
        ),
        *(Row(f"{root}Transformer/encoder_norm/{leaf}", f"params/encoder/norm/{leaf}") for leaf in leaves),
        *(Row(f"{root}head/{leaf}", f"params/head/{leaf}") for leaf in leaves),
    )


def _stacked(theirs: str, ours: Sequence[str]) -> list[Row]:
    """Two dense layers, one stacked on the other there."""
    return [
        Row(f"{theirs}.{kind}", f"params/{name}/{leaf}", layout, part, len(ours))
        for kind, leaf, layout in (("weight", "kernel", "dense"), ("bias", "bias", "same"))
        for part, name in enumerate(ours)
    ]


_HALVES = (f"{_BLOCK}/mlp/gate", f"{_BLOCK}/mlp/linear")
_MASK = r"(.*\.)?mask_token"


def _hugging_face(root: str, positions: str, *more: Row) -> tuple[Row, ...]:
    """What Hugging Face's ViT, DeiT and DINOv2 share; `root` may be absent."""
    embed, old = f"[{root}.]embeddings.", f"[{root}.]encoder.layer.{{i}}.attention."
    return (
        Row(f"{embed}cls_token", "params/embed/class_token"),
        Row(f"{embed}position_embeddings", "params/embed/position", positions),
        *_conv(f"{embed}patch_embeddings.projection", "embed/patch"),
        Row(f"{embed}patch_embeddings.projection.bias", "params/embed/patch/bias"),
        *_attention([f"{old}attention.{kind}." for kind in ("query", "key", "value")],
                    f"{old}output.dense", f"{_BLOCK}/attention"),
        *more,
        *_norm(f"[{root}.]layernorm", "encoder/norm"),
        *_dense("classifier", "head"),
    )  # fmt: skip


def _hugging_face_vit(root: str, *more: Row) -> tuple[Row, ...]:
    """The names of files, then those of the modules of transformers 5, which a state dict has."""
    old, new = f"[{root}.]encoder.layer.{{i}}.", f"[{root}.]layers.{{i}}."
    return _hugging_face(
        root,
        "position",
        *_norm(f"{old}layernorm_before", f"{_BLOCK}/norm_attention"),
        *_norm(f"{old}layernorm_after", f"{_BLOCK}/norm_mlp"),
        *_dense(f"{old}intermediate.dense", f"{_BLOCK}/mlp/up"),
        *_dense(f"{old}output.dense", f"{_BLOCK}/mlp/down"),
        *_norm(f"{new}layernorm_before", f"{_BLOCK}/norm_attention"),
        *_attention([f"{new}attention.{k}_proj." for k in "qkv"],
                    f"{new}attention.o_proj", f"{_BLOCK}/attention"),
        *_norm(f"{new}layernorm_after", f"{_BLOCK}/norm_mlp"),
        *_dense(f"{new}mlp.fc1", f"{_BLOCK}/mlp/up"),
        *_dense(f"{new}mlp.fc2", f"{_BLOCK}/mlp/down"),
        *more,
    )  # fmt: skip


def _dinov2(root: str, positions: str) -> tuple[Row, ...]:
    block = f"[{root}.]encoder.layer.{{i}}."
    return _hugging_face(
        root,
        positions,
        Row(f"[{root}.]embeddings.register_tokens", "params/embed/register_tokens"),
        *_norm(f"{block}norm1", f"{_BLOCK}/norm_attention"),
        Row(f"{block}layer_scale1.lambda1", f"params/{_BLOCK}/scale_attention"),
        *_norm(f"{block}norm2", f"{_BLOCK}/norm_mlp"),
        *_dense(f"{block}mlp.fc1", f"{_BLOCK}/mlp/up"),
        *_dense(f"{block}mlp.fc2", f"{_BLOCK}/mlp/down"),
        *_stacked(f"{block}mlp.weights_in", _HALVES),
        *_dense(f"{block}mlp.weights_out", f"{_BLOCK}/mlp/out"),
        Row(f"{block}layer_scale2.lambda1", f"params/{_BLOCK}/scale_mlp"),
        # The names of the modules of transformers 5.
        *_attention([f"{block}attention.{k}_proj." for k in "qkv"],
                    f"{block}attention.o_proj", f"{_BLOCK}/attention"),
        *_dense(f"{block}mlp.gate_proj", f"{_BLOCK}/mlp/gate"),
        *_dense(f"{block}mlp.up_proj", f"{_BLOCK}/mlp/linear"),
        *_dense(f"{block}mlp.down_proj", f"{_BLOCK}/mlp/out"),
    )  # fmt: skip


def _bert_norm(theirs: str, ours: str) -> list[Row]:
    """Under torch's names, or those that TensorFlow's checkpoints left behind."""
    old = [Row(f"{theirs}.gamma", f"params/{ours}/scale"), Row(f"{theirs}.beta", f"params/{ours}/bias")]
    return [*_norm(theirs, ours), *old]


def _bert(root: str) -> tuple[Row, ...]:
    """The encoder of BERT and RoBERTa; `root` may be absent."""
    embed, block = f"[{root}.]embeddings.", f"[{root}.]encoder.layer.{{i}}."
    return (
        Row(f"{embed}word_embeddings.weight", "params/embed/word/embedding"),
        Row(f"{embed}position_embeddings.weight", "params/embed/position"),
        Row(f"{embed}token_type_embeddings.weight", "params/embed/token_type/embedding"),
        *_bert_norm(f"{embed}LayerNorm", "embed/norm"),
        *_attention([f"{block}attention.self.{kind}." for kind in ("query", "key", "value")],
                    f"{block}attention.output.dense", f"{_BLOCK}/attention"),
        *_bert_norm(f"{block}attention.output.LayerNorm", f"{_BLOCK}/norm_attention"),
        *_dense(f"{block}intermediate.dense", f"{_BLOCK}/mlp/up"),
        *_dense(f"{block}output.dense", f"{_BLOCK}/mlp/down"),
        *_bert_norm(f"{block}output.LayerNorm", f"{_BLOCK}/norm_mlp"),
    )  # fmt: skip


TABLES = {
    # This project's own: parameters by their names alone, other collections with theirs before.
    "rmtjax": Table(
        (Row("{name*}", "params/{name*}"), Row("{name*}", "{name*}")), unused=r"batch_stats/.*_synthetic"
    ),
    # akamaster/pytorch_resnet_cifar10
    "resnet_cifar": Table(_resnet("", _STEM, _dense("linear", "head")), unused=_COUNTERS),
    "torchvision": Table(_resnet("", _STEM, _dense("fc", "head")), unused=_COUNTERS),
    # OpenAI's and OpenCLIP's names; `head` is ours, for what is exported.
    "clip_resnet": Table(
        _resnet(
            "visual.",
            (*_conv("visual.conv{c}", "stem_{c}"), *_batch_norm("visual.bn{c}", "norm_stem_{c}")),
            (
                Row("visual.attnpool.positional_embedding", "params/pool/position", "position_rows"),
                *_attention([f"visual.attnpool.{k}_proj." for k in "qkv"],
                            "visual.attnpool.c_proj", "pool/attention"),
                *_dense("head", "head"),
            ),
        ),
        unused=f"{_TEXT_TOWER}|{_COUNTERS}",
    ),
    "clip_vit": Table(
        (
            Row("visual.class_embedding", "params/embed/class_token", "vector"),
            Row("visual.positional_embedding", "params/embed/position", "position_rows"),
            *_conv("visual.conv1", "embed/patch"),
            *_norm("visual.ln_pre", "encoder/norm_pre"),
            *_norm("visual.transformer.resblocks.{i}.ln_1", f"{_BLOCK}/norm_attention"),
            *_attention(["visual.transformer.resblocks.{i}.attn.in_proj_"] * 3,
                        "visual.transformer.resblocks.{i}.attn.out_proj", f"{_BLOCK}/attention"),
            *_norm("visual.transformer.resblocks.{i}.ln_2", f"{_BLOCK}/norm_mlp"),
            *_dense("visual.transformer.resblocks.{i}.mlp.c_fc", f"{_BLOCK}/mlp/up"),
            *_dense("visual.transformer.resblocks.{i}.mlp.c_proj", f"{_BLOCK}/mlp/down"),
            *_norm("visual.ln_post", "encoder/norm"),
            Row("visual.proj", "params/projection/kernel"),
            *_dense("head", "head"),
        ),
        unused=_TEXT_TOWER,
    ),
    "clip_transformers": Table(
        (
            Row("vision_model.embeddings.class_embedding", "params/embed/class_token", "vector"),
            Row("vision_model.embeddings.position_embedding.weight",
                "params/embed/position", "position_rows"),
            *_conv("vision_model.embeddings.patch_embedding", "embed/patch"),
            *_norm("vision_model.pre_layrnorm", "encoder/norm_pre"),
            *_norm("vision_model.encoder.layers.{i}.layer_norm1", f"{_BLOCK}/norm_attention"),
            *_attention([f"vision_model.encoder.layers.{{i}}.self_attn.{k}_proj." for k in "qkv"],
                        "vision_model.encoder.layers.{i}.self_attn.out_proj", f"{_BLOCK}/attention"),
            *_norm("vision_model.encoder.layers.{i}.layer_norm2", f"{_BLOCK}/norm_mlp"),
            *_dense("vision_model.encoder.layers.{i}.mlp.fc1", f"{_BLOCK}/mlp/up"),
            *_dense("vision_model.encoder.layers.{i}.mlp.fc2", f"{_BLOCK}/mlp/down"),
            *_norm("vision_model.post_layernorm", "encoder/norm"),
            Row("visual_projection.weight", "params/projection/kernel", "dense"),
            *_dense("head", "head"),
        ),
        unused=r"text_.*|logit_scale|.*\.position_ids",
    ),
    # timm's names, and those of DINOv2's own release, which are exported where the two differ.
    "timm": Table(
        (
            Row("cls_token", "params/embed/class_token"),
            Row("dist_token", "params/embed/dist_token"),
            Row("register_tokens", "params/embed/register_tokens"),
            Row("reg_token", "params/embed/register_tokens"),
            Row("pos_embed", "params/embed/position", "position_timm"),
            *_conv("patch_embed.proj", "embed/patch"),
            Row("patch_embed.proj.bias", "params/embed/patch/bias"),
            *_norm("norm_pre", "encoder/norm_pre"),
            *_norm("blocks.{i}.norm1", f"{_BLOCK}/norm_attention"),
            *_attention(["blocks.{i}.attn.qkv."] * 3, "blocks.{i}.attn.proj", f"{_BLOCK}/attention"),
            Row("blocks.{i}.ls1.gamma", f"params/{_BLOCK}/scale_attention"),
            *_norm("blocks.{i}.norm2", f"{_BLOCK}/norm_mlp"),
            *_dense("blocks.{i}.mlp.fc1", f"{_BLOCK}/mlp/up"),
            *_dense("blocks.{i}.mlp.fc2", f"{_BLOCK}/mlp/down"),
            *_stacked("blocks.{i}.mlp.w12", _HALVES),
            *_dense("blocks.{i}.mlp.w3", f"{_BLOCK}/mlp/out"),
            *_stacked("blocks.{i}.mlp.fc1", _HALVES),
            *_dense("blocks.{i}.mlp.fc2", f"{_BLOCK}/mlp/out"),
            Row("blocks.{i}.ls2.gamma", f"params/{_BLOCK}/scale_mlp"),
            *_norm("norm", "encoder/norm"),
            *_dense("head", "head"),
            *_dense("head", "head/class_head"),
            *_dense("head_dist", "head/dist_head"),
        ),
        unused=_MASK,
    ),
    "transformers": Table(_hugging_face_vit("vit"), unused=rf"(vit\.)?pooler\..*|{_MASK}"),
    "deit": Table(
        _hugging_face_vit(
            "deit",
            Row("[deit.]embeddings.distillation_token", "params/embed/dist_token"),
            *_dense("cls_classifier", "head/class_head"),
            *_dense("distillation_classifier", "head/dist_head"),
        ),
        unused=rf"(deit\.)?pooler\..*|{_MASK}",
    ),
    "dinov2": Table(_dinov2("dinov2", "position"), unused=_MASK),
    "dinov2_registers": Table(_dinov2("dinov2_with_registers", "position_smooth"), unused=_MASK),
    # Google's SigLIP by Hugging Face's names.
    "siglip": Table(
        (
            Row("[vision_model.]embeddings.position_embedding.weight",
                "params/embed/position", "position_rows"),
            *_conv("[vision_model.]embeddings.patch_embedding", "embed/patch"),
            Row("[vision_model.]embeddings.patch_embedding.bias", "params/embed/patch/bias"),
            *_norm("[vision_model.]encoder.layers.{i}.layer_norm1", f"{_BLOCK}/norm_attention"),
            *_attention([f"[vision_model.]encoder.layers.{{i}}.self_attn.{k}_proj." for k in "qkv"],
                        "[vision_model.]encoder.layers.{i}.self_attn.out_proj", f"{_BLOCK}/attention"),
            *_norm("[vision_model.]encoder.layers.{i}.layer_norm2", f"{_BLOCK}/norm_mlp"),
            *_dense("[vision_model.]encoder.layers.{i}.mlp.fc1", f"{_BLOCK}/mlp/up"),
            *_dense("[vision_model.]encoder.layers.{i}.mlp.fc2", f"{_BLOCK}/mlp/down"),
            *_norm("[vision_model.]post_layernorm", "encoder/norm"),
            Row("[vision_model.]head.probe", "params/pool/probe"),
            *_attention(["[vision_model.]head.attention.in_proj_"] * 3,
                        "[vision_model.]head.attention.out_proj", "pool/attention"),
            *_norm("[vision_model.]head.layernorm", "pool/norm"),
            *_dense("[vision_model.]head.mlp.fc1", "pool/mlp/up"),
            *_dense("[vision_model.]head.mlp.fc2", "pool/mlp/down"),
            *_dense("classifier", "head"),
        ),
        unused=r"text_model\..*|logit_(scale|bias)|.*\.position_ids|(vision_model\.)?head\..*",
    ),
    # The released files number modules in one row; what its program writes today, each kind alone.
    "vit_jax": Table(
        (
            Row("cls", "params/embed/class_token"),
            Row("Transformer/posembed_input/pos_embedding", "params/embed/position", "position"),
            *_flax_vit("", (0, 2), 1, 3),
            *_flax_vit("", (0, 1), 0, 0),
        )
    ),
    # Mean-pooled ones: where big_vision has a class token, it adds it after the positions.
    "big_vision": Table(
        (
            Row("[params/]pos_embedding", "params/embed/position", "position"),
            *_flax_vit("[params/]", (0, 1), 0, 0),
        )
    ),
    # Hugging Face's BERT and its kind, the encoder alone or with a head; `cls` are the heads of pre-training.
    "bert": Table(
        (*_bert("bert"), *_dense("[bert.]pooler.dense", "pooler"), *_dense("classifier", "head")),
        unused=r"(bert\.)?embeddings\.position_ids|cls\..*",
    ),
    "roberta": Table(
        (
            *_bert("roberta"),
            *_dense("classifier.dense", "pooler"),
            *_dense("[roberta.]pooler.dense", "pooler"),
            *_dense("classifier.out_proj", "head"),
        ),
        unused=r"(roberta\.)?embeddings\.position_ids|lm_head\..*",
    ),
    "distilbert": Table(
        (
            Row("[distilbert.]embeddings.word_embeddings.weight", "params/embed/word/embedding"),
            Row("[distilbert.]embeddings.position_embeddings.weight", "params/embed/position"),
            *_norm("[distilbert.]embeddings.LayerNorm", "embed/norm"),
            *_attention([f"[distilbert.]transformer.layer.{{i}}.attention.{k}_lin." for k in "qkv"],
                        "[distilbert.]transformer.layer.{i}.attention.out_lin", f"{_BLOCK}/attention"),
            *_norm("[distilbert.]transformer.layer.{i}.sa_layer_norm", f"{_BLOCK}/norm_attention"),
            *_dense("[distilbert.]transformer.layer.{i}.ffn.lin1", f"{_BLOCK}/mlp/up"),
            *_dense("[distilbert.]transformer.layer.{i}.ffn.lin2", f"{_BLOCK}/mlp/down"),
            *_norm("[distilbert.]transformer.layer.{i}.output_layer_norm", f"{_BLOCK}/norm_mlp"),
            *_dense("pre_classifier", "pooler"),
            *_dense("classifier", "head"),
        ),
        unused=r"(distilbert\.)?embeddings\.position_ids|vocab_.*",
    ),
}  # fmt: skip
