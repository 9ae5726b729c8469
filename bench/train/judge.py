#!/usr/bin/env python3
"""Evaluates folders that sentence-transformers opens on what data.py wrote to FOLDER:
test.jsonl, and sts.jsonl where there is one. Prints a line of JSON for each model.

    judge.py FOLDER TOKENS MODEL..."""
import json
import os
import sys
import warnings

warnings.filterwarnings("ignore")

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from data import LANGUAGES, lines

THREADS = 2
AT_ONCE = 64  # texts
CUT = 10  # hits that count


def encode(model, texts):
    return model.encode(texts, batch_size=AT_ONCE, normalize_embeddings=True, show_progress_bar=False)


def nearest(scores):
    return np.argsort(-scores, axis=1, kind="stable")[:, :CUT]


def same_label(model, test):
    """Of each text, whether the nearest other one has its label, and how many of the ten nearest."""
    labels = np.array([t["label"] for t in test])
    vectors = encode(model, [t["text"] for t in test])
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -2)
    right = labels[nearest(scores)] == labels[:, None]
    return {"top1": float(right[:, 0].mean()), "of 10": float(right.mean())}


def answers(model, test):
    """The place of the first right answer: that of an equal question, or an equal answer."""
    answer_of = {t["answer"]: i for i, t in enumerate(test)}  # the last of equal ones
    right = {}
    for t in test:
        right.setdefault(t["question"], set()).add(answer_of[t["answer"]])
    questions, texts = list(right), list(answer_of)
    place = {answer_of[text]: i for i, text in enumerate(texts)}
    scores = encode(model, questions) @ encode(model, texts).T
    mrr = top1 = 0.0
    for row, question in zip(nearest(scores), questions):
        good = {place[i] for i in right[question]}
        hits = [n for n, found in enumerate(row) if found in good]
        mrr += 1 / (1 + hits[0]) if hits else 0
        top1 += bool(hits) and hits[0] == 0
    return {"top1": top1 / len(questions), "MRR@10": mrr / len(questions)}


def translations(model, test):
    """The share of captions whose nearest of the other language is their translation, both ways."""
    english = encode(model, [t["en"] for t in test])
    found, own = {}, np.arange(len(test))
    for language in LANGUAGES:
        scores = english @ encode(model, [t[language] for t in test]).T
        found[f"en-{language}"] = float((scores.argmax(axis=1) == own).mean())
        found[f"{language}-en"] = float((scores.argmax(axis=0) == own).mean())
    return found


def ranks(values):
    """From 0; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]


def similarity(model, rows):
    """The rank correlation of cosine and score, the mean of the files'."""
    found = []
    for name in sorted({r["set"] for r in rows}):
        own = [r for r in rows if r["set"] == name]
        a, b = (encode(model, [r[side] for r in own]) for side in "ab")
        cosines = (a * b).sum(axis=1)
        found.append(np.corrcoef(ranks(cosines), ranks([r["score"] for r in own]))[0, 1])
    return {"STS": float(np.mean(found))}


KINDS = {"label": same_label, "answer": answers, "en": translations}


def evaluate(path, folder, tokens):
    model = SentenceTransformer(path, device="cpu", local_files_only=True)
    model.max_seq_length = tokens
    model.eval()
    test = lines(f"{folder}/test.jsonl")
    kind = next(act for key, act in KINDS.items() if key in test[0])
    graded = f"{folder}/sts.jsonl"
    return {**kind(model, test), **(similarity(model, lines(graded)) if os.path.exists(graded) else {})}


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    torch.set_num_threads(THREADS)
    for model_path in sys.argv[3:]:
        print(json.dumps(evaluate(model_path, sys.argv[1], int(sys.argv[2]))), flush=True)
