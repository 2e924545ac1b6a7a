"""How each tensor is laid out as matrices: tables of rules. The first rule that matches decides.

There is a table for the names and layouts of Flax (`encoder/block_0/mlp/up/kernel`), one for Keras
(`layers/conv2d_1/kernel`), and one for torch, Hugging Face and ONNX
(`encoder.layer.0.intermediate.dense.weight`).
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from rmtjax.spectra.layouts import (
    Unfold,
    conv_slices,
    conv_unfold,
    cut,
    dense,
    from_torch,
    heads_in,
    heads_out,
    leading_one,
    left_out,
    of_channels,
    position_grid,
    scanned,
    split_axis_one,
    split_columns,
    split_rows,
)

# The first axis of a kernel inside such a module may count layers: `layers/kernel`, not `layers/3/kernel`.
_STACK = r"(^|/)(layers|blocks|encoderblock)(?=/)(?!/\d)"
_PATCHES = r"(?i)(^|/)[^/]*patch[^/]*/kernel$"
_IN_MLP = "(mlp|ffn|feed_?forward|relu_?dense)"
_MLP = rf"(?i)(^|/)([^/]*{_IN_MLP}[^/]*/(.*/)?|(intermediate|output)/dense/|fc_?[12]/)kernel$"
_QKV = ("query", "key", "value")
# What torch and Hugging Face call the projections of attention, also in their Flax models.
_NAMES = {
    "query": r"(q|query|q_lin|wq)(_proj)?",
    "key": r"(k|key|k_lin|wk)(_proj)?",
    "value": r"(v|value|v_lin|wv)(_proj)?",
    "out": "(o|o_proj|out|out_proj|out_lin|wo|proj|dense|c_proj|output/dense)",
}
_VECTORS = left_out("bias or scale: vectors, not a matrix")
_NAMED_BIAS = left_out("a bias, a scale or a causal mask by its name, not a matrix of weights")
_TOKEN = left_out("a token: one vector")
_STATE = left_out("the decay of each state, not a matrix that multiplies")
_BUFFER = left_out("a mask, a cache or computed positions: not trained")
# Masks, caches, and the angles of rotary positions, whose names end so in every layout.
_BUFFERS = (
    r"(?i)(^|[._/])(masked_bias|mask|alibi|slopes|tril|triu"
    r"|cos|sin|cos_sin|inv_freq|freqs?(_(cis|cos|sin|complex))?"
    r"|cached_(key|value)|((cos|sin|cos_sin|key|value|k|v|kv|rope|freqs)_)(cached?|table|buffer))$"
)
_TABLE = left_out("a table of relative positions with more than two axes: give a rule for it")
_RELATIVE = (
    r"(?i)(^|[._/])(rel(ative)?_?pos(ition)?(_(bias|emb[a-z]*))?(_table|_[hw])?|attention_biases"
    r"|rel_embedding|relative_attention_bias)((\.weight)|/embedding)?$"
)


class Rule(NamedTuple):
    """One row of the table.

    Attributes:
      pattern: regex, searched for in the tensor's path.
      kind: of layer, as in the table of results: "dense", "conv", "attention_query", "mlp", ... A star stands
        for the name in brackets in the suffix of each matrix.
      unfold: tensor -> `{suffix of the name: [rows, columns] or [slices, rows, columns]}`, or a sentence that
        says why this tensor has no matrix. A tensor that is one matrix has the suffix "".
      ndim: the number of dimensions that the rule is for; None: any.
      head_axis: the axis of each matrix [rows, columns] along which the attention heads follow one another;
        None: there are no heads, or they cannot be told apart.
    """

    pattern: str
    kind: str
    unfold: Unfold
    ndim: int | None = None
    head_axis: int | None = None


def default_rules(conv: str = "slices") -> tuple[Rule, ...]:
    """The table for Flax trees.

    A stack of layers made by `nn.scan` has one dimension more than a single layer. This dimension is enough
    to recognise it in an MLP and in attention with split heads. Elsewhere the stack must also lie inside a
    module `layers` or `blocks` without a number.

    Args:
      conv: "slices" pools the eigenvalues of the taps' matrices, as WeightWatcher does; "unfold" takes the
        kernel as one matrix of `taps * inputs` rows.

    >>> rules = (rule for rule in default_rules() if rule.ndim in (None, 2))
    >>> next(rule.kind for rule in rules if re.search(rule.pattern, "encoder/block_0/mlp/up/kernel"))
    'mlp'
    """
    convolution = _convolution(conv)
    in_attention = r"(?i)(^|/)[^/]*att[^/]*/(self/|attention/)?"
    attention = [
        Rule(r"(^|/)(qkv|in_proj|c_attn)/kernel$", "attention_*", split_axis_one(*_QKV), 4, 1),
        # `in_proj` is Mamba's too, with other parts.
        Rule(
            r"(^|/)(qkv|c_attn|[^/]*[Aa]tt[^/]*/in_proj)/kernel$", "attention_*", split_columns(*_QKV), 2, 1
        ),
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
            Rule(rf"{in_attention}{_NAMES[name]}/kernel$", kind, dense, 2, axis),
        ]
    position = r"(?i)(^|[/_])pos(ition)?([_-]?emb[^/]*)?(_?\d+)?(/embedding)?$"
    tokens = r"(^|/)((word|tok(en)?|token_type|segment|shared|input)_?)?embeddings?(_table)?$"
    return (
        Rule(r"(^|/)(bias|scale|mean|var)$", "bias", _VECTORS),
        Rule(r"(?i)(^|/)(cls|class|mask|dist|register|probe)(_?tokens?)?$", "token", _TOKEN),
        Rule(_BUFFERS, "buffer", _BUFFER),
        Rule(_RELATIVE, "position_embedding", dense, 2),
        Rule(_RELATIVE, "position_embedding", _TABLE),
        Rule(position, "position_embedding", position_grid, 4),
        Rule(position, "position_embedding", leading_one, 3),
        Rule(position, "position_embedding", dense, 2),
        Rule(tokens, "embedding", dense, 2),
        Rule(_PATCHES, "patch_embedding", conv_unfold),
        Rule(r"(^|/)embed[^/]*/kernel$", "patch_embedding", conv_unfold, 4),
        *attention,
        Rule(r"(?i)(^|/)([^/]*head|classifier|logits(_dense)?)/kernel$", "head", dense, 2),
        Rule(_MLP, "mlp", dense, 2),
        Rule(_MLP, "mlp", scanned(dense), 3),
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
    """The table for Keras, which stacks no layers: `layers/` is a folder. `conv`: see `default_rules`."""
    convolution = _convolution(conv)
    return (
        Rule(r"(^|/)(bias|gamma|beta|moving_(mean|variance))$", "bias", _VECTORS),
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
    )


def _keras_depthwise(kernel: np.ndarray) -> dict[str, np.ndarray]:
    """`(*window, channels, multiplier) -> (taps, channels * multiplier)`."""
    return {"": kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1])}


def torch_rules(conv: str = "slices") -> tuple[Rule, ...]:
    """The table for state dicts of torch and Hugging Face, and for ONNX. `conv`: see `default_rules`."""
    convolution = from_torch(_convolution(conv))
    end = r"(\.weight)?$"
    fused = r"(^|[._])(in_proj_weight|qkv(_proj)?\.weight|Wqkv\.weight|W_pack\.weight)$"
    # The parts alternate head by head: without the number of heads this is one matrix.
    alternating = (
        r"(^|[._])(query_key_value|linear_qkv|wqkv|[^.]*[Aa]tt[^.]*\.(self\.)?in_proj)\.weight$"
        r"|(^|\.)single_blocks\.\d+\.linear1\.weight$"  # of Flux, with the MLP
    )
    attention_out = (
        r"(?i)(^|[._])(o_proj|out_proj|out_lin|to_out(\.0)?|to_add_out|attn_output"
        r"|[^.]*att[^.]*\.(proj|o|out|output|wo|dense)|[^.]*att[^.]*\.output\.dense)\.weight$"
    )
    attention = [
        Rule(alternating, "attention_qkv", dense, 2),
        Rule(r"(^|[._])kv_(a_proj_with_mqa|a_mqa|b|b_proj)\.weight$", "attention_kv", dense, 2),
        Rule(r"(^|[._])kv(_proj)?\.weight$", "attention_*", split_rows("key", "value"), 2, 0),
        Rule(fused, "attention_*", split_rows(*_QKV), 2, 0),
        # GPT-2's own layer, Conv1D, is (in, out).
        Rule(r"(^|\.)c_attn\.weight$", "attention_*", split_columns(*_QKV), 2, 1),
        Rule(r"(?i)(^|\.)[^.]*att[^.]*\.c_proj\.weight$", "attention_out", dense, 2, 0),
        Rule(r"(^|[._])q_[ab](_proj)?\.weight$", "attention_query", dense, 2),
        *(
            Rule(rf"(^|[._]){_NAMES[name]}\.weight$", f"attention_{name}", dense, 2, 0)
            for name in ("query", "key", "value")
        ),
        Rule(attention_out, "attention_out", dense, 2, 1),
    ]
    within_mlp = rf"(?i)(^|\.)[^.]*{_IN_MLP}[^.]*"
    mlp = (
        r"(?i)(^|\.)(ff(_context)?\.net\..*|intermediate\.dense|output\.dense|fc_?[12]|c_fc"
        r"|lin[12]|linear[12]|wi(_\d)?|(gate|up|down)_proj|w[123])\.weight$"
    )
    token = r"(?i)(^|[._])(cls|class|mask|dist(illation)?|reg(ister)?|probe)(_(token|embedding|pos)s?)?$"
    position = (
        r"(?i)(^|[._])(pos(ition)?(al)?_?(emb|enc)[a-z]*|abs_pos|embed_positions|pos(ition)?_table|wpe|pe)"
    )
    tokens = (
        r"(?i)(^|\.)((tok(en)?|word|token_type|segment)_?emb[a-z]*|wte|embed_tokens|embeddings?|emb|shared)"
    )
    # `norm1.linear` is the modulation of a block.
    head = (
        r"(?i)((^|\.)(lm_head(\.decoder)?|predictions\.decoder|output_layer|embed_out"
        r"|classifier|score|logits|head|fc)"
        r"|^(model\.)?output|^linear"
        r"|(?<!norm)(?<!norm\d)(?<!norm\d_context)(?<!norm_out)\.linear)(\.(weight|\d+\.weight))$"
    )
    patches = r"(?i)(^|\.)(patch_?embed[a-z]*|visual\.conv1|embeddings\.patch)[^/]*$"
    return (
        Rule(token, "token", _TOKEN),
        Rule(_BUFFERS, "buffer", _BUFFER),
        Rule(_RELATIVE, "position_embedding", dense, 2),
        Rule(_RELATIVE, "position_embedding", _TABLE),
        Rule(r"(?i)(^|[._])(bias(es|_[kv]|_[ih]h_\w+)?|(layer_?)?scales?)$", "bias", _NAMED_BIAS),
        Rule(position + end, "position_embedding", position_grid, 4),
        Rule(position + end, "position_embedding", leading_one, 3),
        Rule(position + end, "position_embedding", dense, 2),
        Rule(tokens + end, "embedding", dense, 2),
        Rule(r"(^|[._])(A_log|time_(decay|first|faaaa))$", "state", _STATE),
        Rule(r"(^|\.)(gate_up_proj|w12)\.weight$", "mlp", split_rows("gate", "up"), 2),
        Rule(within_mlp + r"\.[^.]+\.weight$", "mlp", dense, 2),
        *attention,
        Rule(r"(?i)(^|\.)([^.]*expert[^.]*\..*|[^.]*_exps\.weight$)", "expert", scanned(dense), 3),
        Rule(head, "head", dense, 2),
        Rule(within_mlp + r"(\..*)?\.weight$", "mlp", dense, 2),
        Rule(mlp, "mlp", dense, 2),
        Rule(patches, "patch_embedding", from_torch(conv_unfold), 4),
        Rule(r"(?i)conv", "conv", convolution, 3),
        *(Rule(r"(?i)(weight|conv[^.]*)$", "conv", convolution, ndim) for ndim in (4, 5)),
        *(Rule(r"", "conv", of_channels(convolution), ndim) for ndim in (4, 5)),
        Rule(r"", "dense", dense, 2),
    )


def shape_rules(shapes: dict[str, tuple[int, ...]], num_heads: int = 0, num_kv_heads: int = 0) -> list[Rule]:
    """Rules for tensors whose shapes alone tell how they are fused, or that they are biases of a stack.

    The recurrent tensor of a layer tells the hidden width H, and so the number of gates: torch's
    `weight_hh_l0` is `(gates * H, H)`, Keras' `recurrent_kernel` is `(H, gates * H)`. `c_attn` is `(D, 3 D)`
    in GPT-2. It is `(3 D, D)` where it is a Linear layer, and in Hugging Face's Flax model; then `c_proj`
    beside it has its outputs first too. The projections of a state space model (`A_log`) are no attention.
    Where keys are fewer than queries, the output projection beside a fused tensor tells how many queries
    there are.
    """
    gates = {1: ("",), 3: ("r", "z", "n"), 4: ("i", "f", "g", "o")}
    keras = gates | {3: ("z", "r", "n")}
    modules = _modules(shapes)
    out = []
    for name, shape in shapes.items():
        if _is_stacked_bias(name, shape, shapes, modules):
            out.append(Rule(f"^{re.escape(name)}$", "bias", _VECTORS))
        if name.endswith("A_log"):
            of_states = f"^{re.escape(_module(name))}(in|out|x|dt)_proj\\.weight$"
            out.append(Rule(of_states, "dense", dense, 2))
        fused = _FUSED.search(name)
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
        elif re.search(r"c_attn(\.weight|/kernel)$", name) and shape[0] == 3 * shape[1]:
            out.append(Rule(f"^{re.escape(name)}$", "attention_*", split_rows(*_QKV), 2, 0))
            twin = name.replace("c_attn", "c_proj")
            out.append(Rule(f"^{re.escape(twin)}$", "attention_out", dense, 2, 1))
        elif fused and (rule := _fused_rule(name, shape, shapes, num_heads, num_kv_heads)) is not None:
            out.append(rule)
    return out


_FUSED = re.compile(
    r"(^|[._])(in_proj_weight|((?<!linear_)qkv(_proj)?|Wqkv|c_attn)\.weight)$"
    r"|(^|/)(qkv|c_attn|[^/]*[Aa]tt[^/]*/in_proj)/kernel$"
)
_OUTPUTS = (
    "out",
    "proj",
    "out_proj",
    "o_proj",
    "c_proj",
    "to_out.0",
    "to_out",
    "out_lin",
    "attn_output",
    "dense",
    "wo",
    "o",
)
_STACKED_BIAS = re.compile(r"(?i)(^|[./])(b\d?|b_[a-z]+|[^./]*_b|[^./]*bias[^./]*|offset)$")


def _modules(names: Iterable[str]) -> dict[str, list[str]]:
    """The names of the tensors directly inside each module, `a/b/`."""
    modules: dict[str, list[str]] = {}
    for name in names:
        modules.setdefault(_module(name), []).append(name)
    return modules


def _module(name: str) -> str:
    return name[: max(name.rfind("."), name.rfind("/")) + 1]


def _is_stacked_bias(
    name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]], modules: dict[str, list[str]]
) -> bool:
    """Whether a tensor `(layers, outputs)` called `b` is the bias of a `(layers, inputs, outputs)` beside it.

    In torch outputs come before inputs.
    """
    if len(shape) < 2 or not _STACKED_BIAS.search(name):
        return False
    beside = (shapes[other] for other in modules[_module(name)])
    stacks = (other for other in beside if len(other) == len(shape) + 1 and other[0] == shape[0])
    return any(shape[-1] in other[-2:] for other in stacks)


def _fused_rule(
    name: str,
    shape: tuple[int, ...],
    shapes: Mapping[str, tuple[int, ...]],
    num_heads: int,
    num_kv_heads: int,
) -> Rule | None:
    """The rule for queries, keys and values in one tensor; None if they are three equal parts."""
    axis = 1 if name.endswith("kernel") else 0
    size, heads = shape[axis], num_heads + 2 * num_kv_heads
    queries = _queries(name, shape, axis, shapes)
    if not queries and num_kv_heads and size % heads == 0:
        queries = size // heads * num_heads
    keys, odd = divmod(size - queries, 2)
    only = f"^{re.escape(name)}$"
    if queries and not odd and 0 < keys < queries and queries % keys == 0:
        return Rule(only, "attention_*", cut(_QKV, (queries, keys, keys), axis), 2, axis)
    if 3 * queries == size or shape[0] == 3 * shape[1] or shape[1] == 3 * shape[0]:
        return None
    if "c_attn" in name:
        return Rule(only, "attention_qkv", dense, 2)
    word = "columns" if axis else "rows"
    reason = f"its {size} {word} are not three times the width, so that keys may be fewer than queries"
    return Rule(only, "attention", left_out(f"{reason}: give num_heads and num_kv_heads, or a rule for it"))


def _queries(name: str, shape: tuple[int, ...], axis: int, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many rows (columns in Flax) of a fused tensor are queries, by the output projection; 0: unknown."""
    module = _module(name if name.endswith("in_proj_weight") else _module(name)[:-1])
    end = "/kernel" if axis else ".weight"
    for part in _OUTPUTS:
        other = shapes.get(f"{module}{part}{end}", ())
        # The width of the model: the first axis in torch, the last one in Flax.
        if len(other) >= 2 and other[-axis] == shape[1 - axis]:
            return int(np.prod(other)) // other[-axis]
    return 0


def stack_axes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The axis that counts layers, for tensors of stacks where it is not the first one (Flax's names).

    It is the axis whose length all tensors of a stack share; if there are several, the first. A stack is
    what lies below a module `layers` or the like, or else below the module that holds the attention or MLP.
    Its kernels have an axis more than those of one layer, and none of its tensors has a single axis.
    """
    stacks: dict[str, list[str]] = {}
    for name in shapes:
        root = re.match(rf".*?{_STACK}/", name) or re.match(r"(?i)(.*?/)?(?=[^/]*(att|mlp|ffn)[^/]*/)", name)
        if root:
            stacks.setdefault(root[0], []).append(name)
    out: dict[str, int] = {}
    for names in stacks.values():
        of_stack = [shapes[name] for name in names]
        if min(map(len, of_stack)) < 2 or not any(_of_stack(name, shapes[name]) for name in names):
            continue
        lengths = {axis: {s[axis] for s in of_stack if -len(s) <= axis < len(s)} for axis in (0, 1, -1, -2)}
        axis = next((axis for axis, found in lengths.items() if len(found) == 1), 0)
        out |= dict.fromkeys(names, axis) if axis else {}
    return out


def _of_stack(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a kernel has one axis more than it has in a single layer."""
    attention = re.search(r"(^|/)(query|key|value|[^/]*[Aa]tt[^/]*/out)/kernel$", name)
    dense = re.search(_MLP, name) or (re.search(_STACK, name) and re.search(r"(?<!conv)/kernel$", name))
    return len(shape) == (4 if attention else 3 if dense else 0)


def _convolution(conv: str) -> Unfold:
    if conv not in ("slices", "unfold"):
        raise ValueError(f"conv is {conv!r}: it must be 'slices' or 'unfold'")
    return conv_slices if conv == "slices" else conv_unfold


# The table of a layout, as `checkpoints.open` tells it.
TABLES = {"flax": default_rules, "keras": keras_rules, "torch": torch_rules}
