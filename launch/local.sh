#!/usr/bin/env bash
# One machine, all its devices, one process:  launch/local.sh configs/synthetic.py [workdir] [--config.field=value ...]
# The same command again goes on where a stopped run was.
set -euo pipefail
cd "$(dirname "$0")/.."
config="${1:?give a config, such as configs/synthetic.py}"
shift
workdir=()
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
  workdir=(--workdir="$1")
  shift
fi
# Same numbers on every start, also on GPUs: a study of spectra should not drift with the order of additions.
export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_deterministic_ops=true"
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-.9}"
python=.venv/bin/python
[ -x "$python" ] || python=python3
exec "$python" -m rmtjax.train --config="$config" "${workdir[@]}" "$@"
