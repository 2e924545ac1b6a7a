"""Folders of files that together hold a model, as Hugging Face stores them.

An index (`model.safetensors.index.json`) decides which file has which tensor. Without one, a set of numbered
shards (`model-00001-of-00002.safetensors`) goes before single files, and a file before its variants
(`model.fp16.safetensors`). Whatever is passed over is listed with the reason.
"""

import json
import pathlib
import re
from collections.abc import Iterable

from rmtjax.checkpoints import guard
from rmtjax.checkpoints.contents import Contents, Tensor, layout_from_names
from rmtjax.checkpoints.signs import SIGNS, Sign
from rmtjax.errors import InputError

_NUMBERED = re.compile(r"(.+?)-(\d+)-of-(\d+)(\..+)")
_PIPELINE = "model_index.json"  # of diffusers: the folders beside it are the sub-models


def read(folder: pathlib.Path) -> Contents | None:
    """The weights of the files of a folder, of the first format that it has; None if it has none.

    Raises:
      InputError: a shard or a tensor that the index names is missing, the index is damaged or names a file
        outside of the folder, or two files have the same tensor.
    """
    for sign in SIGNS:
        found = _files(folder, sign)
        index = _index(folder, sign)
        if index is not None:
            return _by_index(folder, index, found, sign)
        if found:
            chosen, passed_over = _chosen(folder, found)
            return _joined(folder, chosen, sign, passed_over)
    return None


def read_parts(folder: pathlib.Path) -> Contents | None:
    """The sub-models of a diffusers folder, as `unet.<name>` and `vae.<name>`; None if it is no such folder.

    Raises:
      InputError: the sub-models are of different layouts.
    """
    parts = inside(folder) if (folder / _PIPELINE).is_file() else []
    tensors: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    layouts, beside = set(), 0
    for part in parts:
        contents = read(folder / part)
        if contents is None:
            continue
        layout = contents.layout or layout_from_names(contents.tensors)
        prefix = f"{part}/" if layout == "flax" else f"{part}."
        tensors |= {prefix + name: tensor for name, tensor in contents.tensors.items()}
        refused |= {prefix + name: reason for name, reason in contents.refused.items()}
        layouts.add(layout)
        beside += contents.beside
    if len(layouts) > 1:
        raise InputError(
            f"{str(folder)!r} holds sub-models of different layouts: name one of {', '.join(parts)}"
        )
    return Contents(tensors, layouts.pop(), refused, beside) if layouts else None


def inside(folder: pathlib.Path) -> list[str]:
    """Names of the folders inside a folder that hold weights."""
    found = (one for one in sorted(folder.iterdir()) if one.is_dir() and not one.name.startswith("."))
    return [one.name for one in found if has_any(one)]


def has_any(folder: pathlib.Path) -> bool:
    """Whether a folder holds files of weights itself."""
    return any(_files(folder, sign) for sign in SIGNS)


def _files(folder: pathlib.Path, sign: Sign) -> list[pathlib.Path]:
    found = {path for pattern in sign.shards for path in folder.glob(pattern)}
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


def _index(folder: pathlib.Path, sign: Sign) -> pathlib.Path | None:
    """The index of the shards of a format: that without a variant, if there are several."""
    patterns = (f"{pattern}.index{variant}.json" for pattern in sign.shards for variant in ("", ".*"))
    found = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return min(found, key=lambda path: (len(path.name), path.name), default=None)


def _by_index(folder: pathlib.Path, index: pathlib.Path, found: list[pathlib.Path], sign: Sign) -> Contents:
    where = _weight_map(index)
    shards = sorted(set(where.values()))
    for shard in shards:
        if pathlib.PurePath(shard).name != shard or shard in (".", ".."):
            raise InputError(f"{str(index)!r} names the file {shard!r}, which is outside of its folder")
        if not (folder / shard).is_file():
            raise InputError(f"{str(folder)!r} lacks the shard {shard!r} that its index names")
    passed_over = {path.name: f"a file that {index.name} does not name" for path in found}
    contents = _joined(folder, [folder / shard for shard in shards], sign, passed_over, where)
    missing = [name for name in where if name not in contents.tensors and name not in contents.refused]
    if missing:
        raise InputError(
            f"{str(folder / where[missing[0]])!r} lacks the tensor {missing[0]!r} that its index names"
        )
    return contents


def _weight_map(index: pathlib.Path) -> dict[str, str]:
    """The file of each tensor."""
    with guard.one_sentence(
        index, "is not an index of shards: it is truncated, or not JSON with a weight_map"
    ):
        content = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(content, dict) or not all(isinstance(file, str) for file in content.values()):
            raise TypeError("weight_map does not give a file for each tensor")
        return content


def _chosen(folder: pathlib.Path, found: list[pathlib.Path]) -> tuple[list[pathlib.Path], dict[str, str]]:
    """The files to read, and the reason for each file that is passed over."""
    numbered = {path: match for path in found if (match := _NUMBERED.fullmatch(path.name))}
    sets: dict[tuple[str, ...], list[pathlib.Path]] = {}
    for path, match in numbered.items():
        sets.setdefault((match[1], match[3], match[4]), []).append(path)
    names = {path.name for path in found}
    kept = [path for path in found if not _is_variant(path.name, names)]
    if len(kept) > 1 and any(not _is_consolidated(path.name) for path in kept):
        kept = [path for path in kept if not _is_consolidated(path.name)]
    if len(sets) == 1:
        (((stem, count, ending), kept),) = sets.items()
        have = {int(numbered[path][2]) for path in kept}
        lacking = [i for i in range(1, int(count) + 1) if i not in have][:1] if len(have) < int(count) else []
        if lacking:
            shard = f"{stem}-{lacking[0]:0{len(count)}d}-of-{count}{ending}"
            raise InputError(f"{str(folder)!r} lacks the shard {shard!r}")
    reason = f"a file beside {kept[0].name}, which has the weights"
    return kept, {path.name: reason for path in found if path not in kept}


def _is_variant(name: str, names: Iterable[str]) -> bool:
    """Whether a name is `model.fp16.safetensors` beside `model.safetensors`."""
    return re.sub(r"\.[\w-]+(?=\.[^.]+$)", "", name) in set(names) - {name}


def _is_consolidated(name: str) -> bool:
    """Whether a file has Mistral's or Meta's own name, under which a model lies beside its other form."""
    return name.startswith("consolidated.")


def _joined(
    folder: pathlib.Path,
    shards: list[pathlib.Path],
    sign: Sign,
    passed_over: dict[str, str],
    where: dict[str, str] | None = None,
) -> Contents:
    """All tensors of files, file by file. `where` gives the file of each tensor, where an index does."""
    tensors: dict[str, Tensor] = {}
    refused = {name: reason for name, reason in passed_over.items() if folder / name not in shards}
    layout, beside = None, 0
    for shard in shards:
        with guard.one_sentence(shard, f"is not a whole {sign.words} file"):
            more = sign.read(shard)
        layout, beside = more.layout, beside + more.beside
        for name, tensor in more.tensors.items():
            if where is not None and where.get(name, shard.name) != shard.name:
                continue
            if name in tensors:
                raise InputError(
                    f"{str(folder)!r} has {name!r} in more than one file: "
                    f"name one of {[one.name for one in shards]}"
                )
            tensors[name] = tensor
        refused |= more.refused
    return Contents(tensors, layout, refused, beside)
