#!/usr/bin/env python3
"""Compares semd with Redis and PostgreSQL as a vector server: the same vectors, one run,
one load generator (bench/server/load.c) for all.

All servers are loaded first, one after the other, and each finds the least effort at
which its recall@10 reaches the one asked. Then they take turns, round by round; the
median counts. At the end every one gets more vectors while nothing else happens. Text
queries of semd are compared with what encoding and scanning take. run.sh installs what
this needs and makes the vectors; see --help for the options."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from servers import Failed, Postgres, Redis, Semd

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "ann"))
import vectors  # noqa: E402

CLIENTS = (1, 8)
FULL = {"rows": 200000, "queries": 2000, "rounds": 3, "seconds": 4, "inserts": 4000, "try": 2, "text": 20}
QUICK = {"rows": 9000, "queries": 300, "rounds": 1, "seconds": 0.5, "inserts": 500, "try": 0.3, "text": 2}
# (what, of which figure, at least or at most, times Redis's)
TARGETS = (("search", "per_s", 2.0, True), ("search", "p99_ms", 1.0, False), ("insert", "per_s", 5.0, True))
TEXT_RATIO = 1.1
BATCH = 100


def say(*words):
    print(f"{time.strftime('%H:%M:%S')} ", *words, flush=True)


class Bench:
    def __init__(self, options):
        self.o, self.effort = options, QUICK if options.quick else FULL
        self.rows, self.work = self.effort["rows"], f"{options.folder}/servers"
        os.makedirs(self.work, exist_ok=True)
        self.vectors, self.queries = f"{options.folder}/vectors.f32", f"{options.folder}/queries.f32"
        # The last rows are inserted at the end.
        self.rows = min(self.rows, vectors.rows_of(self.vectors)) - self.effort["inserts"] * len(CLIENTS)
        self.truth = f"{options.folder}/truth-{self.rows}-{self.rows}-{self.effort['queries']}.i32"
        if not os.path.exists(self.truth):
            say(f"searches {self.effort['queries']} queries' nearest of {self.rows} exactly")
            vectors.make_truth(self.vectors, self.rows, self.queries, self.effort["queries"], self.truth)
        self.servers, self.found, self.failures = [], {}, {}

    def load(self, server, command, *words):
        program = [f"{self.o.build}/bench_server", server.name, server.address, command, *map(str, words)]
        done = subprocess.run(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise Failed(done.stderr.strip() or f"{command} ended with {done.returncode}")
        return json.loads(done.stdout)

    def guarded(self, name, act):
        """Who fails is reported, and the others go on."""
        try:
            return act()
        except (Failed, OSError, subprocess.SubprocessError, ImportError) as why:
            self.failures[name] = str(why)
            say(f"{name}: FAILED: {why}")
            for server in [s for s in self.servers if s.name == name]:
                self.servers.remove(server)
                server.stop()
            return None

    def search(self, server, clients, seconds, effort):
        options = [f"clients={clients}", f"seconds={seconds}", f"effort={effort}"]
        return self.load(server, "search", *options, self.queries, self.truth)

    def prepare(self, make):
        server = make()
        self.servers.append(server)
        found = self.found[server.name] = {"durable": server.durable, "search": {}, "insert": {}}
        found["load"] = self.load(server, "load", f"rows={self.rows}", f"batch={BATCH}", self.vectors)
        found["memory_mb"] = server.memory_mb()
        for effort in server.efforts:
            found["effort"], tried = effort, self.search(server, 1, self.effort["try"], effort)
            found["recall"] = tried["recall"]
            if tried["recall"] >= self.o.recall:
                break
        else:
            raise Failed(f"recall {tried['recall']} at its greatest effort {effort}")
        took = found["load"]["insert_s"] + found["load"]["settle_s"]
        say(
            f"{server.name:9} loaded in {took:6.1f} s, {found['memory_mb']:5.0f} MB, "
            f"recall {found['recall']:.4f} at {found['effort']}"
        )

    def take_turns(self):
        for turn in range(self.effort["rounds"]):
            say(f"round {turn + 1} of {self.effort['rounds']}")
            for clients in CLIENTS:
                for server in list(self.servers):
                    effort = self.found[server.name]["effort"]
                    answer = self.guarded(
                        server.name, lambda: self.search(server, clients, self.effort["seconds"], effort)
                    )
                    if answer is not None:
                        self.found[server.name]["search"].setdefault(clients, []).append(answer)

    def insert(self):
        for turn, clients in enumerate(CLIENTS):
            first = self.rows + turn * self.effort["inserts"]
            options = [f"clients={clients}", f"first={first}", f"rows={self.effort['inserts']}", f"batch={BATCH}"]
            for server in list(self.servers):
                answer = self.guarded(server.name, lambda: self.load(server, "insert", *options, self.vectors))
                if answer is not None:
                    self.found[server.name]["insert"][clients] = [answer]

    def texts(self):
        """In a daemon of its own, with texts for documents."""
        server = Semd(f"{self.work}/text", self.o.build, self.o.model)
        try:
            sentences = f"{self.o.folder}/sentences.jsonl"
            asked = f"{self.work}/asked.jsonl"
            with open(sentences, encoding="utf-8") as f, open(asked, "w", encoding="utf-8") as out:
                lines = f.readlines()
                out.writelines(lines[-self.effort["queries"] :])
            options = [f"rows={self.rows}", f"seconds={self.effort['text']}"]
            return self.load(server, "text", *options, sentences, self.vectors, asked)
        finally:
            server.stop()

    def run(self):
        try:
            for name, make in (
                ("semd", lambda: Semd(self.work, self.o.build, self.o.model)),
                ("redis", lambda: Redis(self.work)),
                ("postgres", lambda: Postgres(self.work)),
            ):
                if name in self.o.servers:
                    self.guarded(name, lambda: self.prepare(make))
            self.take_turns()
            self.insert()
        finally:
            for server in self.servers:
                server.stop()
        if "semd" in self.o.servers:
            say("text queries")
            self.text = self.guarded("semd, texts", self.texts)


def median(found, what, clients, figure):
    rounds = found.get(what, {}).get(clients, [])
    return statistics.median(r[figure] for r in rounds) if rounds else None


def show(bench):
    print(f"\n{bench.rows} vectors, recall@10 of at least {bench.o.recall}, documents inserted {BATCH} a request")
    print(f"{'':10} {'clients':>7} {'queries/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'recall':>7} {'inserts/s':>10}  durable")
    for name, found in bench.found.items():
        for clients in CLIENTS:
            figures = [median(found, "search", clients, f) for f in ("per_s", "p50_ms", "p99_ms", "recall")]
            inserts = median(found, "insert", clients, "per_s")
            if None in figures or inserts is None:
                continue
            durable = "yes" if found["durable"] else "no"
            print(
                f"{name:10} {clients:7} {figures[0]:10,.0f} {figures[1]:8.2f} {figures[2]:8.2f} "
                f"{figures[3]:7.4f} {inserts:10,.0f}  {durable}"
            )


def targets(bench):
    """[what, found, limit, whether it is reached] against Redis."""
    ours, theirs = bench.found.get("semd", {}), bench.found.get("redis", {})
    rows = []
    for what, figure, limit, at_least in TARGETS:
        for clients in CLIENTS:
            mine, other = median(ours, what, clients, figure), median(theirs, what, clients, figure)
            if mine is not None and other is not None:
                ratio = mine / other
                reached = ratio >= limit if at_least else ratio < limit
                rows.append([f"{what} {figure}, {clients} client(s), semd : redis", ratio, limit, reached])
    if getattr(bench, "text", None):
        ratio = bench.text["ratio"]
        rows.append(["text query : encoding + scanning", ratio, TEXT_RATIO, ratio <= TEXT_RATIO])
    return rows


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--model", default="build/models/all-MiniLM-L6-v2")
    p.add_argument("--folder", default="build/ann", help="vectors.f32, queries.f32 and sentences.jsonl of bench-ann")
    p.add_argument("--out", help="JSON of all results (build/bench-server.json)")
    p.add_argument("--quick", action="store_true", help="few vectors, one round: whether it works, not how fast")
    p.add_argument("--recall", type=float, default=0.95)
    p.add_argument("--servers", type=lambda s: s.split(","), default=["semd", "redis", "postgres"])
    p.add_argument("--strict", action="store_true", help="a missed target is a failure")
    o = p.parse_args()
    o.out = o.out or f"{o.build}/bench-server{'-quick' if o.quick else ''}.json"
    return o


def main():
    options = parse()
    bench = Bench(options)
    bench.run()
    show(bench)
    found = targets(bench)
    for what, ratio, limit, reached in found:
        print(f"{'reached' if reached else 'MISSED ':8} {what:50} {ratio:6.2f} (target {limit})")
    if getattr(bench, "text", None):
        print(f"text queries: {json.dumps(bench.text)}")
    with open(options.out, "w", encoding="utf-8") as f:
        json.dump({"rows": bench.rows, "servers": bench.found, "failures": bench.failures, "targets": found,
                   "text": getattr(bench, "text", None)}, f, indent=1)
    print(f"all figures are in {options.out}")
    return 1 if bench.failures or (options.strict and not all(t[3] for t in found)) else 0


if __name__ == "__main__":
    sys.exit(main())
