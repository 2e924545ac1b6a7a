"""A small training state, laid out over any of the eight emulated devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec


class State(NamedTuple):
    step: Any
    params: Any
    model_state: Any
    opt_state: Any


def mesh(data: int, fsdp: int) -> jax.sharding.Mesh:
    devices = np.array(jax.devices()[: data * fsdp]).reshape(data, fsdp)
    return jax.sharding.Mesh(devices, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


@jax.jit  # else every operation is compiled alone
def make_state(step: Any) -> State:
    keys = jax.random.split(jax.random.key(step), 3)
    params = {
        "encoder": {
            "kernel": jax.random.normal(keys[0], (64, 128)),
            "bias": jax.random.normal(keys[1], (24,)).astype(jnp.bfloat16),
        },
        "head": {"kernel": jax.random.normal(keys[2], (128, 10)), "scale": jnp.float32(2)},
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    _, opt_state = optimizer.update(params, optimizer.init(params), params)
    return State(jnp.asarray(step, jnp.int32), params, {}, opt_state)


class States:
    """What the tests make, place and compare."""

    @staticmethod
    def make(step: int, data: int = 1, fsdp: int = 1) -> State:
        state = make_state(step)
        return jax.device_put(state, jax.tree.map(lambda x: x.sharding, States.abstract(data, fsdp)))

    @staticmethod
    def abstract(data: int = 1, fsdp: int = 1) -> State:
        """Arrays are split over `fsdp` along the first axis it divides, as training does it."""
        layout = mesh(data, fsdp)

        def place(x: Any) -> jax.ShapeDtypeStruct:
            axis = next((i for i, size in enumerate(x.shape) if size % fsdp == 0), None)
            spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "fsdp")
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(layout, spec))

        return jax.tree.map(place, jax.eval_shape(make_state, 0))

    @staticmethod
    def assert_equal(left: Any, right: Any) -> None:
        assert jax.tree.structure(left) == jax.tree.structure(right)
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture(scope="session")
def states() -> type[States]:
    return States
