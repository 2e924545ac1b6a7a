"""One checkpoint on disk: which files it has, and whether they are what was saved.

Orbax writes the folders `state`, `config` and `metrics` under a temporary name, we add `checksums.json`, and
Orbax renames the whole to `<workdir>/checkpoints/<step>`. `state` is an OCDBT database with a zarr array for
each leaf. TensorStore, the storage engine of Orbax, writes it, and we read it with TensorStore directly:
Orbax restores damaged bytes silently, prints tracebacks of its threads if a file is truncated, and leaves
the other processes waiting at its barrier. Nothing here waits for other processes.

There are two kinds of checksums. Those of the arrays are computed in device memory before saving and after
restoring. Those of the files cover every byte on disk, so that a single wrong byte is found, with the name
of its file, before anything is read from it.
"""

import contextlib
import json
import pathlib
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
import tensorstore as ts

from rmtjax.checkpoints.digests import Entry, named_leaves
from rmtjax.checkpoints.names import CHECKSUMS

STATE = "state"
# Files without a checksum: Orbax writes them last, and nothing depends on them.
UNCHECKED = {CHECKSUMS, "_CHECKPOINT_METADATA", "commit_success.txt"}
READERS = 8  # threads, each of which reads an array


Shape = tuple[int, ...]
Bounds = tuple[tuple[int, int], ...]  # start and stop along each axis


class DamagedError(Exception):
    """A checkpoint differs from what was saved; the message says how."""


class Checksums(NamedTuple):
    """The checksums of one checkpoint."""

    arrays: dict[str, Entry]  # name -> dtype, shape, digest
    files: dict[str, tuple[int, int]]  # path inside the checkpoint -> size in bytes, CRC-32


def committed(root: pathlib.Path) -> list[int]:
    """The steps of the complete checkpoints in the folder `root`, ascending."""
    if not root.is_dir():
        return []
    return sorted(int(path.name) for path in root.iterdir() if path.name.isdecimal() and path.is_dir())


def write_checksums(step_dir: pathlib.Path, arrays: dict[str, Entry]) -> None:
    """Adds `checksums.json` to a checkpoint whose other files are all there."""
    paths = (path for path in sorted(step_dir.rglob("*")) if path.is_file())
    names = (path.relative_to(step_dir).as_posix() for path in paths)
    files = {name: _file_checksum(step_dir / name) for name in names if name not in UNCHECKED}
    content = {"arrays": arrays, "files": files}
    (step_dir / CHECKSUMS).write_text(json.dumps(content | {"self": _crc(content)}), encoding="utf-8")


def read_checksums(step_dir: pathlib.Path) -> Checksums:
    """Raises DamagedError if a checkpoint has no checksums, or if their file is damaged."""
    try:
        content = json.loads((step_dir / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedError(f"{CHECKSUMS} is missing or cannot be read") from error
    if not isinstance(content, dict) or content.pop("self", None) != _crc(content):
        raise DamagedError(f"{CHECKSUMS} is not what was saved")
    arrays = {
        name: (dtype, tuple(shape), digest) for name, (dtype, shape, digest) in content["arrays"].items()
    }
    return Checksums(arrays, {name: (size, crc) for name, (size, crc) in content["files"].items()})


def check_files(step_dir: pathlib.Path, files: dict[str, tuple[int, int]]) -> None:
    """Raises DamagedError for the first file that is missing or has another size or other bytes."""
    for name, (size, crc) in files.items():
        try:
            found_size, found_crc = _file_checksum(step_dir / name)
        except OSError as error:
            raise DamagedError(f"{name} is missing or cannot be read") from error
        if found_size != size:
            raise DamagedError(f"{name} has {found_size} bytes, not {size}")
        if found_crc != crc:
            raise DamagedError(f"the checksum of {name} does not match")


def verify(saved: dict[str, Entry], read: dict[str, Entry]) -> None:
    """Raises DamagedError if an array that was read is not the one that was saved."""
    bad = [name for name, entry in read.items() if saved.get(name) != entry]
    if bad:
        more = f" (and of {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DamagedError(f"the checksum of {bad[0]}{more} does not match")


class Arrays:
    """The arrays of an Orbax pytree, each read when it is asked for.

    All share one context of TensorStore, which caches the index. Several threads may read at once.

    Attributes:
      folder: where the pytree is stored.
    """

    def __init__(self, folder: pathlib.Path, zarr3: bool = False) -> None:
        self.folder = folder
        self._zarr3 = zarr3
        self._context = _context()

    def read(self, name: str, key: str | None = None) -> np.ndarray:
        """The array of a name such as "params/head/kernel". Raises DamagedError if it cannot be read.

        `key` is the name under which it is stored, if that does not follow from `name`.
        """
        part = _read_parts_of(self.folder, name, [()], self._zarr3, self._context, key)
        return np.asarray(part[name, ()])

    def describe(self, name: str, key: str | None = None) -> tuple[Shape, np.dtype, Shape]:
        """Shape and dtype of an array, and the shape of its chunks. Raises DamagedError if they are lost."""
        with _damage(name):
            array = _opened(self.folder, name, self._zarr3, self._context, key)
            chunk = array.chunk_layout.read_chunk.shape or ()  # a scalar has none
            return tuple(array.shape), array.dtype.numpy_dtype, tuple(chunk)


def read_shards(tree_dir: pathlib.Path, abstract_state: Any) -> Callable[[], Any]:
    """Reads the part of a state that this process holds: the shards of each leaf on its devices.

    Args:
        tree_dir: the folder of the state inside a checkpoint.
        abstract_state: a pytree of `ShapeDtypeStruct`; a leaf without sharding becomes a numpy array.

    Returns:
        A function that builds the state from what was read. It reads no file, so the processes can first
        agree that all of them could read their parts.

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


def _parts(leaf: Any) -> list[Bounds]:
    if leaf.sharding is None:
        return [tuple((0, size) for size in leaf.shape)]
    indices = leaf.sharding.addressable_devices_indices_map(leaf.shape).values()
    return list(dict.fromkeys(_bounds(index, leaf.shape) for index in indices))


def _bounds(index: tuple[slice, ...], shape: tuple[int, ...]) -> Bounds:
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))


def _context() -> ts.Context:
    """A context with a cache; without it the index would be read again for every array."""
    return ts.Context({"cache_pool": {"total_bytes_limit": 2**27}})


def _read_parts(folder: pathlib.Path, parts: dict[str, list[Bounds]]) -> dict[tuple[str, Bounds], np.ndarray]:
    context = _context()
    merged = {}
    with ThreadPoolExecutor(READERS) as pool:
        for result in pool.map(lambda name: _read_parts_of(folder, name, parts[name], False, context), parts):
            merged |= result
    return merged


def _read_parts_of(
    folder: pathlib.Path,
    name: str,
    parts: list[Bounds],
    zarr3: bool,
    context: ts.Context,
    key: str | None = None,
) -> dict[tuple[str, Bounds], np.ndarray]:
    """Reads parts of an array; the bounds () mean all of it. Raises DamagedError if that fails."""
    with _damage(name):
        array = _opened(folder, name, zarr3, context, key)
        futures = {(name, bounds): array[tuple(slice(*ends) for ends in bounds)].read() for bounds in parts}
        return {key: future.result() for key, future in futures.items()}


def _opened(folder: pathlib.Path, name: str, zarr3: bool, context: ts.Context, key: str | None) -> Any:
    base = {"driver": "file", "path": f"{folder}/"}
    if (folder / "manifest.ocdbt").exists():
        base = {"driver": "ocdbt", "base": base}
    stored = name.replace("/", ".") if key is None else key
    spec = {
        "driver": "zarr3" if zarr3 else "zarr",
        "kvstore": base | {"path": base.get("path", "") + stored + "/"},
        "fill_missing_data_reads": False,  # a missing chunk is an error, not zeros
    }
    return ts.open(spec, open=True, read=True, context=context).result()


@contextlib.contextmanager
def _damage(name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, IndexError, NotImplementedError) as error:
        raise DamagedError(f"{name} is missing or cannot be read") from error


def _file_checksum(path: pathlib.Path) -> tuple[int, int]:
    size, crc = 0, 0
    with open(path, "rb") as file:
        while block := file.read(2**20):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return size, crc


def _crc(content: Any) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
