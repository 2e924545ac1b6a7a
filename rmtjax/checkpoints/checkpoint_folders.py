"""Which checkpoint of a folder is meant: runs of this project, and folders that Orbax wrote."""

import pathlib
from collections.abc import Callable

from rmtjax import results
from rmtjax.checkpoints import steps, weights_inside
from rmtjax.checkpoints.contents import Contents
from rmtjax.checkpoints.formats import orbax_trees, own_checkpoints
from rmtjax.errors import InputError

# Where Orbax and those who use it put a pytree inside a checkpoint.
_ITEMS = ("state", "params", "default", "items", "model")
# A folder of such files is no one checkpoint.
_SINGLE_FILES = (".pt", ".pth", ".th", ".bin", ".ckpt", ".npz", ".keras")


def read(path: pathlib.Path, step: int | None, item: str, say: Callable[[str], None]) -> Contents:
    """A folder's checkpoint `step`, or its newest good one, or the folder itself if it is a checkpoint.

    Args:
      path: a run's folder, one of its checkpoints, an Orbax checkpoint or a folder of several.
      step: of a folder of several checkpoints; None: the newest.
      item: "params", or "model_state" of a run's checkpoint.
      say: gets one sentence for every damaged checkpoint that is passed over.

    Raises:
      InputError: not such a folder, damaged, or without that step.
    """
    if (path / steps.CHECKSUMS).is_file():
        return _one(path, True, item)
    inside = path / results.CHECKPOINTS
    root = inside if inside.is_dir() else path
    numbers = steps.committed(root)
    ours = any((root / str(number) / steps.CHECKSUMS).is_file() for number in numbers)
    if numbers and step is None:
        return _newest(root, numbers, ours, item, say)
    if numbers:
        if step not in numbers:
            raise InputError(f"{str(path)!r} has no step {step}: it has {', '.join(map(str, numbers))}")
        return _one(root / str(step), ours, item)
    if step is not None:
        raise InputError(f"step={step} is given, but {str(path)!r} holds no checkpoints by step")
    if root == inside:
        raise InputError(f"{str(root)!r} holds no good checkpoint")
    return _one(path, False, item)


def _newest(
    root: pathlib.Path, numbers: list[int], ours: bool, item: str, say: Callable[[str], None]
) -> Contents:
    for number in reversed(numbers):
        try:
            if ours:
                return _of_run(root / str(number), item)
            return _of_others(root / str(number))
        except (steps.DamagedError, InputError) as error:
            say(f"checkpoint {number} in {str(root)!r} is damaged ({error}): the one before it is read")
            problem = str(error)
    raise InputError(f"{str(root)!r} holds no good checkpoint: {problem}")


def _one(path: pathlib.Path, ours: bool, item: str) -> Contents:
    if not ours:
        return _of_others(path)
    try:
        return _of_run(path, item)
    except steps.DamagedError as error:
        raise InputError(f"the checkpoint {str(path)!r} is damaged: {error}") from error


def _of_run(path: pathlib.Path, item: str) -> Contents:
    contents = own_checkpoints.read(path)
    tensors, refused = weights_inside.of_run(contents.tensors, item)
    return contents._replace(tensors=tensors, refused=refused)


def _of_others(path: pathlib.Path) -> Contents:
    for folder in (path, *(path / name for name in _ITEMS)):
        if (folder / "_METADATA").is_file():
            contents = orbax_trees.read(folder)
            tensors, refused = weights_inside.of_flax(contents.tensors)
            return contents._replace(tensors=tensors, refused=refused)
    files = sorted(file.name for file in path.iterdir() if file.suffix.lower() in _SINGLE_FILES)
    if files:
        raise InputError(
            f"{str(path)!r} is a folder of single files of weights: name one of {', '.join(files)}"
        )
    raise InputError(
        f"{str(path)!r} is not a run's folder, an Orbax checkpoint, or a folder with safetensors, torch or "
        "Keras weights"
    )
