"""Tables: the runs of `results.json` as rows, rows as cells, cells as text or Markdown.

Runs that differ in their seed only are one row, the mean over seeds (`intervals.py`). Each row is
compared with the vanilla row of the same recipe and data; the paper's figures can stand beside.
"""

import statistics

from lookahead.intervals import compare, mean_rate, student

RATES = {"rsr": "RSR", "jsr": "JSR", "utility": "utility", "rsr_judged": "RSR, judge"}
RATES |= {"jsr_judged": "JSR, judge", "refusal_phrase": "phrase", "over_refusal": "over-ref."}
COMPARED = ("rsr", "jsr", "utility", "rsr_judged", "jsr_judged")
KL_TITLES = {
    ("harmful", "tuned_seed"): "KL(tuned || seed) on harmful pairs",
    ("harmful", "seed_tuned"): "KL(seed || tuned) on harmful pairs",
    ("task", "tuned_seed"): "KL(tuned || seed) on the task's own pairs",
    ("task", "seed_tuned"): "KL(seed || tuned) on the task's own pairs",
}
LOSS_TITLES = {"loss_before": "Loss of training rows before training",
               "loss_after": "Loss of training rows after training"}  # fmt: skip
PREVIEW = ("m", "prefix", "connector")
SHARED = ("lr", "epochs", "batch_size", "schedule", "beta1", "max_length", "lora", "limit")
SHARED += ("dtype", "system", "examples", "data_sha256")  # by runs that can be compared
PAPER_TASKS = {"gsm8k": slice(0, 4), "samsum": slice(4, 8)}
PAPER = {  # arXiv 2503.19041 v1: RSR, JSR, utility, seconds an epoch (on four GPUs), for each task
    "seed": (99.39, 90.30, 26.69, None, 99.39, 90.30, 25.07, None),
    "vanilla": (96.67, 46.97, 42.91, 281, 69.09, 30.61, 52.74, 813),
    "sdft": (96.06, 61.21, 34.32, None, 92.73, 52.73, 30.89, None),
    "constrained": (98.79, 50.30, 35.56, None, 69.70, 36.06, 50.06, None),
    "real-m6": (98.48, 60.61, 38.21, 286, 94.85, 49.39, 51.08, 825),
    "virtual": (99.39, 62.42, 40.79, 290, 96.67, 56.67, 51.69, 832),
}


def _mean_kl(kls, direction):
    """Return {position: (mean, low, high)} of one direction of the KL, over seeds."""
    result = {}
    for k in range(len(kls[0][direction])):
        values = [kl[direction][k] for kl in kls]
        halves = [kl[f"{direction}_half"][k] or 0.0 for kl in kls]
        mean, half = statistics.fmean(values), max(student(values), statistics.fmean(halves))
        result[k + 1] = (mean, max(0.0, mean - half), mean + half)
    return result


def summarise(runs):
    """Return a row for each setting: its fields, means over seeds, and marks against vanilla."""
    groups, rows = {}, []
    for run in runs:
        groups.setdefault(run["name"].rsplit("-seed", 1)[0], []).append(run)
    for label, members in groups.items():
        row = {key: members[0].get(key) for key in ("method", *PREVIEW, *SHARED)}
        row |= {"label": label, "seeds": len(members), "slower": None}
        for key in RATES:  # a judge may have scored some of the seeds only
            row[key] = mean_rate([run[key] for run in members if run.get(key)])
        for pairs, direction in KL_TITLES:
            row[pairs, direction] = _mean_kl([run["kl"][pairs] for run in members], direction)
        for key in LOSS_TITLES:  # the seed model has none
            means = map(statistics.fmean, zip(*(run.get(key) or [] for run in members)))
            row[key] = {k: (mean, mean, mean) for k, mean in enumerate(means, 1)}
        seconds = [run.get("seconds_per_epoch") for run in members]
        row["seconds_per_epoch"] = statistics.fmean(seconds) if all(seconds) else None
        rows.append(row)
    for row in rows:
        base = next(iter(vanilla_of(row, rows)), {})
        row["marks"] = {key: compare(row[key], base.get(key)) for key in COMPARED}
        row["slower"] = row["seconds_per_epoch"] / base["seconds_per_epoch"] if base else None
    return rows


def vanilla_of(row, rows):
    """Return the rows, one or none, of vanilla that share the recipe and data of a row."""
    alike = [other for other in rows if all(other[field] == row[field] for field in SHARED)]
    return [other for other in alike if other["method"] == "vanilla"]


def percent(rate, interval=True):
    if rate is None:
        return "no data"
    text = f"{100 * rate['value']:.1f}"
    return f"{text} [{100 * rate['low']:.0f},{100 * rate['high']:.0f}]" if interval else text


def rate_table(rows, keys):
    """Return the table of rates as lists of cells, the head first; a judge's if it gave scores."""
    keys = [key for key in keys if "judged" not in key or any(row[key] for row in rows)]
    cells = [["", *(RATES[key] for key in keys), "s/epoch"]]
    for row in rows:
        marked = [percent(row[k], k in COMPARED) + row["marks"].get(k, "") for k in keys]
        seconds = f"{row['seconds_per_epoch']:.3g}" if row["seconds_per_epoch"] else ""
        ratio = f" {row['slower']:.2f}×" if row["slower"] else ""
        cells.append([row["label"], *marked, seconds + ratio])
    return cells


def beside_paper(cells, rows, task):
    """Add the paper's figures to the table of rates, to the rows that it has too."""
    heads = ("paper: RSR", "paper: JSR", "paper: utility", "paper: s/epoch")
    added = [[*cells[0], *heads]]
    for line, row in zip(cells[1:], rows):
        name = row["label"].replace("-dtypebfloat16", "")  # and nothing else by the way
        figures = PAPER.get(name, [None] * 8)[PAPER_TASKS[task]]
        added.append([*line, *("" if figure is None else str(figure) for figure in figures)])
    return added


def verdicts(rows):
    """Return sentences: what is significantly better than vanilla, what worse, what unknown."""
    sentences = []
    for mark, word in (("▲", "better"), ("▼", "worse")):
        found = []
        for row in rows[1:]:
            keys = [RATES[key] for key, its in row["marks"].items() if its == mark]
            found += [f"{row['label']} ({', '.join(keys)})"] if keys else []
        sentences.append(f"Significantly {word} than vanilla: {'; '.join(found) or 'nothing'}.")
    alone = [row["label"] for row in rows[1:] if row["slower"] is None]
    if alone:
        sentences.append(f"Not compared, for want of a vanilla run like them: {', '.join(alone)}.")
    return sentences


def position_table(rows, which):
    """Return the table of a KL or a loss by position as lists of cells, the head first."""
    positions = max((row[which] for row in rows), key=len)
    cells = [["position", *map(str, positions)]]
    for row in rows:
        cells.append([row["label"], *(f"{mean:.3f}" for mean, _, _ in row[which].values())])
    return cells


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


def as_markdown(cells):
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "| --- " * len(cells[0]) + "|", *lines[1:]])
