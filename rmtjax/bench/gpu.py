"""What an accelerator makes of this package, in one short run that needs no TensorFlow.

    python -m rmtjax.bench gpu --json=gpu.json --seconds=480
    python -m rmtjax.bench gpu --dry     the time that each part needs, from its operations, without a device
    python -m rmtjax.bench gpu --small   all of it at sizes of a test

A case is warmed up once, in which it compiles, and then timed up to three times; the median counts. Each is
printed, and written to the file, as soon as it is measured, so that a run that is cut short has what it has.
After --seconds no case is begun. Where torch is installed the same work is done by it, on the same device.
"""

import functools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rmtjax import diversity, spectra
from rmtjax.bench.spectra import bench_weights
from rmtjax.spectra import metrics, programs, streaming
from rmtjax.spectra.matrices import weight_matrices

REPEATS = 3
# NVIDIA's data sheet of the H200 SXM: operations a second by precision, without sparsity, and bytes a second.
CARD = {"bfloat16": 989e12, "float32": 67e12, "float64": 67e12, "bytes": 4.8e12}
COMPILING = 6.0  # seconds that a case is expected to compile and to be set up
LONGEST = 20.0  # seconds of a case, after which it is not repeated
GRAM = "Gram and eigvalsh"
MODEL, LARGE, LAYER = "24 matrices", "32 of 4096 x 4096", "a layer of 7 billion parameters"


class Case(NamedTuple):
    """One thing to time.

    Attributes:
      part, what: its name.
      make: sets it up, and returns what is timed; it raises ImportError where a library is missing.
      operations: floating-point operations of one run; precision: of most of them.
      bytes: that one run moves, where memory bounds it.
      unit: what one run counts as, such as (256, "images"); none: operations.
      against: the case of the same part whose time is divided by this one's; none: no ratio.
    """

    part: str
    what: str
    make: Callable[[], Callable[[], Any]]
    operations: float = 0.0
    precision: str = "float32"
    bytes: float = 0.0
    unit: tuple[float, str] | None = None
    against: str = ""

    @property
    def expected(self) -> float:
        """Seconds at half of the card's peaks, with compilation."""
        once = 2 * max(self.operations / CARD[self.precision], self.bytes / CARD["bytes"])
        return COMPILING + (1 + REPEATS) * once


def cases(small: bool = False) -> list[Case]:
    """All cases in order, the most telling parts first."""
    found = [*_peaks(small), *_eigenvalues(small), *_metrics(small), *_training(small), *_population(small)]
    return [*found, *_diversity(small), *_corruptions(small)]


def measure(of: Sequence[Case], seconds: float) -> Iterator[dict[str, Any]]:
    """A row for each case: part, what, seconds, first (with compilation), and where they are known rate,
    unit, share (of the peak that the same run has measured) and ratio; or `left_out`, the reason why it is
    not measured.
    """
    begun = time.perf_counter()
    taken: dict[tuple[str, str], float] = {}
    peaks: dict[str, float] = {}
    for case in of:
        row: dict[str, Any] = {"part": case.part, "what": case.what}
        if time.perf_counter() - begun > seconds:
            yield row | {"left_out": f"no time was left of {seconds:.0f} s"}
            continue
        try:
            run = case.make()
            first, again = _timed(run, min(begun + seconds, time.perf_counter() + LONGEST))
        except ImportError as error:
            yield row | {"left_out": f"needs {error.name or error}"}
            continue
        except Exception as error:  # a case that does not fit into the memory does not end the others
            said = (str(error).strip() or type(error).__name__).split("\n")[0]
            yield row | {"left_out": said[:200]}
            continue
        taken[case.part, case.what] = again
        row |= {"seconds": again, "first": first}
        if case.unit:
            row |= {"rate": case.unit[0] / again, "unit": f"{case.unit[1]} a second"}
        elif case.operations:
            row |= {"rate": case.operations / again / 1e12, "unit": "TFLOP/s"}
        elif case.bytes:
            row |= {"rate": case.bytes / again / 1e12, "unit": "TB/s"}
        if case.part == "peak" and case.operations:
            peaks.setdefault(case.precision, case.operations / again)
        elif case.operations and case.precision in peaks:
            row["share"] = case.operations / again / peaks[case.precision]
        base = taken.get((case.part, case.against))
        if base is not None:
            row["ratio"] = base / again
        yield row


def _timed(run: Callable[[], Any], until: float) -> tuple[float, float]:
    """Seconds of the first run, and the median of up to three more; one where the time is over."""
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
        if time.perf_counter() > until:
            break
    return times[0], statistics.median(times[1:] or times)


def _peaks(small: bool) -> Iterator[Case]:
    n = 256 if small else 16384

    def product(dtype: Any, side: int) -> Callable[[], Callable[[], Any]]:
        def make() -> Callable[[], Any]:
            a = jax.random.normal(jax.random.key(0), (side, side), jnp.float32).astype(dtype)
            multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
            return lambda: multiply(a)

        return make

    def in_double() -> Callable[[], Any]:
        with jax.enable_x64(True):
            a = jnp.asarray(np.random.default_rng(0).standard_normal((n // 2, n // 2)))
            multiply = jax.jit(lambda a: a @ a).lower(a).compile()
        return lambda: multiply(a)

    def copied() -> Callable[[], Any]:
        a = jnp.zeros(n * n * 2, jnp.float32)
        plus = jax.jit(lambda a: a + 1)
        return lambda: plus(a)

    yield Case("peak", f"product of {n} x {n}, bfloat16", product(jnp.bfloat16, n), 2.0 * n**3, "bfloat16")
    half = n // 2
    yield Case("peak", f"product of {half} x {half}, float32", product(jnp.float32, half), 2.0 * half**3)
    yield Case("peak", f"product of {half} x {half}, float64", in_double, 2.0 * half**3, "float64")
    yield Case("peak", "read and write of memory", copied, bytes=2.0 * 4 * 2 * n * n)


def _shapes(small: bool) -> dict[str, list[tuple[int, int]]]:
    if small:
        return {MODEL: [(96, 32), (32, 32)], LARGE: [(48, 48)] * 2, LAYER: [(48, 48), (64, 48)]}
    return {
        MODEL: [(768, 768), (3072, 768)] * 12,
        LARGE: [(4096, 4096)] * 32,
        LAYER: [(4096, 4096)] * 4 + [(11008, 4096)] * 3,
    }


@functools.lru_cache(1)
def _weights(name: str, small: bool) -> dict[str, np.ndarray]:
    """Matrices, float32."""
    if name == MODEL and not small:
        return bench_weights()
    rng = np.random.default_rng(1)
    shapes = _shapes(small)[name]
    return {f"matrix_{i:02d}": rng.standard_normal(shape, np.float32) for i, shape in enumerate(shapes)}


def _eigenvalues(small: bool) -> Iterator[Case]:
    for name, shapes in _shapes(small).items():
        theirs = f"torch, {GRAM}, single"
        ways: dict[str, Callable[[dict[str, np.ndarray]], Callable[[], Any]]] = {theirs: _torch_gram}
        if name != LARGE:  # which would take minutes
            ways["torch, svdvals, single"] = _torch_svdvals
        ways |= {f"jax, {GRAM}, single": _vendors, "rmtjax, single": lambda w: _ours(w, "single")}
        if name == MODEL:
            ways["rmtjax, double"] = lambda w: _ours(w, "double")
        # Half of the Gram matrix on the short side, and its reduction, which reads all that is left of it at
        # each step.
        operations = float(sum(n * m * m + 4 * m**3 / 3 for n, m in shapes))
        moved = float(sum(4 * m**3 / 3 for _, m in shapes))
        for what, make in ways.items():
            yield Case(
                f"eigenvalues, {name}",
                what,
                lambda make=make, name=name: make(_weights(name, small)),
                operations,
                "float64" if what.endswith("double") else "float32",
                moved,
                against=theirs,
            )


def _tree(weights: Mapping[str, np.ndarray]) -> Any:
    return jax.device_put({name: {"kernel": array} for name, array in weights.items()})


def _ours(weights: Mapping[str, np.ndarray], precision: str) -> Callable[[], Any]:
    tree = _tree(weights)
    return lambda: spectra.eigenvalues(tree, precision=precision)


def _vendors(weights: Mapping[str, np.ndarray]) -> Callable[[], Any]:
    """What JAX calls: Gram matrix and eigenvalues of all matrices of a shape in one batch."""
    by_shape: dict[tuple[int, ...], list[np.ndarray]] = {}
    for array in weights.values():
        by_shape.setdefault(array.shape, []).append(array)
    stacks = [jnp.stack(arrays) for arrays in by_shape.values()]

    def solve(stack: jax.Array) -> jax.Array:
        gram = jnp.einsum("bnm,bnk->bmk", stack, stack, precision=jax.lax.Precision.HIGHEST)
        return jnp.linalg.eigvalsh(gram)

    solved = jax.jit(solve)
    return lambda: [solved(stack) for stack in stacks]


def _torch_gram(weights: Mapping[str, np.ndarray]) -> Callable[[], Any]:
    import torch

    return _torch(weights, lambda tensor: torch.linalg.eigvalsh(tensor.T @ tensor))


def _torch_svdvals(weights: Mapping[str, np.ndarray]) -> Callable[[], Any]:
    import torch

    return _torch(weights, torch.linalg.svdvals)


def _torch(weights: Mapping[str, np.ndarray], solve: Callable[[Any], Any]) -> Callable[[], Any]:
    import torch

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    tensors = [torch.from_numpy(array).to(device) for array in weights.values()]

    def run() -> None:
        for tensor in tensors:
            solve(tensor)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def _metrics(small: bool) -> Iterator[Case]:
    groups = frozenset(metrics.DEFAULT)
    for precision, dtype in (("single", np.float32), ("double", np.float64)):

        def alone(dtype: Any = dtype) -> Callable[[], Any]:
            weights = _weights(MODEL, small)
            found = weight_matrices({name: {"kernel": array} for name, array in weights.items()})[0]
            solved = streaming.spectra(found, dtype)
            shapes = [matrix.shape for matrix in found]
            return lambda: programs.measure(solved, shapes, groups, dtype)

        def whole(precision: str = precision) -> Callable[[], Any]:
            tree = _tree(_weights(MODEL, small))

            def run() -> None:
                spectra.analyze(tree, precision=precision)

            return run

        yield Case("metrics", f"all default metrics of known eigenvalues, {precision}", alone)
        yield Case("metrics", f"the whole analysis, {precision}", whole)


def _vit(side: int, width: int, depth: int, batch: int) -> Any:
    """The config of a ViT with patches of 16 pixels."""
    from rmtjax import config as config_lib

    config = config_lib.base()
    config.data.image_size = side
    config.model.init_from = None
    config.model.vit.update(patch=16, width=width, depth=depth, heads=max(width // 64, 1))
    config.model.vit.update(mlp_width=4 * width, class_token=True, pool="class_token")
    config.train.update(dtype="bfloat16", batch_size=batch)
    return config


def forward_operations(side: int, width: int, depth: int, batch: int) -> float:
    """Of `_vit`: products with weights, attention, and the patches' embedding."""
    patches = (side // 16) ** 2
    tokens = patches + 1
    block = tokens * 2 * 12 * width**2 + 4 * tokens**2 * width
    return float(batch * (depth * block + patches * 2 * (16 * 16 * 3) * width))


def _training(small: bool) -> Iterator[Case]:
    """A training step of ViT-B/16 at 224 pixels."""
    side, width, depth, batch = (32, 16, 1, 8) if small else (224, 768, 12, 256)

    def make() -> Callable[[], Any]:
        from rmtjax.bench.train import prepared
        from rmtjax.train import loop

        config = _vit(side, width, depth, batch)
        fresh, plain = prepared(config, (side, side, 3), np.float32, (1000, 0), 100)
        state, step = fresh.make(), loop.compiled_when_called(plain, fresh)
        rng = np.random.default_rng(0)
        inputs = rng.random((batch, side, side, 3), np.float32)
        placed = jax.device_put({"inputs": inputs, "label": np.arange(batch, dtype=np.int32) % 1000})

        def run() -> Any:
            nonlocal state
            state, scalars = step(state, placed)
            return scalars

        return run

    what = f"ViT of width {width}, {side} pixels, batch {batch}, bfloat16"
    operations = 3 * forward_operations(side, width, depth, batch)  # backward takes twice as many
    yield Case("training step", what, make, operations, "bfloat16", unit=(batch, "images"))


def _population(small: bool) -> Iterator[Case]:
    """Steps of many small models: one by one, in one program, and vmapped."""
    count = jax.device_count() if small else 16
    made: dict[str, Callable[[], None]] = {}

    def make(way: str) -> Callable[[], Callable[[], Any]]:
        def of_way() -> Callable[[], Any]:
            from rmtjax import config as config_lib
            from rmtjax.bench.population import ways_of

            if not made:
                config = config_lib.load(config_lib.located("study_digits"))
                if small:
                    config = config_lib.smoke(config)
                made.update(ways_of(config, count, 1000))
            return made[way]

        return of_way

    ways = ("one by one", "together, one after the other in one program", "together, vmapped")
    names = {way: f"{count} models, {way}" for way in ways}
    for way, name in names.items():
        yield Case("population", name, make(way), unit=(count, "model steps"), against=names["one by one"])


def _diversity(small: bool) -> Iterator[Case]:
    n, width = (400, 16) if small else (50_000, 512)

    def make(run: Callable[[Any], Any]) -> Callable[[], Callable[[], Any]]:
        def of_features() -> Callable[[], Any]:
            features = np.random.default_rng(0).standard_normal((n, width), np.float32)
            return lambda: run(features)

        return of_features

    operations, unit = 2.0 * n * width**2, (n, "examples")
    for what, run in (("score", diversity.vendi_score), ("with interval", diversity.vendi_interval)):
        yield Case("diversity", f"Vendi {what} of {n:,} x {width}", make(run), operations, unit=unit)


def _corruptions(small: bool) -> Iterator[Case]:
    from rmtjax.bench.corruptions import SEVERITY
    from rmtjax.bench.timing import images
    from rmtjax.evaluation import corrupt

    names = (
        "gaussian_noise",
        "defocus_blur",
        "motion_blur",
        "frost",
        "elastic_transform",
        "jpeg_compression",
    )
    for name in names[:1] if small else names:

        def make(name: str = name) -> Callable[[], Any]:
            batch, key = jnp.asarray(images(32), jnp.float32) / 255, jax.random.key(0)
            return lambda: corrupt(batch, name, SEVERITY, key)

        yield Case("corruptions", name, make, unit=(1024, "images"))


def main(arguments: Any, overrides: list[str]) -> None:
    """`arguments.found` is told the rows as soon as there is one more."""
    chosen = cases(arguments.small)
    if arguments.dry:
        _print_dry(chosen)
        return
    rows: list[dict[str, Any]] = []
    for row in measure(chosen, arguments.seconds):
        rows.append(row)
        print(_line(row), flush=True)
        arguments.found(rows=rows)
    if not arguments.small:
        arguments.found(tests=_tests())


def _print_dry(chosen: Sequence[Case]) -> None:
    total = 0.0
    for case in chosen:
        total += case.expected
        work = f"{case.operations / 1e12:8.2f} TFLOP" if case.operations else ""
        print(f"{case.part + ', ' + case.what:84s} {work:>16s} {case.expected:7.1f} s")
    print(f"{total:.0f} s at half of an H200's peaks, with {COMPILING:g} s of compilation for each case")


def _line(row: Mapping[str, Any]) -> str:
    name = f"{row['part']}: {row['what']}"
    if "left_out" in row:
        return f"{name:84s} left out: {row['left_out']}"
    parts = [f"{name:84s} {row['seconds']:9.4f} s (first {row['first']:.1f})"]
    if "rate" in row:
        parts.append(f"{row['rate']:.4g} {row['unit']}")
    if "share" in row:
        parts.append(f"{row['share']:.0%} of the peak")
    if "ratio" in row:
        parts.append(f"ratio {row['ratio']:.2f}")
    return ", ".join(parts)


def _tests() -> str:
    """What `pytest -m gpu` says, in a process of its own; nothing where the tests are not there."""
    if not os.path.exists("tests/test_gpu.py"):
        return ""
    environment = os.environ | {"JAX_PLATFORMS": "", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-n", "0", "tests/test_gpu.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    said = (done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""])[-1]
    print(f"pytest -m gpu: {said}")
    return said
