# Python packages for a benchmark, installed once. Sourced by bench/*/run.sh, with
#
#   name     the benchmark's: the packages go into build/venv/$name
#   wanted   the file that lists them: when it changes, they are installed anew
#
# Sets venv, the folder, and log, what pip had to say.
venv=build/venv/$name
log=$venv.log

# venv_begin CONTENTS: makes the folder, and says what comes into it. False: it is all there.
venv_begin() {
    ! cmp -s "$wanted" "$venv/installed.txt" || return 1
    echo "  VENV  $venv ($1)"
    mkdir -p build/venv
    "${PYTHON:-python3}" -m venv "$venv" || exit 1
    : >"$log"
}

# pip leaves what it has installed when it is interrupted, and goes on from there.
venv_pip() {
    "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@" >>"$log" 2>&1
}

# venv_end: all that is wanted is there.
venv_end() {
    cp "$wanted" "$venv/installed.txt"
}

# venv_fail WHAT: it could not be installed.
venv_fail() {
    tail -n 5 "$log" >&2
    echo "bench-$name: pip could not install $1 (all of it is in $log)." >&2
    echo "Can this machine reach the Python package index? Run it again to go on where it stopped." >&2
    exit 1
}
