"""The page of a run: whole, self-contained, well-formed, honest about what is missing, clean in a browser."""

import html.parser
import itertools
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import report_workdir

from rmtjax import report
from rmtjax.errors import InputError
from rmtjax.report import colours, page_of_spectra
from rmtjax.report.numbers import show

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "br", "wbr"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = report_workdir.full(tmp_path_factory.mktemp("work") / "digits", report_workdir.vit_shapes(1, 24))
    report.run_page(path)
    return path


class Tags(html.parser.HTMLParser):
    """Start tags with their attributes; fails on a tag that is not closed where it should be."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in names]


def test_page_is_well_formed_and_accessible(run: pathlib.Path) -> None:
    tags = Tags((run / "report.html").read_text())
    ids = [a["id"] for _, a in tags.found if "id" in a]
    assert len(ids) == len(set(ids)) == 8 + len(report_workdir.vit_shapes(1, 24))
    goals = [a["href"] for a in tags.named("a", "use")]
    assert goals
    assert {goal.removeprefix("#") for goal in goals if goal} <= set(ids)
    assert all(a["alt"] for a in tags.named("img"))
    charts = [a for a in tags.named("svg") if a["class"] == "chart"]
    assert all(a["role"] in ("img", "group") and a["aria-label"] for a in charts)
    assert all(a["aria-hidden"] == "true" for a in tags.named("svg") if a["class"] == "key")
    # Every matrix has three charts at each of three stages, and one of the shift.
    assert len([a for a in charts if "encoder/block_0/mlp/up" in (a["aria-label"] or "")]) == 10
    matrices = [a for a in tags.named("details") if a.get("class") == "matrix"]
    assert len(matrices) == len(report_workdir.vit_shapes(1, 24))
    levels = [int(tag[1]) for tag, _ in tags.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_page_asks_nothing_of_a_network(run: pathlib.Path) -> None:
    text = (run / "report.html").read_text()
    assert not re.findall(r"https?:|//[a-z]", re.sub(r"base64,[\w+/=]*", "", text))
    sources = [a.get("src") or "" for a in Tags(text).named("img", "script", "iframe", "source")]
    assert all(source.startswith("data:") or source == "" for source in sources)
    assert len(text) < 3e6


def test_page_has_every_number(run: pathlib.Path) -> None:
    text = (run / "report.html").read_text()
    for row in json.loads((run / "evaluation.json").read_text())["rows"]:
        if "/" not in row["set"]:
            assert f">{row['value']:.3f}<small>[{row['low']:.3f}, {row['high']:.3f}]" in text
    assert "0.988 [0.970, 0.995] of 400" in text
    assert "0.68 (1: as far as unseen real examples" in text  # 1.21 / 1.78
    assert re.search(">synthetic.<wbr>share</th><td[^>]*>0.5</td>", text)
    assert "There is no" not in text
    assert "Tensors without a spectrum (1), and why" in text
    assert "<dt>encoder/norm/scale</dt><dd>a vector</dd>" in text


def test_every_matrix_has_its_row(run: pathlib.Path) -> None:
    """Values of each stage, with noise below that after training, shape and warning below the name."""
    text = (run / "report.html").read_text()
    table = pd.read_parquet(run / "spectra.parquet").set_index(["stage", "name"])
    name = "encoder/block_0/mlp/up/kernel"
    row = re.search(r"<tr><th [^>]*>(?:(?!</tr>).)*mlp/<wbr>up</a>(.*?)</tr>", text, re.DOTALL)
    assert row is not None
    after = table.loc[("after", name)]
    low, high = (show(after[f"alpha_null_{end}"]) for end in ("low", "high"))
    assert f"{show(after['alpha'])}<small><i>{low} – {high}</i></small>" in row.group(1)
    for stage in ("before", "after", "update"):
        assert show(table.loc[(stage, name), "stable_rank"]) in row.group(1)
    # That alpha is as in noise stands beside its p.
    now, of_update = (
        table.loc[(stage, name), "warning"].replace("alpha as low is common in noise of this shape", "")
        for stage in ("after", "update")
    )
    of_update = "" if of_update == now else of_update and f"update: {of_update}"
    below = "; ".join(filter(None, ["96 × 24", now, of_update]))
    assert f"<small>{below}</small>" in row.group(1)
    assert f'data-key="{table.loc[("update", name), "alpha"]}"' in row.group(1)


def test_colours_follow_the_readers_scheme(run: pathlib.Path) -> None:
    text = (run / "report.html").read_text()
    root = text[text.index(":root") : text.index("* {")]
    for palette in (colours.LIGHT, colours.DARK):
        assert all(f"--{name}: {colour}" in root for name, colour in palette.items())
    for name, colour in colours.LIGHT.items():
        assert colour not in text.replace(root, ""), name
    assert colours.LIGHT.keys() == colours.DARK.keys()


def test_figures_lie_beside_the_page_and_nothing_half_written(run: pathlib.Path) -> None:
    figures = {path.name for path in (run / "figures").iterdir()}
    assert figures == {
        f"{n}.png"
        for n in ("evaluation", "severity", "reliability", "training", "spectra_profile", "spectra")
    }
    assert {"report.html", "samples.png", "synthetic.png"} <= {path.name for path in run.iterdir()}
    assert not list(run.rglob(".*"))


def test_an_empty_workdir_has_a_page_that_says_what_is_missing(tmp_path: pathlib.Path) -> None:
    text = report.run_page(tmp_path).read_text()
    Tags(text)
    for name in (
        "metrics.jsonl",
        "evaluation.json",
        "spectra.parquet",
        "diversity.json",
        "synthetic.json",
        "samples.npz",
        "config.json",
        "run.json",
    ):
        assert re.search(f'class="absent">There is no {re.escape(name)}', text), name


def test_the_same_files_give_the_same_page(tmp_path: pathlib.Path) -> None:
    report_workdir.spectra(tmp_path, {"dense/kernel": (12, 6)}, np.random.default_rng(0))
    report_workdir.metrics(tmp_path, np.random.default_rng(0), 20)
    first = report.run_page(tmp_path).read_bytes()
    assert report.run_page(tmp_path).read_bytes() == first


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evaluation.json", b'{"rows": [{"set"'),
        ("run.json", b"[1, 2]"),
        ("spectra.parquet", b"not a table"),
        ("samples.npz", b"PK\x03\x04 cut off"),
        ("metrics.jsonl", b'{"step": 1, "loss"\n{"step": 2, "loss": 1.0}\n'),
        ("evaluation.json", b'{"rows": [{"set": "test", "value": 1}]}'),
    ],
)
def test_a_damaged_file_is_named_and_no_page_written(
    tmp_path: pathlib.Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name)) as caught:
        report.run_page(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_nothing_is_unpickled(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "spectra.npz", a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"spectra\.npz"):
        report.run_page(tmp_path)


def test_a_missing_workdir_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        report.run_page(tmp_path / "nowhere")


def test_other_peoples_data(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd names, 100 matrices, NaN everywhere, one class, a run that was killed."""
    rng = np.random.default_rng(3)
    monkeypatch.setattr(page_of_spectra, "_MOST_MATRICES", 2)
    long = "a_rather_long_name_of_a_module_that_somebody_chose/" * 4
    shapes = {f"{long}<script>alert(1)</script>/$x_{{{k}}}^2$/\"q'&/kernel": (6, 4) for k in range(100)}
    report_workdir.spectra(tmp_path, shapes, rng)
    table = pd.read_parquet(tmp_path / "spectra.parquet")
    table.loc[::3, ["alpha", "xmin"]] = -1.0  # as WeightWatcher writes a failed fit
    table.loc[::5, ["stable_rank", "mp_softrank"]] = [np.inf, np.nan]
    table.to_parquet(tmp_path / "spectra.parquet")
    lines = [{"step": k, "loss": float("nan") if k > 3 else 1.0, "accuracy": None} for k in range(1, 6)]
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"step": 6, "lo')
    rows = [
        {
            "set": "test",
            "kind": "id",
            "metric": m,
            "value": None,
            "low": None,
            "high": None,
            "null": None,
            "n": 0,
        }
        for m in ("accuracy", "ece")
    ]
    rows.append(rows[0] | {"set": "<b>shift", "kind": "shift", "value": 0.25})
    report_workdir.dump(tmp_path / "evaluation.json", {"temperature": None, "rows": rows})
    report_workdir.dump(tmp_path / "diversity.json", {"rows": []})
    report_workdir.dump(tmp_path / "run.json", {"status": "stopped", "step": 5, "classes": ["<i>数$</i>"]})
    report_workdir.dump(
        tmp_path / "config.json", {"model": {"name": "mine"}, "mine": {"deep": {"er": [1, None]}}}
    )
    images = rng.random((3, 5, 7, 3), dtype=np.float32)
    np.savez(tmp_path / "samples.npz", real=images, real_label=np.zeros(3, np.int32))
    np.savez(
        tmp_path / "synthetic_by_class.npz",
        images=images[None, :, :, :, :1],
        classes=np.array(["<i>数$</i>"]),
    )
    text = report.run_page(tmp_path).read_text()
    Tags(text)
    assert "<script>alert" not in text
    assert "<i>数" not in text
    assert "<b>shift" not in text
    assert "&lt;b&gt;shift" in text
    assert "This run is not finished: stopped, at step 5." in text
    assert "Only the first 2 of 100 matrices are drawn; the table has all" in text
    assert text.count('<th scope="row"') >= 100
    assert "nan" not in text.lower().replace("isnan", "")
    assert "mine.deep.er" in text


def test_a_set_that_was_not_judged_says_why(tmp_path: pathlib.Path) -> None:
    judged = {"value": None, "low": None, "high": None, "n": 40, "reason": "all of one class"}
    report_workdir.dump(
        tmp_path / "synthetic.json", {"recognised": judged, "nearest_training_distance": None}
    )
    text = report.run_page(tmp_path).read_text()
    assert "not judged: all of one class" in text
    assert "ratio of these distances" not in text


@pytest.mark.parametrize("shapes", [{"w": (3, 1)}, {"w": (5, 5), "head": (1, 1)}])
def test_one_matrix_and_scalars(tmp_path: pathlib.Path, shapes: dict[str, tuple[int, int]]) -> None:
    rows = [
        {"stage": "after", "name": name, "N": n, "M": m, "alpha": -1.0, "xmin": -1.0, "stable_rank": 1.0}
        for name, (n, m) in shapes.items()
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "spectra.parquet")
    np.savez(
        tmp_path / "spectra.npz", **{f"after/{name}": np.arange(float(m)) for name, (_, m) in shapes.items()}
    )
    Tags(report.run_page(tmp_path).read_text())


def test_frozen_weights_have_an_update_of_zero(tmp_path: pathlib.Path) -> None:
    values = {
        "before/w": np.array([1.0, 2.0, 4.0]),
        "after/w": np.array([1.0, 2.0, 4.0]),
        "update/w": np.zeros(3),
    }
    np.savez(tmp_path / "spectra.npz", **values)
    rows = [
        {"stage": "before", "name": "w", "N": 3, "M": 3, "stable_rank": 1.75},
        {"stage": "after", "name": "w", "N": 3, "M": 3, "stable_rank": 1.75},
        {"stage": "update", "name": "w", "N": 3, "M": 3, "norm_ratio": 0.0},
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "spectra.parquet")
    text = report.run_page(tmp_path).read_text()
    assert "median size of update</span><b>0</b>" in text


def in_browser(page: pathlib.Path, profile: pathlib.Path) -> tuple[str, list[str]]:
    """The page's DOM after its script ran, and what it wrote to the console."""
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--v=0",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
def test_page_in_a_browser(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """No console message, and a click on a head sorts: by number, upwards, what is missing last."""
    probe = """<script>
      const tables = [...document.querySelectorAll("table")];
      const table = tables.find(t => t.caption.textContent.startsWith("Each matrix"));
      const button = [...table.tHead.querySelectorAll("button")].find(b => b.textContent === "α after");
      const column = button.parentElement.cellIndex;
      const read = () => [...table.tBodies[0].rows].map(r => r.cells[column].dataset.key).join(" ");
      table.tBodies[0].rows[1].cells[column].dataset.key = "";
      const seen = [read()];
      for (let k = 0; k < 3; k++) { button.click(); seen.push(read()); }
      document.body.dataset.seen = seen.join("|");
      document.body.dataset.wide = document.documentElement.scrollWidth > innerWidth;
    </script></body>"""
    page = tmp_path / "page.html"
    page.write_text((run / "report.html").read_text().replace("</body>", probe))
    dom, console = in_browser(page, tmp_path / "profile")
    assert console == []
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found is not None
    file, up, down, again = (order.split(" ") for order in found.group(1).split("|"))
    numbers = [float(key) for key in file if key]
    assert up == [str(x) for x in sorted(numbers)] + [""]
    assert down == [str(x) for x in sorted(numbers, reverse=True)] + [""]
    assert again == file
    assert 'data-wide="false"' in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
def test_the_browser_test_sees_an_error(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        (run / "report.html")
        .read_text()
        .replace("</body>", '<script>throw new Error("boom")</script></body>')
    )
    _, console = in_browser(page, tmp_path / "profile")
    assert len(console) == 1
    assert "boom" in console[0]
