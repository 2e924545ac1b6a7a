"""Which tensor is laid out how: tables of `(pattern, kind, unfold, ndim)`, of which the first that matches decides.

Three tables: names and layouts of Flax (`encoder/block_0/mlp/up/kernel`), of Keras (`layers/conv2d_1/kernel`), and those
of torch, Hugging Face and ONNX (`encoder.layer.0.intermediate.dense.weight`).
"""

import re
from typing import NamedTuple

import numpy as np

from rmtjax.spectra.layouts import (
    Unfold,
    conv_slices,
    conv_unfold,
    dense,
    from_torch,
    heads_in,
    heads_out,
    leading_one,
    left_out,
    scanned,
    split_axis_one,
    split_columns,
    split_rows,
)

# Below here the first axis of a kernel may count layers: `layers/mlp/kernel`, but not `layers/3/mlp/kernel`.
_STACK = r"(^|/)(layers|blocks|encoderblock)(?=/)(?!/\d)"
_PATCHES = r"(?i)(^|/)[^/]*patch[^/]*/kernel$"
_QKV = ("query", "key", "value")


class Rule(NamedTuple):
    """One row of the table.

    Attributes:
      pattern: regex, searched for in the tensor's path.
      kind: of layer, as it stands in the table of results: "dense", "conv", "attention_query", "mlp", ...; a
        star stands for what is in brackets in the suffix of each piece.
      unfold: tensor -> `{suffix of the name: [rows, columns] or [slices, rows, columns]}`, or a sentence
        that says why this tensor has no matrix. A tensor that is one matrix has the suffix "".
      ndim: the number of dimensions that the rule is for; None: any.
      head_axis: the axis of each unfolded [rows, columns] along which heads of attention lie one after another;
        None: there are none, or they cannot be told apart.
    """

    pattern: str
    kind: str
    unfold: Unfold
    ndim: int | None = None
    head_axis: int | None = None


def default_rules(conv: str = "slices") -> tuple[Rule, ...]:
    """The table for Flax trees.

    Args:
      conv: "slices" pools the eigenvalues of the taps' matrices, as WeightWatcher does; "unfold" takes the
        kernel as one matrix of `taps * inputs` rows.

    A stack made by `nn.scan` is told from a single layer by its extra dimension: always in an MLP and for
    attention with split heads, elsewhere below a module called `layers` or `blocks` without a number.
    """
    convolution = _convolution(conv)
    attention = [
        Rule(r"(^|/)(qkv|in_proj|c_attn)/kernel$", "attention_*", split_axis_one(*_QKV), 4, 1),
        Rule(r"(^|/)(qkv|in_proj|c_attn)/kernel$", "attention_*", split_columns(*_QKV), 2, 1),
    ]
    for name, pattern, unfold, axis in (
        ("query", r"(^|/)query/kernel$", heads_out, 1),
        ("key", r"(^|/)key/kernel$", heads_out, 1),
        ("value", r"(^|/)value/kernel$", heads_out, 1),
        ("out", r"(^|/)[^/]*[Aa]tt[^/]*/out/kernel$", heads_in, 0),
    ):
        kind = f"attention_{name}"
        attention += [
            Rule(pattern, kind, dense, 2, axis),
            Rule(_STACK + ".*" + pattern, kind, scanned(dense), 3, axis),
            Rule(pattern, kind, unfold, 3, axis),
            Rule(pattern, kind, scanned(unfold), 4, axis),
        ]
    mlp = r"(?i)(^|/)[^/]*(mlp|ffn|feed_?forward)[^/]*/(.*/)?kernel$"
    position = r"(?i)(^|[/_])pos(ition)?([_-]?emb[^/]*)?(_?\d+)?(/embedding)?$"
    return (
        Rule(r"(^|/)(bias|scale|mean|var)$", "bias", left_out("bias or scale: vectors, not a matrix")),
        Rule(r"(?i)(^|/)(cls|class|mask|dist)(_?token)?$", "token", left_out("a token: one vector")),
        Rule(position, "position_embedding", leading_one, 3),
        Rule(position, "position_embedding", dense, 2),
        Rule(r"(^|/)embedding$", "embedding", dense, 2),
        Rule(_PATCHES, "patch_embedding", conv_unfold),
        Rule(r"(^|/)embed[^/]*/kernel$", "patch_embedding", conv_unfold, 4),
        *attention,
        Rule(r"(?i)(^|/)([^/]*head|classifier|logits)/kernel$", "head", dense, 2),
        Rule(mlp, "mlp", dense, 2),
        Rule(mlp, "mlp", scanned(dense), 3),
        Rule(r"(?i)(^|/)[^/]*(depth_?wise|dw_?conv)[^/]*/kernel$", "conv_depthwise", conv_unfold),
        Rule(r"(?i)(^|/)[^/]*expert[^/]*/(.*/)?(kernel|w[^/]*)$", "expert", scanned(dense), 3),
        Rule(r"(?i)(^|/)[^/]*conv[^/]*/kernel$", "conv", convolution, 3),
        Rule(r"(^|/)kernel$", "conv", convolution, 4),
        Rule(_STACK + r".*/kernel$", "conv", scanned(convolution), 5),
        Rule(r"(^|/)kernel$", "conv", convolution, 5),
        Rule(_STACK + r".*/kernel$", "dense", scanned(dense), 3),
        Rule(r"", "dense", dense, 2),
    )


def keras_rules(conv: str = "slices") -> tuple[Rule, ...]:
    """The table for Keras, which stacks no layers: its `layers/` is a folder; `conv` as in `default_rules`."""
    convolution = _convolution(conv)
    return (
        Rule(r"(^|/)(bias|gamma|beta|moving_(mean|variance))$", "bias", left_out("bias or scale: vectors, not a matrix")),
        Rule(r"(^|/)depthwise_kernel$", "conv_depthwise", _keras_depthwise),
        *(
            Rule(rf"(^|/)_?{name}(_dense)?/kernel$", f"attention_{name}", unfold, ndim, 1)
            for name in _QKV
            for unfold, ndim in ((heads_out, 3), (dense, 2))
        ),
        Rule(r"(^|/)(attention_output|_?output_dense)/kernel$", "attention_out", heads_in, 3, 0),
        Rule(r"(^|/)(attention_output|_?output_dense)/kernel$", "attention_out", dense, 2, 0),
        Rule(r"position[^/]*(/[^/]*)?embeddings$", "position_embedding", dense, 2),
        Rule(r"(^|/)[^/]*embeddings$", "embedding", dense, 2),
        Rule(_PATCHES, "patch_embedding", conv_unfold, 4),
        *(Rule(r"kernel$", "conv", convolution, ndim) for ndim in (3, 4, 5)),
        *(rule for rule in default_rules(conv) if rule.ndim in (2, None)),
    )  # fmt: skip


def _keras_depthwise(kernel: np.ndarray) -> dict[str, np.ndarray]:
    """`(*window, channels, multiplier) -> (taps, channels * multiplier)`."""
    return {"": kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1])}


def torch_rules(conv: str = "slices") -> tuple[Rule, ...]:
    """The table for state dicts of torch and Hugging Face, and for ONNX; `conv` as in `default_rules`."""
    convolution = from_torch(_convolution(conv))
    end = r"(\.weight)?$"
    attention = [
        Rule(r"(^|[._])(in_proj_weight|qkv(_proj)?\.weight|Wqkv\.weight)$", "attention_*", split_rows(*_QKV), 2, 0),
        # GPT-2's own layer, Conv1D, has (in, out).
        Rule(r"(^|\.)c_attn\.weight$", "attention_*", split_columns(*_QKV), 2, 1),
        Rule(r"(?i)(^|\.)[^.]*att[^.]*\.c_proj\.weight$", "attention_out", dense, 2, 0),
        # Its rows go head by head through query, key and value: without the number of heads it is one matrix.
        Rule(r"(^|\.)query_key_value\.weight$", "attention_qkv", dense, 2),
        Rule(r"(^|[._])(q|query|to_q|q_proj|q_lin|wq)(_proj)?\.weight$", "attention_query", dense, 2, 0),
        Rule(r"(^|[._])(k|key|to_k|k_proj|k_lin|wk)(_proj)?\.weight$", "attention_key", dense, 2, 0),
        Rule(r"(^|[._])(v|value|to_v|v_proj|v_lin|wv)(_proj)?\.weight$", "attention_value", dense, 2, 0),
        Rule(
            r"(?i)(^|[._])(o_proj|out_proj|out_lin|to_out(\.0)?|wo|att[^.]*\.(proj|o|dense)|att[^.]*\.output\.dense)\.weight$",
            "attention_out", dense, 2, 1,
        ),
    ]  # fmt: skip
    mlp = (
        r"(?i)(^|\.)(([^.]*(mlp|ffn|feed_?forward)[^.]*\..*)|intermediate\.dense|output\.dense|fc_?[12]|c_fc|lin[12]"
        r"|linear[12]|(gate|up|down)_proj|w[123])\.weight$"
    )
    position = r"(?i)(^|[._])(pos(ition)?(al)?_?emb[a-z]*|wpe)"
    return (
        Rule(r"(?i)(^|[._])(cls|class|mask|dist(illation)?|reg(ister)?)(_(token|embedding|pos)s?)?$", "token", left_out("a token: one vector")),
        Rule(position + end, "position_embedding", leading_one, 3),
        Rule(position + end, "position_embedding", dense, 2),
        Rule(r"(?i)(^|\.)((tok(en)?|word|token_type|segment)_?emb[a-z]*|wte|embed_tokens|embeddings?|emb|shared)" + end, "embedding", dense, 2),
        *attention,
        Rule(r"(?i)(^|\.)[^.]*expert[^.]*\..*", "expert", scanned(dense), 3),
        Rule(r"(?i)(^|\.)(lm_head|classifier|score|logits|head|fc|linear)(\.(weight|\d+\.weight))$", "head", dense, 2),
        Rule(mlp, "mlp", dense, 2),
        Rule(r"(?i)(^|\.)(patch_?embed[a-z]*|visual\.conv1|embeddings\.patch)[^/]*$", "patch_embedding", from_torch(conv_unfold), 4),
        Rule(r"(?i)conv", "conv", convolution, 3),
        Rule(r"", "conv", convolution, 4),
        Rule(r"", "conv", convolution, 5),
        Rule(r"", "dense", dense, 2),
    )  # fmt: skip


def shape_rules(shapes: dict[str, tuple[int, ...]]) -> list[Rule]:
    """Rules for tensors whose shapes alone tell how they are fused: gates of recurrent layers, and `c_attn`.

    `c_attn` is `(D, 3 D)` in GPT-2, `(3 D, D)` where it is a Linear, as `c_proj` beside it then is, and with fewer keys
    than queries one matrix. The hidden width, and so the number of gates, is told by the recurrent tensor of a layer: torch's
    `weight_hh_l0` is `(gates * H, H)`, Keras' `recurrent_kernel` `(H, gates * H)`.
    """
    gates = {1: ("",), 3: ("r", "z", "n"), 4: ("i", "f", "g", "o")}
    keras = gates | {3: ("z", "r", "n")}
    out = []
    for name, shape in shapes.items():
        if len(shape) != 2:
            continue
        if "weight_hh_l" in name and shape[0] // shape[1] in gates:
            names = gates[shape[0] // shape[1]]
            twin = name.replace("weight_hh_l", "weight_ih_l")
            out.append(Rule(f"^({re.escape(name)}|{re.escape(twin)})$", "lstm", split_rows(*names), 2))
        elif name.endswith("recurrent_kernel") and shape[1] // shape[0] in gates:
            names = keras[shape[1] // shape[0]]
            twin = name.removesuffix("recurrent_kernel") + "kernel"
            out.append(Rule(f"^({re.escape(name)}|{re.escape(twin)})$", "lstm", split_columns(*names), 2))
        elif name.endswith("c_attn.weight") and shape[0] == 3 * shape[1]:
            out.append(Rule(f"^{re.escape(name)}$", "attention_*", split_rows(*_QKV), 2, 0))
            twin = name.replace("c_attn", "c_proj")
            out.append(Rule(f"^{re.escape(twin)}$", "attention_out", dense, 2, 1))
        elif name.endswith("c_attn.weight") and shape[1] != 3 * shape[0]:
            out.append(Rule(f"^{re.escape(name)}$", "attention_qkv", dense, 2))
    return out


def _convolution(conv: str) -> Unfold:
    if conv not in ("slices", "unfold"):
        raise ValueError(f"conv is {conv!r}: it must be 'slices' or 'unfold'")
    return conv_slices if conv == "slices" else conv_unfold


# The table of a layout, as `checkpoints.open` tells it.
TABLES = {"flax": default_rules, "keras": keras_rules, "torch": torch_rules}
