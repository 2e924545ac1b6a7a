"""The device mesh, and how arrays are sharded over it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rmtjax.errors import InputError
from rmtjax.train import rules as rules_lib

BATCH = P(("data", "fsdp"))


def make_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
    """A `("data", "fsdp")` mesh over all devices; a size of -1 takes all devices that are left.

    Raises:
      InputError: the sizes do not multiply to the number of devices.
    """
    count = jax.device_count()
    sizes = [data, fsdp]
    known = int(np.prod([size for size in sizes if size != -1]))
    filled = [max(count // max(known, 1), 1) if size == -1 else size for size in sizes]
    if sizes.count(-1) > 1 or min(filled) < 1 or int(np.prod(filled)) != count:
        raise InputError(
            f"train.mesh=(data={data}, fsdp={fsdp}) does not fit {count} devices: the product must be "
            f"{count}, and one of them may be -1"
        )
    # Auto axes: linen's Embed and Dropout fail under explicit ones, the default of jax.make_mesh.
    return jax.make_mesh(tuple(filled), ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto))


def local_mesh() -> Mesh:
    """A mesh of only the first device of this process, for small work."""
    return jax.make_mesh(
        (1, 1), ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto), devices=jax.local_devices()[:1]
    )


def shardings(tree: Any, rules: Sequence[tuple[str, str]], mesh: Mesh) -> Any:
    """A `NamedSharding` for each leaf (anything with a shape), by rules on its name.

    Args:
      rules: (regex, "fsdp" | "replicate") pairs; the first match wins. `fsdp` splits the largest dimension
        that is a multiple of the axis; an array without one is replicated.

    Raises:
      InputError: a rule has another value.
    """
    for regex, value in rules:
        if value not in ("fsdp", "replicate"):
            raise InputError(
                f"train.sharding: rule ({regex!r}, {value!r}) is unknown: use 'fsdp' or 'replicate'"
            )
    size = mesh.shape["fsdp"]

    def spec(leaf: Any, value: str) -> NamedSharding:
        fits = [d for d, n in enumerate(leaf.shape) if n % size == 0 and n >= size]
        if size == 1 or value == "replicate" or not fits:
            return NamedSharding(mesh, P())
        largest = max(fits, key=lambda d: leaf.shape[d])
        return NamedSharding(mesh, P(*(("fsdp" if d == largest else None) for d in range(len(leaf.shape)))))

    return jax.tree.map(spec, tree, rules_lib.first_match(rules, "replicate", tree, "sharding"))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def put_batch(batch: dict[str, Any], mesh: Mesh, spec: P = BATCH) -> dict[str, Any]:
    """Makes global arrays of this process's part of a batch; `spec` says how they are split over devices."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda value: jax.make_array_from_process_local_data(sharding, value), batch)


def put(tree: Any, placement: Any) -> Any:
    """Makes global arrays with the given shardings of arrays that are the same on every process."""

    def place(leaf: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, tree, placement)


def bytes_per_device(tree: Any) -> int:
    """The bytes of a tree of arrays on the local device that holds most of them."""
    held: dict[Any, int] = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return max(held.values())


def over_members(
    function: Callable[..., Any],
    mesh: Mesh,
    each: Sequence[bool],
    vectorised: bool | None = None,
) -> Callable[..., Any]:
    """Turns a function of one member into a function of stacked members, which are split over the devices.

    Args:
      each: for each argument of the function, whether it is stacked; the others are shared by all members.
      vectorised: True for vmap, False for one member after the other in the same program. None is vmap,
        except on CPUs: there small members are up to twice as fast one by one, because they fit the cache.
    """
    if vectorised is None:
        vectorised = mesh.devices.flat[0].platform != "cpu"

    def of_device(*arguments: Any) -> Any:
        def one(stacked: Any) -> Any:
            rest = iter(stacked)
            return function(
                *(next(rest) if own else argument for own, argument in zip(each, arguments, strict=True))
            )

        stacked = tuple(argument for own, argument in zip(each, arguments, strict=True) if own)
        return jax.vmap(one)(stacked) if vectorised else jax.lax.map(one, stacked)

    specs = tuple(BATCH if own else P() for own in each)
    return jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=BATCH)
