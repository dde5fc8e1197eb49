"""The report's pictures as SVG: grouped bars with intervals.

They are rectangles, lines and labels, so a plotting library is not needed.
"""

import html
import math

from lookahead.files import whole_file

COLOURS = ("#d1495b", "#2a7fb8", "#3a9d5d", "#e3a02f", "#7b5ea7", "#777777", "#8c564b", "#17becf")
WIDTH, HEIGHT, LEFT, GAP = 720, 220, 60, 95  # a panel's axes, its margin, the space below it


def _label(x, y, words, anchor="middle", size=13):
    style = f'text-anchor="{anchor}" font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(words)}</text>'


def _box(x, y, width, height, i):
    size, colour = f'width="{width:.1f}" height="{height:.1f}"', COLOURS[i % len(COLOURS)]
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"/>'


def _round_up(value):
    """Return four times the next of 1, 1.5, 2, 2.5, 3, 4, 5, ...: the top of a readable scale.

    >>> _round_up(5.2), _round_up(1.9)
    (6.0, 2.0)
    """
    power = 4 * 10 ** math.floor(math.log10(max(value, 1e-9) / 4))
    return power * next(f for f in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 10) if f * power >= value)


def bar_chart(path, panels, unit):
    """Write grouped bars with intervals.

    `panels` is {title: {name: {group: (value, low, high)}}}: axes for each title, a colour for each
    name, a place on the axis for each group.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    parts, x = [], LEFT
    for i, name in enumerate(names):  # the legend
        parts += [_box(x, 9, 12, 12, i), _label(x + 17, 20, name, "start")]
        x += 40 + 8 * len(name)
    for number, (title, series) in enumerate(panels.items()):
        bottom = 65 + HEIGHT + number * (HEIGHT + GAP)
        groups = list(dict.fromkeys(group for bars in series.values() for group in bars))
        ceiling = _round_up(max(high for bars in series.values() for _, _, high in bars.values()))
        slot, scale = WIDTH / len(groups), HEIGHT / ceiling
        width = 0.8 * slot / len(names)
        parts.append(_label(LEFT, bottom - HEIGHT - 14, title, "start", 15))
        parts.append(_label(LEFT, bottom + 38, unit, "start", 12))
        for i in range(5):
            y = bottom - HEIGHT * i / 4
            parts.append(f'<path d="M{LEFT} {y:.1f}h{WIDTH}" stroke="#dddddd"/>')
            parts.append(_label(LEFT - 6, y + 4, f"{ceiling * i / 4:.3g}", "end", 12))
        for k, group in enumerate(groups):
            words = str(group) if len(str(group)) < 28 else str(group)[:26] + "…"
            parts.append(_label(LEFT + slot * (k + 0.5), bottom + 18, words))
            for i, name in enumerate(names):
                if group in series.get(name, ()):
                    value, low, high = (scale * v for v in series[name][group])
                    x = LEFT + slot * (k + 0.1) + width * i
                    parts.append(_box(x, bottom - value, width, value, i))
                    line = f"M{x + width / 2:.1f} {bottom - low:.1f}V{bottom - high:.1f}"
                    parts.append(f'<path d="{line}" stroke="black"/>')
    size = f"0 0 {LEFT + WIDTH + 20} {25 + len(panels) * (HEIGHT + GAP)}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif">'
    with whole_file(path) as file:
        file.write(head + '<rect width="100%" height="100%" fill="white"/>\n')
        file.write("\n".join(parts) + "\n</svg>\n")
