"""Tables: the runs of `results.json` as rows, and rows as text.

Runs of one name differ in their seed only and are one row, the mean over seeds (`intervals.py`). A
mark compares a row with vanilla, prompt by prompt. A table is Markdown with aligned columns, so it
reads well in a terminal too.
"""

import math

from lookahead.report.intervals import compare, over_seeds

# Columns and their heads: shares, then nats. All have scores by prompt.
RATES = {"rsr": "RSR", "jsr": "JSR", "refused": "refused", "utility": "utility"}
NATS = {"test_loss": "test loss", "kl_harmful": "KL 1 harmful", "kl_task": "KL 1 task"}

# Curves over answer positions, a table and a picture each: {title: (picture, pairs of the KL)}.
CURVES = {
    "KL(tuned ‖ aligned) on harmful pairs": ("kl", "harmful"),
    "KL(tuned ‖ aligned) on task pairs": ("kl-task", "task"),
    "Loss on test rows": ("test-loss", None),
}


def estimates(run):
    """Return {column: estimate} of a run: the table's columns, and (curve, position) of curves."""
    columns = {name: run[name] for name in (*RATES, *NATS) if run.get(name)}
    for curve, (_, pairs) in CURVES.items():
        points = run["kl"][pairs]["tuned_aligned"] if pairs else run["test_loss_positions"]
        columns |= {(curve, k): point for k, point in enumerate(points, 1)}
        if pairs and points:
            columns[f"kl_{pairs}"] = points[0]
    return columns


def summarise(runs):
    """Return a row for each name: its first run's fields, its runs, and the means over seeds."""
    rows = {}
    for run in runs:
        rows.setdefault(run["name"], run | {"runs": []})["runs"].append(run)
    for row in rows.values():
        # All seeds were measured on the same prompts, rows and pairs.
        of_seeds = [estimates(run) for run in row["runs"]]
        for column in of_seeds[0]:
            top = 1.0 if column in RATES else math.inf
            row[column] = over_seeds([columns[column] for columns in of_seeds], top)
        row["blank"] = sum(sum(run["blank"].values()) for run in row["runs"])
    return list(rows.values())


def series(rows, columns):
    """Return {name: {head: estimate}} of what rows have of columns = {column: head}."""
    return {r["name"]: {columns[c]: r[c] for c in columns if r.get(c)} for r in rows}


def table(rows, columns):
    """Return the columns = {column: head} that some row has, as an aligned Markdown table."""
    columns = {c: head for c, head in columns.items() if any(row.get(c) for row in rows)}
    vanilla = next((row for row in rows if row["method"] == "vanilla"), None)
    cells = [["model", *columns.values()]]
    for row in rows:
        cells.append([row["name"], *(_cell(row, vanilla, column) for column in columns)])
    widths = [max(map(len, column)) for column in zip(*cells)]
    cells.insert(1, ["-" * width for width in widths])
    lines = [[cell.ljust(width) for cell, width in zip(line, widths)] for line in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row, vanilla, column):
    number = row.get(column)
    if number is None:
        return ""
    value, low, high = (number[end] for end in ("value", "low", "high"))
    text = f"{value:.3f} ±{high - value:.3f}"
    if column in RATES:
        text = f"{100 * value:.1f} [{100 * low:.0f}, {100 * high:.0f}]"

    # Vanilla's scores, prompt by prompt; curves have none.
    alone = vanilla is None or row is vanilla or row["method"] == "aligned"
    if alone or column not in row["scores"]:
        return text
    ours, theirs = ([run["scores"][column] for run in r["runs"]] for r in (row, vanilla))
    return f"{text} {compare(ours, theirs)}".rstrip()
