#!/bin/sh
# Peak memory of the daemon with two workers, in each precision: first start on an
# empty folder (the model is checked, copied and opened), a load of texts of 256
# tokens and of short ones at the same time, searches, and a second start.
#
#   memory.sh BUILD MODEL [PRECISION...]    default: float32 bfloat16 int8
#
# Prints a table of VmHWM (the most that was resident since the start, file-backed
# pages included) in MiB; after a restart that of the restarted daemon.
set -eu

build=$1
model=$2
shift 2
[ $# -gt 0 ] || set -- float32 bfloat16 int8
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
pid=
trap 'if [ -n "$pid" ]; then kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; fi; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# The project's own prose as test data: long texts of 220 words, and lines.
cat "$here"/README.md "$here"/docs/*.md "$here"/conf/* "$here"/*/*.h | tr -cs '[:alnum:].,' '[\n*]' |
    awk '{ line = line $1 " "; if (++n % 220 == 0) { print line; line = "" } }' | head -n 100 >"$work/long"
cat "$here"/README.md "$here"/docs/*.md | awk 'length > 20' >"$work/short"
for kind in long short; do
    awk -v kind=$kind '{ gsub(/[\\"\t\r]/, " "); printf "{\"id\": \"%s%d\", \"text\": \"%s\"}\n", kind, NR, $0 }' \
        "$work/$kind" >"$work/$kind.jsonl"
done

start_daemon() {
    : >"$work/log"
    "$build/semd" -o server.listen="unix:$work/socket" -o server.http= -o storage.path="$work/data" \
        -o model.path="$model" -o model.precision="$1" -o encode.workers=2 2>"$work/log" &
    pid=$!
    until "$build/semctl" -s "unix:$work/socket" info >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
        sleep 0.1
    done
}

stop_daemon() {
    kill "$pid"
    wait "$pid" || true
    pid=
}

peak() {
    awk '/^VmHWM:/ { printf "%.1f", $2 / 1024 }' "/proc/$pid/status"
}

call() {
    "$build/semctl" -s "unix:$work/socket" "$@" >/dev/null
}

traffic() {
    call upsert -f "$work/long.jsonl" &
    load=$!
    call upsert -f "$work/short.jsonl"
    call encode -f "$work/short"
    wait "$load"
    call encode -f "$work/long" &
    load=$!
    head -n 40 "$work/short" | while IFS= read -r query; do call search -- "$query"; done
    wait "$load"
}

printf '%-10s %12s %12s %14s %14s\n' precision 'first start' 'after load' 'second start' 'after load'
for precision in "$@"; do
    rm -rf "$work/data"
    start_daemon "$precision"
    first=$(peak)
    traffic
    loaded=$(peak)
    stop_daemon
    start_daemon "$precision"
    second=$(peak)
    traffic
    printf '%-10s %12s %12s %14s %14s\n' "$precision" "$first" "$loaded" "$second" "$(peak)"
    [ -z "${SMAPS:-}" ] || cp "/proc/$pid/smaps" "$SMAPS.$precision"
    stop_daemon
done
