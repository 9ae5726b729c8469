"""What is asked about: more vectors made from the real ones, and who is nearest.

All files are raw little-endian and without a head: vectors and queries float32 [n, 384]
of unit length, truth int32 [queries, 10], the rows of the nearest, best first."""

import os

import numpy as np

DIM, K = 384, 10
SEED = 20230610
CHUNK = 20000
# How far a made vector is from the real one that it was made of.
SPREAD = 0.5


def rows_of(path):
    return os.path.getsize(path) // (4 * DIM)


def mapped(path, rows=None):
    return np.memmap(path, np.float32, "r", shape=(rows or rows_of(path), DIM))


def make_more(source, rows, path, count):
    """path gets the first `rows` real vectors and then made ones, count in all: a real
    one and a part of the difference of two others, at unit length."""
    real = np.array(mapped(source, rows))
    chosen = np.random.default_rng(SEED)
    with open(path + ".part", "wb") as f:
        real[:count].tofile(f)
        for start in range(rows, count, CHUNK):
            a, b, c = chosen.integers(0, rows, (3, min(CHUNK, count - start)))
            made = real[a] + np.float32(SPREAD) * (real[b] - real[c])
            made /= np.linalg.norm(made, axis=1, keepdims=True)
            made.tofile(f)
    os.replace(path + ".part", path)


def nearest(vectors, queries):
    """The K rows of largest inner product for each query, exactly."""
    best = np.full((len(queries), 0), 0, np.float32)
    rows = np.full((len(queries), 0), 0, np.int32)
    for start in range(0, len(vectors), CHUNK):
        scores = queries @ np.asarray(vectors[start : start + CHUNK]).T
        few = np.argpartition(scores, -K, axis=1)[:, -K:]
        best = np.hstack([best, np.take_along_axis(scores, few, 1)])
        rows = np.hstack([rows, few.astype(np.int32) + start])
        if best.shape[1] > K:
            kept = np.argpartition(best, -K, axis=1)[:, -K:]
            best, rows = np.take_along_axis(best, kept, 1), np.take_along_axis(rows, kept, 1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(rows, order, 1)


def make_truth(vectors, rows, queries, count, path):
    found = nearest(mapped(vectors, rows), np.array(mapped(queries, count)))
    found.astype("<i4").tofile(path + ".part")
    os.replace(path + ".part", path)
