#!/usr/bin/env python3
"""Compares what semtrain's models are worth with sentence-transformers' over several seeds: the
same pairs in the same batches and order, the same number of steps and settings, each side in a
process of its own.

A seed draws the pairs, their order and each side's dropout. All models are evaluated with
sentence-transformers: on the task, and on graded similarity (STS), which none was trained for. Two
means are equal here where they differ by no more than two standard errors of their difference,
which come from both sides' spread over the seeds. A run that was cut off goes on after the
last model that was finished. run.sh installs what this needs."""
import argparse
import json
import math
import os
import shutil
import statistics
import sys

import data
import recipes
from children import lines_of, python_environment, say

HERE = os.path.dirname(os.path.abspath(__file__))
SETTINGS = {"decay": 0.01, "warmup": 0.1, "clip": 1.0, "scale": 20.0}
RANKING = {"rate": 1e-4, "dropout": True, "distil": False}
DISTANCE = {"rate": 5e-4, "dropout": False, "distil": True}
TASKS = {
    "banking77": {**RANKING, "tokens": 128, "steps": 40},
    "medquad": {**RANKING, "tokens": 64, "steps": 40},
    "multi30k": {**DISTANCE, "tokens": 64, "steps": 60},
}
SIDES = ["semd", "sentence-transformers"]
ERRORS = 2  # standard errors of a difference that are still equal


def recipe_of(o, task, pairs, out, seed):
    """For semtrain. A window of one batch keeps the batches as they stand in the file."""
    train = {"model": o.model, "output": out, "threads": 2, "precision": o.precision, "batch_size": o.batch}
    train.update(learning_rate=task["rate"], weight_decay=SETTINGS["decay"], warmup_ratio=SETTINGS["warmup"])
    train.update(clip_norm=SETTINGS["clip"], scale=SETTINGS["scale"], max_tokens=task["tokens"], seed=seed)
    train["dropout"] = -1 if task["dropout"] else 0
    if task["distil"]:
        del train["scale"]
        train["teacher"] = o.model
    return {"train": train, "data pairs": {"file": pairs, "anchor": "query", "positive": "document", "window": o.batch}}


def options_of(o, task, seed):
    """For peer.py."""
    found = {**SETTINGS, "batch": o.batch, "precision": o.precision, "seed": seed, "gradcache": False}
    found.update({key: task[key] for key in ("rate", "dropout", "tokens")})
    if task["distil"]:
        found["teacher"] = o.model
    return found


class Quality:
    def __init__(self, o):
        self.o = o
        self.environment = python_environment()
        self.figures = {}  # task: {"before": figures, side: [figures of a seed]}

    def train_ours(self, task, folder, out, seed):
        recipe = recipe_of(self.o, task, f"{folder}/pairs.jsonl", out, seed)
        command = "distill" if task["distil"] else "train"
        found = recipes.run(self.o.build, command, recipe, f"{out}.recipe", self.o.wrap)[0]
        return found["first_loss"], found["last_loss"]

    def train_theirs(self, task, folder, out, seed):
        command = [sys.executable, f"{HERE}/peer.py", self.o.model, f"{folder}/pairs.jsonl", out]
        command.append(json.dumps(options_of(self.o, task, seed)))
        found = lines_of(command, f"{out}.log", self.o.wrap, self.environment)[-1]["losses"]
        tenth = max(1, len(found) // 10)  # as semtrain tells them
        return statistics.mean(found[:tenth]), statistics.mean(found[-tenth:])

    def train(self, name, side, seed):
        """A model, if it has not been made with the same settings already: its folder."""
        task, folder = TASKS[name], f"{self.o.work}/{name}/{seed}"
        out, mark = f"{folder}/{side}", f"{folder}/{side}.done"
        made = json.dumps([options_of(self.o, task, seed), self.steps(name), self.o.model])
        if os.path.exists(mark):
            with open(mark, encoding="utf-8") as f:
                if f.read() == made:
                    return out
        shutil.rmtree(out, ignore_errors=True)
        first, last = (self.train_ours if side == SIDES[0] else self.train_theirs)(task, folder, out, seed)
        say(f"{name:10}{side:22} seed {seed}: loss {first:.6f}, at last {last:.6f}")
        with open(mark, "w", encoding="utf-8") as f:
            f.write(made)
        return out

    def steps(self, name):
        return self.o.steps or TASKS[name]["steps"]

    def evaluate(self, name, models):
        folder = f"{self.o.work}/{name}"
        data.write(f"{folder}/sts.jsonl", data.sts(self.o.source, self.o.graded))
        shutil.copy(f"{folder}/{self.o.seeds[0]}/test.jsonl", f"{folder}/test.jsonl")
        command = [sys.executable, f"{HERE}/judge.py", folder, str(TASKS[name]["tokens"]), *models]
        return lines_of(command, f"{folder}/judge.log", self.o.wrap, self.environment)

    def run_task(self, name):
        pairs, models = self.steps(name) * self.o.batch, []
        for seed in self.o.seeds:
            data.make(
                name, self.o.source, f"{self.o.work}/{name}/{seed}", pairs, self.o.batch, self.o.tests, data.SEED + seed
            )
        for side in reversed(SIDES):
            models += [self.train(name, side, seed) for seed in self.o.seeds]
        found = self.evaluate(name, [self.o.model, *models])
        n = len(self.o.seeds)
        self.figures[name] = {"before": found[0], SIDES[1]: found[1 : n + 1], SIDES[0]: found[n + 1 :]}


def compare(ours, theirs):
    """(difference of the means, how far it may be from 0)"""
    error = math.sqrt((statistics.variance(ours) + statistics.variance(theirs)) / len(ours))
    return statistics.mean(ours) - statistics.mean(theirs), ERRORS * error


HEADER = f"{'data':11}{'figure':8}{'before':>8}  {SIDES[0]:16}{SIDES[1]:38}{'difference':>12}{'limit':>8}"


def line(name, figure, found):
    ours, theirs = ([f[figure] for f in found[side]] for side in SIDES)
    difference, limit = compare(ours, theirs)
    spread = [f"{statistics.mean(v):.4f} ±{statistics.stdev(v):.4f}" for v in (ours, theirs)]
    text = f"{name:11}{figure:8}{found['before'][figure]:8.4f}  {spread[0]:16}{spread[1]:16}"
    text += f"({min(theirs):.4f} to {max(theirs):.4f})    {difference:+12.4f}{limit:8.4f}  "
    return text + ("equal" if abs(difference) <= limit else "better" if difference > 0 else "worse")


def report(quality):
    o = quality.o
    print(f"\n{o.precision}, {len(o.seeds)} seeds, {o.batch} pairs a step; mean ±standard deviation (least to most)")
    print(HEADER)
    for name, found in quality.figures.items():
        print("\n".join(line(name, figure, found) for figure in found["before"]))
    with open(o.json, "w", encoding="utf-8") as f:
        json.dump({"settings": {**SETTINGS, "tasks": TASKS, **vars(o)}, "figures": quality.figures}, f, indent=1)
    print(f"\nAll figures are in {o.json}.")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--build", default="build", help="folder of semtrain")
    p.add_argument("--model", required=True, help="folder of the base model")
    p.add_argument("--source", default="../shared/data", help="folder of the data sets")
    p.add_argument("--work", default="build/bench-quality", help="folder for pairs, models and logs")
    p.add_argument("--json", default="build/bench-quality.json", help="where all figures go")
    p.add_argument("--data", default=",".join(TASKS), help="some of them")
    p.add_argument("--seeds", type=int, default=3, help="at least 2")
    p.add_argument("--steps", type=int, default=0, help="of every task; 0: each task's own")
    p.add_argument("--batch", type=int, default=64, help="pairs")
    p.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of both sides")
    p.add_argument("--tests", type=int, default=1000, help="texts or questions that are evaluated, about")
    p.add_argument("--graded", type=int, default=500, help="pairs of each STS file that are evaluated, about")
    p.add_argument("--wrap", default="", help="command that each process is given to")
    o = p.parse_args()
    o.data = o.data.split(",")
    if o.seeds < 2 or o.batch < 2 or not set(o.data) <= set(TASKS):
        p.error(f"--seeds and --batch must be at least 2, and --data some of {','.join(TASKS)}")
    o.seeds = list(range(1, o.seeds + 1))
    return o


if __name__ == "__main__":
    made = Quality(options())
    for task_name in made.o.data:
        made.run_task(task_name)
    report(made)
