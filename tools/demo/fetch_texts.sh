#!/bin/sh
# The demonstration's texts: Debian's package descriptions in English and Italian,
# as apt fetches them. The lists go into folders of their own below FOLDER; nothing
# of the system's package lists changes, and root is not needed.
#
#   fetch_texts.sh FOLDER PROGRAM
#
# PROGRAM texts ... turns them into FOLDER/packages.jsonl.
set -eu

folder=$(mkdir -p "$1" && cd "$1" && pwd)
program=$2
helper=/usr/lib/apt/apt-helper

[ -s "$folder/packages.jsonl" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1 || [ ! -x $helper ]; then
    echo "make demo reads Debian's package descriptions through apt, which is not here." >&2
    exit 1
fi

# One call of apt-get update takes one language, so each gets its own lists. Without
# the hooks of the system's configuration, and without the lists that nothing reads.
fetch() {
    language=$1
    lists=$folder/apt-$language
    mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
    cat >"$lists/apt.conf" <<EOF
#clear APT::Update;
#clear Acquire::Languages;
Acquire::Languages "$language";
Dir::State "$lists";
Dir::State::lists "$lists/lists";
Dir::Cache "$lists/cache";
Dir::Cache::archives "$lists/cache/archives";
Dir::Log "$lists";
APT::Sandbox::User "$(id -un)";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-hidpi::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";
EOF
    if ! apt-get -q -c "$lists/apt.conf" update >"$lists/log" 2>&1 ||
        ! ls "$lists"/lists/*_Translation-"$language"* >/dev/null 2>&1; then
        tail -n 5 "$lists/log" >&2
        echo "apt-get could not fetch the package descriptions ($language)." >&2
        exit 1
    fi
}

# The system's apt.conf.d may compress lists in any of several ways: cat-file undoes it.
unpack() {
    $helper cat-file "$folder/apt-$1/lists/"*_"$2"* >"$folder/$3"
}

echo "  FETCH package descriptions in English and Italian (26 MB, apt-get update into build/demo)"
fetch en
fetch it
unpack en Translation-en english
unpack it Translation-it italian
unpack en Packages sections
"$program" texts "$folder/english" "$folder/italian" "$folder/sections" "$folder/packages.jsonl"
rm -rf "$folder/english" "$folder/italian" "$folder/sections" "$folder/apt-en" "$folder/apt-it"
