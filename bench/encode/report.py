"""Tables for people and the targets, from the driver's results."""

# Smallest cosine with float32 that a class asks for. Two float32 programs differ by
# rounding alone, bfloat16's smallest is 0.99997.
CLASSES = {"exact": 0.99999, "0.9999": 0.9999, "0.999": 0.999, "0.995": 0.995, "any": -1.0}
PEAK_SHARE = 0.88


def label(r):
    return f"{r['entrant']} {r['precision']}"


def line(r):
    text = f"{label(r):34}{r['texts_per_s']:9.0f}{r['tokens_per_s']:10.0f}{r['peak_mb']:8.0f}"
    text += f"{r['min_cosine']:11.6f}{r['mean_cosine']:11.6f}"
    text += f"{r['p50_ms']:9.2f}{r['p99_ms']:9.2f}" if "p50_ms" in r else " " * 18
    return text + f"{len(r['seconds']):4}  {how(r)}"


def how(r):
    if r["ours"]:
        return "" if r["took"] == r["precision"] else r["took"]
    texts, tokens, streams = r["plan"]
    return (f"{texts} texts" if texts else f"{tokens} tokens") + (f" x {streams}" if streams > 1 else "")


HEADER = (
    f"{'':34}{'texts/s':>9}{'tokens/s':>10}{'peak MB':>8}{'min cos':>11}{'mean cos':>11}"
    f"{'p50 ms':>9}{'p99 ms':>9}{'n':>4}  batch"
)


def cells(results):
    found = []
    for r in results:
        cell = (r["avx2"], r["workload"], r["threads"])
        if cell not in found:
            found.append(cell)
    return found


def of_cell(results, cell):
    return [r for r in results if (r["avx2"], r["workload"], r["threads"]) == cell]


def agreement(results, r):
    """An entrant's smallest cosine in all contests at this level."""
    return min(o["min_cosine"] for o in results if label(o) == label(r) and o["avx2"] == r["avx2"])


def best(results, cell, ours, least, figure="tokens_per_s"):
    """The quickest of ours, or of the peers, that agrees with float32 that well."""
    able = [r for r in of_cell(results, cell) if r["ours"] == ours and figure in r and agreement(results, r) >= least]
    sign = -1 if figure == "p50_ms" else 1
    return max(able, key=lambda r: sign * r[figure], default=None)


def classes(results):
    """For each contest and class: ours, the best peer, and the ratio."""
    table = []
    for cell in cells(results):
        for figure in ("tokens_per_s", "p50_ms"):
            for name, least in CLASSES.items():
                mine, peer = (best(results, cell, ours, least, figure) for ours in (True, False))
                if mine is None or peer is None:
                    continue
                table.append(
                    {
                        "avx2": cell[0],
                        "workload": cell[1],
                        "threads": cell[2],
                        "figure": figure,
                        "class": name,
                        "ours": label(mine),
                        "ours_figure": mine[figure],
                        "peer": label(peer),
                        "peer_figure": peer[figure],
                        "ratio": mine[figure] / peer[figure],
                    }
                )
    return table


def target(what, where, found, limit, at_least=True, unit="x"):
    reached = None if found is None else (found >= limit if at_least else found <= limit)
    return {"what": what, "where": where, "found": found, "limit": limit, "at_least": at_least, "unit": unit, "reached": reached}


def where(cell):
    return f"{cell[1]}, {cell[2]} thread{'s' if cell[2] > 1 else ''}"


def ratio(mine, peer, figure="tokens_per_s"):
    return mine[figure] / peer[figure] if mine is not None and peer is not None else None


def named(results, cell, wanted):
    return max(
        (r for r in of_cell(results, cell) if label(r) in wanted), key=lambda r: r["tokens_per_s"], default=None
    )


def throughput_targets(results, cell):
    ours = {name: best(results, cell, True, least) for name, least in CLASSES.items()}
    peers = {name: best(results, cell, False, least) for name, least in CLASSES.items()}
    int8 = named(results, cell, ("openvino int8", "openvino int8 in f32"))
    at = where(cell)
    return [
        target("float32 : best float32 peer", at, ratio(ours["exact"], peers["exact"]), 1.0),
        target("bfloat16 : OpenVINO bfloat16", at, ratio(ours["0.9999"], named(results, cell, ("openvino bfloat16",))), 1.08),
        target("0.999 : best peer of 0.999", at, ratio(ours["0.999"], peers["0.999"]), 1.5),
        target("0.995 : OpenVINO int8", at, ratio(ours["0.995"], int8), 1.25),
    ]


def latency_targets(results, cell):
    found = []
    for name, least in CLASSES.items():
        mine, peer = (best(results, cell, ours, least, "p50_ms") for ours in (True, False))
        if name != "any" and mine is not None:
            found.append(target(f"one query, {name} : best peer", where(cell), ratio(mine, peer, "p50_ms"), 0.7, False))
    mine = best(results, cell, True, CLASSES["0.995"], "p50_ms")
    if cell[2] == 2 and mine is not None:
        found.append(target("one query, int8", where(cell), mine["p50_ms"], 1.0, False, "ms"))
    return found


def avx2_targets(results, cell):
    exact = ratio(*(best(results, cell, ours, CLASSES["exact"]) for ours in (True, False)))
    int8 = ratio(best(results, cell, True, CLASSES["0.995"]), best(results, cell, False, CLASSES["any"]))
    at = where(cell)
    return [
        target("AVX2, float32 : best float32 peer", at, exact, 1.0),
        target("AVX2, int8 of 0.995 : best peer of any agreement", at, int8, 1.0),
    ]


def targets(outcome):
    results, found = outcome["results"], []
    for cell in cells(results):
        if cell[0]:
            found += avx2_targets(results, cell)
        else:
            found += throughput_targets(results, cell)
            found += latency_targets(results, cell) if cell[1] == "short" else []
    for workload, speeds in outcome.get("tokenizing", {}).items():
        if workload == "golden":
            found.append(target("golden lines with the right ids", "", speeds["equal"], speeds["lines"], True, "lines"))
        else:
            found.append(target("tokenizing : tokenizers", f"{workload}, 1 thread", speeds["ours"] / speeds["tokenizers"], 10.0))
    for p in outcome.get("peak", []):
        found.append(target(f"products' share of the peak, {p.get('precision')}", "1 thread", p.get("share"), PEAK_SHARE))
    return sorted(found, key=lambda t: t["what"])


def show_targets(found):
    print(f"\n{'target':52}{'where':20}{'found':>10}{'':4}{'asked':>7}")
    for t in found:
        sign = ">=" if t["at_least"] else "<="
        verdict = {True: "reached", False: "MISSED", None: "not compared"}[t["reached"]]
        value = "-" if t["found"] is None else f"{t['found']:.3f}" if t["unit"] != "lines" else f"{t['found']}"
        print(f"{t['what']:52}{t['where']:20}{value:>10} {sign:>3}{t['limit']:7} {t['unit']:5} {verdict}")


def show(outcome):
    m = outcome["machine"]
    print(f"\n{m['cpu']}, {m['cpus']} CPUs, {' '.join(m['has'])}")
    print(", ".join(f"{name} {version}" for name, version in outcome["versions"].items()))
    if outcome["quick"]:
        print("A quick run: too few texts and rounds for its figures to mean anything.")
    for cell in cells(outcome["results"]):
        print(f"\n{where(cell)}{', without AVX-512' if cell[0] else ''}\n{HEADER}")
        for r in of_cell(outcome["results"], cell):
            print(line(r))
    print(f"\n{'quickest of at least that agreement':38}{'class':>8}  {'ours':24}{'':>9}  {'peer':30}{'':>9}{'ratio':>7}")
    for c in outcome["classes"]:
        what = "tokens/s" if c["figure"] == "tokens_per_s" else "one query, ms"
        digits = 0 if c["figure"] == "tokens_per_s" else 2
        at = f"{where((c['avx2'], c['workload'], c['threads']))}{', AVX2' if c['avx2'] else ''}, {what}"
        print(
            f"{at:38}{c['class']:>8}  {c['ours']:24}{c['ours_figure']:9.{digits}f}  "
            f"{c['peer']:30}{c['peer_figure']:9.{digits}f}{c['ratio']:7.2f}"
        )
    show_targets(outcome["targets"])
    for name, why in outcome["failures"].items():
        print(f"\nFAILED {name}: {why}")
