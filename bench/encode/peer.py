#!/usr/bin/env python3
"""One peer in a process of its own, asked for one thing a line on standard input.

    peer.py ENGINE PRECISION THREADS FOLDER MODEL TEXTS.jsonl

Answers one line of JSON each, first of all {"ready": true} once it is loaded:

    plan FILE    tries the engine's plans on a part of the texts and keeps the best;
                 FILE remembers it for the next time
    round        all texts in, vectors out, tokenization included
    one N        N of the texts one by one
    vectors FILE the last round's vectors, raw float32 in the texts' order
    ids FILE     the texts' ids, one JSON list a line
    tokenize     the time of tokenizing alone, in the quicker of two ways
    memory       the largest size that the process ever had

The same as build/bench_encode with turns=1, except for plan.
"""
import json
import os
import sys
import time

import numpy as np
from engines import ENGINES, Plan
from tokenizers import Tokenizer

MAX_TOKENS = 256
PLAN_PART = 0.08
PLAN_LEAST_TEXTS = 32


class Peer:
    def __init__(self, engine, precision, threads, folder, model, texts):
        with open(texts, encoding="utf-8") as f:
            self.texts = [json.loads(line)["text"] for line in f]
        self.tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.engine = ENGINES[engine](folder, model, precision, int(threads)) if engine in ENGINES else None
        self.plan = self.vectors = None
        if self.engine:
            self.use(self.engine.plans[0])

    def use(self, plan):
        if self.plan is None or plan.streams != self.plan.streams:
            self.engine.start(plan)
        self.plan = plan

    def ids(self, texts):
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]

    def batches(self, ids):
        """Longest first, so that the streams end together."""
        made, batch = [], []
        for i in sorted(range(len(ids)), key=lambda i: -len(ids[i])):
            width = len(ids[batch[0]]) if batch else 0
            full = len(batch) == self.plan.texts or (
                self.plan.tokens is not None and (len(batch) + 1) * width > self.plan.tokens
            )
            if batch and full:
                made.append(batch)
                batch = []
            batch.append(i)
        return made + [batch]

    def encode(self, texts):
        start = time.perf_counter()
        ids = self.ids(texts)
        vectors = [None] * len(texts)

        def store(batch, rows):
            for i, row in zip(batch, np.array(rows, np.float32)):
                vectors[i] = row

        self.engine.run_all(self.plan, self.batches(ids), ids, store)
        vectors = np.stack(vectors)
        seconds = time.perf_counter() - start
        return seconds, vectors, sum(map(len, ids))

    def do_plan(self, remembered):
        count = max(PLAN_LEAST_TEXTS, round(PLAN_PART * len(self.texts)))
        part = self.texts[:: max(1, len(self.texts) // count)]
        if os.path.exists(remembered):
            with open(remembered, encoding="utf-8") as f:
                self.use(Plan(*json.load(f)))
            self.encode(part)
            return {"plan": list(self.plan), "remembered": True}
        times = {}
        for plan in self.engine.plans:
            self.use(plan)
            if plan.streams not in {p.streams for p in times}:
                self.encode(part)
            times[plan] = self.encode(part)[0]
        self.use(min(times, key=times.get))
        with open(remembered, "w", encoding="utf-8") as f:
            json.dump(self.plan, f)
        return {"plan": list(self.plan), "tried": [[*plan, round(t, 4)] for plan, t in times.items()]}

    def do_round(self):
        seconds, self.vectors, tokens = self.encode(self.texts)
        return {"seconds": seconds, "texts": len(self.texts), "tokens": tokens}

    def do_one(self, count):
        if self.plan is not None:
            self.engine.start_one()
            self.plan = None
            for text in self.texts[:20]:
                self.engine.one(self.tokenizer.encode(text).ids)
        times = []
        for i in range(int(count)):
            text = self.texts[i * len(self.texts) // int(count)]
            start = time.perf_counter()
            self.engine.one(self.tokenizer.encode(text).ids)
            times.append(1e3 * (time.perf_counter() - start))
        return {"ms": times}

    def do_vectors(self, path):
        self.vectors.astype(np.float32).tofile(path)
        return {"texts": len(self.vectors), "width": self.vectors.shape[1]}

    def do_ids(self, path):
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(i, separators=(",", ":")) + "\n" for i in self.ids(self.texts))
        return {"texts": len(self.texts)}

    def do_tokenize(self):
        start = time.perf_counter()
        self.tokenizer.encode_batch_fast(self.texts)
        batch = time.perf_counter() - start
        start = time.perf_counter()
        for text in self.texts:
            self.tokenizer.encode(text)
        seconds = min(batch, time.perf_counter() - start)
        return {"seconds": seconds, "bytes": sum(len(text.encode()) for text in self.texts)}

    def do_memory(self):
        with open("/proc/self/status", encoding="ascii") as f:
            peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        return {"peak_mb": peak / 1024}


def main():
    # Libraries print what they like to standard output: they get the log instead.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        peer = Peer(*sys.argv[1:])
        print(json.dumps({"ready": True, **peer.do_memory()}), file=answers)
        for line in sys.stdin:
            verb, *arguments = line.split()
            print(json.dumps(getattr(peer, "do_" + verb)(*arguments)), file=answers)
    except Exception as failure:
        print(json.dumps({"error": f"{type(failure).__name__}: {failure}"[:300]}), file=answers)
        raise


if __name__ == "__main__":
    main()
