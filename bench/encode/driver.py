#!/usr/bin/env python3
"""Compares semd's encoder with what users would pick instead: text in, vectors out.

Every entrant runs in a process of its own. All entrants of a contest (a workload, a
number of threads) are loaded first and then take turns, round by round; the median
counts. run.sh installs what this needs; see --help for the options."""
import argparse
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time

import numpy as np
import report
from entrants import HERE, OURS, PEERS, ST, Entrant, Failed, Runner, Setting

PAUSE_SECONDS = 0.2  # threads of the one before may spin that long
PACKAGES = ["sentence-transformers", "torch", "transformers", "tokenizers", "onnxruntime", "openvino", "nncf", "ctranslate2"]
WORKLOADS = {"short": ("banking77/test.jsonl", 2000), "long": ("cranfield/docs.jsonl", 300)}
CALIBRATION = {"banking77/train.jsonl": (0, 150), "cranfield/docs.jsonl": (300, 150)}
# Rounds of a contest: within SECONDS for each entrant, but at least LEAST.
# Who is FAR times slower than the best peer of at least its agreement gets two.
FULL = {"least": 3, "most": 5, "seconds": 8, "far": 1.3, "one": 150, "one_rounds": 3, "part": 1, "avx2_part": 4}
QUICK = {"least": 1, "most": 1, "seconds": 1, "far": 1e9, "one": 20, "one_rounds": 1, "part": 20, "avx2_part": 40}


def say(*words):
    print(f"{time.strftime('%H:%M:%S')} ", *words, flush=True)


def read_texts(path):
    with open(path, encoding="utf-8") as f:
        return [text for text in (json.loads(line)["text"] for line in f) if text.strip()]


def write_texts(path, texts):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def digest(*paths):
    found = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as f:
            found.update(f.read())
    return found.hexdigest()[:16]


class Bench:
    def __init__(self, options):
        self.o = options
        self.effort = QUICK if options.quick else FULL
        self.folder = f"{options.work}/{'quick' if options.quick else 'full'}"
        os.makedirs(self.folder, exist_ok=True)
        self.failures, self.results, self.extra, self.references = {}, [], {}, {}
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            self.flags = next((line.split(":")[1].split() for line in f if line.startswith("flags")), [])

    def fail(self, entrant, failure):
        self.failures.setdefault(entrant.label, str(failure))
        say(f"FAILED {entrant.label}: {failure}")

    def has(self, entrant):
        return not entrant.bfloat16 or "avx512_bf16" in self.flags or "amx_bf16" in self.flags

    def entrants(self, avx2=False):
        wanted = [p for p in PEERS if not self.o.peers or any(p.label.startswith(w) for w in self.o.peers)]
        all_of_them = [e for e in OURS + wanted if self.has(e) and (e.avx2 or not avx2)]
        return [e for e in all_of_them if e.label not in self.failures]

    # --- what is needed first

    def make_texts(self):
        for name, (file, count) in WORKLOADS.items():
            texts = read_texts(f"{self.o.data}/{file}")[:count]
            write_texts(f"{self.folder}/{name}.jsonl", texts[:: self.effort["part"]])
            write_texts(f"{self.folder}/{name}-avx2.jsonl", texts[:: self.effort["avx2_part"]])
        calibration = []
        for file, (first, count) in CALIBRATION.items():
            texts = read_texts(f"{self.o.data}/{file}")[first:]
            calibration += texts[:: len(texts) // count][:count]
        write_texts(f"{self.o.work}/calibration.jsonl", calibration)

    def make_models(self):
        """Each stays until the model, the versions or prepare.py change."""
        key = digest(f"{self.o.model}/model.safetensors", f"{HERE}/prepare.py", f"{HERE}/requirements.txt")
        for entrant in [e for e in self.entrants() if not e.ours]:
            for what in entrant.needs:
                stamp = f"{self.o.work}/{what}.made"
                if os.path.exists(stamp) and open(stamp, encoding="utf-8").read() == key:
                    continue
                say(f"makes {what} for {entrant.label}")
                log = f"{self.o.work}/{what}.log"
                arguments = [what, self.o.model, self.o.work]
                arguments += [f"{self.o.work}/calibration.jsonl"] if what == "openvino-int8" else []
                with open(log, "w", encoding="utf-8") as f:
                    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
                    status = subprocess.call(
                        [sys.executable, f"{HERE}/prepare.py", *arguments], stdout=f, stderr=f, env=environment
                    )
                if status != 0:
                    self.fail(entrant, f"prepare.py {what} ended with {status}; see {log}")
                    break
                with open(stamp, "w", encoding="utf-8") as f:
                    f.write(key)

    def setting(self, workload, threads, avx2=False):
        texts = f"{self.folder}/{workload}{'-avx2' if avx2 else ''}.jsonl"
        return Setting(self.o.build, self.o.model, self.o.work, sys.executable, workload, texts, threads, avx2)

    def make_references(self):
        """Vectors and ids by sentence-transformers in float32, for every set of texts."""
        for workload in self.o.workloads:
            for avx2 in [False, True] if self.o.avx2 else [False]:
                setting = self.setting(workload, max(self.o.threads))
                setting.texts = self.setting(workload, 1, avx2).texts
                vectors = setting.texts.replace(".jsonl", ".reference.f32")
                ids = setting.texts.replace(".jsonl", ".reference.ids")
                stamp = setting.texts.replace(".jsonl", ".reference.key")
                key = digest(setting.texts, f"{self.o.model}/model.safetensors", f"{HERE}/requirements.txt")
                if not os.path.exists(stamp) or open(stamp, encoding="utf-8").read() != key:
                    say(f"computes the reference vectors of {os.path.basename(setting.texts)}")
                    runner = Runner(Entrant("reference", "float32", ST, "float32"), setting)
                    runner.ask("round")
                    runner.ask(f"vectors {vectors}")
                    runner.ask(f"ids {ids}")
                    runner.close()
                    with open(stamp, "w", encoding="utf-8") as f:
                        f.write(key)
                self.references[setting.texts] = (vectors, ids)

    # --- a contest

    def guarded(self, runners, entrant, act):
        """What act(runner) returns; one that fails is out, and is said to be."""
        try:
            return act(runners[entrant])
        except (Failed, ValueError, KeyError) as failure:
            self.fail(entrant, failure)
            runners.pop(entrant).close()
            return None

    def load(self, setting):
        runners = {}
        for entrant in self.entrants(setting.avx2):
            try:
                runners[entrant] = Runner(entrant, setting)
            except (Failed, OSError) as failure:
                self.fail(entrant, failure)
        return runners

    def agreement(self, runner):
        mine = f"{runner.setting.folder}/vectors.f32"
        width = runner.ask(f"vectors {mine}")["width"]
        vectors, ids = self.references[runner.setting.texts]
        a = np.fromfile(mine, np.float32).reshape(-1, width).astype(np.float64)
        b = np.fromfile(vectors, np.float32).reshape(-1, width).astype(np.float64)
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        if not np.isfinite(cosines).all():
            raise Failed("its vectors are not finite")
        if runner.entrant.ours:
            runner.ask(f"ids {setting_ids(runner)}")
            if digest(setting_ids(runner)) != digest(ids):
                raise Failed("its token ids differ from the reference's")
        return {"min_cosine": min(1.0, cosines.min()), "mean_cosine": min(1.0, cosines.mean())}

    def first_round(self, runner):
        s = runner.setting
        result = {
            "entrant": runner.entrant.name,
            "precision": runner.entrant.precision,
            "ours": runner.entrant.ours,
            "workload": s.workload,
            "threads": s.threads,
            "avx2": s.avx2,
            "load_peak_mb": runner.ready["peak_mb"],
        }
        if runner.entrant.ours:
            result["took"] = runner.ready["precision"]
        else:
            name = f"{runner.entrant.label}-{s.workload}-{s.threads}{'-avx2' if s.avx2 else ''}".replace(" ", "-")
            plan = f"{self.folder}/plans/{name}.json"
            if self.o.sweep and os.path.exists(plan):
                os.remove(plan)
            result.update(runner.ask(f"plan {plan}"))
        time.sleep(PAUSE_SECONDS)
        first = runner.ask("round")
        result.update(texts=first["texts"], tokens=first["tokens"], seconds=[first["seconds"]])
        if "encoder_seconds" in first:
            result["encoder_seconds"] = [first["encoder_seconds"]]
        result.update(self.agreement(runner))
        return result

    def rounds_of(self, result, results):
        e = self.effort
        rivals = [r for r in results.values() if not r["ours"] and r["min_cosine"] >= result["min_cosine"]]
        best = min([r["seconds"][0] for r in rivals], default=result["seconds"][0])
        if not result["ours"] and result["seconds"][0] > e["far"] * best:
            return min(2, e["most"])
        return max(e["least"], min(e["most"], int(e["seconds"] / result["seconds"][0])))

    def contest(self, setting):
        say(f"{setting.workload}, {setting.threads} thread(s){', without AVX-512' if setting.avx2 else ''}: loads")
        runners = self.load(setting)
        results = {e: self.guarded(runners, e, self.first_round) for e in list(runners)}
        results = {e: r for e, r in results.items() if r is not None}
        rounds = {e: self.rounds_of(r, results) for e, r in results.items()}
        for turn in range(1, max(rounds.values(), default=0)):
            for entrant in [e for e in list(runners) if turn < rounds[e]]:
                time.sleep(PAUSE_SECONDS)
                answer = self.guarded(runners, entrant, lambda r: r.ask("round"))
                if answer is not None:
                    results[entrant]["seconds"].append(answer["seconds"])
                    if "encoder_seconds" in answer:
                        results[entrant]["encoder_seconds"].append(answer["encoder_seconds"])
        for entrant in list(runners):
            memory = self.guarded(runners, entrant, lambda r: r.ask("memory"))
            if memory is not None:
                results[entrant]["peak_mb"] = memory["peak_mb"]
        if setting.workload == "short":
            self.one_by_one(runners, results)
        for runner in runners.values():
            runner.close()
        for entrant in runners:
            self.results.append(finished(results[entrant]))
            say(report.line(self.results[-1]))

    def one_by_one(self, runners, results):
        for _ in range(self.effort["one_rounds"]):
            for entrant in list(runners):
                time.sleep(PAUSE_SECONDS)
                answer = self.guarded(runners, entrant, lambda r: r.ask(f"one {self.effort['one']}"))
                if answer is not None:
                    results[entrant].setdefault("one_ms", []).append(answer["ms"])

    # --- beside the contests

    def tokenizing(self):
        """One thread; the quickest of some turns of each."""
        for workload in self.o.workloads:
            setting = self.setting(workload, 1)
            runners = [Runner(OURS[0], setting), Runner(Entrant("tokenizers", "", "none", ""), setting)]
            speeds = [[], []]
            for _ in range(5):
                for runner, found in zip(runners, speeds):
                    answer = runner.ask("tokenize")
                    found.append(answer["bytes"] / answer["seconds"] / 1e6)
            for runner in runners:
                runner.close()
            self.extra.setdefault("tokenizing", {})[workload] = {"ours": max(speeds[0]), "tokenizers": max(speeds[1])}
        golden = f"{self.o.data}/../golden/minilm_tokens.jsonl"
        if os.path.exists(golden):
            setting = self.setting("short", 1)
            setting.texts = golden
            self.extra["tokenizing"]["golden"] = self.golden(setting)

    def golden(self, setting):
        runner = Runner(OURS[0], setting)
        runner.ask(f"ids {setting_ids(runner)}")
        runner.close()
        with open(setting.texts, encoding="utf-8") as right, open(setting_ids(runner), encoding="utf-8") as found:
            equal = [json.loads(a)["ids"] == json.loads(b) for a, b in zip(right, found)]
        return {"lines": len(equal), "equal": sum(equal)}

    def peak(self):
        """The products' share of the machine's peak, where that benchmark is built."""
        program = f"{self.o.build}/bench_peak"
        if not os.path.exists(program):
            return
        found = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=False)
        if found.returncode == 0:
            self.extra["peak"] = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]

    def run(self):
        os.makedirs(f"{self.folder}/plans", exist_ok=True)
        self.make_texts()
        self.make_models()
        self.make_references()
        for threads in self.o.threads if not self.o.only_avx2 else []:
            for workload in self.o.workloads:
                self.contest(self.setting(workload, threads))
        if self.o.avx2:
            for threads in self.o.threads:
                for workload in self.o.workloads:
                    self.contest(self.setting(workload, threads, avx2=True))
        if not self.o.only_avx2:
            say("tokenizing and the products' share of the peak")
            self.tokenizing()
            self.peak()


def setting_ids(runner):
    return f"{runner.setting.folder}/found.ids"


def finished(result):
    seconds = statistics.median(result["seconds"])
    result["texts_per_s"] = result["texts"] / seconds
    result["tokens_per_s"] = result["tokens"] / seconds
    if "encoder_seconds" in result:
        result["encoder_tokens_per_s"] = result["tokens"] / statistics.median(result["encoder_seconds"])
    if "one_ms" in result:
        rounds = result.pop("one_ms")
        result["p50_ms"] = statistics.median(statistics.median(times) for times in rounds)
        together = sorted(t for times in rounds for t in times)
        result["p99_ms"] = together[len(together) * 99 // 100]
    return result


def machine(flags):
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        names = [line.split(":")[1].strip() for line in f if line.startswith("model name")]
    known = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return {"cpu": names[0] if names else platform.machine(), "cpus": os.cpu_count(), "has": [f for f in known if f in flags]}


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--model", default="build/models/all-MiniLM-L6-v2")
    p.add_argument("--work", default="build/venv/encode-work", help="the peers' models, texts and logs")
    p.add_argument("--data", default="../shared/data")
    p.add_argument("--out", help="JSON of all results (build/bench-encode.json)")
    p.add_argument("--quick", action="store_true", help="few texts, one round: whether it works, not how fast")
    p.add_argument("--peers", type=lambda s: s.split(","), help="e.g. openvino,'ctranslate2 int8'; all if not given")
    p.add_argument("--threads", type=lambda s: [int(n) for n in s.split(",")], default=[2, 1])
    p.add_argument("--workloads", type=lambda s: s.split(","), default=list(WORKLOADS))
    without = p.add_mutually_exclusive_group()
    without.add_argument("--no-avx2", dest="avx2", action="store_false", help="leave out the contests without AVX-512")
    without.add_argument("--only-avx2", action="store_true", help="leave out all but the contests without AVX-512")
    p.add_argument("--sweep", action="store_true", help="try the batch sizes again, also where the best is remembered")
    p.add_argument("--strict", action="store_true", help="a missed target is a failure")
    o = p.parse_args()
    o.out = o.out or f"{o.build}/bench-encode{'-quick' if o.quick else ''}.json"
    return o


def main():
    options = parse()
    missing = [file for file, _ in WORKLOADS.values() if not os.path.exists(f"{options.data}/{file}")]
    if missing:
        print(f"skipped: bench-encode needs {options.data}/{missing[0]} for its texts")
        return 0
    start = time.monotonic()
    bench = Bench(options)
    bench.run()
    outcome = {
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "quick": options.quick,
        "machine": machine(bench.flags),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "results": bench.results,
        "failures": bench.failures,
        **bench.extra,
    }
    outcome["classes"] = report.classes(outcome["results"])
    outcome["targets"] = report.targets(outcome)
    outcome["minutes"] = (time.monotonic() - start) / 60
    with open(options.out, "w", encoding="utf-8") as f:
        json.dump(outcome, f, indent=1)
    report.show(outcome)
    print(f"\n{outcome['minutes']:.1f} minutes; all figures are in {options.out}")
    missed = any(t["reached"] is False for t in outcome["targets"])
    return 1 if bench.failures or (options.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
