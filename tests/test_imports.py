"""The import arrows of the project, and what importing a room costs."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "rmtjax"
ROOTS = {"config", "errors", "files", "flags"}
BASE = {"spectra", "diversity", "evaluation", "checkpoints", "data", "models"}
ORDER = {
    **dict.fromkeys(BASE, 0),
    "train": 1,
    "generate": 2,
    "measure": 3,
    "study": 4,
    "report": 5,
    "bench": 5,
    "evaluate": 6,
    "sets": 6,
}
ONLY_IN = {
    "tensorflow": {"data"},
    "tensorflow_datasets": {"data"},
    "tokenizers": {"data"},
    "nltk": {"data"},
    "orbax": {"checkpoints"},
    "safetensors": {"checkpoints"},
    "tensorstore": {"checkpoints"},
    "torch": {"checkpoints"},
    "h5py": {"checkpoints"},
    "onnx": {"checkpoints"},
    "msgpack": {"checkpoints"},
    "matplotlib": {"report", "data"},
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
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def rooms_imported(path):
    for module, name, _ in imports(path):
        parts = module.split(".")
        if parts[0] == "rmtjax":
            yield parts[1] if len(parts) > 1 else name


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_run_one_way(path):
    room = room_of(path)
    used = {r for r in rooms_imported(path) if r not in ROOTS and r != room}
    if path.name == "__main__.py" or room == "__init__":
        return  # wiring: the last layer
    if room in ROOTS:
        assert used == set(), f"{path} is a root and imports {used}"
        return
    assert room in ORDER, f"{room} is not in the picture: place it in DESIGN's order and here"
    if room in ("spectra", "diversity"):
        assert set(rooms_imported(path)) <= {room}, f"{path}: a library of its own imports nothing of rmtjax"
    later = {r for r in used if ORDER[r] >= ORDER[room]}
    assert not later, f"{path} imports {later}, which come after {room}"
    if room == "report":
        assert used == set(), f"{path}: report reads files only"


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
        ("rmtjax.report", ["tensorflow", "flax", "orbax"]),
        ("rmtjax.data", ["tokenizers", "nltk"]),
    ],
)
def test_import_cost(module, banned):
    code = f"import sys, {module}; print([m for m in {banned!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
