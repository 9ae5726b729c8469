#!/bin/sh
# Compares semd's vector index with faiss-cpu, ScaNN, Intel SVS, hnswlib and usearch on
# this machine: installs them into build/venv/ann once, makes the vectors in build/ann
# once (sentences of Debian's package descriptions through our own encoder), then runs
# driver.py, which the options go to.
#
#   run.sh BUILD MODEL [--quick] [option]...
#
# DEBIAN_MIRROR names a mirror to fetch the descriptions from, such as
# http://deb.debian.org/debian; without it apt's own is taken.
set -eu

build=$1
model=$2
shift 2
here=$(dirname "$0")
name=ann
wanted=$here/requirements.txt
. "$here/../venv.sh"
folder=build/ann
vectors=200000 queries=2000
export PYTHONDONTWRITEBYTECODE=1

case " $* " in
*" --quick "*)
    # Where the whole set has been made, the quick run takes its first rows.
    [ -e $folder/vectors.f32 ] || { folder=build/ann/quick vectors=10000 queries=300; }
    ;;
esac
mkdir -p "$folder"

# One by one: driver.py names what could not be installed and goes on without it.
if venv_begin "faiss-cpu, ScaNN, SVS, hnswlib, usearch from the Python package index, about 700 MB"; then
    missing=
    for package in $(grep -v '^#' "$wanted"); do
        venv_pip "$package" || missing="$missing $package"
    done
    "$venv/bin/python" -c 'import numpy' 2>>"$log" || venv_fail numpy
    if [ -n "$missing" ]; then
        echo "  VENV  not installed:$missing (the reasons are in $log)"
    else
        venv_end
    fi
fi

# Made once and kept: the first run takes some minutes longer.
BENCH_PYTHON=$venv/bin/python sh "$here/vectors.sh" "$build" "$model" "$folder" "$vectors" "$queries"

exec "$venv/bin/python" "$here/driver.py" --build "$build" --folder "$folder" "$@"
