"""Side-by-side measurements.

python -m rmtjax.bench spectra [--repeats=5] [--no-peer] [--no-cold]
python -m rmtjax.bench diversity [--repeats=3] [--no-peer]
python -m rmtjax.bench data [--names=rand_augment,rotation] [--seconds=1] [--repeats=3]
python -m rmtjax.bench train [--config=configs/digits.py] [--steps=60] [--config.field=value ...]
python -m rmtjax.bench population [--config=configs/study_digits.py] [--members=16] [--steps=20] [--repeats=3]
"""

import argparse
import platform

from rmtjax.commands import flags


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
    population = benches.add_parser("population", help="training many models together against one by one")
    population.add_argument("--config", default="configs/study_digits.py")
    population.add_argument("--members", type=int, default=16)
    population.add_argument("--steps", type=int, default=20)
    population.add_argument("--repeats", type=int, default=3)
    flags.add_process_flags(population)
    spectra = benches.add_parser(
        "spectra", help="the spectral pass beside WeightWatcher and bare linear algebra"
    )
    spectra.add_argument("--repeats", type=int, default=5)
    spectra.add_argument("--no-peer", dest="peer", action="store_false", help="without WeightWatcher")
    spectra.add_argument("--no-cold", dest="cold", action="store_false", help="without whole processes")
    flags.add_process_flags(spectra)
    diversity = benches.add_parser("diversity", help="Vendi scores beside the vendi-score package")
    diversity.add_argument("--repeats", type=int, default=3)
    diversity.add_argument("--no-peer", dest="peer", action="store_false", help="without vendi-score")
    flags.add_process_flags(diversity)
    data = benches.add_parser("data", help="augmented and corrupted images a second beside peers")
    data.add_argument("--names", default="", help="augmentations and corruptions; all if not given")
    data.add_argument("--seconds", type=float, default=1.0, help="that each is timed for")
    data.add_argument("--repeats", type=int, default=3)
    flags.add_process_flags(data)
    arguments, rest = parser.parse_known_args()
    overrides = flags.overrides(rest)
    flags.initialise(arguments)

    import jax

    kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    print(
        f"{jax.device_count()} x {kinds} ({platform.processor() or platform.machine()}); JAX {jax.__version__}"
    )
    if arguments.bench == "spectra":
        from rmtjax.bench import spectra as bench_spectra

        bench_spectra.main(arguments.repeats, arguments.cold, arguments.peer)
    elif arguments.bench == "diversity":
        from rmtjax.bench import diversity as bench_diversity

        bench_diversity.main(arguments.repeats, arguments.peer)
    elif arguments.bench == "population":
        from rmtjax.bench import population as bench_population

        bench_population.main(arguments, overrides)
    elif arguments.bench == "data":
        from rmtjax.bench import data as bench_data

        bench_data.main(arguments)
    else:
        from rmtjax.bench import train as bench_train

        bench_train.main(arguments, overrides)
    return 0
