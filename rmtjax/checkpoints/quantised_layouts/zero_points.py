"""8-bit layouts with a zero point; they are refused."""

import re

from rmtjax.checkpoints.contents import Verdict
from rmtjax.checkpoints.quantised_layouts.stored import Stored, is_eight_bits, last

_ZERO = re.compile(r"(?i)(^|_)(zero(_?point)?s?|zp|zeros|shift|qzeros)$")


def judge(name: str, tensors: Stored, layout: str) -> Verdict | None:
    """Refuses an 8-bit tensor with a zero point beside it; its parts are no weights either."""
    if not is_eight_bits(tensors[name]):
        return None
    zeros = [other for other in tensors.beside(name) if _ZERO.search(last(other))]
    own = zeros if tensors.is_alone(name) else [zero for zero in zeros if zero.startswith(name)]
    if not own or name in own:
        return None
    scale = tensors.scale_of(name)
    parts = frozenset(own) | ({scale} if scale else set())
    return Verdict(None, "quantised layout that is not read (a zero point beside it)", parts)
