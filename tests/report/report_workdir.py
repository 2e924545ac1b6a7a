"""Made-up workdirs with every file that a run leaves, by plain numpy and pandas."""

import json
import pathlib

import numpy as np
import pandas as pd

from rmtjax import config as config_lib

CLASSES = tuple("0123456789")
CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "gaussian_blur",
    "contrast",
    "brightness",
    "pixelate",
)


def vit_shapes(depth: int = 4, width: int = 128) -> dict[str, tuple[int, int]]:
    """Matrices of a small ViT as (N, M) by name."""
    shapes = {"embed/patch/kernel": (width, 16)}
    for block in sorted(range(depth), key=str):  # a tree's keys come sorted as text
        for name in ("out", "key", "query", "value"):
            shapes[f"encoder/block_{block}/attention/{name}/kernel"] = (width, width)
        for name in ("down", "up"):
            shapes[f"encoder/block_{block}/mlp/{name}/kernel"] = (4 * width, width)
    return shapes | {"head/kernel": (width, 10)}


def full(path: pathlib.Path, shapes: dict[str, tuple[int, int]] | None = None, seed: int = 0) -> pathlib.Path:
    """A finished run of the ViT with everything in it."""
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    config = config_lib.base()
    config.synthetic.share = 0.5
    config.augment.rotation = 0.3
    config.augment.gaussian_noise = 0.2
    config.regularization.dropout = 0.1
    (path / "config.json").write_text(config_lib.to_json(config))
    dump(
        path / "run.json",
        {
            "command": "python -m rmtjax.train --config=configs/synthetic.py",
            "git_commit": "665c645",
            "git_dirty": False,
            "versions": {"jax": "0.10.2", "flax": "0.12.8", "rmtjax": "0.1.0"},
            "devices": ["cpu"],
            "device_count": 1,
            "process_count": 1,
            "seed": 0,
            "started": "2026-11-23T00:20:00",
            "wall_seconds": 143.2,
            "status": "finished",
            "step": 300,
            "mesh": {"data": 1, "fsdp": 1},
            "parameters": 799114,
            "examples": {"train": 400, "synthetic": 200, "validation": 200, "test": 797},
            "classes": list(CLASSES),
        },
    )
    metrics(path, rng)
    evaluation(path, rng)
    diversity(path, rng)
    images(path, rng)
    spectra(path, shapes or vit_shapes(), rng)
    return path


def dump(path: pathlib.Path, content: object) -> None:
    path.write_text(json.dumps(content))


def metrics(path: pathlib.Path, rng: np.random.Generator, steps: int = 300) -> None:
    with (path / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            done = step / steps
            row = {
                "step": step,
                "loss": float(2.3 * np.exp(-5 * done) * rng.lognormal(0, 0.2) + 0.04),
                "accuracy": float(np.clip(1 - 0.9 * np.exp(-7 * done) + rng.normal(0, 0.03), 0, 1)),
                "learning_rate": float(5e-4 * min(step / 30, 0.5 + 0.5 * np.cos(np.pi * done))),
                "grad_norm": float(2 * np.exp(-2 * done) * rng.lognormal(0, 0.3)),
                "examples_per_second": float(rng.normal(900, 40)),
            }
            if step % max(1, steps // 6) == 0:
                row |= {
                    "validation/loss": 2.0 * np.exp(-4 * done) + 0.25,
                    "validation/accuracy": 0.93 - 0.5 * np.exp(-6 * done),
                }
            file.write(json.dumps(row) + "\n")


def evaluation(path: pathlib.Path, rng: np.random.Generator) -> None:
    rows = []

    def add(
        name: str, kind: str, metric: str, value: float, half: float, null: float | None, n: int = 797
    ) -> None:
        value = float(value)
        rows.append(
            {
                "set": name,
                "kind": kind,
                "metric": metric,
                "value": value,
                "low": value - half,
                "high": value + half,
                "null": null,
                "n": n,
            }
        )

    for name, kind, accuracy, n in (
        ("test", "id", 0.914, 797),
        ("printed_digits", "shift", 0.548, 400),
        ("corrupted", "shift", 0.716, 27895),
    ):
        half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / n)
        add(name, kind, "accuracy", accuracy, half, 0.1, n)
        add(name, kind, "nll", 2.4 * (1 - accuracy) + 0.1, 3 * half, 2.3026, n)
        add(name, kind, "brier", 1.5 * (1 - accuracy), 2 * half, 0.9, n)
        add(name, kind, "ece", 0.3 * (1 - accuracy) + 0.01, half / 2, 0.014, n)
        add(name, kind, "adaptive_ece", 0.3 * (1 - accuracy) + 0.012, half / 2, 0.016, n)
        add(name, kind, "nll_ts", 2.1 * (1 - accuracy) + 0.1, 3 * half, 2.3026, n)
        add(name, kind, "brier_ts", 1.4 * (1 - accuracy), 2 * half, 0.9, n)
        add(name, kind, "ece_ts", 0.15 * (1 - accuracy) + 0.01, half / 2, 0.014, n)
        add(name, kind, "adaptive_ece_ts", 0.15 * (1 - accuracy) + 0.012, half / 2, 0.016, n)
    for corruption in CORRUPTIONS:
        slope = rng.uniform(0.02, 0.14)
        add(f"corrupted/{corruption}", "shift", "accuracy", 0.914 - 3 * slope, 0.015, 0.1, 3985)
        for severity in range(1, 6):
            add(
                f"corrupted/{corruption}/{severity}",
                "shift",
                "accuracy",
                0.914 - slope * severity**1.1,
                0.025,
                0.1,
            )
    for score in ("max_softmax", "energy"):
        add("letters_unlike_digits", "ood", f"auroc_{score}", rng.uniform(0.8, 0.9), 0.01, 0.5, 1800)
        add("letters_unlike_digits", "ood", f"fpr95_{score}", rng.uniform(0.4, 0.6), 0.03, 0.95, 1800)
    confidence = (np.arange(15) + 0.5) / 15
    bins = {
        "confidence": confidence.tolist(),
        "accuracy": np.clip(confidence**1.3 + rng.normal(0, 0.03, 15), 0, 1).tolist(),
        "count": [*rng.integers(0, 9, 14).tolist(), 600],
    }
    reliability = {"test": bins, "printed_digits": bins | {"accuracy": (confidence**2).tolist()}}
    dump(path / "evaluation.json", {"temperature": 1.31, "rows": rows, "reliability": reliability})


def diversity(path: pathlib.Path, rng: np.random.Generator) -> None:
    rows = []
    for name, factor in (("real", 1.0), ("augmented", 1.15), ("synthetic", 0.9), ("mixed", 0.97)):
        for space, base in (("pixel", 21.0), ("feature", 34.0)):
            value = base * factor + rng.normal(0, 0.4)
            rows.append(
                {
                    "set": name,
                    "space": space,
                    "metric": "vendi_score",
                    "value": value,
                    "low": value - 0.9,
                    "high": value + 0.8,
                    "null": None,
                    "n": 200,
                }
            )
            rows.append(
                {
                    "set": name,
                    "space": space,
                    "metric": "coverage",
                    "value": 0.71 * factor**0.3,
                    "low": 0.66,
                    "high": 0.75,
                    "null": 0.70,
                    "n": 200,
                }
            )
    dump(
        path / "diversity.json",
        {"feature_model": "letters ViT (shipped), penultimate features", "rows": rows},
    )


def images(path: pathlib.Path, rng: np.random.Generator) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = digits.images.astype(np.float32) / 16
    stored = np.clip(small.repeat(2, 1).repeat(2, 2), 0, 1)[..., None]
    real = stored[:20]
    np.savez(
        path / "samples.npz",
        real=real,
        real_label=digits.target[:20].astype(np.int32),
        augmented=real + rng.normal(0, 0.15, real.shape).astype(np.float32),
        augmented_label=digits.target[:20].astype(np.int32),
        synthetic=stored[500:512],
        synthetic_label=digits.target[500:512].astype(np.int32),
    )
    by_class = np.stack([stored[digits.target == k][:10] for k in range(10)])
    np.savez(path / "synthetic_by_class.npz", images=by_class, classes=np.array(CLASSES))
    dump(
        path / "synthetic.json",
        {
            "recognised": {"value": 0.988, "low": 0.97, "high": 0.995, "n": 400},
            "nearest_training_distance": 1.21,
            "nearest_test_distance": 1.78,
            "guidance": 1.0,
            "count": 400,
            "data_hash": "sha256:9f2c",
            "seed": 0,
        },
    )


def spectra(path: pathlib.Path, shapes: dict[str, tuple[int, int]], rng: np.random.Generator) -> None:
    rows, eigenvalues = [], {}
    for name, (n, m) in shapes.items():
        noise = rng.standard_normal((n, m)) / np.sqrt(n)
        heavy = rng.standard_normal((n, m)) * (0.15 + rng.pareto(2.2, m)[None] ** 0.9) / np.sqrt(n)
        rank = min(4, m)
        low = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, m)) / n
        before = heavy
        update = 0.08 * noise + 0.25 * low
        for stage, matrix in (("before", before), ("after", before + update), ("update", update)):
            values = np.sort(np.linalg.svd(matrix, compute_uv=False) ** 2)
            eigenvalues[f"{stage}/{name}"] = values
            shown = np.sort(np.linalg.svd(noise * np.sqrt(values.sum() / m), compute_uv=False) ** 2)
            row = {
                "stage": stage,
                "name": name,
                "kind": "dense",
                "slices": 1,
                "N": n,
                "M": m,
                "Q": n / m,
                "num_evals": m,
            }
            edge = np.median(values) * (1 + np.sqrt(m / n)) ** 2
            row |= describe(values) | {
                f"{k}_null": v for k, v in describe(shown).items() if k in ("alpha", "stable_rank")
            }
            row |= {
                "bulk_max": edge,
                "num_spikes": int((values > edge).sum()),
                "mp_softrank": edge / values[-1],
            }
            if stage == "update":
                row["norm_ratio"] = np.sqrt(values.sum() / eigenvalues[f"before/{name}"].sum())
            row |= {"alpha_null_low": row["alpha_null"] * 0.8, "alpha_null_high": row["alpha_null"] * 1.5}
            row["warning"] = "alpha as low is common in noise of this shape" if row["alpha"] > 2.5 else ""
            rows.append(row)
    table = pd.DataFrame(rows)
    table.attrs = {"left_out": {"encoder/norm/scale": "a vector"}}
    table.to_parquet(path / "spectra.parquet")
    np.savez(path / "spectra.npz", **eigenvalues)


def describe(values: np.ndarray) -> dict[str, float]:
    """Some measures of a spectrum, with WeightWatcher's names; the power law by a plain scan."""
    logs = np.log(values)
    best = (np.inf, -1.0, -1.0)
    for i in range(len(values) - 1):
        tail = logs[i:] - logs[i]
        alpha = 1 + len(tail) / tail.sum()
        distance = np.abs(1 - np.exp(tail * (1 - alpha)) - np.arange(len(tail)) / len(tail)).max()
        best = min(best, (distance, alpha, values[i]))
    share = values / values.sum()
    return {
        "alpha": best[1],
        "D": best[0],
        "xmin": best[2],
        "norm": values.sum(),
        "log_norm": np.log10(values.sum()),
        "spectral_norm": values[-1],
        "stable_rank": values.sum() / values[-1],
        "entropy": float(-(share * np.log(share)).sum() / np.log(len(values))),
    }
