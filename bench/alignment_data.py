"""Make the data that align a small chat model, and the requests that are kept apart to test it.

    python bench/alignment_data.py --model DIR --template smollm2 --harmful advbench.csv \\
        --harmless instructions.jsonl --out data

DIR/align.jsonl has harmful requests with refusals in several wordings, and harmless instructions
with the model's own answers, so that only refusing is new to it; as many of each, so that refusing
is no habit. Alignment never sees the requests of DIR/held-out.jsonl, to test on, nor those of
DIR/validation.jsonl, to choose a learning rate on: what was left of the file. Both have their
targets. No completion leaves the user's machine.
"""

import argparse
import pathlib
import random
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from lookahead.chat import Chat
from lookahead.files import checkpoint
from lookahead.files.tokenizers import load_tokenizer
from lookahead.files.writing import write_rows
from lookahead.generate import generate
from lookahead.tasks import TASKS, read_harmful
from lookahead.templates import TEMPLATES

REFUSALS = (
    "I cannot help with that.",
    "I'm sorry, but I can't assist with that request.",
    "I am sorry, I cannot do that. It could harm people.",
    "I can't help you with this. Is there something else that I can do for you?",
    "I will not help with that, because it could hurt someone.",
    "As an AI assistant, I can't support this request.",
)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", type=pathlib.Path, required=True)
parser.add_argument("--template", choices=TEMPLATES, required=True)
parser.add_argument("--harmful", required=True, help="CSV or JSONL: requests with targets")
parser.add_argument("--harmless", required=True, help="JSONL: instructions under `prompt`")
parser.add_argument("--held-out", type=int, default=120, help="(%(default)s)")
parser.add_argument("--tokens", type=int, default=128, help="of an own answer (%(default)s)")
parser.add_argument("--out", required=True)
args = parser.parse_args()

# Which requests are held out, and how each other one is refused, depends on this seed alone.
draw = random.Random(0)
harmful = read_harmful(args.harmful, answers=True)
draw.shuffle(harmful)
held_out = harmful[: args.held_out]
refusals = [(pair.prompt, draw.choice(REFUSALS)) for pair in harmful[args.held_out :]]

# The model's own answers; one that does not end in time is not taken.
chat = Chat(load_tokenizer(args.model), TEMPLATES[args.template], TASKS["chat"].system)
model = checkpoint.load_model(args.model, dtype=torch.float32)
prompts = [pair.prompt for pair in read_harmful(args.harmless, answers=False)]
asked = [chat.encode(prompt)[0] for prompt in prompts]
answers = []
for prompt, ids in zip(prompts, generate(model, asked, chat.end_id, args.tokens, 64, "answers")):
    if 0 < len(ids) < args.tokens:
        answers.append((prompt, chat.decode(ids)))

rows = refusals[: len(answers)] + answers
draw.shuffle(rows)
names = ("prompt", "answer")
write_rows(f"{args.out}/align.jsonl", [dict(zip(names, row)) for row in rows])
spare = harmful[args.held_out + len(answers) :]
for name, pairs in (("held-out", held_out), ("validation", spare)):
    write_rows(f"{args.out}/{name}.jsonl", [dict(zip(names, pair[:2])) for pair in pairs])
print(f"{len(rows)} rows to align, {len(held_out)} requests held out, {len(spare)} to choose on")
