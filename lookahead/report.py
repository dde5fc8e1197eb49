"""The report: tables and bars in the terminal, `report.md`, and its pictures.

Everything here is made from `results.json` and the saved completions.
"""

import json
import textwrap

from lookahead import tables
from lookahead.files import read_json, whole_file
from lookahead.pictures import bar_chart
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
    values = [(row["label"], row[which][1][0]) for row in rows]
    names, top = max(len(name) for name, _ in values), max(value for _, value in values) or 1.0
    width = max(8, 70 - names)
    bars = [(name, "█" * round(width * value / top), value) for name, value in values]
    return "\n".join(f"{name.ljust(names)}  {bar or '▏'} {value:.3f}" for name, bar, value in bars)


def print_report(folder, results):
    """Show the tables and the bars in the terminal."""
    rows = summarise(results["runs"])
    print(as_text(rate_table(rows, tables.COMPARED)) + "\n")
    for words in (CAPTION, *verdicts(rows), *_notes(results["runs"])):
        print(textwrap.fill(words, 80))
    for which, title in tables.KL_TITLES.items():
        if rows[0][which] and "tuned_seed" in which:
            print(f"\n{title}, nats by position; bars: position 1")
            print(as_text(position_table(rows[1:], which)) + "\n" + _terminal_bars(rows[1:], which))
    print(f"\n{folder}/report.md has the tables, the pictures and answers side by side")


def _charts(rows):
    """Yield (name, unit, panels) of each picture, the panels as for `bar_chart`."""

    def by_position(titles):
        return {
            title: {row["label"]: row[key] for row in rows if row[key]}
            for key, title in titles.items()
        }

    nats = "answer position; nats"
    for name, pairs in (("kl", "harmful"), ("kl-task", "task")):
        titles = {key: title for key, title in tables.KL_TITLES.items() if key[0] == pairs}
        yield name, f"{nats}, 95 % intervals", by_position(titles)
    yield "loss", f"{nats}, mean of up to 128 rows", by_position(tables.LOSS_TITLES)
    for field in ("lr", *tables.PREVIEW):
        yield field, "percent, 95 % intervals", dict(ablations(rows, field))


def ablations(rows, field):
    """Yield (title, bars) of each group of rows that differ in one field alone.

    The bars are the rates that all these rows have; before a preview's stand those of vanilla.
    """
    others, groups = sorted({"method", *tables.PREVIEW, *tables.SHARED} - {field}), {}
    for row in rows:
        if row[field] is not None:
            groups.setdefault(str([row[key] for key in others]), []).append(row)
    for members in groups.values():
        if len(members) > 1:
            labels = [row["label"].replace(f"-{field}{row[field]}", "") for row in members]
            if field in tables.PREVIEW:
                members = tables.vanilla_of(members[0], rows) + members
            names, bars = [_value(row[field]) for row in members], {}
            for key in tables.COMPARED:
                if all(row[key] for row in members):
                    ends = [
                        [100 * row[key][k] for k in ("value", "low", "high")] for row in members
                    ]
                    bars[tables.RATES[key]] = dict(zip(names, ends))
            yield f"{min(labels, key=len)}, by {field}", bars


def _value(value):
    """Return how a preview's m, prefix or connector, or a learning rate, is called in a picture."""
    return "vanilla" if value is None else str(value).strip() or repr(value)


def _answers(folder, runs):
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
    rows, task = summarise(results["runs"]), results["task"]
    cells = rate_table(rows, tables.RATES)
    if results.get("llama_2_7b") and task in tables.PAPER_TASKS:
        cells = tables.beside_paper(cells, rows, task)
    counts = ", ".join(
        f"{tables.RATES[key]} {rows[0][key]['n']}" for key in tables.RATES if rows[0][key]
    )
    seeds = f"Runs of each method: {max(row['seeds'] for row in rows)}. n: {counts}."
    parts = ["# Report", f"{CAPTION} {MORE} {seeds}", as_markdown(cells), "\n".join(verdicts(rows))]
    parts.append(f"System prompts: {results['system']!r} for utility, "
                 f"{results['safety_system']!r} for RSR and JSR.")  # fmt: skip
    parts += _notes(results["runs"])
    for which, title in (tables.KL_TITLES | tables.LOSS_TITLES).items():
        if rows[1][which]:
            parts += [f"{title}, in nats", as_markdown(position_table(rows[1:], which))]
    for name, unit, panels in _charts(rows[1:]):
        if panels and all(panels.values()):
            bar_chart(folder / f"{name}.svg", panels, unit)
            parts.append(f"![{name}]({name}.svg)")
    parts += _answers(folder, results["runs"])
    with whole_file(folder / "report.md") as file:
        file.write("\n\n".join(parts) + "\n")


def _notes(runs):
    """Return sentences on what training left out, what SDFT rewrote, and missing scores."""
    notes = []
    for run in runs:
        for key, words in (("blank", "blank"), ("left_out", "too long")):
            if run.get(key):
                notes.append(f"{run[key]} training rows were {words} and left out.")
        if run.get("rewritten") is not None:
            notes.append(f"SDFT: the seed model rewrote {run['rewritten']:.1%} of the answers.")
        for key in ("rsr_judged", "jsr_judged"):
            if count := run.get(f"{key}_missing"):
                words = f"{run['name']}: {count} completions without a score"
                notes.append(f"{words} ({tables.RATES[key]}).")
    return list(dict.fromkeys(notes))
