#!/bin/sh
# Compares semd's trainer with sentence-transformers on this machine: installs that into
# build/venv/train once, then runs driver.py, which the options go to.
#
#   run.sh BUILD MODEL [option]...
#
# TORCH_INDEX is explained in ../venv.sh.
set -eu

build=$1
model=$2
shift 2
here=$(dirname "$0")
name=train
wanted=$here/requirements.txt
. "$here/../venv.sh"

if [ ! -e ../shared/data/banking77/train.jsonl ] && [ "$*" = "${*#--source}" ]; then
    echo "skipped: bench-train needs ../shared/data for its pairs"
    exit 0
fi

venv_with_torch "PyTorch, sentence-transformers from the Python package index, about 6 GB"

PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/driver.py" --build "$build" --model "$model" "$@"
