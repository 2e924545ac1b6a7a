"""Spectra of a checkpoint, or of two and of the update between them.

python -m rmtjax.spectra PATH [--baseline=PATH [--other=PATH]] [--out=DIR] [--metrics=all] [--layers=REGEX]

PATH: a run's folder or one of its checkpoints, another Orbax checkpoint, safetensors, torch, npz, msgpack,
ONNX or Keras weights, or a folder of safetensors or torch shards. With --baseline, PATH is what training made
of it.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import sys
import time

from rmtjax.commands import flags
from rmtjax.errors import InputError

# Flags that `spectra.analyze` takes under the same names.
OPTIONS = (
    "metrics", "layers", "precision", "seed", "conv", "conv_norm", "num_heads", "num_kv_heads", "lora_scale",
)  # fmt: skip
# The library's groups of metrics, which are not imported to print --help; a test keeps them the same.
GROUPS = (
    "scale", "tail", "bulk", "correlation", "local", "vectors", "bootstrap", "farms", "fingers", "shuffles",
    "nulls", "alignment",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    arguments = _parse(argv)
    flags.set_compilation_cache(jax_persistent_cache_min_compile_time_secs=0.05)
    from rmtjax import checkpoints, spectra
    from rmtjax.spectra import text

    start = time.monotonic()
    names = [name for name in (arguments.baseline, arguments.path, arguments.other) if name]
    weights = [checkpoints.open(name, step=arguments.step) for name in names]
    options = {name: getattr(arguments, name) for name in OPTIONS}
    options["progress"] = sys.stderr.isatty() or arguments.out is not None
    out = pathlib.Path(arguments.out) if arguments.out else None
    if out is not None:
        print(f"results go to {out}", flush=True)
        options["partial"] = _partial(out, names, arguments.step)
    try:
        if arguments.baseline:
            other = weights[2] if arguments.other else None
            analysis = spectra.compare(*weights[:2], other=other, **options)
        else:
            analysis = spectra.analyze(*weights, **options)
    except ValueError as error:
        raise InputError(f"{', '.join(map(repr, names))}: {error}") from error
    print(text.table(analysis.table))
    for line in text.left_out(analysis.left_out):
        print(line)
    if out is not None:
        analysis.save(out)
        shutil.rmtree(options["partial"], ignore_errors=True)
        from rmtjax import report

        print(f"report: {report.spectra_page(out)}")
    print(f"{len(analysis.table)} matrices in {time.monotonic() - start:.1f} s")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.parser("spectra", __doc__)
    parser.add_argument("path", metavar="PATH", help="the weights: see above")
    parser.add_argument("--baseline", help="the weights before training, to compare with")
    parser.add_argument(
        "--other", help="what another run made of the baseline: the cosine between the two updates"
    )
    parser.add_argument(
        "--out", help="a folder for spectra.parquet, spectra.npz and report.html; a stopped run goes on"
    )
    parser.add_argument("--metrics", default="default", help=f"default, all, or of {', '.join(GROUPS)}")
    parser.add_argument(
        "--layers", default="", metavar="REGEX", help="only matrices in whose name this is found"
    )
    parser.add_argument("--precision", default="double", choices=["single", "double"], help="default: double")
    parser.add_argument("--step", type=int, help="of a folder with several checkpoints; default: the newest")
    parser.add_argument(
        "--conv",
        default="slices",
        choices=["slices", "unfold"],
        help="matrices of a convolution: one a tap (default), or one",
    )
    parser.add_argument("--conv_norm", action="store_true", help="WeightWatcher's factor on 2-D convolutions")
    parser.add_argument("--num_heads", type=int, default=0, help="split attention into that many heads")
    parser.add_argument("--num_kv_heads", type=int, default=0, help="of keys and values, if fewer")
    parser.add_argument("--lora_scale", type=float, default=1.0, help="alpha / r of LoRA products")
    parser.add_argument("--seed", type=int, default=0, help="of shuffles and bootstrap")
    arguments = parser.parse_args(argv)
    if arguments.other and not arguments.baseline:
        parser.error("--other needs --baseline: the weights that both runs began with")
    return arguments


def _partial(out: pathlib.Path, names: list[str], step: int | None) -> pathlib.Path:
    """A folder for what is done of exactly these files; what other files left behind is deleted."""
    facts = [f"step {step}"]
    for name in names:
        path = pathlib.Path(os.path.abspath(name))
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        facts += [
            f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files if file.is_file()
        ]
    folder = out / f".partial-{hashlib.sha256(chr(10).join(facts).encode()).hexdigest()[:12]}"
    for old in out.glob(".partial-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder
