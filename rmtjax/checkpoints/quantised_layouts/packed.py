"""Layouts that pack several weights into one number, or code them by a book; they are refused."""

import re

from rmtjax.checkpoints.contents import Verdict
from rmtjax.checkpoints.quantised_layouts.stored import Stored, last, module_of

# The last part of a tensor's name -> what the tensor is.
_PARTS = {
    "qweight": "GPTQ or AWQ: weights packed into int32",
    "qzeros": "GPTQ or AWQ: zero points",
    "scales": "GPTQ or AWQ: scales",
    "g_idx": "GPTQ: order of groups",
    "weight_packed": "compressed-tensors: weights packed into int32",
    "absmax": "bitsandbytes 4-bit: scales",
    "quant_map": "bitsandbytes 4-bit: code book",
    "nested_absmax": "bitsandbytes 4-bit: scales",
    "nested_quant_map": "bitsandbytes 4-bit: code book",
}
# Names of tensors that only such a layout has -> the layout. All tensors of their module are parts of it.
_LAYOUTS = {
    "qweight": "GPTQ or AWQ",
    "qzeros": "GPTQ or AWQ",
    "weight_packed": "compressed-tensors",
    "W_q": "HQQ",
    "codes": "AQLM",
    "codebooks": "AQLM",
    "centroids": "VPTQ",
    "q_weight": "EXL2",
    "q_scale_max": "EXL2",
    "trellis": "EXL3",
    "Qidxs": "QuIP#",
}
_CODES = (
    "weight_packed",
    "qweight",
    "W_q",
    "codes",
    "codebooks",
    "centroids",
    "q_weight",
    "trellis",
    "Qidxs",
)
_STATE = re.compile(r"\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.[^.]*)$")


def judge(name: str, tensors: Stored, layout: str) -> Verdict | None:
    """Refuses the rest of GPTQ, AWQ, compressed-tensors, HQQ, AQLM, VPTQ, EXL, QuIP# and 4-bit bitsandbytes.

    A bias is no part of the layout.
    """
    own = last(name)
    marks = [mark for mark in _LAYOUTS if module_of(name) + mark in tensors]
    reason = _PARTS.get(own) if own != "scales" or not marks or marks[0] in ("qweight", "qzeros") else None
    if not reason and marks and own != "bias":
        reason = f"{_LAYOUTS[marks[0]]}: {'codes' if own in _CODES else 'a part of it'}"
    if not reason and (_STATE.search(name) or f"{name}.absmax" in tensors):
        reason = f"bitsandbytes 4-bit: {'state' if _STATE.search(name) else 'weights, two in a byte'}"
    return Verdict(None, f"quantised layout that is not read ({reason})") if reason else None
