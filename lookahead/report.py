"""The report: intervals, the tables and bars in the terminal, `report.md`, and the pictures.

A rate is {"value", "n", "low", "high"} with a 95 % Wilson interval. Runs that differ in their seed
only are one row: the mean over seeds, with the wider of two 95 % intervals, Student's t over seeds
and Wilson's over prompts. The first is blind when all seeds agree; the second counts each prompt
once, because every seed answers the same ones.
"""

import json
import math
import statistics
import textwrap

from lookahead.files import whole_file
from lookahead.pictures import bar_chart, rate_chart

RATES = ("rsr", "jsr", "utility", "refusal_phrase", "over_refusal")
HEADS = ("RSR", "JSR", "utility", "phrase", "over-ref.")
KLS = {
    ("harmful", "tuned_seed"): "KL(tuned || seed) on harmful pairs",
    ("task", "tuned_seed"): "KL(tuned || seed) on the task's own pairs",
    ("harmful", "seed_tuned"): "KL(seed || tuned) on harmful pairs",
    ("task", "seed_tuned"): "KL(seed || tuned) on the task's own pairs",
}
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def wilson(successes, n):
    """Return a share with its 95 % Wilson interval, or None when there is nothing to count.

    >>> wilson(0, 100)
    {'value': 0.0, 'n': 100, 'low': 0.0, 'high': 0.037}
    """
    if n == 0:
        return None
    z, share = 1.96, successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"value": share, "n": n, "low": round(low, 4), "high": round(high, 4)}


def student(values):
    """Return the half-width of Student's 95 % interval of the mean of several seeds' values."""
    if len(values) < 2:
        return 0.0
    return STUDENT.get(len(values), 2.23) * statistics.stdev(values) / math.sqrt(len(values))


def mean_rate(rates):
    """Return several seeds' rates as one, or None when one of them has no data."""
    if None in rates:
        return None
    values, n = [rate["value"] for rate in rates], rates[0]["n"]
    mean, half = statistics.fmean(values), student(values)
    rate, low, high = wilson(mean * n, n), max(0.0, mean - half), min(1.0, mean + half)
    return rate | {"low": min(rate["low"], low), "high": max(rate["high"], high)}


def mean_kl(kls, direction):
    """Return [(mean, half-width), ...] of one direction of the KL by position, over seeds."""
    result = []
    for k in range(len(kls[0][direction])):
        values = [kl[direction][k] for kl in kls]
        halves = [kl[f"{direction}_half"][k] or 0.0 for kl in kls]
        result.append((statistics.fmean(values), max(student(values), statistics.fmean(halves))))
    return result


def summarise(runs):
    """Return one row for each setting, in order of appearance, with its label, rates and KL."""
    groups, rows = {}, []
    for run in runs:
        groups.setdefault(run["name"].rsplit("-seed", 1)[0], []).append(run)
    for name, members in groups.items():
        row = {"label": name, "lr": members[0]["lr"], "seeds": len(members)}
        row |= {key: mean_rate([run[key] for run in members]) for key in RATES}
        for pairs, direction in KLS:
            row[pairs, direction] = mean_kl([run["kl"][pairs] for run in members], direction)
        row["setting"] = name.replace(f"-lr{row['lr']}", "")  # the same at another rate
        rows.append(row)
    return rows


def percent(rate, interval=True):
    if rate is None:
        return "no data"
    text = f"{100 * rate['value']:.1f}"
    return f"{text} [{100 * rate['low']:.0f},{100 * rate['high']:.0f}]" if interval else text


def rate_table(rows):
    """Return the table of rates as lists of cells, the head first."""
    cells = [["", *HEADS]]
    for row in rows:
        wide = [percent(row[key]) for key in RATES[:3]]
        cells.append([row["label"], *wide, *(percent(row[key], False) for key in RATES[3:])])
    return cells


def kl_table(rows, which):
    """Return the table of one of KLS by position as lists of cells, the head first."""
    cells = [["position", *(str(k + 1) for k in range(len(rows[0][which])))]]
    for row in rows[1:]:
        cells.append([row["label"], *(f"{mean:.3f}" for mean, _ in row[which])])
    return cells


def as_text(cells):
    """Align cells in columns for a terminal, the first to the left and the numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for first, *numbers in cells:
        aligned = (cell.rjust(width) for cell, width in zip(numbers, widths[1:]))
        lines.append("  ".join([first.ljust(widths[0]), *aligned]))
    return "\n".join(lines)


def as_markdown(cells):
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "| --- " * len(cells[0]) + "|", *lines[1:]])


def terminal_bars(rows, which, width=48):
    """Return a bar for each method's KL at position 1."""
    values = [(row["label"], row[which][0][0]) for row in rows[1:]]
    names, top = max(len(name) for name, _ in values), max(value for _, value in values) or 1.0
    bars = [(name, "█" * round(width * value / top), value) for name, value in values]
    return "\n".join(f"{name.ljust(names)}  {bar or '▏'} {value:.3f}" for name, bar, value in bars)


CAPTION = (
    "RSR, JSR: harmful requests answered safely, plainly and after 3 forced tokens of a harmful "
    "answer; utility: test rows answered right; phrase: harmful requests answered with a refusal "
    "phrase; over-ref.: test rows answered with one. In percent, with 95 % intervals."
)


def print_report(folder, rows):
    """Show the tables and the bars in the terminal."""
    print(as_text(rate_table(rows)) + "\n\n" + textwrap.fill(CAPTION, 80))
    for which, title in KLS.items():
        if rows[0][which] and "tuned_seed" in which:
            print(f"\n{title}, nats by position; bars: position 1")
            print(as_text(kl_table(rows, which)) + "\n" + terminal_bars(rows, which))
    print(f"\n{folder}/report.md has the tables, the pictures and answers side by side")


def write_report(folder, rows, examples):
    """Write `report.md`, `kl.svg` and, when there are several rates, `rates.svg`.

    `examples` are (prompt, [(name, answer), ...]), shown side by side.
    """
    parts = ["# Report", f"{CAPTION} Runs of each method: {max(row['seeds'] for row in rows)}."]
    parts.append(as_markdown(rate_table(rows)))
    panels = []
    for which, title in KLS.items():
        if rows[0][which]:
            parts += [f"{title}, in nats", as_markdown(kl_table(rows, which))]
            if "tuned_seed" in which:
                panels.append((title, {row["label"]: row[which] for row in rows[1:]}))
    if panels:
        bar_chart(folder / "kl.svg", panels)
        parts.append("![KL by position](kl.svg)")
    if len({row["lr"] for row in rows[1:]}) > 1:
        rate_chart(folder / "rates.svg", rows[1:])
        parts.append("![Safety and utility over learning rates](rates.svg)")
    for prompt, answers in examples:
        quoted = [[name, json.dumps(text, ensure_ascii=False)] for name, text in answers]
        cells = [[name, text.replace("|", "\\|")] for name, text in quoted]
        parts += [f"**{prompt}**", as_markdown([["model", "answer"], *cells])]
    with whole_file(folder / "report.md") as file:
        file.write("\n\n".join(parts) + "\n")
