"""Pictures: grouped bars with intervals, as SVG.

A picture is nothing but lines and texts (a bar is a thick line), so no plotting library is needed.
"""

import html

from lookahead.files.writing import write_text

COLOURS = ("#777", "#d45", "#28b", "#395", "#ea3", "#75a", "#854", "#1bc", "#e7c", "#ab2")
WIDTH = 720  # of a panel's axes
HEIGHT = 220
SPACE = 70  # around and between panels
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="14" viewBox='


def bar_chart(path, panels, factor=1):
    """Write `panels` = {title: {name: {group: estimate}}} as an SVG file.

    Each title has axes of its own, each name a colour, each group a place along the axes. The axes
    count in estimates times `factor`: 100 for percent.
    """
    # The names, in their colours, stand to the right. A name has its colour in all panels.
    names = dict.fromkeys(name for series in panels.values() for name in series)
    colours = dict(zip(names, COLOURS * len(names)))
    parts = []
    for i, (name, colour) in enumerate(colours.items()):
        parts.append(_text(WIDTH + 15, 20 * i - HEIGHT, f"■ {name}", "start", colour))
    # Each panel has its origin at the left end of its axis. In SVG, y grows downwards.
    for i, (title, series) in enumerate(panels.items()):
        place = f"translate(0 {i * (HEIGHT + SPACE)})"
        parts += [f'<g transform="{place}">', *_panel(title, series, colours, factor), "</g>"]
    width = WIDTH + 2 * SPACE + 9 * max(map(len, names))
    height = SPACE + max(len(panels) * (HEIGHT + SPACE), 20 * len(names))
    head = f'{HEAD}"{-SPACE} {-HEIGHT - SPACE} {width} {height}" style="background: white">'
    write_text(path, "\n".join([head, *parts, "</svg>\n"]))


def _panel(title, series, colours, factor):
    """Return the SVG elements of one panel."""
    # Lines at the multiples of a number of one digit.
    highest = max(e["high"] for bars in series.values() for e in bars.values()) or 1.0
    scale = HEIGHT / highest
    step = float(f"{highest / 4:.1g}")
    parts = [_text(0, -HEIGHT - 20, title, "start")]
    for i in range(int(highest / step) + 1):
        y = -scale * step * i
        parts.append(f'<path d="M0 {y:.1f}h{WIDTH}" stroke="#dddddd"/>')
        parts.append(_text(-8, y + 5, f"{factor * step * i:.3g}", "end"))
    # The bars of a group stand side by side, a name always at the same place.
    groups = max(series.values(), key=len)
    slot = WIDTH / len(groups)
    width = 0.8 * slot / len(colours)
    for k, group in enumerate(groups):
        parts.append(_text(slot * (k + 0.5), 20, group))
        for i, (name, colour) in enumerate(colours.items()):
            if estimate := series[name].get(group):
                value, low, high = (scale * estimate[end] for end in ("value", "low", "high"))
                x = slot * (k + 0.1) + width * (i + 0.5)
                style = f'stroke="{colour}" stroke-width="{width:.1f}"'
                parts.append(f'<path d="M{x:.1f} 0V{-value:.1f}" {style}/>')
                parts.append(f'<path d="M{x:.1f} {-low:.1f}V{-high:.1f}" stroke="black"/>')
    return parts


def _text(x, y, words, anchor="middle", colour="black"):
    style = f'text-anchor="{anchor}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(str(words))}</text>'
