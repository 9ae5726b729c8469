#!/bin/sh
# Finds and installs the Debian packages that semd needs.
#
#   deps.sh --missing build|all|fuzz|server|train   prints the missing packages, nothing if none
#   deps.sh --install build|all|fuzz|server|train   installs them, after one line that says what and why
#
# Each requirement is looked for by what is used of it, not by the package's name,
# so that libraries from elsewhere serve as well.
set -eu

PYTHON=${PYTHON:-python3}

# package, how to look for it, what for
requirements() {
    cat <<'EOF'
build build-essential command:cc,make,g++
build pkg-config command:pkg-config
build libevent-dev library:libevent,libevent_pthreads
build libmsgpack-dev library:msgpack|msgpack-c
build libopenblas-dev library:openblas
build liblmdb-dev library:lmdb
build libsqlite3-dev library:sqlite3
build libjansson-dev library:jansson
build libutf8proc-dev library:libutf8proc
build libinih-dev library:inih
build libsystemd-dev library:libsystemd
build libfaiss-dev header:faiss/Index.h
build libroaring-dev header:roaring/roaring.h
build libxxhash-dev header:xxhash.h
build zlib1g-dev library:zlib
build sentencepiece command:spm_train
all check library:check
all python3 command:PYTHON
all python3-pip module:pip
all python3-venv module:venv,ensurepip
all unzip command:unzip
all ca-certificates file:/etc/ssl/certs/ca-certificates.crt
all systemd command:systemd-analyze
fuzz clang command:FUZZ_CC
fuzz libclang-rt-14-dev fuzzer:FUZZ_CC
server libhiredis-dev library:hiredis
server libpq-dev library:libpq
train libtcmalloc-minimal4 preload:libtcmalloc_minimal.so.4
EOF
}

has_command() {
    [ "$1" = PYTHON ] && set -- "$PYTHON"
    if [ "$1" = FUZZ_CC ]; then
        command -v clang >/dev/null 2>&1 || command -v clang-14 >/dev/null 2>&1
        return
    fi
    command -v "$1" >/dev/null 2>&1
}

# a|b: either name will do
has_library() {
    for name in $(echo "$1" | tr '|' ' '); do
        pkg-config --exists "$name" 2>/dev/null && return 0
    done
    return 1
}

# clang's libFuzzer and its sanitizers are in a package of their own.
has_fuzzer() {
    clang=$(command -v clang || command -v clang-14) || return 1
    echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
        "$clang" -fsanitize=fuzzer,address -x c - -o /dev/null >/dev/null 2>&1
}

has_header() {
    for folder in /usr/include /usr/local/include; do
        [ -e "$folder/$1" ] && return 0
    done
    return 1
}

# The loader says so where it cannot.
can_preload() {
    [ -z "$(LD_PRELOAD=$1 /bin/true 2>&1)" ]
}

has_module() {
    command -v "$PYTHON" >/dev/null 2>&1 &&
        "$PYTHON" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)" 2>/dev/null
}

present() {
    kind=${1%%:*}
    for what in $(echo "${1#*:}" | tr ',' ' '); do
        case $kind in
        command) has_command "$what" || return 1 ;;
        library) has_library "$what" || return 1 ;;
        fuzzer) has_fuzzer || return 1 ;;
        header) has_header "$what" || return 1 ;;
        preload) can_preload "$what" || return 1 ;;
        module) has_module "$what" || return 1 ;;
        file) [ -e "$what" ] || return 1 ;;
        esac
    done
}

missing() {
    requirements | while read -r set package look; do
        if [ "$set" = all ] && [ "$1" = build ]; then continue; fi
        case $set in fuzz | server | train) [ "$1" = "$set" ] || continue ;; esac
        present "$look" || printf '%s ' "$package"
    done
}

install_missing() {
    wanted=$(missing "$1")
    [ -n "$wanted" ] || exit 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "semd needs these libraries and tools, by their Debian names: $wanted" >&2
        echo "There is no apt-get here: install them by hand and run make again." >&2
        exit 1
    fi
    as_root=
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
            echo "semd needs Debian packages; as root, run: apt-get install $wanted" >&2
            exit 1
        fi
        as_root=sudo
    fi
    echo "Installing with ${as_root:+sudo }apt-get what semd is built and tested with: $wanted"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    export DEBIAN_FRONTEND=noninteractive
    # The list of packages is split on purpose: one argument each.
    # shellcheck disable=SC2086
    if ! { $as_root apt-get -q update && $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qy install --no-install-recommends $wanted; } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        echo "apt-get could not install them; the lines above say why." >&2
        exit 1
    fi
    still=$(missing "$1")
    if [ -n "$still" ]; then
        echo "apt-get installed everything, but these are still not found: $still" >&2
        echo "Is PKG_CONFIG_PATH or PYTHON ($PYTHON) pointing elsewhere?" >&2
        exit 1
    fi
}

case "${1:-} ${2:-}" in
"--missing build" | "--missing all" | "--missing fuzz" | "--missing server" | "--missing train") missing "$2" ;;
"--install build" | "--install all" | "--install fuzz" | "--install server" | "--install train") install_missing "$2" ;;
*)
    echo "usage: deps.sh --missing|--install build|all|fuzz|server|train" >&2
    exit 2
    ;;
esac
