"""Fits a generator to a config's training split and stores a synthetic set, with a manifest and a picture.

python -m rmtjax.generate --config=configs/synthetic.py [--cache=DIR] [--config.synthetic.guidance=1.5 ...]
"""

import signal
import sys

from rmtjax import flags
from rmtjax.errors import run_command


def main() -> int:
    config, arguments = flags.parse(__doc__, workdir=False)
    flags.initialise(arguments)

    import jax

    from rmtjax import generate, report, train

    try:
        made = generate.ensure(config)
    except train.Stopped as stopped:
        print(
            f"stopped by SIGTERM after step {stopped.step} of the generator; the same command goes on from there",
            file=sys.stderr,
        )
        return 128 + signal.SIGTERM
    if jax.process_index() == 0:
        print(f"manifest {made.path / 'manifest.json'}, samples by class {report.synthetic(made.path)}")
    return 0


if __name__ == "__main__":
    run_command(main)
