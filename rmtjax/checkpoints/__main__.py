"""Writes a run's newest good parameters as one safetensors file, with the config that made them.

python -m rmtjax.checkpoints runs/pretrain_letters letters.safetensors [--dtype=float16]
"""

import argparse
import hashlib
import pathlib

from rmtjax import checkpoints
from rmtjax.errors import InputError, run_command


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run's folder")
    parser.add_argument("file", help="the .safetensors file to write")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    arguments = parser.parse_args()
    config = pathlib.Path(arguments.run) / "config.json"
    if not config.is_file():
        raise InputError(f"{arguments.run!r} is not a run's folder: it has no config.json")
    params = checkpoints.load_params(arguments.run)
    text = config.read_text(encoding="utf-8")
    metadata = {"config": text, "config_sha256": hashlib.sha256(text.encode()).hexdigest()}
    checkpoints.save_safetensors(arguments.file, params, metadata, arguments.dtype)
    print(f"{arguments.file}: {pathlib.Path(arguments.file).stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    run_command(main)
