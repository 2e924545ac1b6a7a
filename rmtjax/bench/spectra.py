"""The spectral pass beside WeightWatcher 0.7.7 and bare linear algebra, on the same weights in the same run.

Bench model: 12 matrices of 768 x 768 and 12 of 3072 x 768, noise of standard deviation 0.02 with 20
heavy-tailed spikes each. Warm times are the median of a few runs after one that is not counted; cold times
are whole processes, from the start of Python to the printed table.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from rmtjax import spectra
from rmtjax.errors import InputError

CASES = {  # our groups beside the peer's options
    "default": ("default", {}),
    "MP fit": ("default", {"mp_fit": True}),
    "MP fit and shuffles": ("default,shuffles", {"mp_fit": True, "randomize": True}),
}


def bench_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """The 24 matrices, float32, in torch's layout."""
    rng = np.random.default_rng(seed)
    weights = {}
    for i in range(12):
        for name, rows in (("attn", 768), ("mlp", 3072)):
            u = np.linalg.qr(rng.standard_normal((rows, 20)))[0]
            v = np.linalg.qr(rng.standard_normal((768, 20)))[0]
            strength = 1.1 * 0.02 * (np.sqrt(rows) + np.sqrt(768)) * rng.uniform(0.001, 1, 20) ** -0.5
            noise = 0.02 * rng.standard_normal((rows, 768))
            weights[f"layer{i:02d}.{name}.weight"] = (noise + (u * strength) @ v.T).astype(np.float32)
    return weights


def main(arguments: Any, overrides: list[str]) -> None:
    repeats, peer = arguments.repeats, arguments.peer
    weights = bench_weights()
    tree = {name: {"kernel": array} for name, array in weights.items()}
    if jax.default_backend() != "cpu":
        on_accelerator(weights, repeats)
    print(f"24 matrices; seconds, median of {repeats} (minimum)")
    theirs: dict[str, float] = {}
    if peer:
        for name, (_, options) in CASES.items():
            theirs[name] = _times(
                f"WeightWatcher, {name}", 1 if options else repeats, _peer(weights, options), warm=not options
            )
    for precision, dtype in (("single", np.float32), ("double", np.float64)):
        floor = _times(
            f"{precision}: numpy Gram and eigvalsh (floor)",
            repeats,
            lambda dtype=dtype: _floor(weights, dtype),
        )
        alone = _times(
            f"{precision}: eigenvalues alone",
            repeats,
            lambda p=precision: spectra.eigenvalues(tree, precision=p),
        )
        print(f"    over the floor {alone / floor:.2f}")
        for name, (groups, _) in CASES.items():
            if name == "MP fit":
                continue  # ours is part of the default
            ours = _times(
                f"{precision}: rmtjax, {name}",
                repeats,
                lambda g=groups, p=precision: spectra.analyze(tree, metrics=g, precision=p),
            )
            print(f"    over the floor {ours / floor:.2f}" if name == "default" else "", end="")
            for case in ("default", "MP fit") if name == "default" else (name,):
                if case in theirs:
                    print(f"    WeightWatcher's {case} takes {theirs[case] / ours:.1f} times as long", end="")
            print()
    if arguments.cold:
        cold_commands(weights, peer)


def _times(what: str, repeats: int, run: Callable[[], Any], warm: bool = True) -> float:
    if warm:
        run()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    print(f"{what:52s} {statistics.median(taken):7.2f} ({min(taken):.2f})", flush=True)
    return statistics.median(taken)


def _floor(weights: dict[str, np.ndarray], dtype: Any) -> None:
    for array in weights.values():
        wide = array.astype(dtype, copy=False)
        np.linalg.eigvalsh(wide.T @ wide)


def _peer(weights: dict[str, np.ndarray], options: dict[str, bool]) -> Callable[[], None]:
    """WeightWatcher on the same arrays, with its logging and its warnings switched off."""
    try:
        import logging

        import torch
        import weightwatcher
    except ImportError as error:
        raise InputError(
            "the bench compares with WeightWatcher: pip install 'rmtjax[peers]', or pass --no-peer"
        ) from error
    logging.disable(logging.WARNING)
    state = {name: torch.from_numpy(array) for name, array in weights.items()}

    def run() -> None:
        np.random.seed(0)  # noqa: NPY002 (its shuffles draw from here)
        weightwatcher.WeightWatcher(model=state).analyze(**options)

    return run


_COLD_PEER = """
import sys, logging, numpy, torch
logging.disable(logging.WARNING)
import weightwatcher
path = sys.argv[1]
if path.endswith("safetensors"):
    from safetensors.torch import load_file
    state = load_file(path)
else:
    state = torch.load(path, map_location="cpu", weights_only=True)
state = state.get("state_dict", state)
print(weightwatcher.WeightWatcher(model=state).analyze()[["name", "alpha"]].to_string())
"""


def cold_commands(weights: dict[str, np.ndarray], peer: bool) -> None:
    """Whole processes: with an empty compilation cache, with a filled one, and the peer's."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"24 matrices": pathlib.Path(folder) / "bench24.safetensors"}
        safetensors.numpy.save_file(weights, files["24 matrices"])
        data = pathlib.Path(os.environ.get("RMTJAX_DATA", "/nonexistent")) / "resnet_cifar10"
        for path in sorted(data.glob("*.th")):
            files[path.name.split("-")[0]] = path
        print("cold: the whole command, seconds")
        for name, path in files.items():
            for precision in ("single", "double"):
                cache = pathlib.Path(folder) / f"cache-{name}-{precision}".replace(" ", "")
                environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
                command = [sys.executable, "-m", "rmtjax.spectra", str(path), f"--precision={precision}"]
                first = _process(command, environment)
                later = min(_process(command, environment) for _ in range(2))
                print(
                    f"  {name:14s} rmtjax, {precision}: {first:.1f} with an empty compilation cache, "
                    f"{later:.1f} after"
                )
            if peer:
                taken = min(
                    _process([sys.executable, "-c", _COLD_PEER, str(path)], os.environ.copy())
                    for _ in range(2)
                )
                print(f"  {name:14s} WeightWatcher: {taken:.1f}", flush=True)


def _process(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{' '.join(command[:4])} failed: {done.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - start


def on_accelerator(weights: dict[str, np.ndarray], repeats: int) -> None:
    """Eigenvalues here beside torch's on the same device, for the 24 matrices and for 32 of 4096 x 4096."""
    import torch

    rng = np.random.default_rng(1)
    large = {f"layer{i:02d}": {"kernel": rng.standard_normal((4096, 4096), np.float32)} for i in range(32)}
    sets = {"24 matrices": {n: {"kernel": a} for n, a in weights.items()}, "32 of 4096 x 4096": large}
    for name, tree in sets.items():
        tensors = [torch.from_numpy(leaf["kernel"]).cuda() for leaf in tree.values()]

        def svd(tensors: list[Any] = tensors) -> None:
            for tensor in tensors:
                torch.linalg.svdvals(tensor)
            torch.cuda.synchronize()

        def gram(tensors: list[Any] = tensors) -> None:
            for tensor in tensors:
                torch.linalg.eigvalsh(tensor.T @ tensor)
            torch.cuda.synchronize()

        _times(f"{name}: torch.linalg.svdvals", 1 if name[0] == "3" else repeats, svd)
        _times(f"{name}: torch Gram and eigvalsh", repeats, gram)
        on_device = jax.device_put(tree)
        _times(
            f"{name}: rmtjax eigenvalues, single",
            repeats,
            lambda t=on_device: spectra.eigenvalues(t, precision="single"),
        )
