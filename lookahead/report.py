"""The report: tables in the terminal, `report.md`, and its pictures, grouped bars as SVG.

Everything here is made from `results.json` and the saved completions. A picture is rectangles,
lines and labels, so a plotting library is not needed.
"""

import html
import json
import math
import textwrap

from lookahead import tables
from lookahead.files import read_json, whole_file

CAPTION = (
    "RSR, JSR: harmful requests answered safely, plainly and after 3 forced tokens of a harmful "
    "answer; utility: score on the task's test rows. In percent, with 95 % intervals; ▲ ▼: "
    "significantly above, below vanilla with the same recipe."
)
MORE = (
    "Phrase: harmful requests answered with a refusal phrase; over-ref.: test rows answered with "
    "one; s/epoch: seconds an epoch, and how many times vanilla's. The comparison is by Newcombe's "
    "interval of a difference, not corrected for their number."
)
NOTES = {  # said of a run with a number above 0 in the field
    "blank": "{blank} training rows were blank and left out.",
    "left_out": "{left_out} training rows were too long and left out.",
    "rsr_judged_missing": "{name}: {rsr_judged_missing} completions without a score (RSR, judge).",
    "jsr_judged_missing": "{name}: {jsr_judged_missing} completions without a score (JSR, judge).",
}
COLOURS = ("#d1495b", "#2a7fb8", "#3a9d5d", "#e3a02f", "#7b5ea7", "#777777", "#8c564b", "#17becf")
WIDTH, HEIGHT, LEFT, GAP = 720, 220, 60, 75  # a panel's axes, its margin, the space below it


def print_report(folder, results):
    """Show the main tables in the terminal."""
    rows = tables.summarise(results["runs"])
    print(as_text(tables.rate_table(rows, tables.COMPARED)) + "\n")
    for sentence in _sentences(results, rows):
        print(textwrap.fill(sentence, 80))
    curves = tables.curves(rows[1:])
    for picture in ("kl", "kl-task"):
        if picture in curves:
            title, series = next(iter(curves[picture].items()))
            print(f"\n{title}\n{as_text(tables.curve_table(series))}")
    print(f"\n{folder}/report.md has all tables, the pictures and answers side by side")


def write_report(folder, results):
    """Write `report.md` and its pictures."""
    rows, task = tables.summarise(results["runs"]), results["task"]
    cells = tables.rate_table(rows, tables.RATES)
    if results.get("llama_2_7b") and task in tables.PAPER_TASKS:
        cells = [tables.beside_paper(line, task) for line in cells]
    parts = ["# Report", _as_markdown(cells), *_sentences(results, rows), MORE]
    for name, panels in tables.curves(rows[1:]).items():
        for title, series in panels.items():
            parts += [title, _as_markdown(tables.curve_table(series))]
        bar_chart(folder / f"{name}.svg", panels)
        parts.append(f"![{name}]({name}.svg)")
    for field in ("lr", *tables.PREVIEW_FIELDS):
        if panels := tables.ablations(rows[1:], field):
            bar_chart(folder / f"{field}.svg", panels, 100)
            parts.append(f"![{field}]({field}.svg)")
    parts += _answers(folder, results["runs"])
    with whole_file(folder / "report.md") as file:
        file.write("\n\n".join(parts) + "\n")


def _sentences(results, rows):
    """Return what is said below the rates: verdicts, numbers, prompts, and what is missing."""
    seed = rows[0]
    counts = [f"{tables.RATES[key]} {seed[key]['n']}" for key in tables.COMPARED if seed[key]]
    sentences = [CAPTION, *tables.verdicts(rows)]
    runs = sorted({len(row["runs"]) for row in rows[1:]})
    sentences.append(f"Runs of each setting: {' to '.join(map(str, runs[:1] + runs[1:][-1:]))}. "
                     f"n: {', '.join(counts)}.")  # fmt: skip
    prompts = {"training": {row["system"] for row in rows[1:]}, "utility": {results["system"]},
               "RSR and JSR": {results["safety_system"]}}  # fmt: skip
    told = [f"{' or '.join(text or 'none' for text in sorted(texts))} ({where})"
            for where, texts in prompts.items()]  # fmt: skip
    sentences.append(f"System prompts: {', '.join(told)}.")
    if seed["rsr"] and seed["rsr"]["value"] < 0.5:
        sentences.append("The seed model answers less than half of the harmful requests safely: "
                         "there is little to lose.")  # fmt: skip
    for run in results["runs"]:
        sentences += [note.format(**run) for key, note in NOTES.items() if run.get(key)]
        if run["method"] == "sdft":
            sentences.append(f"SDFT: {run['rewritten']:.1%} of the rewrites replaced answers.")
    return list(dict.fromkeys(sentences))  # many runs say the same


def _answers(folder, runs):
    """Return Markdown of a few prompts, each with the answers of all runs of the first seed."""
    said = {}  # {prompt: cells}
    for run in runs:
        if run["seed"]:
            continue
        path = folder / "completions" / run["name"]
        harmful = read_json(f"{path}-safety.json")["results"][:2]
        pairs = [(user["content"], answer["content"]) for _, user, answer in harmful]
        tests = read_json(f"{path}-utility.json")["results"][:1]
        pairs += [(row["prompt"], row["completion"]) for row in tests]
        for prompt, answer in pairs:
            quoted = json.dumps(answer, ensure_ascii=False).replace("|", "\\|")
            said.setdefault(prompt, [["model", "answer"]]).append([run["name"], quoted])
    return [f"**{prompt}**\n\n{_as_markdown(cells)}" for prompt, cells in said.items()]


def as_text(cells, columns=80):
    """Align cells in columns for a terminal, the first to the left and the numbers to the right.

    Where that is wider than the terminal, the first cells stand on lines of their own.
    """
    widths = [max(map(len, column)) for column in zip(*cells)]
    apart = sum(widths) + 2 * len(widths) - 2 > columns
    lines = []
    for first, *numbers in cells:
        aligned = (cell.rjust(width) for cell, width in zip(numbers, widths[1:]))
        lines.append((f"{first}\n  " if apart else first.ljust(widths[0] + 2)) + "  ".join(aligned))
    return "\n".join(lines)


def _as_markdown(cells):
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "| --- " * len(cells[0]) + "|", *lines[1:]])


def _label(x, y, words, anchor="middle"):
    style = f'text-anchor="{anchor}" font-size="13"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(words)}</text>'


def _box(x, y, width, height, i):
    size, colour = f'width="{width:.1f}" height="{height:.1f}"', COLOURS[i % len(COLOURS)]
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"/>'


def bar_chart(path, panels, factor=1):
    """Write grouped bars with intervals.

    `panels` is {title: {name: {group: figure}}}: axes for each title, a colour for each name, a
    place on the axis for each group. The axes have the figures times `factor`.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    parts, x = [], LEFT
    for i, name in enumerate(names):  # the legend
        parts += [_box(x, 9, 12, 12, i), _label(x + 17, 20, name, "start")]
        x += 40 + 8 * len(name)
    for number, (title, series) in enumerate(panels.items()):
        bottom = 65 + HEIGHT + number * (HEIGHT + GAP)
        figures = [figure for bars in series.values() for figure in bars.values()]
        if any(figure["low"] < figure["high"] for figure in figures):
            title += ", 95 % intervals"
        parts.append(_label(LEFT, bottom - HEIGHT - 14, title, "start"))
        highest = max(figure["high"] for figure in figures) or 1.0
        step = float(f"{highest / 4:.1g}")  # of one digit, so three to six lines
        lines = math.ceil(highest / step)
        scale = HEIGHT / (step * lines)
        for i in range(lines + 1):
            y = bottom - scale * step * i
            parts.append(f'<path d="M{LEFT} {y:.1f}h{WIDTH}" stroke="#dddddd"/>')
            parts.append(_label(LEFT - 6, y + 4, f"{factor * step * i:.3g}", "end"))
        groups = list(dict.fromkeys(group for bars in series.values() for group in bars))
        slot, width = WIDTH / len(groups), 0.8 * WIDTH / len(groups) / len(names)
        for k, group in enumerate(groups):
            parts.append(_label(LEFT + slot * (k + 0.5), bottom + 18, f"{group!s:.28}"))
            for i, name in enumerate(names):
                if figure := series.get(name, {}).get(group):
                    value, low, high = (scale * figure[key] for key in ("value", "low", "high"))
                    x = LEFT + slot * (k + 0.1) + width * i
                    parts.append(_box(x, bottom - value, width, value, i))
                    line = f"M{x + width / 2:.1f} {bottom - low:.1f}V{bottom - high:.1f}"
                    parts.append(f'<path d="{line}" stroke="black"/>')
    size = f"0 0 {LEFT + WIDTH + 20} {25 + len(panels) * (HEIGHT + GAP)}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif">'
    with whole_file(path) as file:
        file.write(head + '<rect width="100%" height="100%" fill="white"/>\n')
        file.write("\n".join(parts) + "\n</svg>\n")
