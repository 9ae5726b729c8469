#!/bin/sh
# Compares semd's encoder with sentence-transformers, ONNX Runtime, OpenVINO and
# CTranslate2 on this machine: installs them into build/venv/encode once, then runs
# driver.py, which the options go to.
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
wanted=$here/requirements.txt
venv=build/venv/encode
log=build/venv/encode.log

if [ ! -e ../shared/data/banking77/test.jsonl ] && [ "$*" = "${*#--data}" ]; then
    echo "skipped: bench-encode needs ../shared/data for its texts"
    exit 0
fi

# pip leaves what it has installed when it is interrupted, and goes on from there.
if ! cmp -s "$wanted" "$venv/installed.txt"; then
    echo "  VENV  $venv (PyTorch, ONNX Runtime, OpenVINO, CTranslate2 from the Python package index, about 6 GB)"
    mkdir -p build/venv
    "${PYTHON:-python3}" -m venv "$venv"
    pip() { "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@" >"$log" 2>&1; }
    if [ -n "${TORCH_INDEX:-}" ]; then
        pip --index-url "$TORCH_INDEX" "$(grep '^torch==' "$wanted")" ||
            echo "  VENV  no PyTorch from $TORCH_INDEX: takes the package index's own"
    fi
    if ! pip -r "$wanted"; then
        tail -n 5 "$log" >&2
        echo "bench-encode: pip could not install $wanted (all of it is in $log)." >&2
        echo "Can this machine reach the Python package index? Run it again to go on where it stopped." >&2
        exit 1
    fi
    cp "$wanted" "$venv/installed.txt"
fi

PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/driver.py" --build "$build" --model "$model" "$@"
