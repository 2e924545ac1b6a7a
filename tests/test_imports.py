"""The import arrows of the project, and what importing a room costs."""

import ast
import graphlib
import pathlib
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from rmtjax.errors import OF_TRAINING

PACKAGE = pathlib.Path(__file__).parents[1] / "rmtjax"
# The rooms from the bottom up. A file imports its own room and rooms of lower lines, none beside or above it.
ORDER = (
    ("errors",),
    ("files",),
    ("checkpoints",),
    ("spectra", "diversity", "evaluation", "config"),
    ("statistics", "weightwatcher", "observers"),
    ("results",),
    ("data", "models"),
    ("train",),
    ("generate",),
    ("measure", "report"),
    ("study",),
    ("bench",),
    ("commands",),
    ("doors",),  # __main__.py of every room, and evaluate.py: what `python -m` finds. Nothing imports them.
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
# Libraries of their own: of the package they import errors, and each other downwards.
LIBRARIES = {"checkpoints", "spectra", "diversity", "evaluation", "statistics", "weightwatcher"}
ONLY_IN = {
    "tensorflow": {"data", "checkpoints"},  # in checkpoints: when a file of TensorFlow is read
    "tensorflow_datasets": {"data"},
    "tokenizers": {"data"},
    "nltk": {"data"},
    "orbax": {"checkpoints"},
    "safetensors": {"checkpoints"},
    "tensorstore": {"checkpoints"},
    "torch": {"checkpoints"},
    "h5py": {"checkpoints"},
    "onnx": {"checkpoints"},
    "gguf": {"checkpoints"},
    "msgpack": {"checkpoints"},
    "matplotlib": {"report", "data", "spectra"},  # in spectra: when a figure is drawn
    "jinja2": {"report"},
}


def files():
    return sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """(module, imported name or None, is it at the top of the file) of every import."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                yield node.module, alias.name, id(node) in top


def room_of(path):
    if path.name == "__main__.py" or path == PACKAGE / "evaluate.py":
        return "doors"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported(path):
    for module, name, _ in imports(path):
        parts = module.split(".")
        if parts[0] == "rmtjax":
            yield parts[1] if len(parts) > 1 else name


def modules_imported(path):
    """The package's files that a file imports; a name from an `__init__` counts as the `__init__`."""
    for module, name, _ in imports(path):
        parts = module.split(".")
        if parts[0] != "rmtjax":
            continue
        for tried in ((*parts[1:], name), parts[1:]) if name else (parts[1:],):
            file = PACKAGE.joinpath(*tried).with_suffix(".py") if tried else PACKAGE / "__init__.py"
            file = file if file.is_file() else PACKAGE.joinpath(*tried, "__init__.py")
            if file.is_file():
                yield file
                break


def test_no_file_imports_itself_round_a_corner():
    graph = {path: set(modules_imported(path)) - {path} for path in files()}
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        circle = " -> ".join(str(path.relative_to(PACKAGE)) for path in error.args[1])
        pytest.fail(f"a circle: {circle}")


def picture():
    """The order as a failing test prints it."""
    return "\n".join(f"{level:2d}  {', '.join(rooms)}" for level, rooms in reversed(list(enumerate(ORDER))))


def test_every_room_has_its_place():
    rooms = {room_of(path) for path in files()} - {"__init__"}
    assert rooms == set(LEVEL), f"place these in ORDER, or take them out: {rooms ^ set(LEVEL)}\n{picture()}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_run_one_way(path):
    room = room_of(path)
    used = set(rooms_imported(path)) - {room}
    if room == "__init__":
        assert used <= {"errors"}, "`import rmtjax` imports nothing else"
        return
    up = {other for other in used if LEVEL.get(other, len(ORDER)) >= LEVEL[room]}
    assert not up, (
        f"{path} is in {room} and imports {', '.join(sorted(up))}, which do not lie below it:\n{picture()}"
    )
    if room in LIBRARIES:
        assert used <= LIBRARIES | {"errors", "files"}, f"{path}: a library of its own imports {used}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_stay_in_their_rooms(path):
    room = room_of(path)
    for module, name, _ in imports(path):
        library = module.split(".")[0]
        if library in ONLY_IN and room != "bench":
            assert room in ONLY_IN[library], f"{path} imports {library}"
        if module.startswith("flax") and (name == "linen" or "linen" in module):
            # The type of a module is part of the models' contract; layers are not.
            assert room in ("models", "generate", "train"), f"{path} imports flax.linen"
        assert not module.startswith("jax._src"), f"{path} imports {module}"


def test_train_builds_no_layers():
    for path in (PACKAGE / "train").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nn":
                assert node.attr == "Module", f"{path} uses nn.{node.attr}"


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("rmtjax", ["jax", "tensorflow", "flax", "matplotlib"]),
        ("rmtjax.spectra", ["tensorflow", "flax", "matplotlib", "orbax"]),
        ("rmtjax.checkpoints", ["tensorflow", "flax", "matplotlib", "orbax", "torch"]),
        ("rmtjax.diversity", ["tensorflow", "flax", "matplotlib", "orbax"]),
        ("rmtjax.evaluation", ["tensorflow", "flax", "matplotlib", "orbax"]),
        ("rmtjax.train.loop", ["tensorflow", "matplotlib"]),
        ("rmtjax.report", ["tensorflow", "flax", "orbax", "matplotlib", "scipy.stats"]),
        ("rmtjax.data", ["tokenizers", "nltk"]),
    ],
)
def test_import_cost(module, banned):
    code = f"import sys, {module}; print([m for m in {banned!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


WITHOUT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OF_TRAINING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from rmtjax.commands import main
from rmtjax.errors import run_command
"""


def call_without_training(*words):
    code = f"{WITHOUT}\nrun_command(lambda: main.main({list(words)!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_spectra_and_their_page_do_without_what_training_needs(tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.eye(20, 30), b=np.ones((12, 12)))
    done = call_without_training("spectra", f"{tmp_path}/weights.npz", f"--out={tmp_path}/out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/report.html").is_file()
    done = call_without_training("train", "--config=digits")
    assert done.returncode == 2
    assert done.stderr.startswith("rmtjax: this command needs ml_collections, which is not installed: pip")


def test_the_project_file_names_every_package_and_extra():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    found = {".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == {*found, "rmtjax.configs"}
    extra = " ".join(project["project"]["optional-dependencies"]["train"]).replace("-", "_")
    names = {"sklearn": "scikit_learn", "orbax": "orbax_checkpoint"}
    assert [name for name in OF_TRAINING if names.get(name, name) not in extra] == []
