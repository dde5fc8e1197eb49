"""Tables: the runs of `results.json` as rows, and rows as text.

Runs of one name differ in their seed only and are one row, the mean over seeds (`intervals.py`).
A row is compared with the vanilla row of equal recipe and equal data, and with no other. A table is
Markdown with aligned columns, so it reads well in a terminal too.
"""

import math
import statistics

from lookahead.report.intervals import compare, over_seeds

# Columns and their heads. A column is a field of a run, or a curve and a position.
RATES = {"rsr": "RSR", "jsr": "JSR", "utility": "utility"}
KL_1 = {("harmful", "tuned_aligned", 1): "KL 1 harmful", ("task", "tuned_aligned", 1): "KL 1 task"}
OTHERS = {"test_loss": "test loss"} | KL_1 | {"seconds_per_epoch": "s/epoch"}
# Curves, with picture and title. The loss on test rows stands with the KLs, as the pairs "test".
CURVES = {
    ("harmful", "tuned_aligned"): ("kl", "KL(tuned ‖ aligned) on harmful pairs, nats by position"),
    ("harmful", "aligned_tuned"): ("kl", "KL(aligned ‖ tuned) on harmful pairs, nats by position"),
    ("task", "tuned_aligned"): ("kl-task", "KL(tuned ‖ aligned) on task pairs, nats by position"),
    ("task", "aligned_tuned"): ("kl-task", "KL(aligned ‖ tuned) on task pairs, nats by position"),
    ("test", "mean"): ("test-loss", "Loss on test rows, nats by position"),
}


def summarise(runs):
    """Return a row for each name: the fields of its first run, and means over seeds by column.

    A row has "runs", its seeds, and "vanilla", the row that it is compared with ({} if none is).
    """
    rows = {}
    for run in runs:
        rows.setdefault(run["name"], run | {"runs": []})["runs"].append(run)
    for row in rows.values():
        # All seeds were measured on the same prompts, rows and pairs.
        measured = [_estimates(run) for run in row["runs"]]
        for column in measured[0]:
            top = 1.0 if column in RATES else math.inf
            row[column] = over_seeds([estimates[column] for estimates in measured], top)
        seconds = [run.get("seconds_per_epoch") for run in row["runs"]]
        row["seconds_per_epoch"] = statistics.fmean(seconds) if all(seconds) else None
        row["blank"] = sum(sum((run["blank"] or {}).values()) for run in row["runs"])
        # The vanilla row may get its means after this one.
        setting = [row.get("recipe"), row.get("data")]
        bases = [base for base in rows.values() if base["method"] == "vanilla"]
        equal = [base for base in bases if [base["recipe"], base["data"]] == setting]
        row["vanilla"] = equal[0] if equal else {}
    return list(rows.values())


def _estimates(run):
    """Return {column: estimate} of what was measured of one run."""
    found = {column: run[column] for column in (*RATES, "test_loss") if run[column]}
    places = run["kl"] | {"test": run["test_loss_positions"]}
    for pairs, curve in CURVES:
        numbers = places.get(pairs) or {}
        halves = numbers.get("half") or numbers.get(f"{curve}_half")
        for k, value in enumerate(numbers.get(curve, [])):
            half = halves[k] or 0.0  # None: a single pair has no interval
            ends = {"low": max(0.0, value - half), "high": value + half}
            found[pairs, curve, k + 1] = {"value": value, "n": numbers["count"][k]} | ends
    return found


def series(rows, columns):
    """Return {name: {head: estimate}} of what rows have of columns = {column: head}."""
    return {r["name"]: {columns[c]: r[c] for c in columns if r.get(c)} for r in rows}


def table(rows, columns):
    """Return the columns = {column: head} that some row has, as an aligned Markdown table."""
    columns = {c: head for c, head in columns.items() if any(row.get(c) for row in rows)}
    cells = [["model", *columns.values()]]
    cells += [[row["name"], *(_cell(row, column) for column in columns)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    cells.insert(1, ["-" * width for width in widths])
    lines = [[cell.ljust(width) for cell, width in zip(line, widths)] for line in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row, column):
    number = row.get(column)
    base = row["vanilla"].get(column)
    if number is None:
        return ""
    if column == "seconds_per_epoch":
        return f"{number:.1f} {number / base:.2f}×" if base else f"{number:.1f}"
    value, low, high = (number[end] for end in ("value", "low", "high"))
    text = f"{value:.3f} ±{high - value:.3f}"
    if column in RATES:
        text = f"{100 * value:.1f} [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{text} {compare(number, base)}".rstrip()
