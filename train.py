"""Chapter 7. Fine-tuning: one run after another, vanilla and with previews, from one seed model.

    python train.py                  toy world: the seed model once, then vanilla, real and virtual
    python train.py --seeds 5        the same for five seeds
    python train.py --method real --m 1 2 4 6 8 12
    python train.py --method vanilla real virtual constrained sdft
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
import sys
import time

import torch

from lookahead import checkpoint, files
from lookahead.batches import micro_batches, pad, shuffled_batches
from lookahead.chat import TEMPLATES, choose_template
from lookahead.files import InputError
from lookahead.lora import add_lora, merge_lora
from lookahead.losses import constrained_sft, cross_entropy, loss_by_position
from lookahead.optimizer import SplitAdamW, adamw, learning_rate
from lookahead.preview import CONNECTOR, PREFIX
from lookahead.runs import METHODS, all_settings, prepare, run_name
from lookahead.seed import build_seed_model
from lookahead.tasks import TASKS, read_pairs, with_fields


def build_parser():
    parser, count = files.Parser(__doc__), files.positive
    add = parser.add_argument_group("what is trained").add_argument
    add("--task", choices=TASKS, default="toy", help="default: %(default)s")
    add("--data", help="training rows, JSONL or a JSON array; the toy world brings its own")
    add("--prompt-field", metavar="NAME", help="of the rows (what the task's own data have)")
    add("--answer-field", metavar="NAME", help="of the rows (likewise)")
    add("--limit", type=count, help="use only the first N rows")
    add("--model", help="directory of the seed model, in Hugging Face layout")
    add("--scratch", metavar="TOKENIZER", help="build a small random seed model with it instead")
    add("--template", choices=TEMPLATES, help="chat format (what the model's directory shows)")
    add("--system", metavar="TEXT", help="system prompt of training (the task's; '' is none)")
    add("--world", type=int, default=0, help="number of the toy world (%(default)s)")
    add = parser.add_argument_group("the method").add_argument
    some = {"nargs": "+", "metavar": "..."}
    add("--method", nargs="+", choices=METHODS, default=METHODS[:3], help="default: the first 3")
    add("--m", type=count, default=[6], **some, help="answer tokens a real preview shows (6: the "
        "paper); several make a run each, of P and C too")  # fmt: skip
    add("--prefix", type=files.words, default=[PREFIX], **some, help="P (%(default)r: the paper's "
        "code)")  # fmt: skip
    add("--connector", default=[CONNECTOR], **some, help="C (%(default)r: the paper)")
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
    task = TASKS[args.task]
    args.system = task.system if args.system is None else args.system
    if (args.task != "toy" or args.model) and not args.data:
        raise InputError("--data is missing: give the file of training rows.")
    if args.task != "toy" and not (args.model or args.scratch):
        raise InputError("--model is missing: give the seed model's directory, or --scratch.")
    if args.scratch and (args.model or args.task == "toy"):
        raise InputError("--scratch builds a seed model itself: not with --model or the toy task.")
    return args


def train(model, examples, recipe, seed, name, token_budget, loss_function=cross_entropy):
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
        count = sum(len(ids) - start for ids, start, *_ in batch)
        loss, parts = 0.0, [pad(part, device) for part in micro_batches(batch, token_budget)]
        one_backward = isinstance(optimizer, SplitAdamW)  # which steps inside it
        for group in [parts] if one_backward else [[part] for part in parts]:
            group_loss, _ = loss_function(model, group)
            loss += group_loss.item() / count
            if not math.isfinite(loss):
                raise InputError(f"{name}: the loss is {loss} at step {step}; try a lower --lr.")
            (group_loss / count).backward()
        optimizer.step()
        optimizer.zero_grad()

        seen += sum(len(ids) for ids, *_ in batch)
        seconds = time.monotonic() - started
        log.append({"step": step, "loss": loss, "tokens": seen, "seconds": round(seconds, 3)})
        progress.show(step, f"loss {loss:.3f}  {seen / seconds:,.0f} tokens/s")
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise InputError(f"{name}: weights are not finite after the last step; try a lower --lr.")
    return log


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
    run["loss_before"] = loss_by_position(model, examples, args.token_budget)
    if recipe.lora:
        add_lora(model, recipe.lora, run["seed"])
    loss_function = constrained_sft if run["method"] == "constrained" else cross_entropy
    log = train(model, examples, recipe, run["seed"], name, args.token_budget, loss_function)
    run |= {"seconds_per_epoch": log[-1]["seconds"] / recipe.epochs, "loss": log[-1]["loss"]}
    run["loss_after"] = loss_by_position(model, examples, args.token_budget)
    if recipe.lora:
        run["lost_in_merge"] = merge_lora(model)
        print(f"{name}: merged, {run['lost_in_merge']:.1%} of the update lost to rounding",
              file=sys.stderr)  # fmt: skip
    checkpoint.save(folder / name, model, tokenizer, run, log, seed_model)


def main():
    args = parse_arguments()
    folder = pathlib.Path(args.out) / args.task
    task = with_fields(TASKS[args.task], args)
    seed_model = pathlib.Path(args.model or build_seed_model(folder, args, train))
    args.template = choose_template(seed_model, args.template)
    if args.model:
        print(f"chat template: {args.template}", file=sys.stderr)
    args.data = args.data or str(folder / "data" / "train.jsonl")
    pairs = read_pairs(args.data, task)[: args.limit]
    fields = dataclasses.asdict(task.recipe)
    given = {k: v for k, v in vars(args).items() if k in fields and v is not None}
    recipe, settings = dataclasses.replace(task.recipe, **given), all_settings(args)
    examples, told = prepare(pairs, settings, seed_model, recipe.max_length, args)
    shared = {key: getattr(args, key) for key in ("task", "template", "system", "limit", "dtype")}
    shared |= {"seed_model": os.path.relpath(seed_model, folder), "arguments": vars(args)}
    shared |= {"seed_model_sha256": files.sha256(*checkpoint.weight_files(seed_model))}
    shared |= {"data_sha256": files.sha256(args.data), "python": sys.version.split()[0]}
    shared |= {"torch": torch.__version__}
    rates = args.rates or [recipe.lr]
    for seed, lr, setting in itertools.product(range(args.seeds), rates, settings):
        recipe = dataclasses.replace(recipe, lr=lr)
        run = shared | told[setting] | dataclasses.asdict(recipe) | setting._asdict()
        fine_tune(run | {"seed": seed}, recipe, examples[setting], seed_model, folder, args)
    print(f"{folder} is ready for: python evaluate.py {folder}")


if __name__ == "__main__":
    files.run_script(main)
