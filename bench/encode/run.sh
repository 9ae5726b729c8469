#!/bin/sh
# Compares semd's encoder with sentence-transformers, ONNX Runtime, OpenVINO and
# CTranslate2 on this machine: installs them into build/venv/encode once, then runs
# driver.py, which the options go to.
#
#   run.sh BUILD MODEL [option]...
#
# TORCH_INDEX is explained in ../venv.sh.
set -eu

build=$1
model=$2
shift 2
here=$(dirname "$0")
name=encode
wanted=$here/requirements.txt
. "$here/../venv.sh"

if [ ! -e ../shared/data/banking77/test.jsonl ] && [ "$*" = "${*#--data}" ]; then
    echo "skipped: bench-encode needs ../shared/data for its texts"
    exit 0
fi

venv_with_torch "PyTorch, ONNX Runtime, OpenVINO, CTranslate2 from the Python package index, about 6 GB"

PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/driver.py" --build "$build" --model "$model" "$@"
