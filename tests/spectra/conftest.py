"""Strict JAX for the tests of this library: ranks and dtypes are not promoted without being asked.

Set for the whole process, since the library also compiles in threads, which a context manager does not
reach; and for each file from its start, since fixtures of a file compute as well.
"""

import jax
import pytest

STRICT = {"jax_numpy_rank_promotion": "raise", "jax_numpy_dtype_promotion": "strict"}


@pytest.fixture(autouse=True, scope="module")
def strict_promotion():
    before = {name: getattr(jax.config, name) for name in STRICT}
    for name, value in STRICT.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
