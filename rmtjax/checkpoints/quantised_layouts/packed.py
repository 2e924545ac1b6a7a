"""Layouts that pack several weights into one number; they are refused."""

from collections.abc import Mapping

from rmtjax.checkpoints.contents import Tensor, Verdict

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


def judge(name: str, tensors: Mapping[str, Tensor], layout: str) -> Verdict | None:
    """Refuses tensors of GPTQ, AWQ, compressed-tensors and 4-bit bitsandbytes."""
    reason = _PARTS.get(_last(name))
    if ".quant_state." in name and any(_last(other) in _PARTS for other in tensors):
        reason = reason or "bitsandbytes 4-bit: state"
    return Verdict(None, f"quantised layout that is not read ({reason})") if reason else None


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]
