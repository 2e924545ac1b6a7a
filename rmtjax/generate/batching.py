"""Many samples by one compiled program, a batch at a time, over all devices."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from rmtjax.train import sharding as sharding_lib


def in_batches(
    program: Callable[[Any, dict[str, jax.Array]], jax.Array], mesh: jax.sharding.Mesh, batch_size: int
) -> Callable[[Any, Mapping[str, Shaped[np.ndarray, "n ..."]]], Shaped[np.ndarray, "n ..."]]:
    """`run(params, columns) -> samples` of `program(params, batch) -> samples`, both of examples in rows.

    All batches have one size, the last is filled up with its last row. With several processes all must call
    `run` together; all get every sample.

    Args:
      batch_size: rounded up to a multiple of the number of devices.
    """
    batch_size = -(-batch_size // mesh.size) * mesh.size
    compiled = jax.jit(program, out_shardings=sharding_lib.replicated(mesh))
    local = batch_size // jax.process_count()
    first = jax.process_index() * local

    def run(params: Any, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        placed = sharding_lib.put(params, jax.tree.map(lambda _: sharding_lib.replicated(mesh), params))
        n = len(next(iter(columns.values())))
        parts = []
        for begin in range(0, n, batch_size):
            there = np.minimum(np.arange(begin, begin + batch_size), n - 1)
            mine = {name: column[there[first : first + local]] for name, column in columns.items()}
            # Fetched at once: on CPU one program is in flight at most.
            done = jax.device_get(compiled(placed, sharding_lib.put_batch(mine, mesh)))
            parts.append(done[: n - begin])
        return np.concatenate(parts)

    return run
