"""The fields of a config as text: what `--help` prints, and the configs that this project brings."""

import ast
import difflib
import pathlib

from ml_collections import ConfigDict

from rmtjax.config.fields import base, each_field
from rmtjax.errors import InputError

_PACKAGE = pathlib.Path(__file__).parents[1]


def fields(config: ConfigDict, part: str = "") -> str:
    """Each field as `name = value`, its default where it differs, and what it means.

    Args:
      part: a field or a section, such as `augment` or `model.vit`; "": all.

    Raises:
      InputError: there is no such part.
    """
    default, lines = base(), []
    for name, field in each_field():
        if part and name != part and not name.startswith(f"{part}."):
            continue
        value, usual = config, default
        for key in name.split("."):
            value, usual = value[key], usual[key]
        changed = f"   (default {usual!r})" if value != usual else ""
        lines += [f"  {name} = {value!r}{changed}", f"      {field.about}"]
    if not lines:
        parts = {".".join(name.split(".")[:i]) for name, _ in each_field() for i in (1, 2, 3)}
        ends = [name for name in sorted(parts) if part in name.rpartition(".")[2].split("_")]
        near = ends or difflib.get_close_matches(part, sorted(parts), 1, 0.4)
        hint = (
            f"did you mean {' or '.join(map(repr, near[:10]))}?"
            if near
            else f"the sections are {', '.join(default.keys())}"
        )
        raise InputError(f"no field or section {part!r}: {hint}")
    return "\n".join(lines)


def shipped() -> dict[str, pathlib.Path]:
    """The configs that this project brings, by name: those with `get_config`, beside the package or in it."""
    folder = next((one for one in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if one.is_dir()), None)
    found = sorted(folder.glob("*.py")) if folder else []
    return {path.stem: path for path in found if "def get_config(" in path.read_text(encoding="utf-8")}


def located(name: str) -> str:
    """The path of a config: `name` itself, or the file of one of this project's, as of `synthetic`."""
    if pathlib.Path(name).is_file() or name not in (known := shipped()):
        return name
    return str(known[name])


def first_sentence(path: pathlib.Path) -> str:
    """What the docstring of a config says first."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())
