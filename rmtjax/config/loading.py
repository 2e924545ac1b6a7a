"""Config files, overrides and stored configs."""

import ast
import difflib
import importlib.util
import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from rmtjax.config.fields import base, each_field
from rmtjax.config.listing import located, shipped
from rmtjax.config.validation import validate
from rmtjax.errors import InputError

_KINDS = {int: "an integer", float: "a number", str: "a text", bool: "True or False", tuple: "a list a,b,c"}


def smoke(config: ConfigDict) -> ConfigDict:
    """The same config, shrunk in place for tests: seconds instead of minutes. Returned for chaining."""
    config.data.train_examples = min(config.data.train_examples or 40, 40)
    config.data.validation_examples = 20
    config.data.test_examples = 40
    config.train.update(total_steps=4, total_epochs=None, total_examples=None, batch_size=8)
    config.train.update(checkpoint_steps=2, evaluation_steps=2, evaluation_batch_size=32)
    config.optim.update(warmup_steps=1, warmup_epochs=None, warmup_examples=None)
    config.synthetic.update(width=32, depth=1, total_steps=10, batch_size=16, sampling_steps=3)
    config.evaluation.corruptions = config.evaluation.corruptions[:2]
    config.evaluation.bootstrap_samples = 20
    if config.model.init_from is None:
        config.model.vit.update(width=16, depth=2, heads=2, mlp_width=32)
        if config.model.vit.projection is not None:
            config.model.vit.projection = 8
        config.model.resnet.update(
            depth=8 if config.model.resnet.kind == "cifar" else 14, width=4, projection=8
        )
        config.model.mlp.update(width=16)
        config.model.bert.update(width=16, depth=2, heads=2, mlp_width=32)
    return config


def load(path: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """A config from a file and `field.name=value` overrides, checked and locked. The file is executed.

    Args:
      path: of a file, or the name of a config of this project, such as `synthetic`.

    Raises:
      InputError: no such file, no `get_config`, an unknown or mistyped field, a value out of range.
    """
    file = pathlib.Path(located(path))
    if not file.is_file():
        near = difflib.get_close_matches(file.stem, shipped(), 1)
        hint = f"did you mean {near[0]!r}?" if near else "give the path of a Python file, or a name"
        raise InputError(f"no config file {path!r}: {hint} (`rmtjax configs` lists those of this project)")
    spec = importlib.util.spec_from_file_location(f"rmtjax_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(
            f"config file {path!r} is not a Python file: it must end in .py and define get_config()"
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise InputError(f"config file {path!r} defines no get_config(): start from the ones in configs/")
        config = module.get_config()
    except (AttributeError, KeyError) as error:
        quoted = re.search(r"""["'](\w+)\\*["']""", str(error))
        missing = quoted.group(1) if quoted else str(error)
        raise InputError(f"config file {path!r}: {_unknown(missing, base())}") from error
    except TypeError as error:
        raise InputError(f"config file {path!r}: {str(error).splitlines()[0]}") from error
    for override in overrides:
        _override(config, override)
    validate(config)
    return config


def _unknown(name: str, config: ConfigDict) -> str:
    names = [name for name, _ in each_field()]
    near = difflib.get_close_matches(name, names, 1, 0.5)
    if not near:  # the last part alone may be what was misspelt
        tails = {n.rsplit(".", 1)[-1]: n for n in reversed(names)} | {section: section for section in config}
        near = [tails[t] for t in difflib.get_close_matches(name.rsplit(".", 1)[-1], list(tails), 1, 0.5)]
    hint = f"did you mean {near[0]!r}?" if near else f"the sections are {', '.join(config.keys())}"
    return f"unknown field {name!r}: {hint}"


def _override(config: ConfigDict, override: str) -> None:
    name, separator, text = override.partition("=")
    if not separator:
        raise InputError(f"override {override!r} has no value: write --config.{name}=VALUE")
    if name not in dict(each_field()):
        raise InputError(_unknown(name, config))
    *sections, field = name.split(".")
    node = config
    for section in sections:
        node = node[section]
    kind = node.get_type(field)
    try:
        value: Any = text if kind is str and text != "None" else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if kind is tuple and isinstance(value, str):
        value = tuple(part for part in value.split(",") if part)
    if isinstance(value, list):
        value = tuple(value)
    try:
        node[field] = value
    except TypeError as error:
        raise InputError(
            f"{name}={text!r} is not of the right type: {_KINDS.get(kind, kind.__name__)} is wanted"
        ) from error


def to_json(config: ConfigDict) -> str:
    """The config as JSON text, sorted, one field a line: what a run stores and what hashes are made of."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a config that is parsed JSON, by names such as `model.vit.depth`."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict) and value
        out |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return out


def differing_fields(config: ConfigDict, stored: dict[str, Any]) -> list[str]:
    """`field: stored -> now` for each field in which a stored config (parsed JSON) differs from this one.

    A field that is not stored, because an older version did not know it, has its default.
    """
    now, default = (flat(json.loads(to_json(one))) for one in (config, base()))
    then = default | flat(stored)
    return [
        f"{name}: {then.get(name, 'absent')!r} -> {now.get(name, 'absent')!r}"
        for name in sorted(now.keys() | then.keys())
        if now.get(name, "absent") != then.get(name, "absent")
    ]


def from_stored(stored: dict[str, Any]) -> ConfigDict:
    """The config that a run stored as JSON.

    Raises:
      InputError: it has a field that this version does not know.
    """
    config = base()

    def fill(node: ConfigDict, values: dict[str, Any], prefix: str) -> None:
        for key, value in values.items():
            if key not in node:
                raise InputError(
                    f"the stored config has a field {prefix}{key!r} that this version of rmtjax does not know"
                )
            if isinstance(value, dict):
                fill(node[key], value, f"{prefix}{key}.")
            else:
                node[key] = _tuples(value)

    fill(config, stored, "")
    return config


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
