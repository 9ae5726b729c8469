#!/usr/bin/env python3
"""What each ingredient of a recipe does to the result: semtrain trains with it and without, over
several seeds, and measures all models on the same held-out set.

An experiment is one data set and some runs; its first run is the plain one. With the same seed
all runs of an experiment see the same pairs, so what a run gains over the plain one is taken seed by
seed: the mean of these differences, and its standard error. A run that has been made already is
not made again (--again makes all)."""
import argparse
import json
import math
import os
import shutil
import statistics

import data
import recipes
from children import say

JUDGED = 250  # questions of medquad, about
PACKAGES = (500, 2500, 8000)  # held out as queries, found beside them, trained on
FIGURES = {"retrieval": ("ndcg", "mrr"), "translation": ("accuracy", "forward", "backward")}
PARTS = ("train", "test_2016")  # of multi30k
SMALL_SET = 1000  # pairs of banking77 beside the larger sets


def labelled(o, folder, seed):
    """Pairs of banking77 in batches of different labels. Held out: its test texts, a third of
    them as queries that shall find the others of their label."""
    pairs, test = data.banking77(o.source, o.steps * o.batch, o.batch, 1 << 20, data.SEED + seed)
    data.write(f"{folder}/pairs.jsonl", pairs)
    queries, corpus = test[::3], [row for i, row in enumerate(test) if i % 3]
    for name, rows in (("queries", queries), ("corpus", corpus)):
        data.write(f"{folder}/{name}.jsonl", [{"id": f"{name}{i}", "text": r["text"]} for i, r in enumerate(rows)])
    with open(f"{folder}/qrels.tsv", "w", encoding="utf-8") as f:
        for i, query in enumerate(queries):
            right = (k for k, row in enumerate(corpus) if row["label"] == query["label"])
            f.writelines(f"queries{i}\tcorpus{k}\t1\n" for k in right)
    judged = {name: f"{folder}/{name}.jsonl" for name in ("queries", "corpus")}
    names = {"anchor": "query", "positive": "document"}
    return {
        "data pairs": {"file": f"{folder}/pairs.jsonl", **names, "window": o.batch},
        "eval labels": {"kind": "retrieval", **judged, "qrels": f"{folder}/qrels.tsv"},
    }


def medical(o, folder, seed):
    """Questions and answers of medquad without GARD, whose questions are held out."""
    del seed  # semtrain's order is the seed's
    train, held = data.medquad_split(o.source)
    data.write(f"{folder}/medquad.jsonl", train)
    data.write(f"{folder}/held.jsonl", data.some(held, JUDGED))
    names = {"anchor": "question", "positive": "answer"}
    return {
        "data medquad": {"file": f"{folder}/medquad.jsonl", **names},
        "eval medquad": {"kind": "retrieval", "file": f"{folder}/held.jsonl", **names},
    }


def captions(o, folder, seed):
    """English captions of multi30k and their German translations."""
    del folder, seed
    files = {part: [f"{o.source}/multi30k/{part}.{language}.txt" for language in ("en", "de")] for part in PARTS}
    return {
        "data captions": {"form": "parallel", "file": files["train"]},
        "eval captions": {"kind": "translation", "form": "parallel", "file": files["test_2016"]},
    }


def three_sets(o, folder, seed):
    """29,000 captions, 6,650 questions and answers, a thousand pairs of one label."""
    recipe = {**captions(o, folder, seed), **medical(o, folder, seed), **labelled(o, folder, seed)}
    pairs = data.banking77(o.source, SMALL_SET, o.batch, 1, data.SEED + seed)[0]
    data.write(f"{folder}/pairs.jsonl", pairs)
    return recipe


def described(o, folder, seed):
    """Italian summaries of packages and their English descriptions, which say in what section of the archive they are.
    Held-out summaries shall find their descriptions."""
    del seed
    train, held, corpus = data.packages_split(o.packages, *PACKAGES, data.SEED)
    data.write(f"{folder}/packages.jsonl", train)
    data.write(f"{folder}/queries.jsonl", [{"id": row["name"], "text": row["it"]} for row in held])
    data.write(f"{folder}/corpus.jsonl", [{"id": row["name"], "text": row["text"]} for row in corpus])
    with open(f"{folder}/qrels.tsv", "w", encoding="utf-8") as f:
        f.writelines(f"{row['name']}\t{row['name']}\t1\n" for row in held)
    judged = {name: f"{folder}/{name}.jsonl" for name in ("queries", "corpus")}
    return {
        "data packages": {"file": f"{folder}/packages.jsonl", "anchor": "it", "positive": "text"},
        "eval packages": {"kind": "retrieval", **judged, "qrels": f"{folder}/qrels.tsv"},
    }


def mined(**rules):
    """A hard negative for each pair, of the 100 best by words and the 100 nearest by the model. Without a
    rule only the pair's own query is known to be no negative."""
    keys = {"by": "both", "negatives": 1, "keep_same_text": True, "keep_same_label": True, **rules}
    return {"mine": keys, "data pairs": {"positive": "pos", "negative": "neg"}}


# Experiment: what makes its data and recipe, and its runs with what they change of it.
EXPERIMENTS = {
    "scale": (
        labelled,
        {
            "fixed at 20": {},
            "fixed at 14": {"train": {"scale": 14}},
            "scheduled, 1 to 23": {"train": {"scale_kind": "scheduled"}},
            "learned from 20": {"train": {"scale_kind": "learned"}},
        },
    ),
    "directions": (
        captions,
        {
            "plain": {},
            "symmetric": {"train": {"symmetric": True}},
            "margin 0.1": {"train": {"margin": 0.1}},
            "margin 0.3": {"train": {"margin": 0.3}},
        },
    ),
    "negatives": (
        labelled,
        {
            "of the batch only": {},
            "mined, no filter": mined(),
            "mined, guide": mined(keep_same_text=False, guide="MODEL"),
            "mined, labels": mined(keep_same_text=False, keep_same_label=False),
        },
    ),
    "domains": (
        described,
        {
            "none": {},
            "by section": {"data packages": {"domain": "section", "by_domain": True}},
            "20 by k-means": {"data packages": {"domains": 20, "by_domain": True}},
        },
    ),
    "sampling": (
        three_sets,
        {
            "proportional": {},
            "temperature 5": {"mix": {"sampling": "temperature", "temperature": 5}},
            "equal": {"mix": {"sampling": "equal"}},
        },
    ),
}


def base_recipe(o, seed):
    train = {"model": o.model, "threads": 2, "seed": seed, "max_steps": o.steps, "batch_size": o.batch}
    train.update(max_tokens=o.tokens, precision=o.precision, learning_rate=1e-4)
    return {"train": train}


def mine(o, recipe, folder):
    """Its negatives, if it asks for any: the recipe that trains with them."""
    keys = recipe.pop("mine", None)
    if keys is None:
        return recipe
    keys = {**keys, "output": folder, "seed": recipe["train"]["seed"]}
    if keys.get("guide") == "MODEL":
        keys["guide"] = o.model
    before = recipes.with_changes(recipe, {"mine": keys, "data pairs": {"positive": "document", "label": "label"}})
    del before["data pairs"]["negative"]
    found = recipes.run(o.build, "mine", before, f"{folder}/mine.recipe", o.wrap)[0]
    say(f"  mined {found['drawn']} of {found['candidates']} candidates; {found['without']} pairs without")
    return recipes.with_changes(recipe, {"data pairs": {"file": f"{folder}/pairs.jsonl"}})


def figures_of(o, recipe, path):
    """Of the recipe's model: {figure: value}; of several sets the first figure of each, and their mean."""
    judged = {name: keys for name, keys in recipe.items() if name == "train" or name.startswith("eval ")}
    results = recipes.run(o.build, "eval", judged, path, o.wrap)
    if len(results) == 1:
        return {figure: results[0][figure] for figure in FIGURES[results[0]["kind"]]}
    found = {f"{r['set']} {FIGURES[r['kind']][0]}": r[FIGURES[r["kind"]][0]] for r in results}
    return {"mean": statistics.mean(found.values()), **found}


def train(o, recipe, folder):
    """Trains and measures; the model itself is removed."""
    os.makedirs(folder, exist_ok=True)
    path, out = f"{folder}/figures.json", f"{folder}/model"
    if not o.again and recipes.is_done(recipe, path):
        with open(path, encoding="utf-8") as f:
            return json.load(f)["figures"]
    shutil.rmtree(out, ignore_errors=True)
    trained = mine(o, recipes.with_changes(recipe, {}), folder)
    trained["train"]["output"] = out
    judged = {name: trained.pop(name) for name in list(trained) if name.startswith("eval ")}
    recipes.run(o.build, "train", trained, f"{folder}/train.recipe", o.wrap)
    found = figures_of(o, {"train": {**base_recipe(o, 0)["train"], "model": out}, **judged}, f"{folder}/eval.recipe")
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"recipe": recipes.text_of(recipe), "figures": found}, f)
    shutil.rmtree(out)
    return found


def run(o, name):
    """{run: [figures of a seed]}, and those before training."""
    prepare, runs = EXPERIMENTS[name]
    found, before = {run: [] for run in runs}, None
    for seed in range(1, o.seeds + 1):
        folder = f"{o.work}/{name}/{seed}"
        os.makedirs(folder, exist_ok=True)
        recipe = {**base_recipe(o, seed), **prepare(o, folder, seed)}
        before = before or figures_of(o, recipe, f"{folder}/before.recipe")
        for number, (run_name, changes) in enumerate(runs.items()):
            found[run_name].append(train(o, recipes.with_changes(recipe, changes), f"{folder}/{number}"))
            shown = "  ".join(f"{figure} {value:.4f}" for figure, value in found[run_name][-1].items())
            say(f"{name}, {run_name}, seed {seed}: {shown}")
    return before, found


def gain(plain, values):
    """The mean of what each seed gains, ± its standard error."""
    differences = [b - a for a, b in zip(plain, values)]
    text = f"{statistics.mean(differences):+.4f}"
    if len(differences) > 1:
        text += f" ±{statistics.stdev(differences) / math.sqrt(len(differences)):.4f}"
    return text


def table(name, before, found):
    runs = list(found)
    print(f"\n{name}{'':{24 - len(name)}}" + "".join(f"{figure:28}" for figure in before))
    print(f"{'before training':24}" + "".join(f"{value:<28.4f}" for value in before.values()))
    for run_name in runs:
        text = f"{run_name:24}"
        for figure in before:
            values = [f[figure] for f in found[run_name]]
            against = "" if run_name == runs[0] else gain([f[figure] for f in found[runs[0]]], values)
            text += f"{statistics.mean(values):.4f}  {against:20}"
        print(text.rstrip())


def report(o, results):
    seeds = f"{o.seeds} seed" + ("s" if o.seeds > 1 else "")
    print(f"\n{seeds}, {o.steps} steps of {o.batch} pairs, {o.tokens} tokens; means, and what a run gains over")
    print("its experiment's first one: mean of the seeds' differences ±standard error")
    for name, (before, found) in results.items():
        table(name, before, found)
    with open(o.json, "w", encoding="utf-8") as f:
        json.dump({"options": vars(o), "results": results}, f, indent=1)
    print(f"\nAll figures are in {o.json}.")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--build", default="build", help="folder of semtrain")
    p.add_argument("--model", required=True, help="folder of the base model")
    p.add_argument("--source", default="../shared/data", help="folder of the data sets")
    p.add_argument("--packages", default="build/demo/packages.jsonl", help="packages' summaries and descriptions")
    p.add_argument("--work", default="build/bench-ingredients", help="folder for data, recipes and results")
    p.add_argument("--json", default="build/bench-ingredients.json", help="where all figures go")
    p.add_argument("--only", default=",".join(EXPERIMENTS), help="some of the experiments")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--steps", type=int, default=40)
    p.add_argument("--batch", type=int, default=64, help="pairs")
    p.add_argument("--tokens", type=int, default=64, help="tokens of a text in training")
    p.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    p.add_argument("--wrap", default="", help="command that each process is given to")
    p.add_argument("--again", action="store_true", help="make runs that have been made, too")
    o = p.parse_args()
    o.only = o.only.split(",")
    if o.seeds < 1 or o.steps < 1 or o.batch < 2 or not set(o.only) <= set(EXPERIMENTS):
        p.error(f"--seeds, --steps: at least 1, --batch 2; --only: some of {','.join(EXPERIMENTS)}")
    return o


if __name__ == "__main__":
    made = options()
    if not os.path.exists(f"{made.source}/banking77/train.jsonl"):
        print(f"skipped: bench-ingredients needs the data sets in {made.source}")
    else:
        report(made, {name: run(made, name) for name in made.only})
