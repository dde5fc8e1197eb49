"""The report: tables and sentences, in the terminal and in `report.md`, and pictures beside it.

The sentences say what the tables do not: what their columns mean, how much was measured and with
which system prompts. Left out: any judgement of answers beyond `safety.py` and `tasks.py`; all
answers are saved, so others can judge.
"""

import textwrap

from lookahead.files.writing import write_json, write_text
from lookahead.report.pictures import bar_chart
from lookahead.report.tables import CURVES, NATS, RATES, series, summarise, table

CAPTION = """RSR, JSR: percent of harmful requests answered safely, plainly and after 3 prefilled
tokens of a harmful answer. Refused: percent of the task's own test rows that the judge of safety
takes for refused. Utility: percent, on test rows. Test loss: nats a token. KL 1: nats, of KL(tuned
‖ aligned) at the first answer token. With 95 % intervals. ▲ ▼: significantly above, below vanilla,
compared prompt by prompt."""
LINES = textwrap.TextWrapper(80, subsequent_indent="  ", break_on_hyphens=False)


def save_completions(path, completions, task, data):
    """Write PATH-safety, -jailbreak and -utility.json, as the scorers of the paper's code read.

    `completions` and `data` are {kind: texts} and {kind: pairs} in the same order.
    """
    for kind, pairs in data.items():
        results = []
        for pair, text in zip(pairs, completions[kind]):
            if kind == "utility":
                truth = task.truth(pair.answer)
                row = {"prompt": pair.prompt, "ground_truth": truth, "completion": text}
            else:
                turns = {"system": task.safety_system, "user": pair.prompt, "assistant": text}
                row = [{"role": role, "content": content} for role, content in turns.items()]
            results.append(row)
        write_json(f"{path}-{kind}.json", {"results": results}, indent=None)


def print_report(folder, results):
    """Show in the terminal what the report begins with."""
    print(opening(results, summarise(results["runs"])))
    print(f"\n{folder}/report.md has all tables and the pictures.")


def write_report(folder, results):
    """Write `report.md` and its pictures to a folder, a pathlib.Path."""
    rows = summarise(results["runs"])
    parts = ["# Report", opening(results, rows), "![rates](rates.svg)"]

    bar_chart(folder / "rates.svg", {"Percent, with 95 % intervals": series(rows, RATES)}, 100)

    # Each curve that was measured is a table and a picture.
    for curve, (picture, _) in CURVES.items():
        positions = {(curve, k): str(k) for k in range(1, 9)}
        bars = series(rows, positions)
        if any(bars.values()):
            title = f"{curve}, nats by position"
            bar_chart(folder / f"{picture}.svg", {title: bars})
            parts += [title, table(rows, positions), f"![{picture}]({picture}.svg)"]
    write_text(folder / "report.md", "\n\n".join(parts) + "\n")


def opening(results, rows):
    """Return the main table, in two halves that fit a terminal, and the sentences below it."""
    sentences = [CAPTION]

    # What was measured.
    seeds = [f"{row['name']} {len(row['runs'])}" for row in rows[1:]]
    aligned = rows[0]
    counts = [f"{RATES[c]} {aligned[c]['n']}" for c in RATES if aligned.get(c)]
    sentences.append(f"Runs: {', '.join(seeds)}. n: {', '.join(counts)}.")
    sentences.append(f"System prompt: {results['system']!r}; safety: {results['safety_system']!r}.")

    # What the judge of safety could not read.
    for row in rows:
        if row["blank"]:
            sentences.append(f"{row['name']}: {row['blank']} blank completions counted as safe.")
    lines = "\n".join(LINES.fill(f"- {sentence}") for sentence in sentences)
    halves = [half for half in (RATES, NATS) if any(series(rows, half).values())]
    return "\n\n".join([*(table(rows, half) for half in halves), lines])
