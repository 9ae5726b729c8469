#!/bin/sh
# Makes what bench-ann and bench-server are asked about, where it is not there yet:
# sentences of Debian's package descriptions and their vectors by our own encoder.
#
#   BENCH_PYTHON=python vectors.sh BUILD MODEL FOLDER VECTORS QUERIES
set -eu

build=$1 model=$2 folder=$3 vectors=$4 queries=$5
mkdir -p "$folder"
[ -e "$folder/sentences.jsonl" ] || "$BENCH_PYTHON" "$(dirname "$0")/sentences.py" "$folder"
encode() { # FIRST COUNT FILE
    [ -e "$folder/$3" ] ||
        "$build/bench_sentences" first="$1" texts="$2" threads="$(nproc)" "$model" "$folder/sentences.jsonl" "$folder/$3"
}
encode 0 "$vectors" vectors.f32
encode 200000 "$queries" queries.f32
