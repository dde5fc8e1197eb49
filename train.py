"""Chapter 7. Fine-tuning: one run after another, vanilla and with previews, from one seed model.

    python train.py                  toy world: the seed model once, then vanilla, real and virtual
    python train.py --seeds 5        the same for five seeds
    python train.py --task gsm8k --data train.jsonl --model DIR --method real --m 6

Every method gets the same rows in the same order, the same rate and the same number of steps; only
the preview differs. A run is written to OUT/TASK/RUN NAME as a model directory with `run.json`
and `loss.jsonl` beside the weights; `evaluate.py` compares the runs with the seed model. What a 7B
model needs to fit one GPU is in `optimizer.py` (bfloat16 weights, exact steps inside backward),
`model.py` (blocks recomputed in backward) and `lora.py`. Left out: several GPUs, evaluation during
training.
"""

import argparse
import dataclasses
import gc
import itertools
import math
import os
import pathlib
import re
import sys
import time
import zlib

import torch

from lookahead import checkpoint, files
from lookahead.batches import micro_batches, pad, shuffled_batches
from lookahead.chat import TEMPLATES, choose_template, encode_versions
from lookahead.files import InputError
from lookahead.lora import add_lora, merge_lora
from lookahead.losses import cross_entropy
from lookahead.optimizer import SplitAdamW, adamw, learning_rate
from lookahead.preview import CONNECTOR, PREFIX, count_shown_whole, preview_pairs
from lookahead.seed import build_seed_model
from lookahead.tasks import TASKS, read_pairs

METHODS = ("vanilla", "real", "virtual")


def build_parser():
    parser, count = files.Parser(__doc__), files.positive
    add = parser.add_argument_group("what is trained").add_argument
    add("--task", choices=TASKS, default="toy", help="default: %(default)s")
    add("--data", help="training rows, JSONL or a JSON array; the toy world brings its own")
    add("--limit", type=count, help="use only the first N rows")
    add("--model", help="directory of the seed model, in Hugging Face layout")
    add("--scratch", metavar="TOKENIZER", help="build a small random seed model with it instead")
    add("--template", choices=TEMPLATES, help="chat format (what the model's directory shows)")
    add("--world", type=int, default=0, help="number of the toy world (%(default)s)")
    add = parser.add_argument_group("the method").add_argument
    add("--method", nargs="+", choices=METHODS, default=METHODS, help="default: all three")
    add("--m", type=count, default=6, help="answer tokens a real preview shows (6: the paper)")
    add("--prefix", type=files.words, default=PREFIX, help="P (%(default)r: the paper's code)")
    add("--connector", default=CONNECTOR, help="C (%(default)r: the paper)")
    add = parser.add_argument_group("the recipe of all methods (the toy has its own)").add_argument
    rate = {"type": files.fraction, "nargs": "+", "dest": "rates"}
    add("--lr", **rate, help="one rate, or several to compare (2e-5: the paper)")
    add("--epochs", type=count, help="passes over the data (3: the paper)")
    add("--batch-size", type=count, help="examples a step (64: the paper)")
    add("--schedule", choices=["linear", "cosine"], help="fall of the rate (linear: its code)")
    add("--beta1", type=files.fraction, help="of AdamW (0.5: hard-coded in the paper's code)")
    add("--max-length", type=count, help="tokens; longer rows are left out (512: the paper's code)")
    add("--lora", type=count, metavar="RANK", help="train adapters; raise --lr (none: the paper)")
    add("--seeds", type=count, default=1, help="runs of each method, with seeds 0, 1, ... (1)")
    add = checkpoint.add_machine_options(parser)
    add("--out", default="out", help="folder of all output (%(default)s)")
    switch = {"action": argparse.BooleanOptionalAction}
    add("--recompute", **switch, help="blocks twice, for less memory (yes, but no on a CPU)")
    add("--token-budget", type=count, help="padded tokens of a micro-batch: costs memory, changes "
        "nothing but rounding (1024 on a CPU, else 16384)")  # fmt: skip
    return parser


def parse_arguments():
    args = build_parser().parse_args()
    on_cpu = args.device.startswith("cpu")
    args.token_budget = args.token_budget or (1024 if on_cpu else 16384)
    args.recompute = not on_cpu if args.recompute is None else args.recompute
    args.dtype = args.dtype or checkpoint.best_dtype(args.device)
    if (args.task != "toy" or args.model) and not args.data:
        raise InputError("--data is missing: give the file of training rows.")
    if args.task != "toy" and not (args.model or args.scratch):
        raise InputError("--model is missing: give the seed model's directory, or --scratch.")
    if args.scratch and (args.model or args.task == "toy"):
        raise InputError("--scratch builds a seed model itself: not with --model or the toy task.")
    return args


def train(model, examples, recipe, seed, name, token_budget):
    """Fine-tune `model` in place on (ids, start) examples; return the loss log, a row a step."""
    device, optimizer = model.lm_head.weight.device, adamw(model, recipe)
    batches = []
    for epoch in range(recipe.epochs):
        batches += shuffled_batches(examples, recipe.batch_size, f"{seed} {epoch}")
    progress, started, log, seen = files.Progress(name, len(batches)), time.monotonic(), [], 0

    for step, batch in enumerate(batches, 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, len(batches))

        # The loss is divided by the answer tokens of the whole batch: micro-batches change nothing.
        count = sum(len(ids) - start for ids, start in batch)
        loss, parts = 0.0, [pad(part, device) for part in micro_batches(batch, token_budget)]
        one_backward = isinstance(optimizer, SplitAdamW)  # which steps inside it
        for group in [parts] if one_backward else [[part] for part in parts]:
            group_loss, _ = cross_entropy(model, group)
            loss += group_loss.item() / count
            if not math.isfinite(loss):
                raise InputError(f"{name}: the loss is {loss} at step {step}; try a lower --lr.")
            (group_loss / count).backward()
        optimizer.step()
        optimizer.zero_grad()

        seen += sum(len(ids) for ids, _ in batch)
        seconds = time.monotonic() - started
        log.append({"step": step, "loss": loss, "tokens": seen, "seconds": round(seconds, 3)})
        progress.show(step, f"loss {loss:.3f}  {seen / seconds:,.0f} tokens/s")
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise InputError(f"{name}: weights are not finite after the last step; try a lower --lr.")
    return log


def prepare(pairs, seed_model, max_length, args):
    """Return {method: (ids, start) examples}, and what `run.json` tells of them."""
    tokenizer = files.load_tokenizer(seed_model / "tokenizer.model")
    context = checkpoint.read_config(seed_model / "config.json").max_position_embeddings
    settings = args.m, args.prefix, args.connector, tokenizer
    versions = {method: preview_pairs(pairs, method, *settings) for method in args.method}
    system, limit = TASKS[args.task].system, min(max_length, context)
    examples, kept = encode_versions(tokenizer, args.template, system, versions, limit)
    real = itertools.compress(pairs, kept) if "real" in args.method else ()
    told = {"examples": sum(kept), "left_out": len(kept) - sum(kept)}
    told["shown_whole"] = count_shown_whole(real, args.m, tokenizer)
    if told["left_out"] or told["shown_whole"]:
        print(f"{told['left_out']} rows of over {limit} tokens left out, {told['shown_whole']} "
              "answers shown whole by the real preview", file=sys.stderr)  # fmt: skip
    return examples, told


def fine_tune(run, recipe, examples, seed_model, folder, args):
    """Fine-tune the seed model and write the run's directory."""
    gc.collect()  # the run before may have left references in circles, and its memory is needed
    name = run_name(run)
    checkpoint.refuse_foreign(folder / name)
    if (folder / name).resolve() == seed_model.resolve():
        raise InputError(f"{seed_model}: this run would overwrite its seed model; "
                         "give another --out.")  # fmt: skip
    model, tokenizer = checkpoint.load(seed_model, args.device, checkpoint.DTYPES[args.dtype])
    model.recompute = args.recompute
    if recipe.lora:
        add_lora(model, recipe.lora, run["seed"])
    log = train(model, examples, recipe, run["seed"], name, args.token_budget)
    run |= {"seconds_per_epoch": log[-1]["seconds"] / recipe.epochs, "loss": log[-1]["loss"]}
    if recipe.lora:
        run["lost_in_merge"] = merge_lora(model)
        print(f"{name}: merged, {run['lost_in_merge']:.1%} of the update lost to rounding",
              file=sys.stderr)  # fmt: skip
    checkpoint.save(folder / name, model, tokenizer, run, log, seed_model)


def run_name(run):
    """Return a name that tells what differs from the defaults, so that no run hides another."""
    name = run["method"] + (f"-m{run['m']}" if run["m"] else "")
    defaults = dataclasses.asdict(TASKS[run["task"]].recipe)
    defaults |= {"prefix": PREFIX, "connector": CONNECTOR, "limit": None, "dtype": "float32"}
    for field, default in defaults.items():
        if run[field] in (None, default):
            continue
        value = str(run[field])
        if not re.fullmatch(r"[\w.-]{1,20}", value):  # a text: its start, and a sum of the whole
            value = re.sub(r"\W+", "_", value)[:20] + f".{zlib.crc32(value.encode()):08x}"
        name += f"-{field.replace('_', '')}{value}"
    return f"{name}-seed{run['seed']}"


def main():
    args = parse_arguments()
    task, folder = TASKS[args.task], pathlib.Path(args.out) / args.task
    seed_model = pathlib.Path(args.model or build_seed_model(folder, args, train))
    args.template = choose_template(seed_model, args.template)
    if args.model:
        print(f"chat template: {args.template}", file=sys.stderr)
    args.data = args.data or str(folder / "data" / "train.jsonl")
    pairs = read_pairs(args.data, task.prompt_field, task.answer_field)[: args.limit]
    fields = dataclasses.asdict(task.recipe)
    given = {k: v for k, v in vars(args).items() if k in fields and v is not None}
    recipe = dataclasses.replace(task.recipe, **given)
    examples, told = prepare(pairs, seed_model, recipe.max_length, args)
    told |= {key: getattr(args, key) for key in ("task", "template", "limit", "dtype")}
    told |= {"seed_model": os.path.relpath(seed_model, folder), "arguments": vars(args)}
    told |= {"seed_model_sha256": files.sha256(*checkpoint.weight_files(seed_model))}
    told |= {"data_sha256": files.sha256(args.data), "python": sys.version.split()[0]}
    told |= {"torch": torch.__version__}
    settings = itertools.product(range(args.seeds), args.rates or [recipe.lr], args.method)
    for seed, lr, method in settings:
        recipe = dataclasses.replace(recipe, lr=lr)
        run = told | dataclasses.asdict(recipe) | {"method": method, "seed": seed}
        run["m"] = args.m if method == "real" else None
        run["prefix"] = args.prefix if method == "virtual" else None
        run["connector"] = args.connector if method != "vanilla" else None
        fine_tune(run, recipe, examples[method], seed_model, folder, args)
    print(f"{folder} is ready for: python evaluate.py {folder}")


if __name__ == "__main__":
    files.run_script(main)
