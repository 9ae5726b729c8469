"""Tables for people, the targets, and the document's figures, from the driver's results."""

import math
import os

from engines import GRAPHS

RECALLS = (0.90, 0.95, 0.99)
LARGE = 500000
BEGIN, END = "<!-- bench-ann: from here on written by make bench-ann -->", "<!-- bench-ann: up to here -->"
BYTES_A_VECTOR, LARGE_BUILD_SECONDS, BUILD_SHARE = 480, 60, 0.25


def curve(entrant, mode):
    """(recall, queries a second) of the settings that nothing beats, recall rising."""
    rates = entrant["rates"].get(mode, {})
    points = sorted(((p["recall"], rates[p["point"]]) for p in entrant["points"] if p["point"] in rates), reverse=True)
    kept, best = [], 0.0
    for recall, rate in points:
        if rate > best:
            kept.append((recall, rate))
            best = rate
    return kept[::-1]


def scale(recall):
    """Even steps from 0.9 to 0.99 to 0.999, where curves are nearly straight."""
    return -math.log10(1 - recall + 1e-4)


def rate_at(entrant, mode, recall):
    """Between two settings, on a straight line of the rate's logarithm."""
    points = curve(entrant, mode)
    if not points or points[-1][0] < recall:
        return None
    if points[0][0] >= recall:
        return points[0][1]
    above = next(i for i, p in enumerate(points) if p[0] >= recall)
    (r0, q0), (r1, q1) = points[above - 1], points[above]
    part = (scale(recall) - scale(r0)) / (scale(r1) - scale(r0))
    return math.exp(math.log(q0) + part * (math.log(q1) - math.log(q0)))


def of(contest, kind):
    able = {
        "ours": lambda e: e["ours"],
        "peers": lambda e: not e["ours"],
        "lists of faiss": lambda e: e["name"].startswith("faiss IVF"),
        "graphs": lambda e: e["name"] in GRAPHS,
    }[kind]
    return [e for e in contest["entrants"] if able(e)]


def best(contest, kind, mode, recall):
    """The quickest of that kind: (its rate, its entrant), or None."""
    found = [(rate_at(e, mode, recall), e) for e in of(contest, kind)]
    return max(((rate, e) for rate, e in found if rate is not None), key=lambda f: f[0], default=None)


# --- targets


def target(contest, what, found, limit, unit="x", at_least=True, against=""):
    reached = None if found is None else (found >= limit if at_least else found <= limit)
    return {
        "rows": contest["rows"],
        "what": what,
        "found": found,
        "limit": limit,
        "unit": unit,
        "at_least": at_least,
        "against": against,
        "reached": reached,
    }


def ratio(contest, threads, kind, mode, recall, limit):
    mine = best(contest, "ours", f"single {threads}", recall)
    theirs = best(contest, kind, f"{mode} {threads}", recall)
    found = mine[0] / theirs[0] if mine and theirs else None
    way = ", batches" if mode == "batch" else ""
    what = f"single : best of {kind}{way}, {recall:.2f}, {threads} thread{'s' if threads > 1 else ''}"
    return target(contest, what, found, limit, against=theirs[1]["name"] if theirs else "nobody reaches that recall")


def build_targets(contest):
    mine = of(contest, "ours")
    if not mine:
        return []
    built = mine[0]["build"]
    found = [
        target(
            contest, "memory besides float32", built["bytes_besides_float32"], BYTES_A_VECTOR, "bytes a vector", False
        )
    ]
    if contest["rows"] > LARGE:
        return [target(contest, "building", built["seconds"], LARGE_BUILD_SECONDS, "s", False), *found]
    graph = best(contest, "graphs", "single 1", 0.95)
    share = built["seconds"] / graph[1]["build"]["seconds"] if graph else None
    return [
        target(
            contest,
            "building : that of the best graph",
            share,
            BUILD_SHARE,
            "x",
            False,
            graph[1]["name"] if graph else "",
        ),
        *found,
    ]


def targets(outcome):
    found = []
    for contest in outcome["contests"]:
        for threads in outcome["threads"]:
            if contest["rows"] > LARGE:
                found += [
                    ratio(contest, threads, "lists of faiss", *asked)
                    for asked in (
                        ("single", 0.95, 2.5),
                        ("single", 0.99, 3.0),
                        ("batch", 0.95, 1.4),
                        ("batch", 0.99, 1.6),
                    )
                ]
                found.append(ratio(contest, threads, "graphs", "single", 0.95, 1.0))
            else:
                found += [
                    ratio(contest, threads, "peers", *asked)
                    for asked in (
                        ("single", 0.95, 1.3),
                        ("single", 0.99, 1.8),
                        ("batch", 0.95, 1.15),
                        ("batch", 0.99, 1.5),
                    )
                ]
        found += build_targets(contest)
    return found


# --- for people


def number(rate):
    return "-" if rate is None else f"{rate:,.0f}"


def show_contest(contest, threads):
    modes = [(mode, n) for n in threads for mode in ("single", "batch")]
    heads = [f"{mode}, {n} thread{'s' if n > 1 else ''}" for mode, n in modes]
    print(f"\n{contest['rows']:,} vectors: queries/s at recall@10 of 0.90, 0.95 and 0.99")
    print(f"{'':28}{'built s':>8}{'MB':>7}" + "".join(f"  {head:>25}" for head in heads))
    for e in contest["entrants"]:
        line = f"{e['name']:28}{e['build']['seconds']:8.1f}{e['build']['memory_mb']:7.0f}"
        for mode, n in modes:
            line += "  " + " ".join(f"{number(rate_at(e, f'{mode} {n}', r)):>8}" for r in RECALLS).rjust(25)
        print(line)
    for name, why in contest["missing"].items():
        print(f"{name:28} MISSING: not installed, or not for this Python ({why})")
    for name, why in contest["failures"].items():
        print(f"{name:28} FAILED: {why}")


def show_ratios(contest, threads):
    print(f"\n{'semd single, ratio at equal recall to':54}" + "".join(f"{r:>8.2f}" for r in RECALLS))
    for n in threads:
        for kind in ("peers", "lists of faiss", "graphs"):
            for mode in ("single", "batch"):
                cells, names = [], []
                for recall in RECALLS:
                    mine, theirs = best(contest, "ours", f"single {n}", recall), best(
                        contest, kind, f"{mode} {n}", recall
                    )
                    cells.append(f"{mine[0] / theirs[0]:8.2f}" if mine and theirs else f"{'-':>8}")
                    names.append(theirs[1]["name"] if theirs else "-")
                who = (
                    f"best of {kind}, {'singles' if mode == 'single' else 'batches'}, {n} thread{'s' if n > 1 else ''}"
                )
                print(f"{who:54}{''.join(cells)}  {' / '.join(names)}")


def show_asked(contest):
    """What was asked of semd, and what queries it had never seen got."""
    for e in of(contest, "ours"):
        asked = [(float(p["point"][7:]), p["recall"]) for p in e["points"] if p["point"].startswith("recall=")]
        print("\nsemd, recall asked and reached: " + ", ".join(f"{a:g} {got:.4f}" for a, got in asked))
        short = [f"{a:g}" for a, got in asked if got < a - 0.01]
        if short:
            print(f"  MISSED by more than 0.01 at {', '.join(short)}")


def verdict(t):
    return {True: "met", False: "MISSED", None: "not compared"}[t["reached"]]


def show_targets(found):
    print(f"\n{'target':64}{'vectors':>10}{'found':>9}{'':4}{'asked':>7}")
    for t in found:
        value = "-" if t["found"] is None else f"{t['found']:.2f}"
        sign = ">=" if t["at_least"] else "<="
        print(
            f"{t['what']:64}{t['rows']:>10,}{value:>9} {sign:>3}{t['limit']:7g} {t['unit']:15} "
            f"{verdict(t):13} {t['against']}"
        )


def show(outcome):
    m = outcome["machine"]
    print(f"\n{m['cpu']}, {m['cpus']} CPUs, {' '.join(m['has'])}")
    print(", ".join(f"{name} {version}" for name, version in outcome["versions"].items()))
    if outcome["quick"]:
        print("A quick run: too few vectors and rounds for its figures to mean anything.")
    for contest in outcome["contests"]:
        show_contest(contest, outcome["threads"])
        show_ratios(contest, outcome["threads"])
        show_asked(contest)
    show_targets(outcome["targets"])


# --- the document


def table(contest, threads):
    heads = [f"{mode}, {n} thread{'s' if n > 1 else ''}" for n in threads for mode in ("single", "batch")]
    lines = [
        f"| {contest['rows']:,} vectors | build s | MB | " + " | ".join(heads) + " |",
        "|---" * (3 + len(heads)) + "|",
    ]
    for e in contest["entrants"]:
        cells = [
            (
                " / ".join(number(rate_at(e, f"{mode} {n}", r)) for r in RECALLS)
                if not (e["ours"] and mode == "batch")
                else ""
            )
            for n in threads
            for mode in ("single", "batch")
        ]
        name = f"**{e['name']}**" if e["ours"] else e["name"]
        lines.append(
            f"| {name} | {e['build']['seconds']:.1f} | {e['build']['memory_mb']:.0f} | " + " | ".join(cells) + " |"
        )
    return lines


def renew(path, outcome):
    """Puts the figures of this run between the document's markers."""
    text = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            text = f.read()
    if BEGIN not in text or END not in text:
        print(f"{path} has no place for the figures: the lines\n{BEGIN}\n{END}")
        return
    m = outcome["machine"]
    packages = ", ".join(f"{n} {v}" for n, v in outcome["versions"].items())
    lines = [f"{m['cpu']}, {m['cpus']} CPUs ({' '.join(m['has'])}), {outcome['date'][:10]}; {packages}.", ""]
    for contest in outcome["contests"]:
        lines += [
            f"![Recall and queries a second, {contest['rows']:,} vectors](recall-{contest['rows']}.svg)",
            "",
            *table(contest, outcome["threads"]),
            "",
        ]
    lines += ["| target | vectors | found | asked | |", "|---|---|---|---|---|"]
    for t in outcome["targets"]:
        found = "-" if t["found"] is None else f"{t['found']:.2f}"
        lines.append(
            f"| {t['what']}{' (' + t['against'] + ')' if t['against'] else ''} | {t['rows']:,} | {found} | "
            f"{'≥' if t['at_least'] else '≤'} {t['limit']:g} {t['unit']} | {verdict(t)} |"
        )
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    with open(path + ".part", "w", encoding="utf-8") as f:
        f.write(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}")
    os.replace(path + ".part", path)
