#!/bin/sh
# Repeats the demonstration's training with sentence-transformers and compares: the
# same pairs, the same held-out queries, the same evaluator, two threads, no other
# load. Fails when semd gains less than 0.14 in Italian MRR@10 or trains slower.
#
#   run.sh BUILD MODEL FOLDER
set -eu

build=$1
model=$2
folder=$3
python=${PYTHON:-python3}
venv=build/venv/bench
here=$(dirname "$0")

if ! "$venv/bin/python" -c 'import sentence_transformers' 2>/dev/null; then
    echo "  VENV  $venv (sentence-transformers and PyTorch from the Python package index, about 6 GB)"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check sentence-transformers
fi
reference() {
    HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error OMP_NUM_THREADS=2 \
        "$venv/bin/python" "$here/reference.py" "$@" 2>"$folder/bench.log" || {
        tail -n 20 "$folder/bench.log" >&2
        exit 1
    }
}

"$build/semd-demo" export "$folder"
rm -rf "$folder/ours" "$folder/theirs"

echo "  semd trains on $(wc -l <"$folder/train.jsonl") pairs"
"$build/bench_train" threads=2 tokens=64 batch=64 epochs=1 rate=1e-4 "$model" "$folder/train.jsonl" "$folder/ours" \
    >"$folder/ours.json" 2>"$folder/ours.log" || { tail -n 5 "$folder/ours.log" >&2; exit 1; }
echo "  sentence-transformers trains on the same"
reference train "$model" "$folder/train.jsonl" "$folder/theirs" >"$folder/theirs.json"

reference evaluate "$model" "$folder" >"$folder/before.figures"
reference evaluate "$folder/ours" "$folder" >"$folder/ours.figures"
reference evaluate "$folder/theirs" "$folder" >"$folder/theirs.figures"
"$python" "$here/compare.py" "$folder"
