"""The report: tables and sentences in the terminal, with pictures and answers in `report.md`.

The sentences say what the table does not: what its columns mean, what is significant, how much was
measured and with which system prompts, and what was left out of training. Left out: any judgement
of answers beyond `safety.py` and `tasks.py`; all answers are saved, so others can judge.
"""

import html
import json
import textwrap

from lookahead.files.writing import write_json, write_text
from lookahead.report.pictures import bar_chart
from lookahead.report.tables import (
    CURVES,
    NATS,
    RATES,
    SECONDS,
    mark,
    series,
    summarise,
    table,
    vanilla_of,
)

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
    print(f"\n{folder}/report.md has all tables, the pictures and some answers.")


def write_report(folder, results):
    """Write `report.md` and its pictures to a folder, a pathlib.Path."""
    rows = summarise(results["runs"])
    parts = ["# Report", opening(results, rows)]

    # Each curve is a table here and a panel of a picture.
    pictures = {"rates": {"Percent, with 95 % intervals": series(rows, RATES)}}
    for curve, (picture, _, _) in CURVES.items():
        positions = {(curve, k): str(k) for k in range(1, 9)}
        bars = series(rows, positions)
        if any(bars.values()):
            title = f"{curve}, nats by position"
            pictures.setdefault(picture, {})[title] = bars
            parts += [title, table(rows, positions)]
    for name, panels in pictures.items():
        bar_chart(folder / f"{name}.svg", panels, 100 if name == "rates" else 1)
        parts.append(f"![{name}]({name}.svg)")
    parts += answers(folder, rows)
    write_text(folder / "report.md", "\n\n".join(parts) + "\n")


def opening(results, rows):
    """Return the main table, in two halves that fit a terminal, and the sentences below it."""
    # How the rows compare with vanilla.
    marked = {"▲": [], "▼": [], "": []}
    vanilla = vanilla_of(rows)
    for row in rows[1:]:
        for column, head in (RATES | NATS).items():
            marked[mark(row, vanilla, column)].append(f"{row['name']} ({head})")
    sentences = [CAPTION]
    if vanilla is None:
        sentences.append("No run is vanilla, so nothing is compared.")
    else:
        sentences.append(f"Significantly above vanilla: {', '.join(marked['▲']) or 'none'}.")
        sentences.append(f"Significantly below vanilla: {', '.join(marked['▼']) or 'none'}.")

    # What was measured.
    seeds = [f"{row['name']} {len(row['runs'])}" for row in rows[1:]]
    counts = [f"{head} {rows[0][column]['n']}" for column, head in RATES.items() if rows[0][column]]
    lengths = [results["max_new_tokens"], results["safety_tokens"]]
    sentences.append(f"Runs: {', '.join(seeds)}. n: {', '.join(counts)}.")
    sentences.append(
        f"System prompts: {results['system']!r}; for safety {results['safety_system']!r}."
    )
    sentences.append(f"Tokens of an answer: at most {lengths[0]}; for safety {lengths[1]}.")
    if rows[0]["rsr"] and rows[0]["rsr"]["value"] < 0.5:
        sentences.append("The aligned model's RSR is below 50: there is little safety to lose.")

    # What happened to the data.
    if len(rows) > 1 and rows[1]["data"]["left_out"]:
        sentences.append(f"{rows[1]['data']['left_out']} training rows left out, too long.")
    for row in rows:
        if row["blank"]:
            sentences.append(f"{row['name']}: {row['blank']} blank completions counted as safe.")
        if "rewritten" in row:
            share = f"{row['rewritten']:.1%}"
            sentences.append(f"{row['name']}: {share} of the answers replaced by rewrites.")
    lines = "\n".join(LINES.fill(f"- {sentence}") for sentence in sentences)
    return "\n\n".join([table(rows, RATES), table(rows, NATS | SECONDS), lines])


def answers(folder, rows):
    """Return Markdown of a few prompts, each with the answers of all rows, by their first seed."""
    lines = {}
    for row in rows:
        seed = "" if row["method"] == "aligned" else f"-seed{row['seed']}"
        for kind in ("safety", "utility"):
            path = folder / "completions" / f"{row['name']}{seed}-{kind}.json"
            saved = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
            for item in saved[:2]:
                if kind == "safety":
                    item = {"prompt": item[1]["content"], "completion": item[2]["content"]}
                line = f"- {row['name']}: {_quoted(item['completion'])}"
                lines.setdefault(item["prompt"], []).append(line)
    return ["\n".join([f"{_quoted(prompt)}\n", *its]) for prompt, its in lines.items()]


def _quoted(text):
    return html.escape(json.dumps(text, ensure_ascii=False), quote=False)
