"""Times this program and others side by side.

python -m rmtjax.bench spectra [--repeats=5] [--no-peer] [--no-cold]
python -m rmtjax.bench diversity [--repeats=3] [--no-peer]
python -m rmtjax.bench data [--names=rand_augment,rotation] [--seconds=1] [--repeats=3]
python -m rmtjax.bench train [--config=configs/digits.py] [--steps=60] [--config.field=value ...]
python -m rmtjax.bench verdicts [--studies=500] [--names=T1] [--seed=0]
python -m rmtjax.bench sizes [--draws=2000]
python -m rmtjax.bench selection [--config=configs/digits.py] [--seeds=5] [--out=DIR]
python -m rmtjax.bench population [--config=configs/study_digits.py] [--members=16] [--steps=20]
python -m rmtjax.bench gpu [--json=FILE] [--seconds=480] [--small] [--dry]
"""

import argparse
import contextlib
import importlib
import io
import os
import platform
import sys
from typing import Any

from rmtjax.commands import flags


@flags.command
def main(argv: list[str] | None = None) -> int:
    arguments, rest = _parser().parse_known_args(argv)
    overrides = flags.overrides(rest)
    if arguments.bench == "gpu":  # torch and the tests share the device
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    flags.initialise(arguments)

    import jax

    kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    machine = platform.processor() or platform.machine()
    print(f"{jax.device_count()} x {kinds} ({machine}); JAX {jax.__version__}")
    flags.found(bench=arguments.bench, jax=jax.__version__, devices=kinds)
    bench = importlib.import_module(f"rmtjax.bench.{arguments.bench}")
    arguments.found = flags.found
    lines = _Lines(sys.stdout)
    with contextlib.redirect_stdout(lines):
        bench.main(arguments, overrides)
    flags.found(lines=lines.text.splitlines())
    return 0


class _Lines(io.TextIOBase):
    """Passes on what is printed, and keeps it for `--json`."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.text = stream, ""

    def write(self, text: str) -> int:
        self.text += text
        self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


def _parser() -> argparse.ArgumentParser:
    parser = flags.parser("bench", __doc__)
    benches = parser.add_subparsers(dest="bench", required=True)

    def bench(name: str, about: str) -> argparse.ArgumentParser:
        made = benches.add_parser(name, help=about, description=about)
        flags.add_process_flags(made)
        return made

    train = bench("train", "training through the pipeline against plain JAX on ready batches")
    flags.config_flag(train, "default: %(default)s", default="configs/digits.py")
    train.add_argument("--steps", type=int, default=60, help="timed steps of each; default: %(default)s")
    population = bench("population", "training many models together against one by one")
    flags.config_flag(population, "default: %(default)s", default="configs/study_digits.py")
    population.add_argument("--members", type=int, default=16, help="models; default: %(default)s")
    population.add_argument(
        "--steps", type=int, default=20, help="steps per repetition; default: %(default)s"
    )
    population.add_argument("--repeats", type=int, default=3, help="repetitions; default: %(default)s")
    spectra = bench("spectra", "the spectral analysis beside WeightWatcher and plain linear algebra")
    spectra.add_argument("--repeats", type=int, default=5, help="repetitions; default: %(default)s")
    spectra.add_argument("--no-peer", dest="peer", action="store_false", help="without WeightWatcher")
    spectra.add_argument(
        "--no-cold", dest="cold", action="store_false", help="without timing whole processes"
    )
    diversity = bench("diversity", "Vendi scores beside the vendi-score package")
    diversity.add_argument("--repeats", type=int, default=3, help="repetitions; default: %(default)s")
    diversity.add_argument("--no-peer", dest="peer", action="store_false", help="without vendi-score")
    verdicts = bench("verdicts", "how often a study's answers are wrong, on simulated studies")
    verdicts.add_argument("--studies", type=int, default=500, help="of each kind; default: %(default)s")
    verdicts.add_argument("--names", default="", help="those whose name holds this; default: all")
    verdicts.add_argument("--seed", type=int, default=0, help="of the studies; default: %(default)s")
    selection = bench("selection", "diversity of selected and repeated training sets, and what it costs")
    flags.config_flag(selection, "default: %(default)s", default="configs/digits.py")
    selection.add_argument("--seeds", type=int, default=5, help="default: %(default)s")
    selection.add_argument("--out", help="folder for a picture, selection.png; default: none is drawn")
    sizes = bench("sizes", "how often each p of the spectra rejects a true null, and an alternative")
    sizes.add_argument("--draws", type=int, default=2000, help="of each law; default: %(default)s")
    data = bench("data", "augmented and corrupted images per second beside other libraries")
    data.add_argument("--names", default="", help="augmentations and corruptions; default: all")
    data.add_argument("--seconds", type=float, default=1.0, help="time for each of them; default: 1")
    data.add_argument("--repeats", type=int, default=3, help="repetitions; default: %(default)s")
    gpu = bench("gpu", "all that is worth knowing of an accelerator, in one short run")
    gpu.add_argument(
        "--seconds", type=float, default=480.0, help="no case is begun after this time; default: %(default)g"
    )
    gpu.add_argument("--small", action="store_true", help="at sizes of a test")
    gpu.add_argument("--dry", action="store_true", help="print the time that each case is expected to take")
    return parser
