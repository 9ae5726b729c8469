"""Recall against queries a second as a picture: SVG, written by hand."""

import math
from xml.sax.saxutils import escape

from report import curve, scale

WIDTH, HEIGHT, GAP, LEFT, TOP, LEGEND = 360, 320, 70, 60, 40, 210
LOWEST, HIGHEST = 0.80, 0.999
TICKS = (0.80, 0.90, 0.95, 0.98, 0.99, 0.995, 0.999)
COLOURS = (
    "#1f77b4",
    "#2ca02c",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
    "#ff7f0e",
    "#393b79",
    "#637939",
)
OURS = "#d62728"


def visible(points):
    return [(recall, rate) for recall, rate in points if LOWEST <= recall <= HIGHEST]


class Panel:
    def __init__(self, left, title, rates):
        self.left, self.title = left, title
        low, high = min(rates, default=1), max(rates, default=10)
        self.low, self.high = math.log10(low / 1.2), math.log10(high * 1.2)

    def x(self, recall):
        return self.left + WIDTH * (scale(recall) - scale(LOWEST)) / (scale(HIGHEST) - scale(LOWEST))

    def y(self, rate):
        return TOP + HEIGHT * (self.high - math.log10(rate)) / (self.high - self.low)

    def frame(self):
        yield f'<rect x="{self.left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>'
        middle = self.left + WIDTH / 2
        head = f'<text x="{middle}" y="{TOP - 14}" text-anchor="middle" font-weight="bold">'
        yield f"{head}{escape(self.title)}</text>"
        yield f'<text x="{middle}" y="{TOP + HEIGHT + 36}" text-anchor="middle">recall@10</text>'
        for tick in TICKS:
            x = self.x(tick)
            yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{TOP + HEIGHT}" stroke="#ddd"/>'
            yield f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{tick:g}</text>'
        for power in range(math.floor(self.low), math.ceil(self.high) + 1):
            for digit in (1, 2, 5):
                rate = digit * 10**power
                if self.low <= math.log10(rate) <= self.high:
                    y = self.y(rate)
                    yield f'<line x1="{self.left}" y1="{y:.1f}" x2="{self.left + WIDTH}" y2="{y:.1f}" stroke="#ddd"/>'
                    yield f'<text x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{rate:,g}</text>'

    def line(self, points, colour, wide):
        points = [(self.x(recall), self.y(rate)) for recall, rate in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{3 if wide else 1.5}"/>'
        for x, y in points:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3.5 if wide else 2.5}" fill="{colour}"/>'


def panels(contest, threads):
    """For each panel its title and everybody's points; ours are single queries in all."""
    titles = [(f"single queries, {n} thread{'s' if n > 1 else ''}", "single", n) for n in threads]
    titles.append(
        (f"semd singly, others in batches, {threads[0]} thread{'s' if threads[0] > 1 else ''}", "batch", threads[0])
    )
    for title, mode, n in titles:
        lines = [(e, visible(curve(e, f"{'single' if e['ours'] else mode} {n}"))) for e in contest["entrants"]]
        yield title, [(e, points) for e, points in lines if points]


def draw(contest, threads):
    found = list(panels(contest, threads))
    others = [e["name"] for e in contest["entrants"] if not e["ours"]]
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(others)}
    width = LEFT + len(found) * (WIDTH + GAP) + LEGEND
    height = TOP + HEIGHT + 50
    box = f'viewBox="0 0 {width} {height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12">'
    yield f"<title>Recall@10 and queries a second, {contest['rows']:,} vectors of 384 dimensions</title>"
    yield f'<rect width="{width}" height="{height}" fill="#fff"/>'
    for i, (title, lines) in enumerate(found):
        panel = Panel(LEFT + i * (WIDTH + GAP), title, [rate for _, points in lines for _, rate in points])
        yield from panel.frame()
        for entrant, points in sorted(lines, key=lambda line: line[0]["ours"]):
            yield from panel.line(points, OURS if entrant["ours"] else colours[entrant["name"]], entrant["ours"])
    left = LEFT + len(found) * (WIDTH + GAP) - 30
    for i, entrant in enumerate(contest["entrants"]):
        y, colour = TOP + 10 + 20 * i, OURS if entrant["ours"] else colours[entrant["name"]]
        wide = 3 if entrant["ours"] else 1.5
        yield f'<line x1="{left}" y1="{y}" x2="{left + 24}" y2="{y}" stroke="{colour}" stroke-width="{wide}"/>'
        yield f'<text x="{left + 32}" y="{y + 4}">{escape(entrant["name"])}</text>'
    yield "</svg>"


def write(contest, threads, path):
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(draw(contest, threads)) + "\n")
