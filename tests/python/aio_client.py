"""Calls a running semd with the package aio-msgpack-rpc, as it comes from the index.

    aio_client.py HOST PORT

Exits with 0 when every answer is as the wire contract says; else it says which is not.
"""
import asyncio
import math
import struct
import sys

import aio_msgpack_rpc
from aio_msgpack_rpc.error import RPCResponseError

DOCS = [
    {"id": "cat", "text": "A cat sat on the mat and slept.", "meta": {"kind": "animal", "legs": 4}},
    {"id": "ship", "text": "The ship left the harbour at dawn.", "meta": {"kind": "vehicle"}},
    {"id": 7, "text": "Stocks fell sharply after the central bank spoke."},
]


def expect(condition, what, found):
    if not condition:
        sys.exit(f"{what}: {found!r}")


async def check_encode(client):
    texts = [d["text"] for d in DOCS]
    result = await client.call("encode", {"texts": texts})
    expect(set(result) >= {"generation", "dim", "embeddings", "tokens", "truncated"}, "keys of encode", sorted(result))
    expect(len(result["embeddings"]) == len(texts), "one embedding a text", len(result["embeddings"]))
    for packed in result["embeddings"]:
        expect(isinstance(packed, bytes) and len(packed) == 4 * result["dim"], "a bin of 4 * dim bytes", type(packed))
        norm = math.sqrt(sum(x * x for x in struct.unpack(f"<{result['dim']}f", packed)))
        expect(abs(norm - 1.0) < 1e-4, "a unit vector", norm)
    again = await client.call("encode", {"texts": texts[:1], "encoding": "array"})
    first = struct.unpack(f"<{result['dim']}f", result["embeddings"][0])
    away = max(abs(a - b) for a, b in zip(first, again["embeddings"][0]))
    expect(away < 1e-5, "the same vector as bin and as array", away)


async def check_search(client):
    result = await client.call("upsert", {"docs": DOCS})
    expect(result["upserted"] == len(DOCS), "upserted", result)
    for doc in DOCS:
        found = await client.call("search", {"query": doc["text"], "k": 2, "with": ["text", "meta"]})
        best = found["hits"][0]
        expect(best["id"] == doc["id"] and best["text"] == doc["text"], "a document finds itself first", best)
        expect(abs(best["score"] - 1.0) < 1e-3, "its cosine with itself", best["score"])
        expect(len(found["hits"]) == 2 and isinstance(found["query_id"], str), "two hits and a query_id", found)
    result = await client.call("search", {"query": "x", "filter": {"field": "kind", "eq": "vehicle"}, "k": 5})
    expect([h["id"] for h in result["hits"]] == ["ship"], "only what the filter lets through", result["hits"])


async def check_error(client):
    try:
        await client.call("no.such.method", {})
    except RPCResponseError as error:
        expect("INVALID_ARGUMENT" in str(error), "its code", error)
    else:
        sys.exit("an unknown method was answered without an error")


async def wait_until_ready(client):
    """A daemon listens before it is ready, and says UNAVAILABLE until then."""
    while True:
        try:
            return await client.call("info")
        except RPCResponseError as error:
            if "UNAVAILABLE" not in str(error):
                raise
        await asyncio.sleep(0.05)


async def main(host, port):
    client = aio_msgpack_rpc.Client(*await asyncio.open_connection(host, int(port)))
    try:
        info = await wait_until_ready(client)
        expect(info["model"]["dim"] > 0, "the model's dim in info", info)
        expect(await client.call("ping") == "pong", "ping", "no pong")
        # Many at once on one connection: answers find their calls.
        pongs = await asyncio.gather(*(client.call("ping") for _ in range(100)))
        expect(pongs == ["pong"] * 100, "a hundred pings", pongs)
        await check_encode(client)
        await check_search(client)
        await check_error(client)
        expect(await client.call("ping") == "pong", "the connection after an error", "closed")
    finally:
        client.close()


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(sys.argv[1], sys.argv[2]), timeout=60))
    print("aio-msgpack-rpc: ping, encode, upsert and search are as promised")
