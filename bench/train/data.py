"""The pairs that are trained on, batch after batch, and what models are evaluated on."""

import json
import os
import random

# Tokens of a text, special ones included: banking77's longest has 98, multi30k's about 60.
TOKENS = {"banking77": 128, "medquad": 128, "multi30k": 64}
STS = ("2012", "2013", "sick_test")
LANGUAGES = ("de", "fr")
SEED = 7


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def captions(folder, part, language):
    with open(f"{folder}/multi30k/{part}.{language}.txt", encoding="utf-8") as f:
        return f.read().splitlines()


def write(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


def some(rows, count):
    """About so many of them, evenly spaced."""
    return rows[:: max(1, len(rows) // count)]


def banking77(folder, pairs, batch, tests, seed):
    """Two texts of one label: all labels in turn, so that a batch of up to 77 has each at most once."""
    r = random.Random(seed)
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
            found.append({"query": query, "document": document, "label": label})
    return found[:pairs], some(lines(f"{folder}/banking77/test.jsonl"), tests)


def medquad_split(folder):
    """Rows of other sources than GARD, of focuses that GARD does not have; and GARD's."""
    rows = lines(f"{folder}/medquad/pairs.jsonl")
    held = [row for row in rows if row["source"] == "GARD"]
    focuses = {row["focus"].lower() for row in held}
    return [row for row in rows if row["source"] != "GARD" and row["focus"].lower() not in focuses], held


def medquad(folder, pairs, batch, tests, seed):
    """Question and answer. No text comes twice in a batch."""
    r = random.Random(seed)
    train, held = medquad_split(folder)
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
    return found, [{k: row[k] for k in keys} for row in some(held, tests)]


def packages_split(path, queries, others, pairs, seed):
    """Packages that have Italian summaries: some as queries, some as what is found beside them, and some to train on,
    no text of which is among the others."""
    rows = [row for row in lines(path) if row.get("it")]
    random.Random(seed).shuffle(rows)
    held, corpus = rows[:queries], rows[: queries + others]
    texts = {row["text"] for row in corpus} | {row["it"] for row in held}
    train = [row for row in rows[len(corpus) :] if texts.isdisjoint((row["text"], row["it"]))]
    return train[:pairs], held, corpus


def multi30k(folder, pairs, batch, tests, seed):
    """An English caption and its translation into one of the other languages, in random order."""
    del batch  # equal captions may share one: a teacher's vectors have no negatives
    r = random.Random(seed)
    english = captions(folder, "train", "en")
    everything = [pair for language in LANGUAGES for pair in zip(english, captions(folder, "train", language))]
    found = []
    while len(found) < pairs:
        r.shuffle(everything)
        found += [{"query": source, "document": target} for source, target in everything]
    test = zip(*(captions(folder, "test_2016", language) for language in ("en", *LANGUAGES)))
    return found[:pairs], [dict(zip(("en", *LANGUAGES), row)) for row in some(list(test), tests)]


def sts(folder, pairs):
    """About so many graded pairs of each file."""
    return [
        {"a": row["a"], "b": row["b"], "score": row["score"], "set": name}
        for name in STS
        for row in some(lines(f"{folder}/sts/{name}.jsonl"), pairs)
    ]


MAKERS = {"banking77": banking77, "medquad": medquad, "multi30k": multi30k}


def make(name, source, folder, pairs, batch, tests, seed=SEED):
    os.makedirs(folder, exist_ok=True)
    found, test = MAKERS[name](source, pairs, batch, tests, seed)
    write(f"{folder}/pairs.jsonl", found)
    write(f"{folder}/test.jsonl", test)
