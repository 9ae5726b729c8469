"""The pairs that both sides train on, batch after batch, and what they are evaluated on."""

import json
import os
import random

# Tokens of a text, special ones included: banking77's longest has 98.
TOKENS = {"banking77": 128, "medquad": 128}
SEED = 7


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def write(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


def banking77(folder, pairs, batch, tests):
    """Two texts of one label: all labels in turn, so that a batch of up to 77 has each at most once."""
    r = random.Random(SEED)
    texts = {}
    for row in lines(f"{folder}/banking77/train.jsonl"):
        texts.setdefault(row["label"], []).append(row["text"])
    labels, found = sorted(texts), []
    while len(found) < pairs:
        used, chosen = set(), []
        while len(chosen) < batch:
            chosen += r.sample(labels, min(len(labels), batch - len(chosen)))
        for label in chosen:
            query, document = r.sample([t for t in texts[label] if t not in used], 2)
            used |= {query, document}
            found.append({"query": query, "document": document})
    test = lines(f"{folder}/banking77/test.jsonl")
    return found[:pairs], test[:: max(1, len(test) // tests)]


def medquad(folder, pairs, batch, tests):
    """Question and answer from other sources than GARD, of focuses that GARD does not have.
    No text comes twice in a batch."""
    r = random.Random(SEED)
    rows = lines(f"{folder}/medquad/pairs.jsonl")
    held = [row for row in rows if row["source"] == "GARD"]
    focuses = {row["focus"].lower() for row in held}
    train = [row for row in rows if row["source"] != "GARD" and row["focus"].lower() not in focuses]
    found, used, waiting = [], set(), []
    while len(found) < pairs:
        if len(found) % batch == 0:
            used = set()
        fitting = next((row for row in waiting if used.isdisjoint((row["question"], row["answer"]))), None)
        if fitting is None:
            r.shuffle(train)
            waiting += train
            continue
        waiting.remove(fitting)
        used |= {fitting["question"], fitting["answer"]}
        found.append({"query": fitting["question"], "document": fitting["answer"]})
    keys = ("question", "answer")
    return found, [{k: row[k] for k in keys} for row in held[:: max(1, len(held) // tests)]]


MAKERS = {"banking77": banking77, "medquad": medquad}


def make(name, source, folder, pairs, batch, tests):
    os.makedirs(folder, exist_ok=True)
    found, test = MAKERS[name](source, pairs, batch, tests)
    write(f"{folder}/pairs.jsonl", found)
    write(f"{folder}/test.jsonl", test)
