#!/usr/bin/env python3
"""Prints what run.sh measured, and fails when semd gains too little or is slower."""
import json
import sys

GAIN_MIN = 0.14


def read(folder, name):
    with open(f"{folder}/{name}", encoding="utf-8") as f:
        return json.loads(f.read().strip().splitlines()[-1])


def main(folder):
    before = read(folder, "before.figures")
    sides = {"semd": "ours", "sentence-transformers": "theirs"}
    figures = {name: read(folder, file + ".figures") for name, file in sides.items()}
    seconds = {name: read(folder, file + ".json")["seconds"] for name, file in sides.items()}
    print(f"\n{'':24}{'Italian MRR@10':>16}{'gain':>8}{'English MRR@10':>17}{'gain':>8}{'training':>12}")
    print(f"{'before':24}{before['italian']['mrr']:16.3f}{'':8}{before['english']['mrr']:17.3f}")
    for name, f in figures.items():
        cells = "".join(
            f"{f[k]['mrr']:{w}.3f}{f[k]['mrr'] - before[k]['mrr']:+8.3f}" for k, w in (("italian", 16), ("english", 17))
        )
        print(f"{name:24}{cells}{seconds[name]:10.1f} s")
    gain = figures["semd"]["italian"]["mrr"] - before["italian"]["mrr"]
    ratio = seconds["semd"] / seconds["sentence-transformers"]
    print(f"\nsemd's training takes {ratio:.2f} times as long; its gain is {gain:+.3f} (at least {GAIN_MIN} is needed)")
    if gain < GAIN_MIN:
        sys.exit("bench-demo: the gain is too small")
    if ratio > 1.0:
        sys.exit("bench-demo: training is slower than the reference")


main(sys.argv[1])
