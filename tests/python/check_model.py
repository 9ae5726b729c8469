"""Compares model directories as sentence-transformers opens them with vectors that semd computed.

    check_model.py MOST [DIR TEXTS VECTORS]...

DIR is what semtrain wrote, or with #query or #document behind it that part of a directory of two models, TEXTS one
text a line, VECTORS float32 [lines, dim] of unit length, MOST the
largest difference of two numbers that is allowed. Ends with 1 where one is larger.
"""

import os
import sys

os.environ["TQDM_DISABLE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy
from sentence_transformers import SentenceTransformer


def largest_difference(folder, texts, vectors):
    with open(texts, encoding="utf-8") as lines:
        words = [line.rstrip("\n") for line in lines]
    folder, _, part = folder.partition("#")
    model = SentenceTransformer(folder, device="cpu")
    encode = {"": model.encode, "query": model.encode_query, "document": model.encode_document}[part]
    theirs = encode(words, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
    ours = numpy.fromfile(vectors, dtype="<f4").reshape(len(words), -1)
    if theirs.shape != ours.shape:
        sys.exit(f"{folder}: their vectors are {theirs.shape}, ours {ours.shape}")
    return float(numpy.abs(theirs - ours).max())


def main(most, *models):
    for folder, texts, vectors in zip(models[0::3], models[1::3], models[2::3]):
        largest = largest_difference(folder, texts, vectors)
        print(f"{folder}: largest difference {largest:.2e}", flush=True)
        if not largest <= float(most):
            sys.exit(f"{folder}: at most {most} is allowed")


main(*sys.argv[1:])
