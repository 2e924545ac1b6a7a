"""Side-by-side measurements.

python -m rmtjax.bench train [--config=configs/digits.py] [--steps=60] [--config.field=value ...]
"""

import argparse
import platform

from rmtjax import flags
from rmtjax.errors import run_command


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    benches = parser.add_subparsers(dest="bench", required=True)
    train = benches.add_parser(
        "train", help="training through the pipeline against plain JAX on ready batches"
    )
    train.add_argument("--config", default="configs/digits.py")
    train.add_argument("--steps", type=int, default=60)
    flags.add_process_flags(train)
    arguments, rest = parser.parse_known_args()
    overrides = flags.overrides(rest)
    flags.initialise(arguments)

    import jax

    kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    print(
        f"{jax.device_count()} x {kinds} ({platform.processor() or platform.machine()}); JAX {jax.__version__}"
    )
    from rmtjax.bench import train as bench_train

    bench_train.main(arguments, overrides)
    return 0


if __name__ == "__main__":
    run_command(main)
