"""Trains one config and measures what came out.

python -m rmtjax.train --config=configs/synthetic.py [--workdir=DIR] [--config.field=value ...]
"""

import os
import pathlib
import signal
from typing import Any

from rmtjax import results
from rmtjax.commands import flags


def main(argv: list[str] | None = None) -> int:
    config, arguments = flags.parse("train", __doc__, argv)
    signal.signal(signal.SIGTERM, _stopped_between_steps)
    flags.initialise(arguments)

    import jax

    from rmtjax import generate, measure, report, train
    from rmtjax.train import workdir as workdir_lib

    workdir = arguments.workdir
    earlier = workdir_lib.prepare(config, workdir)
    if earlier.get("status") == "finished":
        print(f"{workdir} is finished: nothing to train. For another run choose another --workdir.")
        if not (pathlib.Path(workdir) / results.PAGE).exists():  # killed while it was drawn
            report.run_page(workdir)
        print(report.final_table(workdir))
        return 0
    made: list[generate.SyntheticSet] = []

    def synthetic() -> Any:
        made.append(generate.ensure(config))
        return generate.source(made[0])

    print(f"results go to {workdir}")
    try:
        result = train.run(config, workdir, synthetic=synthetic)
    except train.Stopped as stopped:
        _say_stopped(f"after step {stopped.step}; the state is saved")
        return 128 + signal.SIGTERM
    if config.evaluation.enabled:
        measure.evaluation_of_run(config, workdir, result)
    if jax.process_index() == 0:
        if config.spectra.enabled:
            measure.spectra_of_run(config, workdir)
        if config.diversity.enabled:
            measure.diversity_of_run(config, workdir, result)
        if made:
            generate.write_run_files(made[0], workdir)
        result.record.update(status="finished")
        report.run_page(workdir)
        print(report.final_table(workdir))
    return 0


def _say_stopped(where: str) -> None:
    os.write(2, f"\nstopped by SIGTERM {where}: the same command goes on from there\n".encode())


def _stopped_between_steps(number: int, frame: Any) -> None:
    _say_stopped("between training steps")
    # Not sys.exit: an exception that lands in one of JAX's callbacks is lost. Files are whole or absent anyway.
    os._exit(128 + number)
