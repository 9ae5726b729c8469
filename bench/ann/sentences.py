#!/usr/bin/env python3
"""Makes the sentences that bench-ann embeds from Debian's package descriptions.

    sentences.py FOLDER

Fetches apt's file of the English descriptions from the mirror (DEBIAN_MIRROR, or the
one that apt is configured with), cuts the descriptions into sentences, drops repeated
ones, shuffles the rest by a fixed seed, and writes FOLDER/sentences.jsonl, COUNT
lines of {"text": ...}. Without the file there is nothing to measure: it says so and
exits with 1."""

import hashlib
import json
import lzma
import os
import random
import re
import subprocess
import sys
import urllib.error
import urllib.request

COUNT = 202000  # 200,000 vectors and 2,000 queries
SEED = 20230610
FILE = "dists/bookworm/main/i18n/Translation-en.xz"
SHA256 = "a3d4a0bfd8e9242810b0885eda7c1a6e05dac15b333ddbaab03ba56f2dfa4bf0"
SHORTEST, LONGEST = 20, 600  # characters: no mere words, and no tables
MIRROR = "http://deb.debian.org/debian"
END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
BULLET = re.compile(r"^\s*(?:[-*+o•]|\d+[.)])\s+")
TIMEOUT_SECONDS = 120


def apt_setting(name):
    try:
        found = subprocess.run(["apt-config", "shell", "v", name], stdout=subprocess.PIPE, text=True, check=False)
    except OSError:
        return None
    match = re.match(r"v='(.*)'$", found.stdout.strip())
    return match.group(1) if match else None


def apt_mirror():
    """The first mirror of Debian itself that apt's lists of sources name."""
    try:
        command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
        found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return MIRROR
    for address in found.stdout.split():
        if address.startswith("http") and address.rstrip("/").endswith("/debian"):
            return address.rstrip("/")
    return MIRROR


def fetch(path):
    address = f"{os.environ.get('DEBIAN_MIRROR') or apt_mirror()}/{FILE}"
    proxy = apt_setting("Acquire::http::Proxy")
    handlers = [urllib.request.ProxyHandler({"http": proxy})] if proxy and proxy != "DIRECT" else []
    print(f"  FETCH {address} (6 MB)", flush=True)
    try:
        with urllib.request.build_opener(*handlers).open(address, timeout=TIMEOUT_SECONDS) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as problem:
        sys.exit(
            f"bench-ann: cannot fetch the package descriptions from {address}: {problem}. "
            "Name a Debian mirror that this machine reaches in DEBIAN_MIRROR."
        )
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        print(
            f"  FETCH the file is another than usual (SHA-256 {found[:16]}..., not {SHA256[:16]}...): "
            "figures differ a little"
        )
    with open(path + ".part", "wb") as f:
        f.write(content)
    os.replace(path + ".part", path)


def paragraphs(lines):
    """Texts without line breaks: a list's item is one of its own."""
    text = ""
    for line in lines:
        starts = line.startswith("  ") or BULLET.match(line)
        if line.strip() == "." or starts:
            yield text
            text = ""
        if line.strip() != ".":
            text += " " + BULLET.sub("", line).strip()
    yield text


def descriptions(path):
    """Each package's short description, then its long one's paragraphs."""
    lines = []
    with lzma.open(path, "rt", encoding="utf-8") as f:
        for line in f:
            if line.startswith("Description-en:"):
                yield line.partition(":")[2]
                lines = []
            elif line.startswith(" "):
                lines.append(line[1:].rstrip("\n"))
            elif lines:
                yield from paragraphs(lines)
                lines = []
    yield from paragraphs(lines)


def sentences(path):
    seen = set()
    for text in descriptions(path):
        for sentence in END.split(text):
            sentence = " ".join(sentence.split())
            key = sentence.lower().rstrip(".")
            letters = sum(c.isalpha() for c in sentence)
            if SHORTEST <= len(sentence) <= LONGEST and letters * 2 > len(sentence) and key not in seen:
                seen.add(key)
                yield sentence


def main():
    folder = sys.argv[1]
    source = f"{folder}/Translation-en.xz"
    if not os.path.exists(source):
        fetch(source)
    found = list(sentences(source))
    if len(found) < COUNT:
        sys.exit(f"bench-ann: {source} has only {len(found)} different sentences, {COUNT} are needed")
    random.Random(SEED).shuffle(found)
    with open(f"{folder}/sentences.jsonl.part", "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": sentence}) + "\n" for sentence in found[:COUNT])
    os.replace(f"{folder}/sentences.jsonl.part", f"{folder}/sentences.jsonl")
    print(f"  TEXTS {folder}/sentences.jsonl: {COUNT} of {len(found)} sentences")


if __name__ == "__main__":
    main()
