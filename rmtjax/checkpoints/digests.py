"""Checksums of arrays that do not depend on how an array is sharded over devices.

The digest of an array is the sum modulo 2^32 of mix(word_i XOR i * GOLDEN) over its 32-bit words word_i,
where i is the position in row-major order. A sum can be taken in any order and in parts, so an array has the
same digest on one device, on eight, and over two processes. `mix` is a bijection, so a change of one element
always changes the digest; other damage goes unseen with probability 2^-32, as with a CRC-32.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

GOLDEN = 0x9E3779B1  # 2^32 / golden ratio, rounded to an odd number: spreads consecutive positions
CHUNK = 1 << 15  # elements hashed at a time on the host, so that temporary arrays stay in the cache

Entry = tuple[str, tuple[int, ...], int]  # dtype, shape, digest


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by names such as "params/head/kernel" or "opt_state/0/count"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def digest_tree(tree: Any) -> dict[str, Entry]:
    """The dtype, shape and digest of every array of a pytree, by name.

    Arrays in host memory (numpy arrays, and arrays on CPU devices that this process holds entirely) are
    hashed by numpy, which compiles nothing. All others are hashed on their devices, so that only 4 bytes of
    each array are copied to the host. If there are several processes, all must call this together, on the
    same tree.
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
    """The 32-bit finaliser of MurmurHash3: for each key, a bijection of `word`. Numpy works in place."""
    h = word ^ key
    h ^= h >> 16
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> 13
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> 16
    return h


def _host_digest(x: np.ndarray) -> int:
    flat = x.reshape(-1)
    words = len(_words(flat[:0]))  # words of one element
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
    for axis in reversed(range(len(shape))):  # no reshape, which could move a sharded array
        iota = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        keys += iota * np.uint32(stride * GOLDEN % 2**32)
        stride *= shape[axis]
    first = [np.uint32(k * GOLDEN % 2**32) for k in range(len(words))]
    return sum(_mix(word, keys + key).sum(dtype=jnp.uint32) for word, key in zip(words, first, strict=True))
