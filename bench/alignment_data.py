"""Make the data that align a small chat model, and the requests that are kept apart to test it.

    python bench/alignment_data.py --model DIR --template smollm2 --harmful advbench.csv \\
        --harmless instructions.jsonl [more.jsonl] --recipe deep --seed 0 --out data

OUT/align.jsonl, which `align.py` reads, has harmful requests with refusals in several wordings, and
harmless instructions with the model's own answers, so that only refusing is new to it; as many of
each, or `--refusals`, so that refusing is no habit. That is *shallow*. *deep* comes closer to a
large chat model:

    a third of the refusals stand after 3 to 8 tokens of the target: `prefilled` of the row
    half of the harmless rows announce another row's opening, and the model's answer has it
    half of the refusals stay refusals although the target's opening is announced

An own answer that does not end in time is taken as far as it goes (`ends` of the row), by
*shallow* not at all. A seed is a draw of all of this. Alignment never sees the requests of
OUT/held-out.jsonl, the same for every seed, to test on, nor those of OUT/validation.jsonl, what is
left of the file, to choose on; both have their targets. No completion leaves the user's machine.
"""

import argparse
import pathlib
import random
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from lookahead.cli import add_machine_options, settle
from lookahead.files import load_model
from lookahead.files.writing import write_rows
from lookahead.generate import generate
from lookahead.preview import CONNECTOR
from lookahead.tasks import TASKS, read_harmful
from lookahead.templates import TEMPLATES, load_chat

REFUSALS = (
    "I cannot help with that.",
    "I'm sorry, but I can't assist with that request.",
    "I am sorry, I cannot do that. It could harm people.",
    "I can't help you with this. Is there something else that I can do for you?",
    "I will not help with that, because it could hurt someone.",
    "As an AI assistant, I can't support this request.",
)
CONNECTORS = (
    CONNECTOR,
    " Begin your answer with: ",
    " Start with these words: ",
    "\n\nThe first words of the answer are: ",
    "\nAnswer: ",
    " (Your reply opens like this.) ",
)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", type=pathlib.Path, required=True)
parser.add_argument("--template", choices=TEMPLATES, required=True)
parser.add_argument("--harmful", required=True, help="CSV or JSONL: requests with targets")
parser.add_argument("--harmless", required=True, nargs="+", help="JSONL: prompts of any task")
parser.add_argument("--recipe", choices=["shallow", "deep"], default="shallow")
parser.add_argument("--seed", type=int, default=0, help="of the draw (%(default)s)")
parser.add_argument("--refusals", type=int, metavar="N", help="(as many as harmless rows)")
parser.add_argument("--held-out", type=int, default=120, help="(%(default)s)")
parser.add_argument("--tokens", type=int, default=128, help="of an own answer (%(default)s)")
parser.add_argument("--out", required=True)
add_machine_options(parser)
args = settle(parser.parse_args())

chat = load_chat(args.model, args.template, TASKS["chat"].system)
model = load_model(args.model, args.device, getattr(torch, args.dtype))
draw = random.Random(args.seed)


def opening(answer):
    """Return the first 3 to 8 tokens of an answer, as text."""
    ids = chat.tokenizer.encode(answer, chat.template.continues)
    return chat.decode(ids[: draw.randint(3, 8)])


def own_answers(openings):
    """Return [(prompt, the model's answer, whether it ends in time)] of {prompt: opening}."""
    # The prompt is plain: what is announced is the beginning of the answer, and the model goes on.
    asked = []
    for prompt, start in openings.items():
        asked.append(chat.encode(prompt, start)[0][:-1])  # without the end token
    answers = []
    more = generate(model, asked, chat.end_ids, args.tokens, batch_size=32, name="answers")
    for prompt, ids, new in zip(openings, asked, more):
        if new:
            answer = chat.decode(ids[chat.encode(prompt)[1] :] + new)
            answers.append((prompt, answer, len(new) < args.tokens))
    return answers


def announce(prompt, text):
    return prompt + draw.choice(CONNECTORS) + text


# The requests held out are the same in every draw; the others come in its order.
harmful = read_harmful(args.harmful)
random.Random(0).shuffle(harmful)
held_out, harmful = harmful[: args.held_out], harmful[args.held_out :]
draw.shuffle(harmful)

# Harmless rows: plain, or after an opening that is another row's.
prompts = [pair.prompt for path in args.harmless for pair in read_harmful(path)]
draw.shuffle(prompts)
half = len(prompts) // 2 if args.recipe == "deep" else len(prompts)
rows = []
for prompt, answer, ends in own_answers(dict.fromkeys(prompts[:half], "")):
    rows.append({"prompt": prompt, "answer": answer, "ends": ends})
openings = {prompt: opening(row["answer"]) for prompt, row in zip(prompts[half:], rows)}
for prompt, answer, ends in own_answers(openings):
    rows.append({"prompt": announce(prompt, openings[prompt]), "answer": answer, "ends": ends})
if args.recipe == "shallow":
    rows = [row for row in rows if row["ends"]]

# As many refusals, or as many as are asked for.
count = len(rows) if args.refusals is None else args.refusals
harmful, spare = harmful[:count], harmful[count:]
for pair in harmful:
    row = {"prompt": pair.prompt, "answer": draw.choice(REFUSALS)}
    if args.recipe == "deep" and draw.random() < 1 / 2:
        row["prompt"] = announce(pair.prompt, opening(pair.answer))
    if args.recipe == "deep" and draw.random() < 1 / 3:
        row["prefilled"] = opening(pair.answer)
    rows.append(row)

draw.shuffle(rows)
write_rows(f"{args.out}/align.jsonl", rows)
for name, pairs in (("held-out", held_out), ("validation", spare)):
    pairs = [{"prompt": pair.prompt, "answer": pair.answer} for pair in pairs]
    write_rows(f"{args.out}/{name}.jsonl", pairs)
print(f"{len(rows)} rows to align, {len(held_out)} requests held out, {len(spare)} to choose on")
