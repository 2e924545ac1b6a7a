"""One checkpoint on disk: what lies where, and whether it is what was saved.

Orbax writes `<workdir>/checkpoints/<step>/{state, config, metrics, checksums}` and renames the folder into
place once it is whole. `state` is an OCDBT database with a zarr array for each leaf, written by TensorStore,
Orbax's own storage engine, and read here with TensorStore too: Orbax restores damaged bytes without a word,
prints tracebacks from its threads where a file is truncated, and leaves the other processes waiting at its
barrier. Nothing here waits for other processes.
"""

import json
import pathlib
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import tensorstore as ts

from rmtjax.checkpoints.digests import Entry, digest_tree, named_leaves

STATE, CONFIG, METRICS, CHECKSUMS = "state", "config", "metrics", "checksums"
READERS = 8  # arrays read at a time


class DamagedError(Exception):
    """A checkpoint is not what was saved; the message says what is wrong with it."""


def committed(root: pathlib.Path) -> list[int]:
    """The steps with a checkpoint in the folder `root`, ascending; half-written ones have other names."""
    if not root.is_dir():
        return []
    return sorted(int(path.name) for path in root.iterdir() if path.name.isdecimal() and path.is_dir())


def checksums(
    arrays: dict[str, Entry], config: dict[str, Any], metrics: dict[str, float] | None
) -> dict[str, Any]:
    """What is stored as a checkpoint's `checksums`: of its arrays, config and metrics, and of itself."""
    table = {name: [dtype, list(shape), digest] for name, (dtype, shape, digest) in arrays.items()}
    content = {"arrays": table, CONFIG: _crc(config), METRICS: _crc(metrics)}
    return content | {"self": _crc(content)}


def read_checksums(step_dir: pathlib.Path) -> dict[str, Entry]:
    """The arrays of a checkpoint, name -> dtype, shape, digest; its config and metrics are checked here.

    Raises:
        DamagedError: one of these small files is missing or not what was saved.
    """
    content = _read_json(step_dir / CHECKSUMS / "metadata")
    if not isinstance(content, dict) or content.pop("self", None) != _crc(content):
        raise DamagedError("its checksums are not what was saved")
    metrics_file = step_dir / METRICS / "metrics"
    metrics = _read_json(metrics_file) if metrics_file.exists() else None
    for item, value in ((CONFIG, _read_json(step_dir / CONFIG / "metadata")), (METRICS, metrics)):
        if content[item] != _crc(value):
            raise DamagedError(f"the checksum of its {item} does not match")
    return {name: (dtype, tuple(shape), digest) for name, (dtype, shape, digest) in content["arrays"].items()}


def verify(saved: dict[str, Entry], read: dict[str, Entry]) -> None:
    """Raises DamagedError where an array that was read is not the one that was saved."""
    bad = [name for name, entry in read.items() if saved.get(name) != entry]
    if bad:
        more = f" (and of {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DamagedError(f"the checksum of {bad[0]}{more} does not match")


def read_verified(step_dir: pathlib.Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Reads the wanted arrays of a checkpoint's state, by name, and verifies their checksums.

    Raises:
        DamagedError: something cannot be read, or is not what was saved.
    """
    saved = read_checksums(step_dir)
    arrays = read_arrays(step_dir / STATE, filter(wanted, saved))
    verify(saved, digest_tree(arrays))
    return arrays


def read_arrays(tree_dir: pathlib.Path, names: Iterable[str], zarr3: bool = False) -> dict[str, np.ndarray]:
    """Reads whole arrays of an Orbax pytree, by names such as "params/head/kernel".

    Raises:
        DamagedError: one of them is missing or cannot be read.
    """
    names = list(names)
    whole = _read_parts(tree_dir, {name: [()] for name in names}, zarr3)
    return {name: whole[name, ()] for name in names}


def read_shards(tree_dir: pathlib.Path, abstract_state: Any) -> Callable[[], Any]:
    """Reads what this process holds of a state: for each leaf, the parts its sharding puts on its devices.

    Args:
        tree_dir: the checkpoint's state.
        abstract_state: a pytree of `ShapeDtypeStruct`; a leaf without sharding becomes a numpy array.

    Returns:
        A function that makes the state of what was read. It cannot fail for reasons of the file, so that
        processes can agree first that all could read their parts.

    Raises:
        DamagedError: a part is missing or cannot be read.
    """
    parts = {name: _parts(leaf) for name, leaf in named_leaves(abstract_state).items()}
    read = _read_parts(tree_dir, parts)

    def assemble() -> Any:
        leaves = []
        for name, leaf in named_leaves(abstract_state).items():
            if leaf.sharding is None:
                leaves.append(read[name, parts[name][0]])
                continue

            def part(index: Any, name: str = name, shape: tuple[int, ...] = leaf.shape) -> np.ndarray:
                return read[name, _bounds(index, shape)]

            leaves.append(jax.make_array_from_callback(leaf.shape, leaf.sharding, part))
        return jax.tree.unflatten(jax.tree.structure(abstract_state), leaves)

    return assemble


Bounds = tuple[tuple[int, int], ...]  # start and stop along each axis


def _parts(leaf: Any) -> list[Bounds]:
    if leaf.sharding is None:
        return [tuple((0, size) for size in leaf.shape)]
    indices = leaf.sharding.addressable_devices_indices_map(leaf.shape).values()
    return list(dict.fromkeys(_bounds(index, leaf.shape) for index in indices))


def _bounds(index: tuple[slice, ...], shape: tuple[int, ...]) -> Bounds:
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))


def _read_parts(
    tree_dir: pathlib.Path, parts: dict[str, list[Bounds]], zarr3: bool = False
) -> dict[tuple[str, Bounds], np.ndarray]:
    base = {"driver": "file", "path": f"{tree_dir}/"}
    if (tree_dir / "manifest.ocdbt").exists():
        base = {"driver": "ocdbt", "base": base}
    context = ts.Context(
        {"cache_pool": {"total_bytes_limit": 2**27}}
    )  # else every array reads the index anew

    def read(name: str) -> dict[tuple[str, Bounds], np.ndarray]:
        spec = {
            "driver": "zarr3" if zarr3 else "zarr",
            "kvstore": base | {"path": base.get("path", "") + name.replace("/", ".") + "/"},
            "fill_missing_data_reads": False,  # a missing chunk is an error, not zeros
        }
        try:
            array = ts.open(spec, open=True, read=True, context=context).result()
            futures = {
                (name, bounds): array[tuple(slice(*ends) for ends in bounds)].read() for bounds in parts[name]
            }
            return {key: future.result() for key, future in futures.items()}
        except (ValueError, OSError, IndexError) as error:
            raise DamagedError(f"{name} is missing or cannot be read") from error

    merged = {}
    with ThreadPoolExecutor(READERS) as pool:
        for result in pool.map(read, parts):
            merged |= result
    return merged


def _read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path.parent.name}/{path.name} is missing or cannot be read") from error


def _crc(content: Any) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
