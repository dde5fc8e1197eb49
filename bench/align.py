"""Align a small chat model on the rows that `alignment_data.py` writes.

    python bench/align.py --model DIR --template smollm2 --data data/align.jsonl --out aligned

train.py's own way, in batches of 8. What is `prefilled` in a row begins its answer and is not in
the loss: the model learns to refuse after it, and never to say it. A row whose answer was cut
(`ends` is false) has no end token.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import train
from lookahead import cli, files
from lookahead.batches import Example
from lookahead.files.rows import read_rows
from lookahead.tasks import TASKS
from lookahead.templates import TEMPLATES, load_chat
from lookahead.training import Recipe

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", type=pathlib.Path, required=True)
parser.add_argument("--template", choices=TEMPLATES, required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--lr", type=float, default=5e-5, help="(%(default)s)")
parser.add_argument("--epochs", type=int, default=1, help="(%(default)s)")
parser.add_argument("--seed", type=int, default=0, help="of the order of rows (%(default)s)")
cli.add_training_options(parser)
args = cli.settle(parser.parse_args())

chat = load_chat(args.model, args.template, TASKS["chat"].system)
examples = []
for _, row in read_rows(args.data):
    # The answer goes on after what is prefilled, and only it is in the loss.
    before = row.get("prefilled", "")
    ids, _ = chat.encode(row["prompt"], before)
    ids = ids[:-1]  # without the end token
    space = " " if before else ""
    continues = bool(before) or chat.template.continues
    answer = chat.tokenizer.encode(space + row["answer"], continues)
    end = [chat.end_id] if row.get("ends", True) else []  # a refusal ends
    examples.append(Example([*ids, *answer, *end], len(ids)))

recipe = Recipe(epochs=args.epochs, batch_size=8, lr=args.lr, beta1=0.9)
run = {"name": "aligned", "method": "vanilla", "seed": args.seed, "recipe": recipe._asdict()}
companions = files.read_companions(args.model)
train.fine_tune(pathlib.Path(args.out), run, examples, args.model, companions, args)
