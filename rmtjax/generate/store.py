"""Folders named by what made them: built once, whole or absent, and checked when they are opened."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils

from rmtjax import files
from rmtjax.errors import InputError

MANIFEST = "manifest.json"


class Stored(NamedTuple):
    path: pathlib.Path
    manifest: dict[str, Any]
    fresh: bool  # built by this call


def digest(made_from: dict[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def ensure(
    root: str | os.PathLike[str],
    made_from: dict[str, Any],
    build: Callable[[pathlib.Path], dict[str, Any]],
    say: Callable[[str], None],
) -> Stored:
    """The folder `<root>/<digest(made_from)>`, built first if it is not there.

    One process builds at a time, others that ask for the same folder wait for it. What is being built lies in
    a hidden folder beside it, which a build that was killed finds again; it is renamed when it is whole. With
    several JAX processes on one file system all must call this together, and all run `build`.

    Args:
      root: made if it is missing.
      made_from: plain data that says everything the content depends on.
      build: fills the folder it is given (process 0 writes) and returns facts for the manifest.
      say: gets a sentence where this process has to wait for another.

    Raises:
      InputError: the folder cannot be made, or what lies there is not what was stored.
    """
    folder = pathlib.Path(root) / digest(made_from)
    fresh = False
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0 and not folder.exists():
            _make_folder(folder.parent)
            lock = folder.with_name(f".{folder.name}.lock")
            with _naming_the_cache(lock):
                stack.enter_context(
                    files.locked(lock, lambda who: say(f"{who} is making {str(folder)!r}: waiting for it"))
                )
        if not agreed(folder.exists()):
            fresh = True
            building = folder.with_name(f".{folder.name}.building")
            _make_folder(building)
            for left in building.glob(".*") if jax.process_index() == 0 else ():
                left.unlink()  # a file that a build that was killed had not finished
            try:
                facts = build(building)
            except InputError:  # the same again would fail the same way: nothing to go on from
                shutil.rmtree(building, ignore_errors=True)
                raise
            if jax.process_index() == 0:
                sums = {
                    path.name: _sha256(path) for path in sorted(building.iterdir()) if path.name != MANIFEST
                }
                files.write_json(building / MANIFEST, {"made_from": made_from, "files": sums} | facts)
                manifest = _load(building)  # as JSON has it
                files.write_json(building / MANIFEST, manifest | {"checksum": digest(manifest)})
                os.replace(building, folder)
            _barrier(f"rmtjax_stored_{folder.name}")
    return Stored(folder, read(folder), fresh)


def read(folder: pathlib.Path) -> dict[str, Any]:
    """The manifest of a stored folder, once it and every file that it names match their checksums.

    Raises:
      InputError: names the file that is missing or altered.
    """
    mend = f"delete the folder {str(folder)!r}, and the same command makes it again"
    try:
        manifest = _load(folder)
        sums, checksum = dict(manifest["files"]), manifest.pop("checksum")
        named = digest(manifest["made_from"]) == folder.name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(folder / MANIFEST)!r} is missing or damaged: {mend}") from error
    if not named or digest(manifest) != checksum:
        other = "checksum" if named else "folder's name"
        raise InputError(
            f"{str(folder / MANIFEST)!r} was altered, its content does not give its {other}: {mend}"
        )
    for name, wanted in sums.items():
        if not (folder / name).is_file():
            raise InputError(f"{str(folder / name)!r} is missing: {mend}")
        if _sha256(folder / name) != wanted:
            raise InputError(
                f"{str(folder / name)!r} was altered, its checksum is not the one in {MANIFEST}: {mend}"
            )
    return manifest


def _load(folder: pathlib.Path) -> dict[str, Any]:
    return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))


def _make_folder(folder: pathlib.Path) -> None:
    with _naming_the_cache(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _naming_the_cache(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"{str(path)!r} in synthetic.cache cannot be made ({error.strerror}): choose another "
            "synthetic.cache"
        ) from error


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def agreed(exists: bool) -> bool:
    """What process 0 says."""
    return exists if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(exists))


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
