"""A picture of RSR over KL 1, a point for each run: does the first token's move say what is lost?

    python bench/scatter.py OUT.svg out/toy/results.json [more results.json]

KL 1 is on a logarithmic axis, as it goes from thousandths to ten nats.
"""

import html
import json
import math
import pathlib
import sys

COLOURS = "#777 #d45 #28b #395 #ea3 #75a #854 #1bc #e7c #ab2 #000 #0a5 #06c #f0f".split()
WIDTH = 720
HEIGHT = 360
LEAST = 0.001  # nats, at the left end

target, *sources = map(pathlib.Path, sys.argv[1:])
runs = [run for path in sources for run in json.loads(path.read_text())["runs"]]
runs = [run for run in runs if run["method"] != "aligned"]
names = list(dict.fromkeys(run["name"] for run in runs))
colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def place(kl):
    """Return the place of a KL on the axis, which has four decades."""
    return WIDTH * math.log10(max(kl, LEAST) / LEAST) / 4


def text(x, y, words, anchor="middle", colour="black"):
    style = f'text-anchor="{anchor}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(str(words))}</text>'


parts = [
    '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="14" '
    f'viewBox="-60 -{HEIGHT + 40} {WIDTH + 260} {HEIGHT + 100}" style="background: white">'
]
for percent in range(0, 101, 25):
    y = -HEIGHT * percent / 100
    parts.append(
        f'<path d="M0 {y:.1f}h{WIDTH}" stroke="#dddddd"/>' + text(-8, y + 5, percent, "end")
    )
for kl in (0.001, 0.01, 0.1, 1, 10):
    parts.append(text(place(kl), 22, kl))
parts.append(
    text(WIDTH / 2, 45, "KL 1 on harmful requests, nats") + text(0, -HEIGHT - 18, "RSR", "start")
)
for run in runs:
    kl = run["kl"]["harmful"]["tuned_aligned"][0]["value"]
    spot = f'cx="{place(kl):.1f}" cy="{-HEIGHT * run["rsr"]["value"]:.1f}"'
    parts.append(f'<circle {spot} r="6" fill="{colours[run["name"]]}" fill-opacity="0.6"/>')
for i, name in enumerate(names):
    parts.append(text(WIDTH + 50, 20 * i - HEIGHT, f"● {name}", "start", colours[name]))
target.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")
