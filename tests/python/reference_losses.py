"""Writes tests/finetune/data/losses.json: what PyTorch makes of losses that ../shared/golden has no values of.

    build/venv/encode/bin/python tests/python/reference_losses.py >tests/finetune/data/losses.json

The model, the batch and the optimiser are those of golden/train_expected.json. CoSENT and Matryoshka are
sentence-transformers' own classes; guide and frequency, which it has not in this form, are written out here.
"""

import json
import logging
import os
import sys

os.environ["TQDM_DISABLE"] = "1"
logging.disable(logging.WARNING)

import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CoSENTLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)

GOLDEN = "../shared/golden"
ROWS = [json.loads(line) for line in open(f"{GOLDEN}/train_batch.jsonl", encoding="utf-8")]
COLUMNS = [
    [r["anchor"] for r in ROWS],
    [r["positive"] for r in ROWS],
    [r["negatives"][0] for r in ROWS],
    [r["negatives"][1] for r in ROWS],
]
SCORES = [(7 * i) % 5 for i in range(len(ROWS))]
# Natural logs of how often each of the 48 texts comes.
FREQUENCY = torch.log(torch.tensor([1.0 + (5 * i) % 7 for i in range(4 * len(ROWS))]))
DIMS, WEIGHTS = [12, 24, 48], [0.5, 2.0, 1.0]
GUIDE, GUIDE_MARGIN = "tiny-bert-max", 0.031
STEPS = 3


def open_model(name):
    model = SentenceTransformer(f"{GOLDEN}/{name}", device="cpu")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def features(model, columns):
    return [model.tokenize(column) for column in columns]


def embed(model, column):
    return F.normalize(model(model.tokenize(column))["sentence_embedding"], dim=-1)


def guide_cosines():
    guide = open_model(GUIDE)
    with torch.no_grad():
        columns = [embed(guide, c) for c in COLUMNS]
        found = columns[0] @ torch.cat(columns[1:]).T
    apart = (found - (found.diagonal()[:, None] - GUIDE_MARGIN)).abs()
    others = ~torch.eye(*found.shape, dtype=torch.bool)
    assert apart[others].min() > 1e-4, "a cosine of the guide is too close to the margin to be sure of"
    return found


def ranking(model, cosines=None, frequency=None):
    columns = [embed(model, c) for c in COLUMNS]
    logits = 20 * columns[0] @ torch.cat(columns[1:]).T
    own = torch.eye(len(ROWS), logits.shape[1], dtype=torch.bool)
    if frequency is not None:
        logits = torch.where(own, logits, logits - frequency[len(ROWS) :])
    if cosines is not None:
        closer = cosines > cosines.diagonal()[:, None] - GUIDE_MARGIN
        logits = logits.masked_fill(closer & ~own, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(ROWS)))


def distance(model):
    teacher = torch.frombuffer(bytearray(open(f"{GOLDEN}/train_teacher.f32", "rb").read()), dtype=torch.float32)
    teacher = teacher.reshape(len(ROWS), -1)
    return sum(F.mse_loss(embed(model, c), teacher) for c in COLUMNS[:2])


def losses_of(model):
    """Each case: one function a step."""
    labels = torch.tensor([float(s) for s in SCORES])
    cosent = CoSENTLoss(model, scale=20.0)
    mnrl = MultipleNegativesRankingLoss(model, scale=20.0)
    nested = MatryoshkaLoss(model, mnrl, DIMS, WEIGHTS)
    nested_cosent = MatryoshkaLoss(model, cosent, DIMS, WEIGHTS)
    cosines = guide_cosines()
    pairs = lambda: features(model, COLUMNS[:2])
    graded = lambda: cosent(pairs(), labels)
    ranked = lambda: mnrl(pairs(), None)
    return {
        "cosent": [graded] * STEPS,
        "matryoshka_mnrl": [lambda: nested(pairs(), None)] * STEPS,
        "matryoshka_cosent": [lambda: nested_cosent(pairs(), labels)] * STEPS,
        "guide": [lambda: ranking(model, cosines=cosines)] * STEPS,
        "frequency": [lambda: ranking(model, frequency=FREQUENCY)] * STEPS,
        "alternating": [graded, ranked, lambda: distance(model)],
    }


def run(name):
    model = open_model("tiny-bert")
    model.train()
    steps = losses_of(model)[name]
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    found = {"loss": [], "grad_norm": []}
    for step in steps:
        optimizer.zero_grad()
        loss = step()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        found["loss"].append(loss.item())
        found["grad_norm"].append(norm.item())
    with torch.no_grad():
        found["embedding_after"] = embed(model, COLUMNS[0][:3]).tolist()
    return found


def main():
    torch.set_num_threads(1)
    json.dump(
        {
            "torch": torch.__version__,
            "scores": SCORES,
            "frequency": FREQUENCY.tolist(),
            "dims": DIMS,
            "weights": WEIGHTS,
            "guide": GUIDE,
            "guide_margin": GUIDE_MARGIN,
            "cases": {
                name: run(name)
                for name in ["cosent", "matryoshka_mnrl", "matryoshka_cosent", "guide", "frequency", "alternating"]
            },
        },
        sys.stdout,
        indent=1,
    )
    print()


main()
