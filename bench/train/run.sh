#!/bin/sh
# Compares semd's trainer with sentence-transformers on this machine: installs that into
# build/venv/train once, then runs driver.py, which the options go to.
#
#   run.sh BUILD MODEL [option]...
#
# TORCH_INDEX names a package index to try for PyTorch first, such as one with
# wheels without CUDA, which save 5 GB.
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

if venv_begin "PyTorch, sentence-transformers from the Python package index, about 6 GB"; then
    if [ -n "${TORCH_INDEX:-}" ]; then
        venv_pip --index-url "$TORCH_INDEX" "$(grep '^torch==' "$wanted")" ||
            echo "  VENV  no PyTorch from $TORCH_INDEX: takes the package index's own"
    fi
    venv_pip -r "$wanted" || venv_fail "$wanted"
    venv_end
fi

PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/driver.py" --build "$build" --model "$model" "$@"
