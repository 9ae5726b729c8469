#!/usr/bin/env python3
"""Trains with sentence-transformers.

    peer.py MODEL PAIRS.jsonl OUT '{"batch": 64, "tokens": 128, ...}'

Takes the pairs in their order and ends with a line of JSON: the seconds of each step, its
loss, and the largest size that the process ever had. With a teacher's folder among the
options both texts of a pair get the teacher's vector of the first."""
import json
import math
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from data import lines

THREADS = 2
MINI_BATCH = 32  # texts of a GradCache piece


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


class Distance(torch.nn.Module):
    """How far both texts of a pair are from the teacher's vector of the first: the mean over pairs and
    dimensions, summed over the two, as semd's loss."""

    def __init__(self, model):
        super().__init__()
        self.mean = losses.MSELoss(model)

    def forward(self, features, vectors):
        return len(features) * self.mean(features, vectors)


def loss_of(model, o):
    if o.get("teacher"):
        return Distance(model)
    if o["gradcache"]:
        return losses.CachedMultipleNegativesRankingLoss(model, scale=o["scale"], mini_batch_size=MINI_BATCH)
    return losses.MultipleNegativesRankingLoss(model, scale=o["scale"])


def teacher_vectors(o, pairs):
    """Of the first texts; None without a teacher."""
    if not o.get("teacher"):
        return None
    texts = list(dict.fromkeys(query for query, _ in pairs))
    teacher = SentenceTransformer(o["teacher"], device="cpu", local_files_only=True)
    found = teacher.encode(texts, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False)
    return dict(zip(texts, found))


def schedule_of(optimiser, warmup, steps):
    warm = max(1, math.ceil(warmup * steps - 1e-9))
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: (s + 1) / warm if s < warm else (steps - s) / max(1, steps - warm)
    )


def train(path, pairs_path, out, options):
    o = json.loads(options)
    torch.manual_seed(o["seed"])
    model = load(path, o["tokens"])
    pairs = [(p["query"], p["document"]) for p in lines(pairs_path)]
    steps = len(pairs) // o["batch"]
    loss, optimiser = loss_of(model, o), optimiser_of(model, o["rate"], o["decay"])
    schedule, targets = schedule_of(optimiser, o["warmup"], steps), teacher_vectors(o, pairs)
    model.train(o.get("dropout", True))
    seconds, found = [], []
    for step in range(steps):
        start = time.perf_counter()
        batch = pairs[step * o["batch"] : (step + 1) * o["batch"]]
        features = [model.preprocess([p[side] for p in batch]) for side in (0, 1)]
        vectors = torch.stack([targets[query] for query, _ in batch]) if targets else None
        with torch.autocast("cpu", torch.bfloat16, enabled=o["precision"] == "bfloat16"):
            value = loss(features, vectors)
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


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    train(*sys.argv[1:])
