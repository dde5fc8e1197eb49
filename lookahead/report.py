"""The report: tables and bars in the terminal, `report.md`, and its pictures.

Everything here is made from `results.json` and the saved completions.
"""

import json
import textwrap

from lookahead import tables
from lookahead.files import read_json, whole_file
from lookahead.pictures import bar_chart, rate_chart
from lookahead.tables import as_markdown, as_text, position_table, rate_table, summarise, verdicts

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


def _terminal_bars(rows, which):
    """Return a bar for each method's KL at position 1."""
    values = [(row["label"], row[which][0][0]) for row in rows]
    names, top = max(len(name) for name, _ in values), max(value for _, value in values) or 1.0
    width = max(8, 70 - names)
    bars = [(name, "█" * round(width * value / top), value) for name, value in values]
    return "\n".join(f"{name.ljust(names)}  {bar or '▏'} {value:.3f}" for name, bar, value in bars)


def print_report(folder, results):
    """Show the tables and the bars in the terminal."""
    rows = summarise(results["runs"])
    keys = [key for key in tables.COMPARED if "judged" not in key or any(row[key] for row in rows)]
    print(as_text(rate_table(rows, keys)) + "\n")
    for words in (CAPTION, *verdicts(rows), *_told_of_runs(results["runs"])):
        print(textwrap.fill(words, 80))
    for which, title in tables.KLS.items():
        if rows[0][which] and "tuned_seed" in which:
            print(f"\n{title}, nats by position; bars: position 1")
            print(as_text(position_table(rows[1:], which)) + "\n" + _terminal_bars(rows[1:], which))
    print(f"\n{folder}/report.md has the tables, the pictures and answers side by side")


def pictures(folder, rows):
    """Write the pictures that these rows give; return {file name: title}."""
    tuned, made = rows[1:], {}
    for kind, name in (("harmful", "kl.svg"), ("task", "kl-task.svg")):
        panels = {tables.KLS[key]: {row["label"]: row[key] for row in tuned} for key in tables.KLS
                  if key[0] == kind and rows[0][key]}  # fmt: skip
        if panels:
            bar_chart(folder / name, panels, "answer position; nats, 95 % intervals")
            made[name] = "KL by position"
    if all("loss_before" in row for row in tuned):
        panels = {title: {row["label"]: [(v, v, v) for v in row[key]] for row in tuned}
                  for key, title in tables.LOSSES.items()}  # fmt: skip
        bar_chart(folder / "loss.svg", panels, "answer position; nats, mean of up to 128 rows")
        made["loss.svg"] = "Loss by position"
    if len({row["lr"] for row in tuned}) > 1:
        rate_chart(folder / "rates.svg", tuned)
        made["rates.svg"] = "Safety and utility over learning rates"
    for field in tables.PREVIEW:
        members, bars = ablation(tuned, field), {}
        for key in tables.COMPARED if members else ():
            if all(row[key] for row in members):
                rates = [
                    [100 * row[key][end] for end in ("value", "low", "high")] for row in members
                ]
                bars[tables.RATES[key]] = rates
        if bars:
            names = [str(row[field] or row["method"]).strip() for row in members]
            names = [name if len(name) < 28 else name[:26] + "…" for name in names]
            title = f"{field} of the {members[-1]['method']} preview"
            bar_chart(folder / f"{field}.svg", {title: bars}, "percent, 95 % intervals", names)
            made[f"{field}.svg"] = title
    return made


def ablation(rows, field):
    """Return the largest group of rows that differ in one field of the preview, vanilla first."""
    others, best = [*(set(tables.PREVIEW) - {field}), "method", *tables.RECIPE], []
    for row in rows:
        group = [r for r in rows if r[field] and row[field] and tables.same(row, r, others)]
        best = max(best, group, key=len)
    if len(best) < 2:
        return []
    base = [r for r in rows if r["method"] == "vanilla" and tables.same(r, best[0], tables.RECIPE)]
    return base + best


def answers(folder, runs):
    """Return Markdown of a few prompts, each with the answers of all runs of the first seed."""
    parts = []
    for kind, count in (("safety", 2), ("utility", 1)):
        said = {}
        for run in runs:
            path = folder / "completions" / f"{run['name']}-{kind}.json"
            for row in read_json(path)["results"][:count] if not run.get("seed") else ():
                prompt = row["prompt"] if kind == "utility" else row[1]["content"]
                text = row["completion"] if kind == "utility" else row[2]["content"]
                quoted = json.dumps(text, ensure_ascii=False).replace("|", "\\|")
                said.setdefault(prompt, [["model", "answer"]]).append([run["name"], quoted])
        parts += [f"**{prompt}**\n\n{as_markdown(cells)}" for prompt, cells in said.items()]
    return parts


def write_report(folder, results):
    """Write `report.md` and its pictures."""
    rows = summarise(results["runs"])
    keys = [key for key in tables.RATES if "judged" not in key or any(row[key] for row in rows)]
    cells, task = rate_table(rows, keys), results["task"]
    if results.get("llama_2_7b") and task in tables.PAPER_TASKS:
        cells = tables.beside_paper(cells, rows, task)
    counts = ", ".join(f"{tables.RATES[k]} {rows[0][k]['n']}" for k in keys if rows[0][k])
    seeds = f"Runs of each method: {max(row['seeds'] for row in rows)}. n: {counts}."
    prompts = f"System prompts: {results['system']!r} for utility, {results['safety_system']!r} "
    parts = ["# Report", f"{CAPTION} {MORE} {seeds}", as_markdown(cells), "\n".join(verdicts(rows))]
    parts += [prompts + "for RSR and JSR.", *_told_of_runs(results["runs"])]
    for which, title in (tables.KLS | tables.LOSSES).items():
        if rows[1].get(which):
            parts += [f"{title}, in nats", as_markdown(position_table(rows[1:], which))]
    parts += [f"![{title}]({name})" for name, title in pictures(folder, rows).items()]
    parts += answers(folder, results["runs"])
    with whole_file(folder / "report.md") as file:
        file.write("\n\n".join(parts) + "\n")


def _told_of_runs(runs):
    """Return sentences on what training left out, what SDFT rewrote, and missing scores."""
    told = []
    for run in runs:
        for key, words in (("blank", "blank"), ("left_out", "too long")):
            if run.get(key):
                told.append(f"{run[key]} training rows were {words} and left out.")
        if run.get("rewritten") is not None:
            told.append(f"SDFT: the seed model rewrote {run['rewritten']:.1%} of the answers.")
        for key in ("rsr_judged", "jsr_judged"):
            if count := run.get(f"{key}_missing"):
                words = f"{run['name']}: {count} completions without a score"
                told.append(f"{words} ({tables.RATES[key]}).")
    return list(dict.fromkeys(told))
