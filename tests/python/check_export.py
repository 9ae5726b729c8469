"""Opens an exported index with Python's faiss and compares its neighbours with semd's.

    check_export.py INDEX QUERIES HITS DIM K NPROBE [--order]

QUERIES: raw float32, DIM a row. HITS: the ids that semd returned, as text, K a line.
NPROBE 0: the index has no cells. --order: the order must be the same as well. Exits with
0 when each query has the same neighbours; else it says which differ.
"""
import json
import sys

import faiss
import numpy


def main():
    index_path, queries_path, hits_path, dim, k, nprobe = sys.argv[1:7]
    k, nprobe = int(k), int(nprobe)
    index = faiss.read_index(index_path)
    ids = {}
    with open(index_path + ".ids.jsonl", encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            ids[entry["faiss_id"]] = str(entry["id"])
    queries = numpy.fromfile(queries_path, dtype="float32").reshape(-1, int(dim))
    with open(hits_path, encoding="utf-8") as lines:
        expected = [line.split() for line in lines]
    if index.metric_type != faiss.METRIC_INNER_PRODUCT or index.ntotal != len(ids):
        sys.exit(f"metric {index.metric_type}, {index.ntotal} vectors of {len(ids)} documents")
    print(f"{type(index).__name__}, {index.ntotal} vectors, nprobe {getattr(index, 'nprobe', None)}")
    if nprobe > 0:
        faiss.extract_index_ivf(index).nprobe = nprobe
    _, found = index.search(queries, k)
    wrong = 0
    for i, row in enumerate(found):
        got = [ids[n] for n in row.tolist()]
        same = got == expected[i] if "--order" in sys.argv else sorted(got) == sorted(expected[i])
        if not same:
            wrong += 1
            print(f"query {i}: faiss {got}, semd {expected[i]}")
    if wrong or len(found) != len(expected):
        sys.exit(f"{wrong} of {len(expected)} queries have other neighbours")
    print(f"{len(expected)} queries have the same {k} neighbours at nprobe {nprobe}")


main()
