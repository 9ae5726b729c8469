#!/usr/bin/env python3
"""Trains with sentence-transformers, and evaluates any folder that it opens.

    peer.py train MODEL PAIRS.jsonl OUT '{"batch": 64, "tokens": 128, ...}'
    peer.py evaluate MODEL FOLDER TOKENS

train takes the pairs in their order and ends with a line of JSON: the seconds of each
step, its loss, and the largest size that the process ever had. evaluate prints the
figures of what data.py wrote."""
import json
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from data import lines

THREADS = 2
MINI_BATCH = 32  # texts of a GradCache piece
EVALUATED_AT_ONCE = 64


def load(path, tokens):
    model = SentenceTransformer(path, device="cpu", local_files_only=True)
    model.max_seq_length = tokens
    return model


def peak_mb():
    with open("/proc/self/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024


def optimiser_of(model, rate, decay):
    """AdamW in one pass over each tensor, as the Trainer of transformers takes it."""
    plain = [p for n, p in model.named_parameters() if "LayerNorm" in n or "bias" in n]
    decayed = [p for n, p in model.named_parameters() if "LayerNorm" not in n and "bias" not in n]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def loss_of(model, o):
    if o["gradcache"]:
        return losses.CachedMultipleNegativesRankingLoss(model, scale=o["scale"], mini_batch_size=MINI_BATCH)
    return losses.MultipleNegativesRankingLoss(model, scale=o["scale"])


def train(path, pairs_path, out, options):
    o = json.loads(options)
    torch.manual_seed(o["seed"])
    model = load(path, o["tokens"])
    pairs = [(p["query"], p["document"]) for p in lines(pairs_path)]
    steps = len(pairs) // o["batch"]
    loss, optimiser = loss_of(model, o), optimiser_of(model, o["rate"], o["decay"])
    warm = max(1, round(o["warmup"] * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: (s + 1) / warm if s < warm else (steps - s) / max(1, steps - warm)
    )
    model.train()
    seconds, found = [], []
    for step in range(steps):
        start = time.perf_counter()
        batch = pairs[step * o["batch"] : (step + 1) * o["batch"]]
        features = [model.preprocess([p[side] for p in batch]) for side in (0, 1)]
        with torch.autocast("cpu", torch.bfloat16, enabled=o["precision"] == "bfloat16"):
            value = loss(features, None)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), o["clip"])
        optimiser.step()
        schedule.step()
        found.append(value.item())
        seconds.append(time.perf_counter() - start)
    peak = peak_mb()
    model.eval()
    model.save(out, create_model_card=False)
    print(json.dumps({"step_seconds": seconds, "losses": found, "peak_mb": peak}))


def encode(model, texts):
    return model.encode(texts, batch_size=EVALUATED_AT_ONCE, normalize_embeddings=True, show_progress_bar=False)


def same_label(model, folder):
    """Of each text, whether the nearest other one has its label, and how many of the ten nearest."""
    test = lines(f"{folder}/test.jsonl")
    labels = np.array([t["label"] for t in test])
    vectors = encode(model, [t["text"] for t in test])
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -2)
    right = labels[np.argsort(-scores, axis=1, kind="stable")[:, :10]] == labels[:, None]
    return {"top1": float(right[:, 0].mean()), "of 10": float(right.mean())}


def answers(model, folder):
    """The place of the first right answer: that of an equal question, or an equal answer."""
    test = lines(f"{folder}/test.jsonl")
    answer_of = {t["answer"]: i for i, t in enumerate(test)}  # the last of equal ones
    right = {}
    for t in test:
        right.setdefault(t["question"], set()).add(answer_of[t["answer"]])
    questions, texts = list(right), list(answer_of)
    place = {answer_of[text]: i for i, text in enumerate(texts)}
    scores = encode(model, questions) @ encode(model, texts).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    mrr = top1 = 0.0
    for row, question in zip(order, questions):
        good = {place[i] for i in right[question]}
        hits = [n for n, found in enumerate(row) if found in good]
        mrr += 1 / (1 + hits[0]) if hits else 0
        top1 += bool(hits) and hits[0] == 0
    return {"top1": top1 / len(questions), "MRR@10": mrr / len(questions)}


def evaluate(path, folder, tokens):
    model = load(path, int(tokens))
    model.eval()
    kind = answers if "answer" in lines(f"{folder}/test.jsonl")[0] else same_label
    print(json.dumps(kind(model, folder)))


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    if sys.argv[1:2] == ["train"] and len(sys.argv) == 6:
        train(*sys.argv[2:])
    elif sys.argv[1:2] == ["evaluate"] and len(sys.argv) == 5:
        evaluate(*sys.argv[2:])
    else:
        sys.exit(__doc__)
