#!/bin/sh
# Compares semd's trainer with sentence-transformers on this machine: installs that into
# build/venv/train once, then runs a script of this folder, which the options go to.
#
#   run.sh driver.py|quality.py BUILD MODEL [option]...
#
# TORCH_INDEX is explained in ../venv.sh.
set -eu

script=$1
build=$2
model=$3
shift 3
here=$(dirname "$0")
name=train
wanted=$here/requirements.txt
. "$here/../venv.sh"

if [ ! -e ../shared/data/banking77/train.jsonl ] && [ "$*" = "${*#--source}" ]; then
    echo "skipped: $script needs ../shared/data for its pairs"
    exit 0
fi

venv_with_torch "PyTorch, sentence-transformers from the Python package index, about 6 GB"

PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/$script" --build "$build" --model "$model" "$@"
