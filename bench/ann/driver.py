#!/usr/bin/env python3
"""Compares semd's vector index with other software: the same vectors, one run.

Every engine runs in a process of its own. All of a contest (a number of vectors) are
built first, one after the other, and try all their settings; those worth it are then
timed in turns, round by round; the median counts. run.sh installs what this needs and
makes the vectors; see --help for the options."""

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time

import plot
import report
import runner
import vectors
from engines import ENGINES, PACKAGES
from runner import Failed, Missing, Runner

OURS = "semd"
PAUSE_SECONDS = 0.05  # threads of the one before may spin that long
# The graphs take ten minutes and more for a million vectors: the best one stands for them.
LARGE_ENGINES = ("FaissIVF", "Scann", "SVS")
LARGE_LEFT_OUT = ("faiss IVF,Flat", "SVS Vamana float16")  # slower than their likes at every recall
EXACT = ("exact",)  # points that are timed in the first round only
TARGETS = (0.90, 0.95, 0.99)
NEAR = 2  # settings on each side of a target that are timed
SLACK = 0.9  # a setting that is that near to the best in the first try may be it
FULL = {"sizes": (200000, 1000000), "queries": 2000, "rounds": 5, "seconds": 0.25}
QUICK = {"sizes": (10000, 20000), "queries": 300, "rounds": 1, "seconds": 0.05}


def say(*words):
    print(f"{time.strftime('%H:%M:%S')} ", *words, flush=True)


def worth_timing(points):
    """Of all settings those near a target at which nothing else finds as much as
    clearly faster."""
    able = [p for p in points if p["rate"] >= SLACK * max(o["rate"] for o in points if o["recall"] >= p["recall"])]
    able.sort(key=lambda p: p["recall"])
    chosen = [p for p in able if p["point"] in EXACT]
    for target in TARGETS:
        chosen += [p for p in able if p["recall"] < target][-NEAR:]
        chosen += [p for p in able if p["recall"] >= target][:NEAR]
    return [p for p in able if p in chosen]


class Contest:
    def __init__(self, options, effort, rows, real):
        self.o, self.effort, self.rows = options, effort, rows
        self.work = f"{options.folder}/work-{rows}"
        os.makedirs(self.work, exist_ok=True)
        self.runners, self.entrants, self.failures, self.missing = {}, [], {}, {}
        self.files = self.prepare(real)

    def prepare(self, real):
        folder, count = self.o.folder, self.effort["queries"]
        path, queries = f"{folder}/vectors.f32", f"{folder}/queries.f32"
        if self.rows > real:
            path = f"{folder}/vectors-{real}-{self.rows}.f32"
            if not os.path.exists(path):
                say(f"makes {self.rows - real} vectors from {real} real ones")
                vectors.make_more(f"{folder}/vectors.f32", real, path, self.rows)
        truth = f"{folder}/truth-{real}-{self.rows}-{count}.i32"
        if not os.path.exists(truth):
            say(f"searches {count} queries' nearest of {self.rows} exactly")
            vectors.make_truth(path, self.rows, queries, count, truth)
        return path, self.rows, queries, count, truth

    def wanted(self):
        for engine in (OURS, *ENGINES):
            if self.o.engines and engine.lower() not in self.o.engines:
                continue
            if self.rows <= self.o.large or engine == OURS or engine in LARGE_ENGINES:
                yield engine

    def guarded(self, name, act):
        """One who fails is reported, and the others go on."""
        try:
            return act()
        except Missing as why:
            self.missing[name] = str(why)
        except Failed as why:
            self.failures[name] = str(why)
        say(f"{name}: {self.missing.get(name) or self.failures[name]}")
        self.entrants = [e for e in self.entrants if e["name"] != name]
        return None

    def start(self, engine):
        command = (
            runner.ours(self.o.build, self.files) if engine == OURS else runner.peer(engine, self.work, self.files)
        )
        return Runner(engine, command, f"{self.work}/{engine}.log")

    def build_all(self):
        for engine in self.wanted():
            label = f"{PACKAGES[engine]} ({engine})" if engine in PACKAGES else engine
            started = self.guarded(label, lambda: self.start(engine))
            if started is None:
                continue
            self.runners[engine] = started
            names = [OURS] if engine == OURS else ENGINES[engine].names
            for name in names:
                if self.rows <= self.o.large or name not in LARGE_LEFT_OUT:
                    self.guarded(name, lambda: self.build(engine, name))

    def build(self, engine, name):
        ours, asks = engine == OURS, self.runners[engine].ask
        who = "" if ours else " " + name.replace(" ", "_")
        entrant = {"name": name, "engine": engine, "ours": ours, "build": asks(f"build{who}"), "rates": {}}
        entrant["points"] = asks(f"points{who}")["points"]
        entrant["timed"] = [p["point"] for p in worth_timing(entrant["points"])]
        self.entrants.append(entrant)
        best = max(p["recall"] for p in entrant["points"])
        built = entrant["build"]
        say(
            f"{name:28} built in {built['seconds']:6.1f} s, {built['memory_mb']:6.0f} MB, "
            f"{len(entrant['points'])} settings, recall up to {best:.4f}"
        )

    def time_one(self, entrant, mode, threads, point, seconds):
        who = "" if entrant["ours"] else f"{entrant['name'].replace(' ', '_')} "
        answer = self.runners[entrant["engine"]].ask(f"time {who}{mode} {threads} {seconds} {point}")
        entrant["rates"].setdefault(f"{mode} {threads}", {}).setdefault(point, []).append(answer["rate"])

    def take_turns(self, turn):
        """Everybody's settings in one mode, before the next mode."""
        for threads in self.o.threads:
            for mode in ("single", "batch"):
                for entrant in list(self.entrants):
                    if entrant["ours"] and mode == "batch":
                        continue  # there are no batches on our wire: each query is one
                    points = [p for p in entrant["timed"] if turn == 0 or p not in EXACT]
                    time.sleep(PAUSE_SECONDS)
                    self.guarded(
                        entrant["name"],
                        lambda: [self.time_one(entrant, mode, threads, p, self.effort["seconds"]) for p in points],
                    )

    def key(self):
        """What a kept outcome must have been made with to stand for this run's."""
        with open(f"{self.o.build}/bench_ann", "rb") as f:
            ours = hashlib.sha256(f.read()).hexdigest()
        effort = {name: value for name, value in self.effort.items() if name != "sizes"}  # other contests
        return json.dumps(
            [ours, versions(), machine(), effort, self.rows, self.o.threads, self.o.engines, self.o.large]
        )

    def outcome(self):
        """Of this run, or of one that was cut off after this contest."""
        kept, key = f"{self.work}/contest.json", self.key()
        if os.path.exists(kept) and not self.o.again:
            with open(kept, encoding="utf-8") as f:
                found = json.load(f)
            if found["key"] == key:
                say(f"{self.rows} vectors: kept from {found['date']} (--again measures anew)")
                return found["contest"]
        contest = self.run()
        if not contest["failures"]:
            with open(kept + ".part", "w", encoding="utf-8") as f:
                json.dump({"key": key, "date": time.strftime("%Y-%m-%d %H:%M"), "contest": contest}, f)
            os.replace(kept + ".part", kept)
        return contest

    def run(self):
        self.build_all()
        for turn in range(self.effort["rounds"]):
            say(f"{self.rows} vectors, round {turn + 1} of {self.effort['rounds']}")
            self.take_turns(turn)
        for started in self.runners.values():
            started.close()
        for entrant in self.entrants:
            entrant["rates"] = {
                mode: {point: statistics.median(rates) for point, rates in found.items()}
                for mode, found in entrant["rates"].items()
            }
        return {"rows": self.rows, "entrants": self.entrants, "failures": self.failures, "missing": self.missing}


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        lines = f.read().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_vbmi", "avx512_bf16")
    return {
        "cpu": names[0] if names else platform.machine(),
        "cpus": os.cpu_count(),
        "has": [f for f in known if f in flags],
    }


def versions():
    found = {}
    for package in sorted({"numpy", *PACKAGES.values()}):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--folder", default="build/ann", help="vectors.f32 and queries.f32, and what is made of them")
    p.add_argument("--out", help="JSON of all results (build/bench-ann.json)")
    p.add_argument("--pictures", help="folder of the curves (docs; build/ann with --quick)")
    p.add_argument(
        "--document", help="where the tables between its markers are renewed (docs/index.md; none with --quick)"
    )
    p.add_argument("--quick", action="store_true", help="few vectors, one round: whether it works, not how fast")
    p.add_argument(
        "--sizes",
        type=lambda s: tuple(int(n) for n in s.split(",")),
        help="e.g. 200000; beyond the real ones made ones",
    )
    p.add_argument("--rounds", type=int)
    p.add_argument(
        "--engines", type=lambda s: s.lower().split(","), help=f"of {OURS},{','.join(ENGINES)}; all if not given"
    )
    p.add_argument("--threads", type=lambda s: [int(n) for n in s.split(",")], default=[1, 2])
    p.add_argument(
        "--all-graphs",
        action="store_true",
        help="also hnswlib, usearch and faiss HNSW for a million (half an hour more)",
    )
    p.add_argument("--again", action="store_true", help="measure anew what an earlier run of the same programs kept")
    p.add_argument("--strict", action="store_true", help="a missed target is a failure")
    o = p.parse_args()
    o.out = o.out or f"{o.build}/bench-ann{'-quick' if o.quick else ''}.json"
    o.pictures = o.pictures or (o.folder if o.quick else "docs")
    o.document = o.document or (None if o.quick or o.engines or o.sizes else "docs/index.md")
    return o


def main():
    options = parse()
    effort = dict(QUICK if options.quick else FULL)
    effort["sizes"] = options.sizes or effort["sizes"]
    effort["rounds"] = options.rounds or effort["rounds"]
    options.large = sys.maxsize if options.all_graphs else FULL["sizes"][0]
    start = time.monotonic()
    real = min(vectors.rows_of(f"{options.folder}/vectors.f32"), (QUICK if options.quick else FULL)["sizes"][0])
    contests = [Contest(options, effort, rows, real).outcome() for rows in effort["sizes"]]
    outcome = {
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "quick": options.quick,
        "machine": machine(),
        "versions": versions(),
        "threads": options.threads,
        "contests": contests,
    }
    outcome["targets"] = report.targets(outcome)
    outcome["minutes"] = (time.monotonic() - start) / 60
    with open(options.out, "w", encoding="utf-8") as f:
        json.dump(outcome, f, indent=1)
    report.show(outcome)
    for contest in contests:
        plot.write(contest, options.threads, f"{options.pictures}/recall-{contest['rows']}.svg")
    if options.document:
        report.renew(options.document, outcome)
    print(
        f"\n{outcome['minutes']:.1f} minutes; all figures are in {options.out}, "
        f"the curves in {options.pictures}/recall-*.svg"
    )
    missed = any(t["reached"] is False for t in outcome["targets"])
    failed = any(c["failures"] for c in contests)
    return 1 if failed or (options.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
