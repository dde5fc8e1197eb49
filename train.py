"""Chapter 7. Fine-tuning: one run after another, vanilla and with previews, from one seed model.

    python train.py                  toy world: the seed model once, then vanilla, real and virtual
    python train.py --seeds 5        the same for five seeds
    python train.py --task gsm8k --data train.jsonl --model DIR --method real --m 6

Every method gets the same examples in the same order, the same rate and the same number of steps;
only the preview differs. A run is written to OUT/TASK/RUN NAME as a model directory with `run.json`
and `loss.jsonl` beside the weights; `evaluate.py` compares the runs with the seed model. Left out:
several GPUs, mixed precision, evaluation during training.
"""

import dataclasses
import itertools
import math
import os
import pathlib
import platform
import re
import sys
import time
import zlib

import torch

from lookahead import files, toy
from lookahead.batches import micro_batches, pad, shuffled_batches
from lookahead.chat import TEMPLATES, encode_pairs, train_tokenizer
from lookahead.checkpoint import best_device, clear, device, load, save
from lookahead.files import InputError
from lookahead.losses import cross_entropy
from lookahead.model import Config, Llama
from lookahead.optimizer import Recipe, adamw, learning_rate
from lookahead.preview import CONNECTOR, PREFIX, preview_pairs
from lookahead.tasks import TASKS, read_pairs

METHODS = ("vanilla", "real", "virtual")
RECIPES = {
    "gsm8k": Recipe(),  # the paper's
    "toy": Recipe(epochs=3, batch_size=32, lr=1e-4, beta1=0.9),
}


def parse_arguments():
    parser, whole = files.Parser(__doc__), files.positive
    add = parser.add_argument_group("what is trained").add_argument
    add("--task", choices=TASKS, default="toy", help="default: %(default)s")
    add("--data", help="training rows, JSONL or a JSON array; the toy world brings its own")
    add("--limit", type=whole, help="use only the first N rows")
    add("--model", help="directory of the seed model, in Hugging Face layout")
    add("--scratch", metavar="TOKENIZER", help="build a small random seed model with it instead")
    add("--template", choices=TEMPLATES, default="llama-2", help="chat format (%(default)s)")
    add("--world", type=int, default=0, help="number of the toy world (%(default)s)")
    add = parser.add_argument_group("the method").add_argument
    add("--method", nargs="+", choices=METHODS, default=METHODS, help="default: all three")
    add("--m", type=whole, default=6, help="answer tokens a real preview shows (6, the paper's)")
    add("--prefix", default=PREFIX, help="P of a virtual preview (%(default)r, the paper's code)")
    add("--connector", default=CONNECTOR, help="C (%(default)r, the paper's)")
    title = "the recipe, shared by all methods (the paper's; the toy world has its own)"
    add = parser.add_argument_group(title).add_argument
    add("--lr", type=float, nargs="+", dest="rates", help="one rate, or several to compare (2e-5)")
    add("--epochs", type=whole, help="passes over the data (3)")
    add("--batch-size", type=whole, help="examples a step (64)")
    add("--schedule", choices=["linear", "cosine"], help="how the rate falls to zero (linear)")
    add("--beta1", type=float, help="of AdamW (0.5, fixed in the paper's code)")
    add("--max-length", type=whole, help="tokens of an example; longer ones are left out (512)")
    add("--seeds", type=whole, default=1, help="runs of each method, with seeds 0, 1, ... (1)")
    add = parser.add_argument_group("machine").add_argument
    add("--out", default="out", help="folder of all output (%(default)s)")
    add("--device", type=device, default=best_device(), help="here: %(default)s")
    add("--token-budget", type=whole, default=1024, help="padded tokens of a micro-batch: costs "
        "memory, never changes the result (%(default)s)")  # fmt: skip
    args = parser.parse_args()
    if not args.prefix.strip():
        raise InputError("--prefix is empty: a virtual preview needs some words to show.")
    if args.task != "toy" and not args.data:
        raise InputError(f"--data is missing: task {args.task} reads its training rows there.")
    if args.task != "toy" and not (args.model or args.scratch):
        raise InputError("--model is missing: give the seed model's directory, or --scratch.")
    return args


def train(model, examples, recipe, seed, name, token_budget):
    """Fine-tune `model` in place on (ids, start) examples; return the loss log, a row a step."""
    device, optimizer = model.lm_head.weight.device, adamw(model, recipe)
    seeds = [f"{seed} {epoch}" for epoch in range(recipe.epochs)]
    epochs = (shuffled_batches(examples, recipe.batch_size, seed) for seed in seeds)
    batches = list(itertools.chain(*epochs))
    progress, started, log, seen = files.Progress(name, len(batches)), time.monotonic(), [], 0

    for step, batch in enumerate(batches, 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, len(batches))

        # The loss is divided by the answer tokens of the whole batch: micro-batches change nothing.
        count = sum(len(ids) - start for ids, start in batch)
        loss = 0.0
        for part in micro_batches(batch, token_budget):
            tokens, supervised = pad(part, device)
            part_loss, _ = cross_entropy(model, tokens, supervised)
            (part_loss / count).backward()
            loss += part_loss.item() / count

        if not math.isfinite(loss):
            raise InputError(f"{name}: the loss is {loss} at step {step}; try a lower --lr.")
        optimizer.step()
        optimizer.zero_grad()

        seen += sum(len(ids) for ids, _ in batch)
        seconds = time.monotonic() - started
        log.append({"step": step, "loss": loss, "tokens": seen, "seconds": round(seconds, 3)})
        progress.show(step, f"loss {loss:.3f}  {seen / seconds:,.0f} tokens/s")
    return log


def build_seed_model(folder, args):
    """Return the folder of a seed model made here, a toy world's or a random one; make it once."""
    stages = toy.STAGES if args.task == "toy" else {}
    paths = {name: folder / "data" / f"{name}.jsonl" for name in stages}
    if args.task == "toy":
        toy.write_world(folder / "data", args.world)
    made = {"task": args.task, "method": "seed", "template": args.template}
    made |= {"tokenizer": args.scratch, "world": args.world, "config": toy.CONFIG}
    made |= {name: dataclasses.asdict(recipe) for name, recipe in stages.items()}
    made |= {"data_sha256": files.sha256(*paths.values()), "torch": torch.__version__}
    folder = folder / "seed"
    if (folder / "run.json").exists() and files.read_json(folder / "run.json") == made:
        return folder
    clear(folder)
    pairs = {name: read_pairs(path, "prompt", "answer") for name, path in paths.items()}
    if args.scratch:
        tokenizer = files.load_tokenizer(args.scratch)
    else:
        texts = itertools.chain(*itertools.chain(*pairs.values()))
        tokenizer = train_tokenizer(texts, toy.VOCABULARY)
    torch.manual_seed(args.world)
    model = Llama(Config(vocab_size=tokenizer.vocab_size(), **toy.CONFIG)).to(args.device)
    log = []
    for name, recipe in stages.items():
        examples, _ = encode_pairs(tokenizer, args.template, "", pairs[name], recipe.max_length)
        log += train(model, examples, recipe, 0, f"seed model: {name}", args.token_budget)
    files.write_rows(folder / "loss.jsonl", log)
    save(folder, model, tokenizer, made)
    return folder


def fine_tune(method, recipe, seed, pairs, seed_model, folder, args):
    """Fine-tune the seed model with one method and write the run's directory."""
    run = {"task": args.task, "method": method, "seed": seed, "limit": args.limit}
    run |= dataclasses.asdict(recipe)
    run["m"] = args.m if method == "real" else None
    run["prefix"] = args.prefix if method == "virtual" else None
    run["connector"] = args.connector if method != "vanilla" else None
    name = run_name(run)
    clear(folder / name)
    model, tokenizer = load(seed_model, args.device)
    pairs, whole = preview_pairs(pairs, method, args.m, args.prefix, args.connector, tokenizer)
    limit = min(recipe.max_length, model.config.max_position_embeddings)
    system = TASKS[args.task].system
    examples, left_out = encode_pairs(tokenizer, args.template, system, pairs, limit)
    if left_out or whole:
        print(f"{name}: {left_out} examples of over {limit} tokens were left out, {whole} answers "
              "were shown whole by their preview", file=sys.stderr)  # fmt: skip
    log = train(model, examples, recipe, seed, name, args.token_budget)
    files.write_rows(folder / name / "loss.jsonl", log)
    run |= {"template": args.template, "seed_model": os.path.relpath(seed_model, folder)}
    run |= {"examples": len(examples), "left_out": left_out, "shown_whole": whole}
    run |= {"seconds_per_epoch": log[-1]["seconds"] / recipe.epochs, "loss": log[-1]["loss"]}
    run |= {"data_sha256": files.sha256(args.data), "arguments": vars(args)}
    run |= {"python": platform.python_version(), "torch": torch.__version__}
    save(folder / name, model, tokenizer, run)


def run_name(run):
    """Return a name that tells what differs from the defaults, so that no run hides another."""
    name = run["method"] + (f"-m{run['m']}" if run["m"] else "")
    defaults = dataclasses.asdict(RECIPES[run["task"]])
    defaults |= {"prefix": PREFIX, "connector": CONNECTOR, "limit": None}
    for field, default in defaults.items():
        value = run[field]
        if value not in (None, default):
            if isinstance(value, str):  # a readable start, and a sum that tells texts apart
                value = re.sub(r"\W+", "_", value)[:20] + f".{zlib.crc32(value.encode()):08x}"
            name += f"-{field.replace('_', '')}{value}"
    return f"{name}-seed{run['seed']}"


def main():
    args = parse_arguments()
    task, folder = TASKS[args.task], pathlib.Path(args.out) / args.task
    seed_model = pathlib.Path(args.model) if args.model else build_seed_model(folder, args)
    args.data = args.data or str(folder / "data" / "train.jsonl")
    pairs = read_pairs(args.data, task.prompt_field, task.answer_field)[: args.limit]
    fields = dataclasses.asdict(RECIPES[args.task])
    given = {k: v for k, v in vars(args).items() if k in fields and v is not None}
    recipe = dataclasses.replace(RECIPES[args.task], **given)
    recipes = [dataclasses.replace(recipe, lr=lr) for lr in args.rates or [recipe.lr]]
    for seed, recipe, method in itertools.product(range(args.seeds), recipes, args.method):
        fine_tune(method, recipe, seed, pairs, seed_model, folder, args)
    print(f"{folder} is ready for: python evaluate.py {folder}")


if __name__ == "__main__":
    files.run_script(main)
