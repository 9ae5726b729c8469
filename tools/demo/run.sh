#!/bin/sh
# Runs the demonstration.
#
#   run.sh BUILD MODEL FOLDER      KEEP=1 in the environment: the daemon stays
#
# A daemon that an earlier run with KEEP=1 left on this folder is ended first: two
# cannot share one.
set -eu

build=$1
model=$2
folder=$3
left=$folder/semd.pid

if [ -s "$left" ]; then
    pid=$(cat "$left")
    if [ "$(readlink "/proc/$pid/exe" 2>/dev/null)" = "$(readlink -f "$build/semd")" ]; then
        echo "  END   the daemon that an earlier KEEP=1 left running ($pid)"
        kill "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    fi
    rm -f "$left"
fi

# Ctrl-C reaches the program too, which ends its daemon; exec leaves nobody between.
if [ -n "${KEEP:-}" ] && [ "$KEEP" != 0 ]; then
    exec "$build/semd-demo" run "$build/semd" "$model" "$folder" keep
fi
exec "$build/semd-demo" run "$build/semd" "$model" "$folder"
