"""Checksums of arrays that do not depend on how the arrays are laid out over devices.

The digest of an array is the sum modulo 2^32 of mix(word_i XOR i * GOLDEN) over its 32-bit words word_i, i
being the position in row-major order. A sum can be taken in any order and in parts, so an array sharded over
eight devices, or over two processes, has the digest it has on one. `mix` is a bijection, so a change of any
one element always changes the digest; any other damage escapes with probability 2^-32, as with a CRC-32.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

CHECKSUMS = "checksums.json"  # the file of a checkpoint that holds them
GOLDEN = 0x9E3779B1  # 2^32 / golden ratio, made odd: consecutive positions get words far apart
CHUNK = 1 << 15  # elements hashed at a time on the host, so that the temporaries stay in the cache

Entry = tuple[str, tuple[int, ...], int]  # dtype, shape, digest


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree under names such as "params/head/kernel" or "opt_state/0/count"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def digest_tree(tree: Any) -> dict[str, Entry]:
    """The dtype, shape and digest of every array of a pytree, by name.

    Arrays in host memory (numpy, or the CPU backend's where this process holds all of it) are hashed by
    numpy, which compiles nothing; all others on their devices, so that 4 bytes an array cross the bus.
    With several processes all must call this together, on the same tree.
    """
    arrays = {
        name: x if isinstance(x, jax.Array) else np.asarray(x) for name, x in named_leaves(tree).items()
    }
    sums = {
        name: _host_digest(np.asarray(x)) if _on_host(x) else _device_digest(x) for name, x in arrays.items()
    }
    sums = jax.device_get(sums)
    return {name: (str(x.dtype), tuple(x.shape), int(sums[name])) for name, x in arrays.items()}


def _on_host(x: Any) -> bool:
    if isinstance(x, np.ndarray):
        return True
    return x.is_fully_addressable and all(device.platform == "cpu" for device in x.devices())


def _words(x: Any) -> list[Any]:
    """The bits of an array (numpy or JAX) as one or two uint32 arrays of its shape."""
    if np.issubdtype(x.dtype, np.complexfloating):
        return _words(x.real) + _words(x.imag)
    if x.dtype == bool:
        return [x.astype(np.uint32)]
    bits = x.view(f"uint{8 * x.dtype.itemsize}")
    if x.dtype.itemsize == 8:
        return [(bits & 0xFFFFFFFF).astype(np.uint32), (bits >> 32).astype(np.uint32)]
    return [bits.astype(np.uint32)]


def _mix(word: Any, key: Any) -> Any:
    """MurmurHash3's 32-bit finaliser, a bijection of `word` for each key. In place on numpy's arrays."""
    h = word ^ key
    h ^= h >> 16
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> 13
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> 16
    return h


def _host_digest(x: np.ndarray) -> int:
    flat = x.reshape(-1)
    words = len(_words(flat[:0]))  # in one element
    keys = np.arange(min(CHUNK, flat.size), dtype=np.uint32) * np.uint32(words * GOLDEN % 2**32)
    total = 0
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK]
        for k, word in enumerate(_words(chunk)):
            first = np.uint32((start * words + k) * GOLDEN % 2**32)
            total += int(_mix(word, keys[: chunk.size] + first).sum(dtype=np.uint32))
    return total % 2**32


@jax.jit
def _device_digest(x: jax.Array) -> jax.Array:
    words = _words(jnp.atleast_1d(x))
    shape = words[0].shape
    keys = jnp.zeros(shape, jnp.uint32)
    stride = len(words)
    for axis in reversed(range(len(shape))):  # no reshape: a sharded array stays where it is
        iota = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        keys += iota * np.uint32(stride * GOLDEN % 2**32)
        stride *= shape[axis]
    first = [np.uint32(k * GOLDEN % 2**32) for k in range(len(words))]
    return sum(_mix(word, keys + key).sum(dtype=jnp.uint32) for word, key in zip(words, first, strict=True))
