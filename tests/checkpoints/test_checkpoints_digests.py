import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rmtjax.checkpoints import digests
from rmtjax.checkpoints.digests import _device_digest, digest_tree, named_leaves


def reference(x: np.ndarray) -> int:
    """The definition, word by word."""
    words = np.frombuffer(x.tobytes(), {8: "<u4", 4: "<u4", 2: "<u2", 1: "u1"}[x.dtype.itemsize])
    total = 0
    for i, word in enumerate(words.tolist()):
        h = word ^ (i * 0x9E3779B1) % 2**32
        h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
        h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
        total += h ^ h >> 16
    return total % 2**32


DTYPES = ["float32", "float16", ml_dtypes.bfloat16, "int32", "uint8", "bool", "float64"]


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(dtype, (3, 5, 4)) for dtype in DTYPES]
    + [("float32", ()), ("float32", (40_000, 2)), ("float64", (40_000,))],
)
def test_host_and_device_agree_with_the_definition(dtype, shape):
    x = np.asarray(np.random.default_rng(0).normal(size=shape) * 9).astype(dtype)
    (entry,) = digest_tree({"x": x}).values()
    assert entry == (str(x.dtype), shape, reference(x))
    with jax.enable_x64(x.dtype == np.float64):
        assert int(_device_digest(jnp.asarray(x))) == entry[2]


def test_the_layout_over_devices_does_not_matter():
    x = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    mesh = jax.sharding.Mesh(
        np.array(jax.devices()).reshape(2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2
    )
    for spec in [(), ("a",), ("a", "b"), (None, "b"), (("a", "b"),)]:
        sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
        assert int(_device_digest(sharded)) == digest_tree([sharded])["0"][2] == reference(x)


def test_a_tree_hashed_on_devices(states, monkeypatch):
    state = states.make(1, 2, 4)
    on_host = digest_tree(state)
    monkeypatch.setattr(digests, "_on_host", lambda x: isinstance(x, np.ndarray))  # as if on a GPU
    assert digest_tree(state) == on_host


def test_every_flipped_bit_and_every_exchange_is_seen():
    x = np.random.default_rng(0).normal(size=64).astype(np.float32)
    good = reference(x)
    seen = set()
    for byte in range(x.nbytes):
        for bit in range(8):
            data = bytearray(x.tobytes())
            data[byte] ^= 1 << bit
            seen.add(digest_tree([np.frombuffer(data, np.float32)])["0"][2])
    assert good not in seen
    assert good != reference(x[::-1].copy())
    assert reference(np.zeros(4, np.float32)) != reference(np.zeros(5, np.float32))


def test_not_a_number_and_minus_zero_keep_their_bits():
    x = np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)
    assert int(_device_digest(jnp.asarray(x))) == digest_tree([x])["0"][2] == reference(x)
    assert reference(x) != reference(np.array([np.nan, 0.0, np.inf, 1e-45], np.float32))


def test_names():
    tree = {"a": {"b": 1}, "c": [2, (3,)]}
    assert list(named_leaves(tree)) == ["a/b", "c/0", "c/1/0"]
