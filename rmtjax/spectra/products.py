"""Products within attention: W_Q W_K^T and W_V W_O, one matrix a head.

With weights [in, out] a head scores the token x against y by x W_Q W_K^T y^T, and hands y W_V W_O on. Only
the products act: W_Q A and W_K A^-T give the same model as W_Q and W_K. Weight decay on the factors lowers
the rank of the products (Kobayashi et al., arXiv 2410.23819). Biases are left out, and so are the rotations
of rotary positions, which stand between the two factors.

A product of width D has rank Dh, the width of the head. With W_Q = Q R and W_K = Q' R' its nonzero singular
values are those of R R'^T, which is Dh x Dh: that matrix is analysed, and the D x D product is never formed.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

KINDS = ("attention_qk", "attention_vo")
_PAIRS = (("query", "key", KINDS[0]), ("value", "out", KINDS[1]))


class Product(NamedTuple):
    """The matrix L R^T of two factors `[rows, inner]`.

    Attributes:
      name, kind: of the matrix.
      shape: (rows of L, rows of R, inner).
      load: reads L and R.
      noise: whether independent noise in both factors is what training starts from; not so of an update.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    load: Callable[[], tuple[np.ndarray, np.ndarray]]
    noise: bool = True

    @property
    def sides(self) -> tuple[int, int]:
        """N and M of the small matrix, N >= M."""
        left, right, inner = self.shape
        small = min(left, inner), min(right, inner)
        return max(small), min(small)

    def small(self) -> Float[np.ndarray, "1 N M"]:
        """A matrix with the nonzero singular values of the product."""
        # Weights that are not finite are reported elsewhere.
        with np.errstate(invalid="ignore", over="ignore"):
            one, other = (np.linalg.qr(factor.astype(np.float64)).R for factor in self.load())
            matrix: np.ndarray = one @ other.T
        return (matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T)[None]

    def minus(self, before: "Product") -> "Product":
        """The update L R^T - L' R'^T = [L, -L'] [R, R']^T; its rank is up to twice that of the product."""
        left, right, inner = self.shape
        load = functools.partial(_side_by_side, self, before)
        return self._replace(shape=(left, right, inner + before.shape[2]), load=load, noise=False)


def _side_by_side(after: Product, before: Product) -> tuple[np.ndarray, np.ndarray]:
    (left, right), (old_left, old_right) = (
        [factor.astype(np.float64) for factor in one.load()] for one in (after, before)
    )
    return np.concatenate([left, -old_left], 1), np.concatenate([right, old_right], 1)


class Projection(NamedTuple):
    """A projection of attention, all heads together.

    Attributes:
      name, kind: of the matrix.
      shape: [rows, columns].
      axis: along which the heads follow one another.
      heads: their number; 0: it is not known.
      load: reads the matrix.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    axis: int
    heads: int
    load: Callable[[], np.ndarray]

    @property
    def width(self) -> int:
        """Of the model."""
        return self.shape[1 - self.axis]

    @property
    def head_width(self) -> int:
        return self.shape[self.axis] // self.heads

    def head(self, index: int) -> Float[np.ndarray, "width head_width"]:
        whole = self.load() if self.axis == 1 else self.load().T
        return whole[:, index * self.head_width : (index + 1) * self.head_width]


def heads_by_shape(shape: Sequence[int], kind: str, joined: int) -> int:
    """The number of heads that a tensor with an axis of heads tells; 0: it has none.

    >>> heads_by_shape((96, 12, 8), "attention_query", 96), heads_by_shape((96, 96), "attention_key", 96)
    (12, 0)
    """
    heads = tuple(shape[-3:-1] if kind == "attention_out" else shape[-2:])
    return heads[0] if len(shape) > 2 and math.prod(heads) == joined else 0


def within_attention(projections: Sequence[Projection]) -> tuple[list[Product], dict[str, str]]:
    """The products of all heads, and a dict from what has no product to the reason.

    Queries and keys (values and outputs) belong together where each shares more of its name with the other
    than with any other key (query). Where several query heads share a head of keys, each is paired with it.

    Raises:
      ValueError: the number of heads is not known, or makes heads of different widths.
    """
    found: list[Product] = []
    without: dict[str, str] = {}
    for one, other, kind in _PAIRS:
        left, right = ([p for p in projections if p.kind == f"attention_{side}"] for side in (one, other))
        pairs = list(_pairs(left, right))
        paired = {projection.name for pair in pairs for projection in pair}
        for projection in (*left, *right):
            if projection.name not in paired:
                without[f"product of {projection.name}"] = f"no {one} and {other} that belong together"
        for first, second in pairs:
            found += _heads(first, second, kind)
    if not found:
        without["products"] = "no attention whose query and key, or value and out, are matrices of their own"
    return found, without


def _heads(first: Projection, second: Projection, kind: str) -> Iterator[Product]:
    for projection in (first, second):
        if not projection.heads:
            raise ValueError(
                f"products needs num_heads: shape {projection.shape} of {projection.name} does not tell the"
                " number of heads"
            )
    heads, widths = (first.heads, second.heads), (first.head_width, second.head_width)
    if widths[0] != widths[1] or max(heads) % min(heads):
        raise ValueError(
            f"{first.name} has {heads[0]} heads {widths[0]} wide, {second.name} has {heads[1]} heads"
            f" {widths[1]} wide: give num_heads and num_kv_heads, the number of heads of keys and values"
        )
    stack = _stack(first.name)
    prefix = "".join(_shared(first.name, second.name)[len(stack) :])
    for head in range(max(heads)):
        places = [head * count // max(heads) for count in heads]
        yield Product(
            f"{prefix}{kind.removeprefix('attention_')}{''.join(stack)}[head {head}]",
            kind,
            (first.width, second.width, widths[0]),
            functools.partial(_factors, first, second, *places),
        )


def _factors(first: Projection, second: Projection, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    return first.head(i), second.head(j)


def _pairs(
    left: Sequence[Projection], right: Sequence[Projection]
) -> Iterator[tuple[Projection, Projection]]:
    for one in left:
        other = max(right, key=lambda p: len(_shared(one.name, p.name)), default=None)
        if other is not None and max(left, key=lambda p: len(_shared(p.name, other.name))) is one:
            yield one, other


def _shared(one: str, other: str) -> list[str]:
    """The parts with which both names begin."""
    both = zip(_parts(one), _parts(other), strict=False)
    return [part for part, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], both)]


@functools.lru_cache(maxsize=1024)
def _parts(name: str) -> list[str]:
    """A name's place in its stack of layers, if it has one, then the parts of its path."""
    return [*_stack(name), *re.split(r"(?<=[./_])", name)]


def _stack(name: str) -> list[str]:
    return re.findall(r"\[\d+\]$", name)
