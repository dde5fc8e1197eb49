"""The report's pictures as SVG: grouped bars with intervals, and lines over learning rates.

Both are rectangles, lines and labels, so a plotting library is not needed.
"""

import html
import math

from lookahead.files import whole_file

COLOURS = ("#d1495b", "#2a7fb8", "#3a9d5d", "#e3a02f", "#7b5ea7", "#777777", "#8c564b", "#17becf")
WIDTH, HEIGHT, LEFT, GAP = 720, 220, 60, 95  # a panel's axes, its margin, the space below it


def label(x, y, words, anchor="middle", size=13):
    style = f'text-anchor="{anchor}" font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(words)}</text>'


def _panel(top, title, unit, ceiling, below):
    """Return the frame of one panel: title, a scale from 0 to `ceiling`, and names below."""
    bottom, slot = top + HEIGHT, WIDTH / len(below)
    parts = [label(LEFT, top - 14, title, "start", 15), label(LEFT, bottom + 38, unit, "start", 12)]
    for i in range(5):
        y = bottom - HEIGHT * i / 4
        parts.append(f'<path d="M{LEFT} {y:.1f}h{WIDTH}" stroke="#dddddd"/>')
        parts.append(label(LEFT - 6, y + 4, f"{ceiling * i / 4:.3g}", "end", 12))
    return parts + [label(LEFT + slot * (i + 0.5), bottom + 18, t) for i, t in enumerate(below)]


def legend(names):
    parts, x = [], LEFT
    for i, name in enumerate(names):
        parts.append(f'<rect x="{x}" y="9" width="12" height="12" fill="{COLOURS[i % 8]}"/>')
        parts.append(label(x + 17, 20, name, "start"))
        x += 40 + 8 * len(name)
    return parts


def _write_svg(path, parts, panels):
    size = f"0 0 {LEFT + WIDTH + 20} {65 + panels * (HEIGHT + GAP) - 40}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif">'
    with whole_file(path) as file:
        file.write(head + '<rect width="100%" height="100%" fill="white"/>\n')
        file.write("\n".join(parts) + "\n</svg>\n")


def _round_up(value):
    """Return four times the next of 1, 1.5, 2, 2.5, 3, 4, 5, ...: the top of a readable scale.

    >>> _round_up(5.2), _round_up(1.9)
    (6.0, 2.0)
    """
    power = 10 ** math.floor(math.log10(max(value, 1e-9) / 4))
    return (
        4 * power * next(f for f in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 10) if 4 * f * power >= value)
    )


def bar_chart(path, panels, unit, below=None):
    """Write grouped bars with intervals.

    `panels` is {title: {name: [(value, low, high), ...]}}: a colour for each name, a group of bars
    for each place in the lists. Groups are called by `below`, or numbered from 1.
    """
    names = list(next(iter(panels.values())))
    parts = legend(names)
    for number, (title, series) in enumerate(panels.items()):
        top = 65 + number * (HEIGHT + GAP)
        bottom, count = top + HEIGHT, max(len(values) for values in series.values())
        ceiling = _round_up(max(high for values in series.values() for _, _, high in values))
        groups = below or [str(k + 1) for k in range(count)]
        parts += _panel(top, title, unit, ceiling, groups)
        slot, scale = WIDTH / count, HEIGHT / ceiling
        width = 0.8 * slot / len(names)
        for i, name in enumerate(names):
            for k, (value, low, high) in enumerate(series[name]):
                x, y = LEFT + slot * (k + 0.1) + width * i, bottom - scale * value
                size = f'width="{width:.1f}" height="{scale * value:.1f}"'
                parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{COLOURS[i % 8]}"/>')
                line = (
                    f"M{x + width / 2:.1f} {bottom - scale * low:.1f}V{bottom - scale * high:.1f}"
                )
                parts.append(f'<path d="{line}" stroke="black"/>')
    _write_svg(path, parts, len(panels))


def rate_chart(path, rows):
    """Write RSR and utility of each setting over the learning rates, equal lines a little apart."""
    rates, settings = sorted({row["lr"] for row in rows}), {}
    for row in sorted(rows, key=lambda row: row["lr"]):
        name = row["label"].replace(f"-lr{row['lr']}", "")  # the same at another rate
        settings.setdefault(name, []).append(row)
    parts, slot = legend(settings), WIDTH / len(rates)
    for number, (key, title) in enumerate((("rsr", "RSR"), ("utility", "utility"))):
        top = 65 + number * (HEIGHT + GAP)
        parts += _panel(top, title, "learning rate", 1.0, [f"{rate:g}" for rate in rates])
        for i, members in enumerate(settings.values()):
            points = []
            for row in members:
                if row[key]:
                    x = LEFT + slot * (rates.index(row["lr"]) + 0.5)
                    points.append(f"{x:.1f},{top + HEIGHT * (1 - row[key]['value']) + 3 * i:.1f}")
            style = f'fill="none" stroke="{COLOURS[i % 8]}" stroke-width="2.5"'
            parts.append(f'<polyline points="{" ".join(points)}" {style}/>')
    _write_svg(path, parts, 2)
