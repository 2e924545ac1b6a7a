"""Finds and reads a checkpoint of a folder: of a run of this project, or one that Orbax wrote."""

import pathlib
from collections.abc import Callable

from rmtjax import results
from rmtjax.checkpoints import steps, weights_inside
from rmtjax.checkpoints.contents import Contents
from rmtjax.checkpoints.formats import orbax_trees, own_checkpoints
from rmtjax.errors import InputError

# Folders inside a checkpoint where programs that use Orbax store a pytree.
_ITEMS = ("state", "params", "default", "items", "model")
# Files that each hold weights: a folder of them is not one checkpoint.
_SINGLE_FILES = (".pt", ".pth", ".th", ".bin", ".ckpt", ".npz", ".keras")


def read(path: pathlib.Path, step: int | None, item: str, say: Callable[[str], None]) -> Contents:
    """Reads checkpoint `step` of a folder, or its newest good one, or the folder itself.

    Args:
      path: the folder of a run, one of its checkpoints, an Orbax checkpoint or a folder of several.
      step: which checkpoint of a folder of several; None is the newest.
      item: "params", or "model_state" of a checkpoint of a run.
      say: called with one sentence for every damaged checkpoint that is skipped.

    Raises:
      InputError: it is no such folder, it is damaged, or it has no such step.
    """
    if (path / steps.CHECKSUMS).is_file():
        return _read_one(path, True, item)
    inside = path / results.CHECKPOINTS
    root = inside if inside.is_dir() else path
    numbers = steps.committed(root)
    ours = any((root / str(number) / steps.CHECKSUMS).is_file() for number in numbers)
    if numbers and step is None:
        return _read_newest(root, numbers, ours, item, say)
    if numbers:
        if step not in numbers:
            raise InputError(f"{str(path)!r} has no step {step}: it has {', '.join(map(str, numbers))}")
        return _read_one(root / str(step), ours, item)
    if step is not None:
        raise InputError(f"step={step} is given, but {str(path)!r} holds no checkpoints by step")
    if root == inside:
        raise InputError(f"{str(root)!r} holds no good checkpoint")
    return _read_one(path, False, item)


def _read_newest(
    root: pathlib.Path, numbers: list[int], ours: bool, item: str, say: Callable[[str], None]
) -> Contents:
    for number in reversed(numbers):
        try:
            if ours:
                return _read_own(root / str(number), item)
            return _read_orbax(root / str(number))
        except (steps.DamagedError, InputError) as error:
            say(f"checkpoint {number} in {str(root)!r} is damaged ({error}) and is skipped")
            problem = str(error)
    raise InputError(f"{str(root)!r} holds no good checkpoint: {problem}")


def _read_one(path: pathlib.Path, ours: bool, item: str) -> Contents:
    if not ours:
        return _read_orbax(path)
    try:
        return _read_own(path, item)
    except steps.DamagedError as error:
        raise InputError(f"the checkpoint {str(path)!r} is damaged: {error}") from error


def _read_own(path: pathlib.Path, item: str) -> Contents:
    contents = own_checkpoints.read(path)
    tensors, refused = weights_inside.of_run(contents.tensors, item)
    return contents._replace(tensors=tensors, refused=refused)


def _read_orbax(path: pathlib.Path) -> Contents:
    for folder in (path, *(path / name for name in _ITEMS)):
        if (folder / "_METADATA").is_file():
            contents = orbax_trees.read(folder)
            tensors, refused = weights_inside.of_flax(contents.tensors)
            return contents._replace(tensors=tensors, refused=refused)
    files = sorted(file.name for file in path.iterdir() if file.suffix.lower() in _SINGLE_FILES)
    if files:
        raise InputError(
            f"{str(path)!r} is a folder of several files of weights: name one of {', '.join(files)}"
        )
    raise InputError(
        f"{str(path)!r} is not a run's folder, an Orbax checkpoint, or a folder with safetensors, torch or "
        "Keras weights"
    )
