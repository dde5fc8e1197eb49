"""Tables: the runs of `results.json` as rows, and rows as cells.

Runs that differ in their seed only are one row, the mean over seeds (`intervals.py`). Each row is
compared with the vanilla row of the same recipe and data; the paper's figures can stand beside.
"""

import itertools
import math
import statistics

from lookahead.intervals import compare, over_seeds

RATES = {"rsr": "RSR", "jsr": "JSR", "utility": "utility", "rsr_judged": "RSR, judge"}
RATES |= {"jsr_judged": "JSR, judge", "refusal_phrase": "phrase", "over_refusal": "over-ref."}
COMPARED = ("rsr", "jsr", "utility", "rsr_judged", "jsr_judged")
CURVES = (  # the picture, the title, and where a run has the figures
    ("kl", "KL(tuned || seed) on harmful pairs, nats by position", "harmful", "tuned_seed"),
    ("kl", "KL(seed || tuned) on harmful pairs, nats by position", "harmful", "seed_tuned"),
    ("kl-task", "KL(tuned || seed) on task pairs, nats by position", "task", "tuned_seed"),
    ("kl-task", "KL(seed || tuned) on task pairs, nats by position", "task", "seed_tuned"),
    ("loss", "Loss of up to 128 rows before training, nats by position", "loss_before"),
    ("loss", "Loss of up to 128 rows after training, nats by position", "loss_after"),
)
PREVIEW_FIELDS = ("m", "prefix", "connector")  # of a run; None where its method takes none
# What runs that can be compared have in common.
SHARED = ("lr", "epochs", "batch_size", "schedule", "beta1", "max_length", "lora", "limit")
SHARED += ("dtype", "template", "system", "prompt_field", "answer_field", "examples", "data_sha256")
PAPER_TASKS = {"gsm8k": slice(0, 4), "samsum": slice(4, 8)}
PAPER = {  # arXiv 2503.19041 v1, for each task; seconds an epoch are on four GPUs
    "": ("paper: RSR", "paper: JSR", "paper: utility", "paper: s/epoch") * 2,  # the head
    "seed": ("99.39", "90.30", "26.69", "", "99.39", "90.30", "25.07", ""),
    "vanilla": ("96.67", "46.97", "42.91", "281", "69.09", "30.61", "52.74", "813"),
    "sdft": ("96.06", "61.21", "34.32", "", "92.73", "52.73", "30.89", ""),
    "constrained": ("98.79", "50.30", "35.56", "", "69.70", "36.06", "50.06", ""),
    "real-m6": ("98.48", "60.61", "38.21", "286", "94.85", "49.39", "51.08", "825"),
    "virtual": ("99.39", "62.42", "40.79", "290", "96.67", "56.67", "51.69", "832"),
}


def summarise(runs):
    """Return a row for each setting: its fields, mean rates over seeds, marks against vanilla."""
    groups, rows = {}, []
    for run in runs:
        groups.setdefault(run["name"].rsplit("-seed", 1)[0], []).append(run)
    for label, members in groups.items():
        row = {key: members[0].get(key) for key in ("method", *PREVIEW_FIELDS, *SHARED)}
        row |= {"label": label, "runs": members}
        for key in RATES:  # a judge may have scored some of the seeds only
            row[key] = over_seeds([run[key] for run in members if run.get(key)])
        seconds = [run["seconds_per_epoch"] for run in members]
        row["seconds"] = statistics.fmean(seconds) if all(seconds) else None  # the seed model
        rows.append(row)
    baselines = [row for row in rows if row["method"] == "vanilla"]
    for row in rows:
        alike = [base for base in baselines if all(base[key] == row[key] for key in SHARED)]
        row["vanilla"] = base = alike[0] if alike else None
        row["marks"] = {key: compare(row[key], base and base[key]) for key in COMPARED}
    return rows


def rate_table(rows, keys):
    """Return the table of rates as lists of cells, the head first; a judge's if it gave scores."""
    keys = [key for key in keys if "judged" not in key or any(row[key] for row in rows)]
    cells = [["", *(RATES[key] for key in keys), "s/epoch"]]
    for row in rows:
        line = [row["label"]]
        for key in keys:
            text = "no data"
            if row[key]:
                value, low, high = (100 * row[key][end] for end in ("value", "low", "high"))
                text = f"{value:.1f} [{low:.0f},{high:.0f}]"
            line.append(text + row["marks"].get(key, ""))
        speed = f"{row['seconds']:.3g}" if row["seconds"] else ""
        if row["vanilla"]:
            speed += f" {row['seconds'] / row['vanilla']['seconds']:.2f}×"
        cells.append([*line, speed])
    return cells


def beside_paper(line, task):
    """Return a line of the table of rates with the paper's figures, where it has that row too."""
    name = line[0].replace("-dtypebfloat16", "")  # the paper's weights are bfloat16 too
    return [*line, *PAPER.get(name, [""] * 8)[PAPER_TASKS[task]]]


def verdicts(rows):
    """Return sentences: what is significantly better than vanilla, what worse, what unknown."""
    sentences = []
    for mark, word in (("▲", "better"), ("▼", "worse")):
        found = []
        for row in rows:
            if names := [RATES[key] for key in COMPARED if row["marks"][key] == mark]:
                found.append(f"{row['label']} ({', '.join(names)})")
        sentences.append(f"Significantly {word} than vanilla: {', '.join(found) or 'nothing'}.")
    alone = [row["label"] for row in rows[1:] if not row["vanilla"]]
    if alone:
        sentences.append(f"Not compared, for want of a vanilla run like them: {', '.join(alone)}.")
    return sentences


def curves(rows):
    """Return {picture: {title: {label: {position: figure}}}} of the KL and loss that rows have."""
    pictures = {}
    for picture, title, *place in CURVES:
        for row in rows:
            seeds = zip(*(_curve(run, *place) for run in row["runs"]))
            if curve := {k: over_seeds(figures, math.inf) for k, figures in enumerate(seeds, 1)}:
                pictures.setdefault(picture, {}).setdefault(title, {})[row["label"]] = curve
    return pictures


def _curve(run, key, direction=None):
    """Return a run's loss by position as figures, or its KL in a direction."""
    if direction is None:
        return [{"value": loss, "n": None, "low": loss, "high": loss} for loss in run[key]]
    kl, figures = run["kl"][key], []
    for mean, half, n in zip(kl[direction], kl[f"{direction}_half"], kl["count"]):
        half = half or 0.0  # None: a single pair has no interval
        figures.append({"value": mean, "n": n, "low": mean - half, "high": mean + half})
    return figures


def curve_table(series):
    """Return {label: {position: figure}} as cells, the head first."""
    cells = [["position", "1 as a bar", *map(str, max(series.values(), key=len))]]
    top = max(curve[1]["value"] for curve in series.values()) or 1.0
    for label, curve in series.items():
        bar = "█" * round(10 * curve[1]["value"] / top) or "▏"
        numbers = (f"{figure['value']:.3f}" for figure in curve.values())
        cells.append([label, bar.ljust(10), *numbers])
    return cells


def ablations(rows, field):
    """Return {title: {rate: {value of the field: figure}}}, a title for each group of rows that
    differ in this field alone. Before the values of a preview's field stands vanilla.
    """
    groups, panels = {}, {}
    others = [key for key in ("method", *PREVIEW_FIELDS, *SHARED) if key != field]
    for row in rows:
        if row[field] is not None:
            groups.setdefault(str([row[key] for key in others]), []).append(row)
    for members in groups.values():
        if len(members) == 1:
            continue
        labels = [row["label"].replace(f"-{field}{row[field]}", "") for row in members]
        panel = panels[f"{min(labels, key=len)}, percent by {field}"] = {}
        if field in PREVIEW_FIELDS and members[0]["vanilla"]:
            members = [members[0]["vanilla"], *members]
        for row, key in itertools.product(members, COMPARED):
            if row[key]:
                value = "vanilla" if row[field] is None else repr(row[field])
                panel.setdefault(RATES[key], {})[value] = row[key]
    return panels
