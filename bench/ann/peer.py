#!/usr/bin/env python3
"""One peer in a process of its own, asked for one thing a line on standard input.

    peer.py ENGINE FOLDER VECTORS.f32 ROWS QUERIES.f32 COUNT TRUTH.i32

Answers one line of JSON each, first of all {"ready": true}:

    build NAME                          seconds and the memory that it grew by
    points NAME                         the recall of every setting that there is to sweep
    time NAME MODE THREADS SECONDS POINT  queries a second; MODE is single or batch

NAME has no spaces: _ stands for them. The same as build/bench_ann with turns=1, which
has one index only and no batches."""

import ctypes
import json
import os
import sys
import time
import traceback

import numpy as np
from engines import ENGINES, K

DIM = 384
FULL = 0.9985  # recall beyond which nobody is compared
WARM = 50


def own_bytes():
    """What this process holds of memory of its own: mapped files are not counted."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/status", encoding="ascii") as f:
        return 1024 * next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))


def keep_asking(ask, queries, first, seconds):
    """One query after the other for so long; the queries a second."""
    count = len(queries)
    for i in range(WARM):
        ask(queries[(first + i) % count])
    start, asked = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or asked < WARM:
        for _ in range(10):
            ask(queries[(first + asked) % count])
            asked += 1
    return asked / (time.perf_counter() - start)


class Peer:
    def __init__(self, engine, folder, vectors, rows, queries, count, truth):
        base = np.memmap(vectors, np.float32, "r", shape=(int(rows), DIM))
        self.queries = np.fromfile(queries, np.float32, int(count) * DIM).reshape(-1, DIM)
        self.truth = np.fromfile(truth, np.int32, int(count) * K).reshape(-1, K)
        self.engine = ENGINES[engine](np.asarray(base), folder)

    def do_build(self, name):
        memory, start = own_bytes(), time.perf_counter()
        before = self.engine.build(name) or 0.0
        seconds = time.perf_counter() - start + before
        return {"seconds": seconds, "memory_mb": (own_bytes() - memory) / 1e6}

    def recall(self, found):
        return float((np.asarray(found, np.int64)[:, :, None] == self.truth[:, None, :]).sum() / self.truth.size)

    def do_points(self, name):
        self.engine.set_threads(os.cpu_count())
        points = []
        for series in self.engine.points(name):
            last = -1.0
            for point in series:
                self.engine.use(name, point)
                start = time.perf_counter()
                found = self.engine.search(self.queries)
                rate = len(self.queries) / (time.perf_counter() - start)
                recall = self.recall(found)
                points.append({"point": point, "recall": recall, "rate": rate})
                # More work that finds nothing more: a coarse code has its own limit.
                if recall > FULL or recall < last + 0.0003:
                    break
                last = recall
        return {"points": points}

    def do_time(self, name, mode, threads, seconds, point):
        threads, seconds = int(threads), float(seconds)
        self.engine.set_threads(threads if mode == "batch" else 1)
        self.engine.use(name, point)
        if mode == "batch":
            return {"rate": self.batches(seconds)}
        return {
            "rate": (
                keep_asking(self.engine.one, self.queries, 0, seconds)
                if threads == 1
                else self.singles(threads, seconds)
            )
        }

    def batches(self, seconds):
        start, asked = time.perf_counter(), 0
        while asked == 0 or time.perf_counter() - start < seconds:
            self.engine.search(self.queries)
            asked += len(self.queries)
        return asked / (time.perf_counter() - start)

    def singles(self, threads, seconds):
        """Python's threads would wait for each other: processes over the same memory
        do not, which is the most that a user could get."""
        read, write = os.pipe()
        children = []
        for i in range(threads):
            child = os.fork()
            if child == 0:
                self.child(write, i * len(self.queries) // threads, seconds)
            children.append(child)
        os.close(write)
        with os.fdopen(read) as answers:
            rates = [float(line) for line in answers]
        statuses = [os.waitpid(child, 0)[1] for child in children]
        if len(rates) != threads or any(statuses):
            raise RuntimeError("a process that asked single queries ended early")
        return sum(rates)

    def child(self, write, first, seconds):
        try:
            rate = keep_asking(self.engine.one, self.queries, first, seconds)
            os.write(write, f"{rate}\n".encode())
            os._exit(0)
        finally:
            os._exit(1)


def answer(peer, line):
    """One index that fails does not keep the process's others from going on."""
    verb, name, *arguments = line.split()
    try:
        return getattr(peer, "do_" + verb)(name.replace("_", " "), *arguments)
    except Exception as failure:
        traceback.print_exc()
        return {"error": f"{type(failure).__name__}: {failure}"[:300]}


def main():
    # Libraries print what they like to standard output: they get the log instead.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        peer = Peer(*sys.argv[1:])
    except ImportError as failure:
        print(json.dumps({"missing": f"{failure}"[:300]}), file=answers)
        return 1
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        print(json.dumps(answer(peer, line)), file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
