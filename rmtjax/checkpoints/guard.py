"""What stands between a file that somebody brings and whoever reads it.

Readers and the libraries they call raise exceptions of every kind for a file that is damaged or made to do
harm. `one_sentence` turns all of them into an `InputError` that names the file. `check_claims` refuses what a
header claims before memory is allocated for it. `optional` says which extra has the library of a format.
"""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping

from rmtjax.checkpoints.contents import Tensor
from rmtjax.errors import InputError, printable

# Weights hardly compress. What claims more than this many times its bytes on disk is damaged, or a bomb.
_MOST_EXPANSION = 100
HARMLESS = 1 << 26  # bytes that may be claimed by any file


@contextlib.contextmanager
def one_sentence(path: str | os.PathLike[str], problem: str) -> Iterator[None]:
    """Turns every exception of a reader, except InputError, into `'<path>' <problem>: <what it said>`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = printable(str(error).strip().split("\n")[0], 200)
        if not said or isinstance(error, LookupError):  # a KeyError says only the key
            said = f"{type(error).__name__} {said}".strip()
        raise InputError(f"{os.fspath(path)!r} {problem}: {said}") from error


@contextlib.contextmanager
def optional(path: str | os.PathLike[str], kind: str, library: str, extra: str) -> Iterator[None]:
    """Turns a failed import of a library inside the block into one sentence that names the extra.

    Args:
      path: the file that needs the library.
      kind: how messages call it, as "a torch file".
      extra: the extra of this package that installs the library.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{os.fspath(path)!r} is {kind}, and {library} is not installed: "
            f"pip install 'rmtjax[{extra}]', or save its weights as safetensors"
        ) from error


def check_claims(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], size: int) -> None:
    """Raises InputError if the shapes of a file of `size` bytes claim far more bytes than it can hold."""
    claimed = {name: math.prod(tensor.shape) * tensor.dtype.itemsize for name, tensor in tensors.items()}
    total = sum(claimed.values())
    if _too_much(total, size):
        largest = max(claimed, key=claimed.__getitem__)
        raise InputError(
            f"{os.fspath(path)!r} has {size:,} bytes and claims {total:,} bytes of weights, most of them for "
            f"{largest!r} of shape {tensors[largest].shape}: it is damaged, or made to fill the memory, so "
            "it is not read"
        )


def check_expansion(name: str, claimed: int, size: int) -> None:
    """Raises ValueError if a part of `size` bytes claims to hold far more."""
    if _too_much(claimed, size):
        raise ValueError(f"{name!r} has {size:,} bytes and claims {claimed:,}, too much for so few")


def _too_much(claimed: int, size: int) -> bool:
    return claimed > max(HARMLESS, _MOST_EXPANSION * size)
