#!/usr/bin/env python3
"""Trains with sentence-transformers what the demonstration trains, and evaluates
any sentence-transformers directory on its held-out queries.

    reference.py train MODEL TRAIN.jsonl OUT     prints {"seconds", "steps", "loss"}
    reference.py evaluate MODEL FOLDER           prints {"italian": {...}, "english": {...}}

Settings: MultipleNegativesRankingLoss with scale 20, batches of 64, at most 64
tokens, AdamW at 1e-4 with 10% warm-up and linear decay, gradients clipped at 1,
the model's own dropout, one epoch, two threads.
"""
import json
import random
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import torch
from sentence_transformers import SentenceTransformer

try:
    from sentence_transformers.losses import MultipleNegativesRankingLoss
except ImportError:  # moved in later versions
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

THREADS = 2
MAX_TOKENS = 64
BATCH = 64
RATE = 1e-4
WARMUP = 0.1
SCALE = 20.0
CLIP = 1.0
SEED = 42


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def load(path):
    model = SentenceTransformer(path, device="cpu")
    model.max_seq_length = MAX_TOKENS
    return model


def tokenize(model, texts):
    return model.preprocess(texts) if hasattr(model, "preprocess") else model.tokenize(texts)


def train(path, pairs_path, out):
    torch.manual_seed(SEED)
    random.seed(SEED)
    model = load(path)
    pairs = [(p["query"], p["document"]) for p in lines(pairs_path)]
    random.shuffle(pairs)
    steps = len(pairs) // BATCH
    loss_of = MultipleNegativesRankingLoss(model, scale=SCALE)
    decayed = [p for n, p in model.named_parameters() if "LayerNorm" not in n and "bias" not in n]
    others = [p for n, p in model.named_parameters() if "LayerNorm" in n or "bias" in n]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=RATE)
    warm = max(1, round(WARMUP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: (s + 1) / warm if s < warm else (steps - s) / max(1, steps - warm)
    )
    model.train()
    losses = []
    start = time.monotonic()
    for step in range(steps):
        batch = pairs[step * BATCH : (step + 1) * BATCH]
        features = [tokenize(model, [q for q, _ in batch]), tokenize(model, [d for _, d in batch])]
        loss = loss_of(features, None)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    seconds = time.monotonic() - start
    model.eval()
    model.save(out)
    print(json.dumps({"seconds": seconds, "steps": steps, "loss": sum(losses[-5:]) / len(losses[-5:])}))


def figures(queries, documents, right):
    order = (queries @ documents.T).argsort(dim=1, descending=True)[:, :10]
    mrr = top1 = 0.0
    for i, r in enumerate(right):
        place = (order[i] == r).nonzero()
        if len(place):
            mrr += 1.0 / (1 + place[0].item())
            top1 += place[0].item() == 0
    return {"mrr": mrr / len(right), "top1": top1 / len(right)}


def evaluate(path, folder):
    model = load(path)
    model.eval()
    documents = lines(folder + "/documents.jsonl")
    heldout = lines(folder + "/heldout.jsonl")
    place = {d["name"]: i for i, d in enumerate(documents)}
    right = [place[h["name"]] for h in heldout]
    encode = lambda texts: model.encode(texts, batch_size=64, convert_to_tensor=True, normalize_embeddings=True)
    vectors = encode([d["text"] for d in documents])
    print(json.dumps({k: figures(encode([h[k] for h in heldout]), vectors, right) for k in ("italian", "english")}))


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    if sys.argv[1:2] == ["train"] and len(sys.argv) == 5:
        train(*sys.argv[2:])
    elif sys.argv[1:2] == ["evaluate"] and len(sys.argv) == 4:
        evaluate(*sys.argv[2:])
    else:
        sys.exit(__doc__)
