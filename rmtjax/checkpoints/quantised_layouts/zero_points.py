"""8-bit layouts with a zero point; they are refused."""

from collections.abc import Mapping

from rmtjax.checkpoints.contents import Tensor, Verdict
from rmtjax.checkpoints.quantised_layouts import eight_bits

_ENDS = ("_zero_point", "_zero_points", "_zp")


def judge(name: str, tensors: Mapping[str, Tensor], layout: str) -> Verdict | None:
    """Refuses an 8-bit tensor `X` with a zero point `X_zero_point`; its parts are no weights either."""
    zero = next((name + end for end in _ENDS if name + end in tensors), None)
    if zero is None or not eight_bits.is_matrix(tensors[name]):
        return None
    scale = eight_bits.scale_of(name, tensors)
    parts = frozenset(part for part in (zero, scale) if part is not None)
    return Verdict(None, "quantised layout that is not read (a zero point beside it)", parts)
