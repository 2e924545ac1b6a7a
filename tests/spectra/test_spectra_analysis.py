"""The whole pass: parity with WeightWatcher, comparison, faults, files, devices."""

import os
import pathlib
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pandas as pd
import pytest

from rmtjax import checkpoints, results, spectra
from rmtjax.spectra import archives, compiled, updates, wrappers

RNG = np.random.default_rng(7)
FLOAT = np.float32


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(FLOAT)


def row(analysis: spectra.Analysis, name: str, stage: str | None = None) -> pd.Series:
    table = analysis.table if stage is None else analysis.table[analysis.table["stage"] == stage]
    return table.set_index("name").loc[name]


def weightwatcher() -> pathlib.Path:
    folder = pathlib.Path(os.environ.get("RMTJAX_DATA", "")) / "weightwatcher"
    if not os.environ.get("RMTJAX_DATA") or not (folder / "layers8.safetensors").is_file():
        pytest.skip("RMTJAX_DATA names no folder with weightwatcher/layers8.safetensors")
    return folder


@pytest.mark.parametrize(("precision", "tolerance"), [("double", 1e-6), ("single", 1e-4)])
def test_parity_with_weightwatcher(precision, tolerance):
    """Its conv2d_norm factor c/2 is off in this table; conv2x2_even carries its bug B16 in N, M, Q only."""
    from safetensors.numpy import load_file

    folder = weightwatcher()
    tree = {}
    for name, tensor in load_file(folder / "layers8.safetensors").items():
        conv = tensor.ndim == 4  # stored as (out, in, height, width)
        tree[name.removesuffix(".weight") + "/kernel"] = tensor.transpose(2, 3, 1, 0) if conv else tensor
    theirs = pd.read_csv(folder / "layers8_no_norm.csv").set_index("name")
    ours = spectra.analyze(tree, precision=precision).table
    ours = ours.set_index(ours["name"].str.removesuffix("/kernel")).loc[theirs.index]
    scale = ["alpha", "D", "xmin", "sigma", "norm", "log_norm", "spectral_norm", "log_spectral_norm",
             "stable_rank", "alpha_weighted", "log_alpha_norm"]  # fmt: skip
    for name in scale:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, err_msg=name)
    for name in ("num_pl_spikes", "num_evals"):
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    np.testing.assert_array_equal(ours["ww_label"], theirs["warning"].fillna(""))
    assert (theirs["warning"] == "under-trained").any()
    # fc_square has an eigenvalue below the resolution of single precision: its rank comes out as 199 of 200.
    apart = theirs.index[ours["num_unresolved"] == 0]
    assert len(apart) == (8 if precision == "double" else 7)
    np.testing.assert_allclose(ours.loc[apart, "entropy"], theirs.loc[apart, "entropy"], rtol=tolerance)
    np.testing.assert_array_equal(ours.loc[apart, "matrix_rank"], theirs.loc[apart, "matrix_rank"])
    odd = theirs.index.drop("conv2x2_even")
    np.testing.assert_array_equal(ours.loc[odd, ["N", "M", "Q"]], theirs.loc[odd, ["N", "M", "Q"]])


@pytest.mark.parametrize(("precision", "tolerance"), [("double", 1e-6), ("single", 1e-4)])
def test_parity_with_its_factor_its_density_fit_and_the_trace_log_condition(precision, tolerance):
    """conv2x2_even carries its bug B16, which reaches its fit; sv_min of convolutions its bug B15."""
    folder = weightwatcher()
    theirs = pd.read_csv(folder / "layers8_full.csv").set_index("name")
    weights = checkpoints.open(folder / "layers8.safetensors")
    ours = spectra.analyze(weights, conv_norm=True, precision=precision).table
    ours = ours.set_index(ours["name"].str.removesuffix(".weight")).loc[theirs.index]
    scale = ["alpha", "D", "xmin", "sigma", "norm", "log_norm", "spectral_norm", "log_spectral_norm",
             "stable_rank", "alpha_weighted", "log_alpha_norm", "sv_max", "W_scale", "detX_val"]  # fmt: skip
    for name in scale:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, err_msg=name)
    for name in ("num_pl_spikes", "num_evals", "num_ERG_spikes", "ERG_gap"):
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    odd = theirs.index.drop("conv2x2_even")
    np.testing.assert_allclose(ours.loc[odd, "sigma_mp"], theirs.loc[odd, "sigma_mp"], atol=2e-4)
    np.testing.assert_array_equal(ours.loc[odd, "num_spikes_mp_fit"], theirs.loc[odd, "num_spikes"])
    for name in ("mp_softrank", "bulk_max", "bulk_min"):
        np.testing.assert_allclose(
            ours.loc[odd, f"{name}_mp_fit"], theirs.loc[odd, name], rtol=1e-3, atol=1e-5, err_msg=name
        )
    dense = [name for name in theirs.index if not name.startswith("conv")]
    whole = [name for name in dense if ours.loc[name, "num_unresolved"] == 0]
    np.testing.assert_allclose(ours.loc[whole, "sv_min"], theirs.loc[whole, "sv_min"], rtol=1e-4)


@pytest.fixture(scope="module")
def comparison() -> tuple[dict, dict, spectra.Analysis]:
    before = {
        "a": {"kernel": normal(40, 24)},
        "b": {"kernel": normal(24, 40), "bias": normal(40)},
        "old": normal(40, 24),
    }
    after = {name: before[name] for name in ("a", "b")} | {"new": normal(24, 40)}
    after["a"] = {"kernel": before["a"]["kernel"] + 0.1 * normal(40, 24)}
    return before, after, spectra.compare(before, after)


def test_comparison(comparison):
    before, after, analysis = comparison
    stages = [(row["stage"], row["name"]) for _, row in analysis.table.iterrows()]
    assert stages == [
        ("before", "a/kernel"), ("before", "b/kernel"), ("before", "old"),
        ("after", "a/kernel"), ("after", "b/kernel"), ("after", "new"),
        ("update", "a/kernel"), ("update", "b/kernel"),
    ]  # fmt: skip
    assert set(analysis.eigenvalues) == {f"{stage}/{name}" for stage, name in stages}
    assert analysis.left_out["old"] == "no update: only before"
    assert analysis.left_out["new"] == "no update: only after"
    assert "b/bias" in analysis.left_out
    old, new = (side["a"]["kernel"].astype(np.float64) for side in (before, after))
    update = row(analysis, "a/kernel", "update")
    assert update["norm_ratio"] == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old), rel=1e-9)
    assert update["spectral_ratio"] == pytest.approx(
        np.linalg.norm(new - old, 2) / np.linalg.norm(old, 2), rel=1e-9
    )
    cosine = (old * new).sum() / np.linalg.norm(old) / np.linalg.norm(new)
    assert update["cosine"] == pytest.approx(cosine, rel=1e-9)
    np.testing.assert_allclose(
        analysis.eigenvalues["update/a/kernel"],
        np.sort(np.linalg.svd(new - old, compute_uv=False) ** 2), rtol=1e-9,
    )  # fmt: skip
    frozen = row(analysis, "b/kernel", "update")
    assert frozen["warning"] == "all weights are zero"
    assert frozen["norm"] == 0
    assert np.isnan(analysis.table.loc[analysis.table["stage"] == "before", "norm_ratio"]).all()


def test_another_model_of_like_shapes_compiles_nothing(comparison):
    before, after, _ = comparison
    like = [{name: tree[name] for name in ("a", "b")} | {"other": normal(39, 23)} for tree in (before, after)]
    known = compiled._count()
    spectra.compare(*like)  # nine matrices instead of eight, padded to as many rows and to the same shape
    # Each once more: product, reduction, roots, and the metrics in two parts.
    assert compiled._count() <= known + 5
    known = compiled._count()
    spectra.compare(*like)
    assert compiled._count() == known


def test_programs_of_many_shapes_are_dropped_and_the_numbers_stay(monkeypatch):
    rng = np.random.default_rng(0)
    # All are padded to one length, so that only the programs that reduce the matrices are new for each model.
    models = [{"dense": {"kernel": rng.standard_normal((rows, 16))}} for rows in range(17, 21)]
    client = jax.local_devices()[0].client
    monkeypatch.setattr(compiled, "_MOST", 4)
    compiled.forget()
    first, kept, live = [], [], []
    for model in models:
        first.append(spectra.analyze(model, metrics="scale").table)
        kept.append(compiled._count())
        live.append(len(client.live_executables()))
    assert kept == [4, 5, 0, 4]
    assert live[2] < live[1]
    monkeypatch.setattr(compiled, "_MOST", 0)
    known = len(client.live_executables())
    again = spectra.analyze(models[-1], metrics="scale").table
    assert len(client.live_executables()) == known, "a model that compiles nothing drops nothing"
    pd.testing.assert_frame_equal(again, first[-1])
    pd.testing.assert_frame_equal(spectra.analyze(models[0], metrics="scale").table, first[0])


def test_groups_and_layers_are_chosen_by_name():
    tree = {"a": {"kernel": normal(40, 24)}, "b": {"kernel": normal(24, 40)}}
    assert list(spectra.analyze(tree, layers="^b").table["name"]) == ["b/kernel"]
    with pytest.raises(
        ValueError, match="layers='c' is found in no name of a matrix: they are a/kernel, b/kernel"
    ):
        spectra.analyze(tree, layers="c")
    with pytest.raises(ValueError, match=r"layers='\(' is not a regular expression"):
        spectra.analyze(tree, layers="(")
    with pytest.raises(ValueError, match=r"metrics has 'size': it must be default, all, a group \(scale"):
        spectra.analyze(tree, metrics="scale,size")


def test_a_matrix_that_changed_its_shape_has_no_update():
    before, after = {"a": normal(9, 5), "head": normal(9, 4)}, {"a": normal(9, 5), "head": normal(9, 3)}
    found, without = updates.differences(*(spectra.weight_matrices(tree)[0] for tree in (before, after)))
    assert [matrix.name for matrix in found] == ["a"]
    assert without == {"head": "no update: (1, 9, 4) before, (1, 9, 3) after"}
    with pytest.raises(ValueError, match="no weight matrix in common: a, head before, x after"):
        spectra.compare(before, {"x": normal(4, 4)})


@pytest.fixture(scope="module")
def faulty() -> tuple[dict, spectra.Analysis]:
    spoiled = normal(30, 24)
    spoiled[3, 4], spoiled[5, 6] = np.nan, np.inf
    good = normal(30, 24)
    tree = {
        "good": good, "spoiled": spoiled, "zero": np.zeros((30, 24), FLOAT),
        "rank_one": np.outer(normal(30), normal(24)), "tiny": good * FLOAT(1e-6), "huge": good * FLOAT(1e30),
        "row": normal(1, 24), "identity": np.eye(24, dtype=FLOAT),
    }  # fmt: skip
    return tree, spectra.analyze(tree)


METRICS = (
    "alpha",
    "stable_rank",
    "effective_rank",
    "entropy",
    "mp_softrank",
    "participation_ratio",
    "alpha_hill",
)


def test_what_overflows_in_single_precision_is_offered_double():
    rng = np.random.default_rng(0)
    tree = {"large": rng.normal(size=(20, 12)) * 1e200, "plain": rng.normal(size=(20, 12))}
    tree["large"][0] = 1e-3
    single = spectra.analyze(tree, metrics="scale", precision="single")
    assert (
        row(single, "large")["warning"] == "228 of 240 weights are too large for single precision: use double"
    )
    assert not np.isnan(row(single, "plain")["norm"])
    stable_rank = row(spectra.analyze(tree, metrics="scale"), "large")["stable_rank"]
    singular = np.linalg.svd(tree["large"] / 1e200, compute_uv=False)
    assert stable_rank == pytest.approx((singular**2).sum() / singular.max() ** 2, rel=1e-9)


def test_faults_are_told_and_do_not_spread(faulty):
    tree, analysis = faulty
    assert list(analysis.table["name"]) == sorted(tree)
    mended = tree | dict.fromkeys(("spoiled", "zero", "rank_one"), tree["good"])
    alone = spectra.analyze(mended)  # by the same program
    for name in METRICS:
        assert row(analysis, "good")[name] == pytest.approx(row(alone, "good")[name], rel=1e-12)
    spoiled = row(analysis, "spoiled")
    assert spoiled["warning"] == "2 of 720 weights are not finite"
    assert spoiled[[*METRICS, "norm", "num_spikes", "alpha_null"]].isna().all()
    assert np.isnan(analysis.eigenvalues["spoiled"]).all()
    zero = row(analysis, "zero")
    assert zero["warning"] == "all weights are zero"
    assert zero["norm"] == 0
    assert zero["matrix_rank"] == 0
    assert np.isnan(zero["log_norm"])
    assert zero[list(METRICS)].isna().all()
    one = row(analysis, "rank_one")
    assert one["warning"].startswith("rank 1 of 24")
    assert "no power law" in one["warning"]
    assert one["stable_rank"] == pytest.approx(1, abs=1e-6)
    assert np.isnan(one["alpha"])
    single = row(analysis, "row")
    assert single["num_evals"] == 1
    assert single["norm"] == pytest.approx(float((tree["row"].astype(float) ** 2).sum()))
    identity = row(analysis, "identity")
    assert identity["stable_rank"] == pytest.approx(24)
    assert "no power law" in identity["warning"]


def test_scale_changes_norms_and_nothing_else(faulty):
    _, analysis = faulty
    good = row(analysis, "good")
    for name, scale in (("tiny", 1e-6), ("huge", 1e30)):
        scaled = row(analysis, name)
        for metric in (*METRICS, "D", "num_pl_spikes", "num_spikes", "matrix_rank"):
            assert scaled[metric] == pytest.approx(good[metric], rel=1e-5), metric
        shift = 2 * np.log10(scale)
        for metric in ("log_norm", "log_spectral_norm", "log_spectral_norm_null"):
            assert scaled[metric] == pytest.approx(good[metric] + shift, abs=1e-5), metric
        assert scaled["noise_std"] == pytest.approx(good["noise_std"] * scale, rel=1e-5)
        assert scaled["xmin"] == pytest.approx(good["xmin"] * scale**2, rel=1e-5)
        assert scaled["log_alpha_norm"] == pytest.approx(
            good["log_alpha_norm"] + good["alpha"] * shift, abs=1e-4
        )


def test_noise_is_not_heavy_tailed(faulty):
    """A square matrix of noise has Hill's exponent near 2, "ideally heavy-tailed": its null says the same."""
    _, analysis = faulty
    good = row(analysis, "good")
    assert good["alpha_hill"] == pytest.approx(good["alpha_hill_null"], rel=0.25)
    for metric in ("stable_rank", "effective_rank", "entropy", "participation_ratio", "mp_softrank"):
        assert good[metric] == pytest.approx(good[f"{metric}_null"], rel=0.25)
    assert good["alpha_null_low"] <= good["alpha_null"] <= good["alpha_null_high"]
    assert 0 < good["alpha_null_p"] <= 1


def test_eigenvalues_alone_are_those_of_the_analysis(faulty):
    tree, analysis = faulty
    alone = spectra.eigenvalues(tree)
    for name, values in analysis.eigenvalues.items():
        np.testing.assert_allclose(alone[name], values, rtol=1e-9, atol=1e-300)


def test_files_are_whole_and_hold_everything(tmp_path, faulty):
    _, analysis = faulty
    folder = tmp_path / "new" / "folder"
    analysis.save(folder)
    analysis.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "spectra.npz",
        "spectra.parquet",
        "spectra_curves.npz",
    ]
    table = pd.read_parquet(folder / "spectra.parquet")
    assert table.attrs == analysis.table.attrs | {"left_out": analysis.left_out}
    assert table.attrs["precision"] == "double"
    assert table.attrs["metrics"] == ["bulk", "correlation", "scale", "tail"]
    pd.testing.assert_frame_equal(table, analysis.table)
    with np.load(folder / "spectra.npz", allow_pickle=False) as stored:
        assert set(stored) == set(analysis.eigenvalues)
        np.testing.assert_array_equal(stored["good"], analysis.eigenvalues["good"])


def test_a_failed_save_leaves_the_old_files(tmp_path, faulty):
    _, analysis = faulty
    analysis.save(tmp_path)
    before = (tmp_path / "spectra.parquet").read_bytes()
    broken = analysis._replace(table=analysis.table.assign(warning=[object()] * len(analysis.table)))
    with pytest.raises(Exception, match=r"object|convert"):
        broken.save(tmp_path)
    assert (tmp_path / "spectra.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "spectra.npz",
        "spectra.parquet",
        "spectra_curves.npz",
    ]


def test_bad_input_is_told():
    with pytest.raises(ValueError, match="the pytree has no arrays"):
        spectra.analyze({})
    with pytest.raises(ValueError, match=r"all 1 tensors were left out, bias \(fewer than two dimensions"):
        spectra.eigenvalues({"bias": normal(3)})
    with pytest.raises(ValueError, match="precision is 'half'"):
        spectra.analyze({"a": normal(3, 3)}, precision="half")
    with pytest.raises(ValueError, match="conv is 'fft'"):
        spectra.analyze({"a": normal(3, 3)}, conv="fft")


ALONE = """
import sys
import numpy as np
import jax
from rmtjax import spectra
loaded = {name.split(".")[0] for name in sys.modules} & {"tensorflow", "flax", "matplotlib"}
assert not loaded, loaded
assert jax.device_count() == int(sys.argv[2])
rng = np.random.default_rng(0)
tree = {f"layer_{i}": rng.standard_normal((96, 64)) for i in range(6)}
tree["conv/kernel"] = rng.standard_normal((3, 3, 8, 16))
for _ in range(3):
    values = spectra.eigenvalues(tree)
np.savez(sys.argv[1], **values)
"""


def test_eight_devices_give_the_numbers_of_one_and_do_not_hang(tmp_path):
    """A batched product beside a batched `eigvalsh` may hang on several emulated devices; ours must not."""
    running = []
    for devices in (1, 8):
        environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        command = [sys.executable, "-c", ALONE, str(tmp_path / f"{devices}.npz"), str(devices)]
        running.append(subprocess.Popen(command, env=environment))
    try:
        assert [process.wait(540) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    results = []
    for devices in (1, 8):
        with np.load(tmp_path / f"{devices}.npz") as stored:
            results.append(dict(stored))
    assert set(results[0]) == {*(f"layer_{i}" for i in range(6)), "conv/kernel"}
    for name, values in results[0].items():
        np.testing.assert_allclose(values, results[1][name], rtol=1e-12)


def test_matrices_of_one_shape_and_of_several_narrow_kinds():
    kinds = (ml_dtypes.bfloat16, np.float16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.float32)
    weights = {np.dtype(kind).name: {"kernel": normal(12, 8).astype(kind)} for kind in kinds}
    table = spectra.analyze(weights, metrics="scale").table.set_index("name")
    for name, layer in weights.items():
        expected = (layer["kernel"].astype(float) ** 2).sum()
        assert table.loc[f"{name}/kernel", "norm"] == pytest.approx(expected, rel=1e-6)


WRAPPED = {
    "module.{}": "module.", "_orig_mod.{}": "_orig_mod.", "module._orig_mod.{}": "_orig_mod.module.",
    "model.backbone.{}": "model.backbone.", "model._orig_mod.module.{}": "_orig_mod.model.module.",
    "{}": "",
}  # fmt: skip


@pytest.mark.parametrize("pattern", WRAPPED)
def test_names_that_a_wrapper_has_made_longer_are_compared(tmp_path, caplog, pattern):
    before = {f"model.layers.{i}.weight": normal(12, 8) for i in range(3)}
    after = {pattern.format(name): x + 1 for name, x in before.items()}
    np.savez(tmp_path / "before.npz", **before)
    np.savez(tmp_path / "after.npz", **after, n_averaged=np.zeros(()))
    sides = [checkpoints.open(tmp_path / f"{side}.npz") for side in ("before", "after")]
    table = spectra.compare(*sides, other=sides[1], metrics="scale").table.set_index(["stage", "name"])
    assert set(table.loc["update"].index) == set(before)
    np.testing.assert_allclose(table.loc["update", "norm"], 12 * 8, rtol=1e-6)
    np.testing.assert_allclose(table.loc["update", "cosine_other"], 1, rtol=1e-6)
    said = [record.getMessage() for record in caplog.records if "wrapper" in record.getMessage()]
    assert bool(said) == bool(WRAPPED[pattern])
    assert all(f"{WRAPPED[pattern]!r}, which a wrapper" in line for line in said)


def test_what_a_file_tells_of_its_weights_stays_when_names_are_shortened():
    class Stored(dict):
        layout, refused, source = "torch", {}, "a"
        adapter, tied = {"r": 2}, {"m.b": "m.a"}
        specs = {"m.a": None, "m.b": None}  # noqa: RUF012 (never changed)

    short = wrappers.Renamed(Stored(), {"m.a": "a", "m.b": "b"})
    assert short.adapter == {"r": 2}
    assert short.tied == {"b": "a"}


def test_names_stay_where_nothing_is_gained(tmp_path, caplog):
    weights = {"model.a.weight": normal(12, 8), "model.b.weight": normal(12, 8)}
    np.savez(tmp_path / "before.npz", **weights)
    np.savez(tmp_path / "after.npz", **weights | {"head.weight": normal(8, 8)})
    sides = [checkpoints.open(tmp_path / f"{side}.npz") for side in ("before", "after")]
    found = spectra.compare(*sides, metrics="scale")
    assert set(found.table["name"]) == {*weights, "head.weight"}
    assert not caplog.records


def test_arrays_are_saved_under_any_names(tmp_path):
    names = ["file", "allow_pickle", "a", "a.npy", "a\x00b", "x" * 70000, "../up", "ü/kernel", ""]
    analysis = spectra.analyze({name: normal(6, 4) for name in names}, metrics="scale")
    analysis.save(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    stored = results.read_arrays(tmp_path / "out" / "spectra.npz")
    assert len(stored) == len(names)
    for name in analysis.table["name"]:
        kept = archives.original_name(archives.stored_name(name))
        np.testing.assert_array_equal(stored[kept], analysis.eigenvalues[name])
        assert kept == name or not name.isprintable() or len(name) > 1000
    with np.load(tmp_path / "out" / "spectra.npz", allow_pickle=False) as plain:
        np.testing.assert_array_equal(plain["allow_pickle"], analysis.eigenvalues["allow_pickle"])
