"""One checkpoint on disk: the directory `<workdir>/checkpoints/<step>`, its checksums, what is wrong with it.

Orbax writes it as `{state, config, checksums}` and renames it into place once it is whole. Nothing here
synchronises processes: any one of them may call these functions.
"""

import json
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rmtjax.checkpoints.digests import Entry, digest_tree

STATE, CONFIG, CHECKSUMS = "state", "config", "checksums"


class DamagedError(Exception):
    """A checkpoint is not what was saved; the message says what is wrong with it."""


def committed(root: pathlib.Path) -> list[int]:
    """The steps with a checkpoint in the folder `root`, ascending; half-written ones have other names."""
    if not root.is_dir():
        return []
    return sorted(int(path.name) for path in root.iterdir() if path.name.isdecimal() and path.is_dir())


def checksums(arrays: dict[str, Entry], config: dict[str, Any]) -> dict[str, Any]:
    """What is stored as the checkpoint's `checksums`: arrays and config, and a checksum of itself."""
    table = {name: [dtype, list(shape), digest] for name, (dtype, shape, digest) in arrays.items()}
    content = {"arrays": table, "config": _crc(config)}
    return content | {"self": _crc(content)}


def read_checksums(step_dir: pathlib.Path) -> dict[str, Entry]:
    """The table of arrays of a checkpoint: name -> dtype, shape, digest. Also checks the stored config.

    Raises:
        DamagedError: the checksums or the config are missing or not what was saved.
    """
    content = _read_json(step_dir, CHECKSUMS)
    if content.pop("self", None) != _crc(content):
        raise DamagedError("its checksums are not what was saved")
    if content["config"] != _crc(_read_json(step_dir, CONFIG)):
        raise DamagedError("its config is not what was saved")
    return {name: (dtype, tuple(shape), digest) for name, (dtype, shape, digest) in content["arrays"].items()}


def verify(saved: dict[str, Entry], read: dict[str, Entry]) -> None:
    """Raises DamagedError where an array that was read is not the one that was saved."""
    bad = [name for name, entry in read.items() if saved.get(name) != entry]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise DamagedError(f"the checksum of {bad[0]}{more} does not match")


def read_verified(step_dir: pathlib.Path, wanted: Callable[[str], bool]) -> Any:
    """Reads the wanted arrays of a checkpoint's state as numpy, in a tree of dicts and lists.

    Raises:
        DamagedError: something cannot be read, or is not what was saved.
    """
    saved = read_checksums(step_dir)
    try:
        tree = read_tree(step_dir / STATE, wanted)
    except Exception as error:  # whatever Orbax and TensorStore make of damaged files
        raise DamagedError(f"it cannot be read: {first_line(error)}") from error
    read = digest_tree(tree)
    verify(saved, read)
    missing = [name for name in saved if wanted(name) and name not in read]
    if missing:
        raise DamagedError(f"{missing[0]} is missing")
    return tree


def read_tree(path: pathlib.Path, wanted: Callable[[str], bool]) -> Any:
    """Reads the wanted arrays of any Orbax pytree as numpy, in a tree of dicts and lists; others are left out.

    Works in one process of many without the others: no barrier is waited at.
    """
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"read_{jax.process_index()}",
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        structure = checkpointer.metadata(path).item_metadata.tree
        item = jax.tree_util.tree_map_with_path(
            lambda key, leaf: (
                leaf if wanted(jax.tree_util.keystr(key, simple=True, separator="/")) else ocp.PLACEHOLDER
            ),
            structure,
        )
        as_numpy = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), item)
        tree = checkpointer.restore(path, args=ocp.args.PyTreeRestore(item=item, restore_args=as_numpy))
    return jax.tree.map(lambda leaf: None if leaf is ocp.PLACEHOLDER else leaf, tree)


def _read_json(step_dir: pathlib.Path, item: str) -> dict[str, Any]:
    try:
        return json.loads((step_dir / item / "metadata").read_text())
    except (OSError, ValueError) as error:
        raise DamagedError(f"its {item} cannot be read: {first_line(error)}") from error


def _crc(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
