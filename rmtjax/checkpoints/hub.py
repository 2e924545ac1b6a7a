"""Models in the cache of Hugging Face, by their name or by their folder. Nothing is downloaded."""

import os
import pathlib
import re

from rmtjax.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def is_name(path: str) -> bool:
    """Whether a text may be the name of a model on the hub, as `bert-base-uncased` or `owner/model`."""
    return _NAME.fullmatch(path) is not None


def cache() -> pathlib.Path:
    """The folder of the cache: that of $HF_HUB_CACHE, or `hub` below $HF_HOME or ~/.cache/huggingface."""
    home = os.environ.get("HF_HOME") or pathlib.Path("~/.cache/huggingface").expanduser()
    return pathlib.Path(os.environ.get("HF_HUB_CACHE") or pathlib.Path(home, "hub"))


def cached(name: str) -> pathlib.Path | None:
    """The folder of a model in the cache, `models--owner--model`; None if it is not there."""
    folder = cache() / f"models--{name.replace('/', '--')}"
    return folder if is_name(name) and folder.is_dir() else None


def snapshot(folder: pathlib.Path) -> pathlib.Path:
    """The files of a model of the cache: those of its branch `main`, or else its only version.

    A folder that is none of a cache is returned as it is.

    Raises:
      InputError: there are several versions, or none.
    """
    versions = folder / "snapshots"
    if not (folder.name.startswith("models--") and versions.is_dir()):
        return folder
    main = folder / "refs" / "main"
    if main.is_file():
        commit = main.read_text(encoding="utf-8").strip()
        if re.fullmatch(r"\w+", commit) and (versions / commit).is_dir():
            return versions / commit
    found = sorted(one for one in versions.iterdir() if one.is_dir())
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.name for one in found)
    mend = f"name one of them: {names}" if found else "download the model again"
    raise InputError(f"{str(versions)!r} holds {len(found)} versions and none called main: {mend}")
