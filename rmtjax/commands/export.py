"""Writes the newest good weights of a run to one safetensors file, with the config of the run.

    python -m rmtjax.checkpoints runs/pretrain_letters letters.safetensors [--dtype=float16]

To write them for another program, with its names and layouts (a table of rmtjax/models/name_tables.py):

    python -m rmtjax.checkpoints runs/cifar10_resnet20 resnet20.safetensors --names=resnet_cifar

In that case low-rank factors are multiplied out into their kernels.
"""

import hashlib
import json
import pathlib

from rmtjax.commands import flags
from rmtjax.errors import InputError


@flags.command
def main(argv: list[str] | None = None) -> int:
    parser = flags.parser("export", __doc__, "checkpoints")
    parser.add_argument("run", help="the folder of a run")
    parser.add_argument("file", help="the .safetensors file to write")
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="default: float32"
    )
    parser.add_argument("--names", default="rmtjax", help="table of names and layouts; default: rmtjax")
    arguments = parser.parse_args(argv)

    from rmtjax import checkpoints, files, results
    from rmtjax import config as config_lib
    from rmtjax.models import pretrained
    from rmtjax.models.lora import Lora

    config = pathlib.Path(arguments.run) / results.CONFIG
    if not config.is_file():
        raise InputError(f"{arguments.run!r} is not a run's folder: it has no config.json")
    files.make_folder(pathlib.Path(arguments.file).parent, "the folder of FILE", "FILE")
    text = config.read_text(encoding="utf-8")
    params = checkpoints.nest(checkpoints.open(arguments.run))
    low_rank = config_lib.from_stored(json.loads(text)).model.lora
    if low_rank.rank and arguments.names != "rmtjax":
        params = Lora(None, low_rank.rank, low_rank.alpha, low_rank.targets).merged(params)
    tensors = pretrained.export(
        params, checkpoints.nest(checkpoints.open(arguments.run, item="model_state")), arguments.names
    )
    metadata = {"config": text, "config_sha256": hashlib.sha256(text.encode()).hexdigest()}
    checkpoints.save_safetensors(arguments.file, tensors, metadata, arguments.dtype)
    flags.found(file=arguments.file, bytes=pathlib.Path(arguments.file).stat().st_size)
    print(f"{arguments.file}: {pathlib.Path(arguments.file).stat().st_size:,} bytes")
    return 0
