"""Spectra of a checkpoint, or of two and of the update between them.

python -m rmtjax.spectra PATH [--baseline=PATH [--other=PATH]] [--out=DIR] [--metrics=all] [--layers=REGEX]

PATH: a run's folder or one of its checkpoints, another Orbax checkpoint, weights in safetensors, torch, npz,
npy, msgpack, GGUF, ONNX or Keras format, a SavedModel or the .index of a TensorFlow checkpoint, or a folder
of safetensors or torch shards. With --baseline, PATH holds the weights after training.
"""

import argparse
import contextlib
import difflib
import hashlib
import os
import pathlib
import shutil
import sys
import time

from rmtjax.commands import flags
from rmtjax.errors import InputError

# The flags that `spectra.analyze` does not take; it takes all others under the same names.
_OWN = ("path", "baseline", "other", "out", "step", "json")
# `metrics.GROUPS` of the library, which --help does not import, to be quick. A test compares the two.
GROUPS = (
    "scale, tail, bulk, correlation, local, vectors, bootstrap, farms, fingers, shuffles, nulls, alignment"
)


@flags.command
def main(argv: list[str] | None = None) -> int:
    arguments = _parse(argv)
    flags.set_compilation_cache(jax_persistent_cache_min_compile_time_secs=0.05)
    from rmtjax import checkpoints, files, spectra
    from rmtjax.spectra import text

    start = time.monotonic()
    names = [name for name in (arguments.baseline, arguments.path, arguments.other) if name]
    weights = [checkpoints.open(name, step=arguments.step) for name in names]
    options = {name: value for name, value in vars(arguments).items() if name not in _OWN}
    options["progress"] = sys.stderr.isatty() or arguments.out is not None
    with contextlib.ExitStack() as stack:
        out = None
        if arguments.out:
            out = stack.enter_context(files.writing_to(arguments.out, "--out", "--out"))
            there = (out / "spectra.parquet").exists()
            print(f"results go to {out}{', in place of those that are there' if there else ''}", flush=True)
            options["partial"] = _partial(out, names, arguments.step)
        try:
            if arguments.baseline:
                other = weights[2] if arguments.other else None
                analysis = spectra.compare(*weights[:2], other=other, **options)
            else:
                analysis = spectra.analyze(*weights, **options)
        except ValueError as error:
            raise InputError(f"{', '.join(map(repr, names))}: {error}") from error
        if out is not None:  # before anything is printed, which fails where nobody reads it
            analysis.save(out)
            shutil.rmtree(options["partial"], ignore_errors=True)
            from rmtjax import report  # which takes a quarter of a second

            page = report.spectra_page(out)
        flags.found(table=analysis.table, left_out=analysis.left_out, out=out)
        print(text.table(analysis.table))
        for line in text.left_out(analysis.left_out):
            print(line)
        if out is not None:
            print(f"report: {page}")
        print(f"{len(analysis.table)} matrices in {time.monotonic() - start:.1f} s")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.parser("spectra", __doc__, topic=_columns)
    add = parser.add_argument
    add("path", metavar="PATH", help="the weights: see above")
    add("--baseline", help="the weights before training, to compare with")
    add("--other", help="weights after another run from the baseline: the cosine between the two updates")
    add(
        "--out", help="a folder for spectra.parquet, spectra.npz and report.html; a stopped run resumes there"
    )
    add(
        "--metrics",
        default="default",
        help=f"default, all, or, with commas between, groups ({GROUPS}) or names of metrics",
    )
    add("--layers", default="", metavar="REGEX", help="only matrices whose name contains a match")
    add("--precision", default="double", choices=["single", "double"], help="default: double")
    add("--step", type=int, help="the checkpoint to read, if a folder has several; default: the newest")
    add(
        "--conv",
        default="slices",
        choices=["slices", "unfold"],
        help="a convolution is one matrix per kernel position (slices, the default) or one matrix (unfold)",
    )
    add("--conv_norm", action="store_true", help="apply WeightWatcher's factor to 2-D convolutions")
    add("--num_heads", type=int, default=0, help="split attention into that many heads")
    add("--num_kv_heads", type=int, default=0, help="number of heads of keys and values, if it differs")
    add("--products", action="store_true", help="add W_Q W_K^T and W_V W_O of each head of attention")
    add(
        "--lora_scale",
        type=float,
        help="the factor on products of LoRA factors; default: alpha / r as the file or adapter_config.json"
        " tells it, or else 1",
    )
    add(
        "--exact_up_to",
        type=int,
        default=16384,
        metavar="SIDE",
        help="of matrices with a longer shorter side, metrics are estimated, with errors; default: 16384",
    )
    add("--seed", type=int, default=0, help="of shuffles and bootstrap")
    arguments = parser.parse_args(argv)
    if arguments.other and not arguments.baseline:
        parser.error("--other needs --baseline, the weights from which both runs started")
    return arguments


def _columns(part: str, words: list[str]) -> str:
    """The columns of the table, of all groups, of one, or one by itself."""
    if not part:
        return "--help=metrics lists the columns of the table, --help=tail those of a group."
    from rmtjax.spectra import metrics

    lines = []
    for group, about in metrics.ABOUT.items():
        found = {
            name: metric.about
            for name, metric in metrics.METRICS.items()
            if metric.group == group and part in ("metrics", name, group)
        }
        if found or part in ("metrics", group):
            lines += ["", f"{group}: {about}"]
        lines += [f"  {name}\n      {sentence}" for name, sentence in found.items()]
    if not lines:
        near = difflib.get_close_matches(part, ["metrics", *metrics.ABOUT, *metrics.METRICS], 3)
        hint = f"did you mean {', '.join(map(repr, near))}?" if near else "--help=metrics lists all"
        raise InputError(f"no metric or group of metrics {part!r}: {hint}")
    return "\n".join(lines).lstrip("\n")


def _partial(out: pathlib.Path, names: list[str], step: int | None) -> pathlib.Path:
    """A folder for finished parts of an analysis of exactly these files; those of other files are deleted."""
    facts = [f"step {step}"]
    for name in names:
        path = pathlib.Path(os.path.abspath(name))
        beside = (path.parent / name for name in ("config.json", "adapter_config.json"))  # may tell a scale
        # Hidden are our lock and parts.
        found = sorted(path.rglob("[!.]*")) if path.is_dir() else [path, *beside]
        facts += [
            f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}"
            for file in found
            if file.is_file() and not file.parent.name.startswith(".partial-")
        ]
    digest = hashlib.sha256("\n".join(facts).encode(errors="surrogatepass")).hexdigest()
    folder = out / f".partial-{digest[:12]}"
    for old in out.glob(".partial-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder
