#!/usr/bin/env python3
"""Compares semd's trainer with sentence-transformers: the same pairs in the same order and
batches, the same number of steps and settings, each side in a process of its own.

The median of all steps but the first counts, tokenization included. With several rounds the sides
train in turn, so that a machine that others share is as quick for the one as for the other; the
steps of all rounds count. Both models are evaluated with sentence-transformers afterwards. run.sh
installs what this needs."""
import argparse
import json
import os
import shutil
import statistics
import sys

import data
from children import lines_of, python_environment, say

HERE = os.path.dirname(os.path.abspath(__file__))
MODES = ["float32", "bfloat16", "float32-gradcache", "bfloat16-gradcache"]
SETTINGS = {"rate": 5e-5, "decay": 0.01, "warmup": 0.1, "clip": 1.0, "scale": 20.0, "seed": 1}
PAIRS = ["banking77", "medquad"]
SIDES = ["semd", "sentence-transformers"]


class Bench:
    def __init__(self, options):
        self.o = options
        self.results, self.figures = [], {}
        self.environment = python_environment()

    def train_ours(self, folder, out, mode, tokens):
        precision = mode.partition("-")[0]
        numbers = {"threads": 2, "order": 1, "batch": self.o.batch, "tokens": tokens, "dropout": -1}
        numbers["tape"] = self.o.tape
        numbers.update({k: SETTINGS[k] for k in ("rate", "scale", "seed", "clip", "decay", "warmup")})
        options = [f"{name}={value}" for name, value in numbers.items()] + [f"precision={precision}"]
        command = [f"{self.o.build}/bench_train", *options, self.o.model, f"{folder}/pairs.jsonl", out]
        return lines_of(command, f"{out}.log", self.o.wrap)[-1]

    def train_theirs(self, folder, out, mode, tokens):
        precision, _, cached = mode.partition("-")
        options = {**SETTINGS, "batch": self.o.batch, "tokens": tokens}
        options.update(precision=precision, gradcache=bool(cached))
        command = [sys.executable, f"{HERE}/peer.py", self.o.model, f"{folder}/pairs.jsonl", out, json.dumps(options)]
        return lines_of(command, f"{out}.log", self.o.wrap, self.environment)[-1]

    def evaluate(self, folder, model, log):
        command = [sys.executable, f"{HERE}/judge.py", folder, str(self.tokens), model]
        return lines_of(command, log, self.o.wrap, self.environment)[-1]

    def train(self, name, folder, side, mode):
        """One round: {"step_seconds": [], "peak_mb", "losses": []}, the first step left away."""
        out = f"{folder}/{side}-{mode}-{self.o.batch}"
        shutil.rmtree(out, ignore_errors=True)
        act = self.train_ours if side == SIDES[0] else self.train_theirs
        found = act(folder, out, mode, self.tokens)
        found["step_seconds"] = found["step_seconds"][1:]
        if not self.o.no_evaluation:
            found["evaluation"] = self.evaluate(folder, out, f"{out}.evaluation.log")
        say(f"{name} {side} {mode}: {self.o.batch / statistics.median(found['step_seconds']):.1f} pairs/s")
        return found

    def take(self, name, side, mode, rounds):
        """What all rounds found; losses and figures are the last one's."""
        steps = [seconds for found in rounds for seconds in found["step_seconds"]]
        result = {"data": name, "side": side, "mode": mode, "batch": self.o.batch, **rounds[-1]}
        result.update(step_seconds=steps, pairs_per_s=self.o.batch / statistics.median(steps))
        result["peak_mb"] = max(found["peak_mb"] for found in rounds)
        self.results.append(result)

    def run(self):
        for name in self.o.data:
            self.tokens = data.TOKENS[name]
            folder = f"{self.o.work}/{name}"
            data.make(name, self.o.source, folder, self.o.steps * self.o.batch, self.o.batch, self.o.tests)
            if not self.o.no_evaluation:
                self.figures[name] = self.evaluate(folder, self.o.model, f"{folder}/before.log")
            for mode in self.o.modes:
                found = {side: [] for side in self.o.sides}
                for _ in range(self.o.rounds):
                    for side in self.o.sides:
                        found[side].append(self.train(name, folder, side, mode))
                for side in self.o.sides:
                    self.take(name, side, mode, found[side])


def shown(figures):
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())


def line(r):
    text = f"{r['data']:10}{r['side']:22}{r['mode']:20}{r['batch']:6}{r['pairs_per_s']:9.1f}{r['peak_mb']:9.0f}"
    return text + f"{r['losses'][0]:9.4f}{r['losses'][-1]:9.4f}  {shown(r.get('evaluation', {}))}"


HEADER = f"{'data':10}{'':22}{'mode':20}{'batch':>6}{'pairs/s':>9}{'peak MB':>9}{'loss':>9}{'last':>9}"


def ratio_lines(results, name):
    """Each of ours to the fastest of theirs, and to their fastest float32 where it is float32."""
    ours, theirs = ([r for r in results if r["data"] == name and r["side"] == side] for side in SIDES)
    found = []
    for r in ours if theirs else []:
        best = max(theirs, key=lambda t: t["pairs_per_s"])
        text = f"{name} {r['mode']}: {r['pairs_per_s'] / best['pairs_per_s']:.2f} times their fastest ({best['mode']})"
        floats = [t for t in theirs if t["mode"].startswith("float32")]
        if r["mode"].startswith("float32") and floats:
            text += f", {r['pairs_per_s'] / max(t['pairs_per_s'] for t in floats):.2f} times their float32"
        same = next((t for t in theirs if t["mode"] == r["mode"]), best)
        found.append(f"{text}; memory {r['peak_mb'] / same['peak_mb']:.2f} of theirs in {same['mode']}")
    return found


def report(bench):
    print("\n" + HEADER)
    for name in bench.o.data:
        if name in bench.figures:
            print(f"{name:10}{'before':93}  {shown(bench.figures[name])}")
        for r in bench.results:
            if r["data"] == name:
                print(line(r))
    print()
    for name in bench.o.data:
        print("\n".join(ratio_lines(bench.results, name)))
    with open(bench.o.json, "w", encoding="utf-8") as f:
        json.dump({"settings": SETTINGS, "before": bench.figures, "results": bench.results}, f, indent=1)
    print(f"\nAll figures are in {bench.o.json}.")


def some_of(choices):
    def parse(text):
        for name in text.split(","):
            if name not in choices:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(choices)}")
        return text.split(",")

    return parse


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--build", default="build", help="folder of bench_train")
    p.add_argument("--model", required=True, help="folder of the base model")
    p.add_argument("--source", default="../shared/data", help="folder of the data sets")
    p.add_argument("--work", default="build/bench-train", help="folder for pairs, models and logs")
    p.add_argument("--json", default="build/bench-train.json", help="where all figures go")
    p.add_argument("--data", type=some_of(PAIRS), default=PAIRS, help="some of them, with commas")
    p.add_argument("--modes", type=some_of(MODES), default=MODES[:2], help=f"of {', '.join(MODES)}")
    p.add_argument("--sides", type=some_of(SIDES), default=SIDES)
    p.add_argument("--steps", type=int, default=6, help="at least 2")
    p.add_argument("--rounds", type=int, default=1, help="of both sides in turn")
    p.add_argument("--batch", type=int, default=64, help="pairs")
    p.add_argument("--tape", type=int, default=512, help="MiB of activations that our side keeps")
    p.add_argument("--tests", type=int, default=1000, help="texts or questions that are evaluated, about")
    p.add_argument("--no-evaluation", action="store_true")
    p.add_argument("--wrap", default="", help="command that each measured process is given to")
    o = p.parse_args()
    if o.steps < 2 or o.batch < 2 or o.rounds < 1:
        p.error("--steps and --batch must be at least 2, --rounds 1")
    return o


if __name__ == "__main__":
    made = Bench(options())
    made.run()
    report(made)
