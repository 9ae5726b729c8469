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

# venv_with_torch CONTENTS: all of it, where PyTorch is among it. TORCH_INDEX names a package
# index to try for that first, such as one with wheels without CUDA, which save 5 GB.
venv_with_torch() {
    venv_begin "$1" || return 0
    if [ -n "${TORCH_INDEX:-}" ]; then
        venv_pip --index-url "$TORCH_INDEX" "$(grep '^torch==' "$wanted")" ||
            echo "  VENV  no PyTorch from $TORCH_INDEX: takes the package index's own"
    fi
    venv_pip -r "$wanted" || venv_fail "$wanted"
    venv_end
}

# venv_fail WHAT: it could not be installed.
venv_fail() {
    tail -n 5 "$log" >&2
    echo "bench-$name: pip could not install $1 (all of it is in $log)." >&2
    echo "Can this machine reach the Python package index? Run it again to go on where it stopped." >&2
    exit 1
}
