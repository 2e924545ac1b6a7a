"""The changes of the tour for extenders are small, apply to the code as it is, and do what they say."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MOST = 20  # lines that a change adds or removes

# Section of the tour -> a program that uses what its change adds.
USES = {
    "A metric of the spectrum": """
import numpy as np
from rmtjax import spectra
row = spectra.analyze({"w": {"kernel": np.diag([3.0, 1.0, 1.0, 1.0])}}, metrics="peak").table.iloc[0]
assert abs(row["peak"] - 9 / 3) < 1e-9, row["peak"]
""",
    "An augmentation": """
import numpy as np
from rmtjax import config, data
settings = config.load("digits", ["augment.solarise=0.3"])
images = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
found = data.augmentation(settings.augment).image(images, np.zeros((1, 2), np.int32)).numpy()
np.testing.assert_allclose(found, np.where(images > 0.7, 1 - images, images), atol=1e-6)
""",
    "A model": """
import jax, jax.numpy as jnp
from rmtjax import config, models
settings = config.load("digits", ["model.name=linear", "model.init_from=None", "train.dtype=float32"])
model = models.build(settings, 10)
params = model.init(jax.random.key(0), jnp.zeros((2, 8, 8, 1)), train=False)
assert jax.tree.map(jnp.shape, params) == {"params": {"head": {"kernel": (64, 10), "bias": (10,)}}}
""",
    "A format of weights": """
import numpy as np
from rmtjax import spectra
np.savetxt("matrix.csv", np.diag([3.0, 2.0, 1.0]), delimiter=",")
np.testing.assert_allclose(spectra.eigenvalues("matrix.csv")["matrix"], [1, 4, 9])
""",
    "A question of a study": """
import numpy as np
from rmtjax.statistics import Arm, Roles, answers
import pandas as pd
rng = np.random.default_rng(0)
names = {"none": 0.0, "augmentation": -5.0, "dropout": 0.0, "decay": 0.0}
rows = [
    (arm, arm, float(arm != "none"), "none", seed, "run", "accuracy", loss + rng.standard_normal())
    for arm, loss in names.items() for seed in range(6)
]
columns = ["arm", "family", "dose", "baseline", "seed", "group", "metric", "value"]
found = answers(pd.DataFrame(rows, columns=columns), Roles("augmentation", "dropout", "decay"))
assert found.set_index("question").loc["T8", "verdict"] == "yes", found
""",
}


def changes():
    text = (ROOT / "rmtjax" / "TOUR.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*?)\n.*?```diff\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    return dict(sections)


def test_every_section_has_a_use():
    assert set(changes()) == set(USES)


@pytest.mark.parametrize("name", USES)
def test_a_change_of_the_tour(name, tmp_path):
    change = changes()[name]
    lines = [line for line in change.splitlines() if re.match(r"[+-](?![+-]{2})", line)]
    assert len(lines) <= MOST
    for part in ("rmtjax", "configs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "rows"))
    (tmp_path / "new.diff").write_text(change, encoding="utf-8")
    applied = subprocess.run(
        ["git", "apply", "--unidiff-zero", "new.diff"], cwd=tmp_path, capture_output=True, text=True
    )
    assert applied.returncode == 0, applied.stderr
    done = subprocess.run(
        [sys.executable, "-c", USES[name]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
