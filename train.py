"""Chapter 7. Fine-tuning: one run after another, vanilla and with previews, from one seed model.

    python train.py                       toy world: the seed model once, then vanilla, real, virtual
    python train.py --seeds 5             the same for five seeds
    python train.py --task gsm8k --data train.jsonl --model DIR --method real --m 6

Every method gets the same examples in the same order, the same rate and the same number of steps;
only the preview differs. A run is written to OUT/TASK/RUN NAME as a model directory with `run.json`
and `loss.jsonl` beside the weights; `evaluate.py` compares the runs with the seed model. Left out:
several GPUs, mixed precision, evaluation during training.
"""

import dataclasses
import hashlib
import itertools
import math
import os
import pathlib
import sys
import time

import torch

from lookahead import toy
from lookahead.batches import micro_batches, pad, shuffled_batches
from lookahead.chat import TEMPLATES, encode_pairs, train_tokenizer
from lookahead.checkpoint import best_device, clear, load, save
from lookahead.files import (
    InputError,
    Parser,
    Progress,
    load_tokenizer,
    read_json,
    run_script,
    sha256,
    write_rows,
)
from lookahead.losses import cross_entropy
from lookahead.model import Config, Llama
from lookahead.optimizer import Recipe, adamw, learning_rate
from lookahead.preview import CONNECTOR, PREFIX, preview_pairs
from lookahead.tasks import TASKS, read_pairs

METHODS = ("vanilla", "real", "virtual")


RECIPES = {
    "gsm8k": Recipe(),
    "toy": Recipe(epochs=3, batch_size=32, lr=3e-4, beta1=0.9, max_length=toy.CONTEXT),
}


def parse_arguments():
    parser = Parser(__doc__)
    what = parser.add_argument_group("what is trained")
    what.add_argument("--task", choices=TASKS, default="toy", help="default: %(default)s")
    what.add_argument("--data", help="training rows, JSONL or a JSON array (toy brings its own)")
    what.add_argument("--limit", type=int, help="use only the first N rows")
    what.add_argument("--model", help="directory of the seed model, in Hugging Face layout")
    what.add_argument("--scratch", metavar="TOKENIZER", help="in place of --model: a small Llama "
                      "with random weights and this SentencePiece tokenizer, to try things out")
    what.add_argument("--template", choices=TEMPLATES, default="llama-2", help="%(default)s")
    what.add_argument("--world", type=int, default=0, help="which toy world; default %(default)s")
    method = parser.add_argument_group("the method (Algorithm 1)")
    method.add_argument("--method", nargs="+", choices=METHODS, default=METHODS, help="default: all")
    method.add_argument("--m", type=int, default=6, help="tokens of a real preview (paper: 6)")
    method.add_argument("--prefix", default=PREFIX, help="P of a virtual preview (paper's code)")
    method.add_argument("--connector", default=CONNECTOR, help="C (paper: %(default)r)")
    recipe = parser.add_argument_group("the recipe (default: the paper's; toy has its own)")
    recipe.add_argument("--lr", type=float, nargs="+", help="one rate or several to compare (2e-5)")
    recipe.add_argument("--epochs", type=int, help="passes over the data (3)")
    recipe.add_argument("--batch-size", type=int, help="examples a step (64)")
    recipe.add_argument("--schedule", choices=["linear", "cosine"], help="decay to zero (linear)")
    recipe.add_argument("--beta1", type=float, help="of AdamW (0.5, fixed in the paper's code)")
    recipe.add_argument("--max-length", type=int, help="tokens an example may have (512)")
    recipe.add_argument("--seeds", type=int, default=1, help="runs of each method, seeds 0, 1, ...")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--out", default="out", help="default: %(default)s")
    machine.add_argument("--device", default=best_device(), help="here: %(default)s")
    machine.add_argument("--token-budget", type=int, default=1024, help="padded tokens of a "
                         "micro-batch: memory and speed, never the result (%(default)s)")
    args = parser.parse_args()
    for option in ("m", "limit", "epochs", "batch_size", "max_length", "seeds", "token_budget"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise InputError(f"--{option.replace('_', '-')} {value}: must be at least 1.")
    if not args.prefix.strip():
        raise InputError("--prefix is empty: a virtual preview needs some words to show.")
    if args.task != "toy" and not args.data:
        raise InputError(f"--data is missing: task {args.task} reads its training rows there.")
    if args.task != "toy" and not (args.model or args.scratch):
        raise InputError("--model is missing: give the seed model's directory, or --scratch.")
    return args


def train(model, examples, recipe, seed, name, token_budget):
    """Fine-tune `model` in place on (ids, start) examples; return the loss log, a row a step."""
    device = model.lm_head.weight.device
    optimizer = adamw(model, recipe)
    epochs = [
        shuffled_batches(examples, recipe.batch_size, f"{seed} {epoch}")
        for epoch in range(recipe.epochs)
    ]
    steps = sum(len(batches) for batches in epochs)
    progress, started, log, tokens_seen = Progress(name, steps), time.monotonic(), [], 0

    for step, batch in enumerate(itertools.chain(*epochs), 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, steps)

        # The loss is divided by the answer tokens of the whole batch: micro-batches change nothing.
        count = sum(len(ids) - start for ids, start in batch)
        batch_loss = 0.0
        for part in micro_batches(batch, token_budget):
            tokens, supervised = pad(part, device)
            loss, _ = cross_entropy(model, tokens, supervised)
            (loss / count).backward()
            batch_loss += loss.item() / count

        if not math.isfinite(batch_loss):
            raise InputError(f"{name}: the loss is {batch_loss} at step {step}; try a lower --lr.")
        optimizer.step()
        optimizer.zero_grad()

        tokens_seen += sum(len(ids) for ids, _ in batch)
        seconds = time.monotonic() - started
        log.append({"step": step, "loss": batch_loss, "tokens": tokens_seen, "seconds": seconds})
        progress.show(step, f"loss {batch_loss:.3f}  {tokens_seen / seconds:,.0f} tokens/s")
    return log


def build_seed_model(folder, args):
    """Build the seed model in `folder`/seed, unless it is there: a toy world's, or a random one."""
    stages = {}
    if args.task == "toy":
        toy.write_world(folder / "data", args.world)
        stages = {name: Recipe(**options) for name, (_, options) in toy.STAGES.items()}
    files = [folder / "data" / f"{name}.jsonl" for name in stages]
    run = {
        "task": args.task,
        "method": "seed",
        "template": args.template,
        "world": args.world,
        "tokenizer": args.scratch,
        "config": toy.CONFIG,
        "stages": {name: dataclasses.asdict(recipe) for name, recipe in stages.items()},
        "data_sha256": sha256(*files),
    }
    path = folder / "seed"
    if (path / "run.json").exists():
        earlier = read_json(path / "run.json")
        if all(earlier.get(key) == value for key, value in run.items()):
            return path
    clear(path)
    pairs = [read_pairs(file, "prompt", "answer") for file in files]
    if args.scratch:
        tokenizer = load_tokenizer(args.scratch)
    else:
        tokenizer = train_tokenizer(itertools.chain(*itertools.chain(*pairs)), toy.VOCABULARY)
    torch.manual_seed(args.world)
    model = Llama(Config(vocab_size=tokenizer.vocab_size(), **toy.CONFIG)).to(args.device)
    log = []
    for (name, recipe), stage_pairs in zip(stages.items(), pairs):
        examples, _ = encode_pairs(tokenizer, args.template, "", stage_pairs, toy.CONTEXT)
        log += train(model, examples, recipe, 0, f"seed model: {name}", args.token_budget)
    write_rows(path / "loss.jsonl", log)
    save(path, model, tokenizer, run | {"torch": torch.__version__})
    return path


def run_name(method, recipe, seed, args):
    """Return a name that says what differs from the defaults, so that no run hides another."""
    name = f"{method}-m{args.m}" if method == "real" else method
    text = (args.prefix if method == "virtual" else "") + args.connector
    if method != "vanilla" and text not in (CONNECTOR, PREFIX + CONNECTOR):
        name += "-text" + hashlib.sha256(text.encode()).hexdigest()[:6]
    default = RECIPES[args.task]
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if value != getattr(default, field.name):
            name += f"-{field.name.replace('_', '')}{value}"
    return f"{name}-seed{seed}"


def main():
    args = parse_arguments()
    task, folder = TASKS[args.task], pathlib.Path(args.out) / args.task
    seed_model = pathlib.Path(args.model) if args.model else build_seed_model(folder, args)
    data = args.data or folder / "data" / "train.jsonl"
    pairs = read_pairs(data, task.prompt_field, task.answer_field)[: args.limit]
    given = {field.name: getattr(args, field.name, None) for field in dataclasses.fields(Recipe)}
    given = {name: value for name, value in given.items() if value is not None and name != "lr"}
    recipe = dataclasses.replace(RECIPES[args.task], **given)
    for seed, lr, method in itertools.product(range(args.seeds), args.lr or [recipe.lr], args.method):
        run(method, dataclasses.replace(recipe, lr=lr), seed, pairs, seed_model, folder, data, args)
    print(f"python evaluate.py {folder}    compares the runs")


def run(method, recipe, seed, pairs, seed_model, folder, data, args):
    """Fine-tune the seed model with one method and write the run's directory."""
    name = run_name(method, recipe, seed, args)
    clear(folder / name)
    model, tokenizer = load(seed_model, args.device)
    pairs, whole = preview_pairs(pairs, method, args.m, args.prefix, args.connector, tokenizer)
    limit = min(recipe.max_length, model.config.max_position_embeddings)
    system = TASKS[args.task].system
    examples, left_out = encode_pairs(tokenizer, args.template, system, pairs, limit)
    if left_out or whole:
        print(f"{name}: {left_out} examples longer than {limit} tokens left out, "
              f"{whole} answers previewed whole", file=sys.stderr)
    torch.manual_seed(seed)
    log = train(model, examples, recipe, seed, name, args.token_budget)
    write_rows(folder / name / "loss.jsonl", log)
    save(folder / name, model, tokenizer, {
        "task": args.task,
        "method": method,
        "m": args.m if method == "real" else None,
        "prefix": args.prefix if method == "virtual" else None,
        "connector": args.connector if method != "vanilla" else None,
        "seed": seed,
        **dataclasses.asdict(recipe),
        "template": args.template,
        "seed_model": os.path.relpath(seed_model, folder),
        "data": str(data),
        "data_sha256": sha256(data),
        "examples": len(examples),
        "left_out": left_out,
        "previewed_whole": whole,
        "steps": len(log),
        "loss": log[-1]["loss"],
        "seconds_per_epoch": log[-1]["seconds"] / recipe.epochs,
        "device": args.device,
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
    })


if __name__ == "__main__":
    run_script(main)
