"""Finds and reads a checkpoint of a folder: of a run of this project, or one that another program wrote."""

import pathlib
import re
from collections.abc import Callable

from rmtjax.checkpoints import guard, shards, signs, steps, weights_inside
from rmtjax.checkpoints.contents import Contents
from rmtjax.checkpoints.formats import orbax_trees, own_checkpoints
from rmtjax.checkpoints.names import CHECKPOINTS, CHECKSUMS
from rmtjax.errors import InputError

# Folders inside a checkpoint where programs that use Orbax store the weights; the first counts.
_ITEMS = ("state", "train_state", "params", "default", "items", "model", "pytree")
# Pytrees inside a checkpoint that hold no weights, or copies of them.
_BESIDE = re.compile(r"(?i)(.*_)?(opt|optim|optimi[sz]er|ema|rngs?|step|metrics|data|dataset|iter)(_.*)?")
# A step of Orbax or Flax, with zeros before it and a prefix: 00000100, checkpoint_100, step_00000100.
_STEP = re.compile(r"(?:[A-Za-z][\w.]*[_-])?(\d+)")
# Files that each hold weights: a folder of them is not one checkpoint.
_SINGLE_FILES = (".pt", ".pth", ".th", ".bin", ".ckpt", ".npz", ".npy", ".keras")


def read(
    path: pathlib.Path,
    step: int | None,
    item: str,
    say: Callable[[str], None],
    of_file: Callable[[pathlib.Path], Contents],
) -> Contents:
    """Reads checkpoint `step` of a folder, or its newest good one, or the folder itself.

    Args:
      path: the folder of a run, one of its checkpoints, an Orbax checkpoint or a folder of several.
      step: which checkpoint of a folder of several; None is the newest.
      item: "params", or "model_state" of a checkpoint of a run.
      say: called with one sentence for every damaged checkpoint that is skipped.
      of_file: reads a file.

    Raises:
      InputError: it is no such folder, it is damaged, or it has no such step.
    """
    if (path / CHECKSUMS).is_file():
        return _read_own(path, item)
    inside = path / CHECKPOINTS
    root = inside if inside.is_dir() else path
    found = {} if _is_one(root) else _by_step(root)
    if found and step is None:
        return _read_newest(root, found, item, say, of_file)
    if found:
        if step not in found:
            raise InputError(f"{str(path)!r} has no step {step}: it has {', '.join(map(str, found))}")
        return _read_one(found[step], item, of_file)
    if step is not None:
        raise InputError(f"step={step} is given, but {str(path)!r} holds no checkpoints by step")
    if root == inside:
        raise InputError(f"{str(root)!r} holds no good checkpoint")
    return _read_one(path, item, of_file)


def _is_one(folder: pathlib.Path) -> bool:
    """Whether a folder is one checkpoint of Orbax."""
    return orbax_trees.is_tree(folder) or bool(_items(folder))


def _items(folder: pathlib.Path) -> list[str]:
    """Names of the folders inside a checkpoint that hold a pytree each, but those of steps."""
    inside = (one for one in sorted(folder.iterdir()) if one.is_dir() and not _STEP.fullmatch(one.name))
    return [one.name for one in inside if orbax_trees.is_tree(one)]


def _by_step(root: pathlib.Path) -> dict[int, pathlib.Path]:
    """The checkpoints of a folder, by step, ascending. Raises InputError if two have the same step."""
    found: dict[int, pathlib.Path] = {}
    for path in sorted(root.iterdir()):
        match = _STEP.fullmatch(path.name)
        if match is None or not (_holds_a_checkpoint(path) or (path.is_dir() and path.name.isdecimal())):
            continue
        step = int(match[1])
        if step in found:
            raise InputError(
                f"{str(root)!r} has two checkpoints of step {step}: "
                f"name {found[step].name!r} or {path.name!r}"
            )
        found[step] = path
    return dict(sorted(found.items()))


def _holds_a_checkpoint(path: pathlib.Path) -> bool:
    if path.is_dir():
        return _is_one(path) or shards.has_any(path)
    return signs.is_likely(path)  # Flax once wrote a file for each step


def _read_newest(
    root: pathlib.Path,
    found: dict[int, pathlib.Path],
    item: str,
    say: Callable[[str], None],
    of_file: Callable[[pathlib.Path], Contents],
) -> Contents:
    for number, path in reversed(found.items()):
        try:
            with guard.one_sentence(path, "cannot be read"):
                return _read_one(path, item, of_file)
        except InputError as error:
            problem = str(error.__cause__ if isinstance(error.__cause__, steps.DamagedError) else error)
            say(f"checkpoint {number} in {str(root)!r} is damaged ({problem}) and is skipped")
    raise InputError(f"{str(root)!r} holds no good checkpoint: {problem}")


def _read_one(path: pathlib.Path, item: str, of_file: Callable[[pathlib.Path], Contents]) -> Contents:
    if path.is_file():
        return of_file(path)
    if (path / CHECKSUMS).is_file():
        return _read_own(path, item)
    return shards.read(path) or _read_orbax(path)


def _read_own(path: pathlib.Path, item: str) -> Contents:
    try:
        contents = own_checkpoints.read(path)
    except steps.DamagedError as error:
        raise InputError(f"the checkpoint {str(path)!r} is damaged: {error}") from error
    tensors, refused = weights_inside.of_run(contents.tensors, item)
    return contents._replace(tensors=tensors, refused=refused)


def _read_orbax(path: pathlib.Path) -> Contents:
    if orbax_trees.is_tree(path):
        return _weights_of_tree(path)
    items = _items(path)
    if items:
        return _read_items(path, items)
    files = sorted(file.name for file in path.iterdir() if file.suffix.lower() in _SINGLE_FILES)
    if files:
        raise InputError(
            f"{str(path)!r} is a folder of several files of weights: name one of {', '.join(files)}"
        )
    inside = shards.inside(path)
    mend = f": name one of its folders {', '.join(inside)}" if inside else ""
    raise InputError(
        f"{str(path)!r} is not a run's folder, an Orbax checkpoint, or a folder with safetensors, torch or "
        f"Keras weights{mend}"
    )


def _read_items(path: pathlib.Path, items: list[str]) -> Contents:
    """The item that programs usually call their weights; else all that may hold weights, each by its name."""
    usual = next((name for name in _ITEMS if name in items), None)
    chosen = [usual] if usual else [name for name in items if not _BESIDE.fullmatch(name)] or items
    found = {name: _weights_of_tree(path / name) for name in chosen}
    beside = f"another item of the checkpoint, beside {chosen[0]!r}"
    refused = {name: beside for name in items if name not in chosen}
    if len(found) == 1:
        contents = found[chosen[0]]
        return contents._replace(refused=contents.refused | refused)
    tensors = {f"{item}/{name}": x for item, part in found.items() for name, x in part.tensors.items()}
    refused |= {f"{item}/{name}": why for item, part in found.items() for name, why in part.refused.items()}
    return Contents(tensors, "flax", refused)


def _weights_of_tree(folder: pathlib.Path) -> Contents:
    contents = orbax_trees.read(folder)
    tensors, refused = weights_inside.of_flax(contents.tensors)
    return contents._replace(tensors=tensors, refused=refused)
