"""Chapter 7. Fine-tuning: one run after another, vanilla and with previews, from one seed model.

    python train.py                  toy world: the seed model once, then vanilla, real and virtual
    python train.py --seeds 5        the same for five seeds
    python train.py --method real --m 1 2 4 6 8 12
    python train.py --method vanilla real virtual constrained sdft
    python train.py --task gsm8k --data train.jsonl --model DIR --method real --m 6

Every method gets the same rows in the same order, the same rate and the same number of steps; only
the preview differs, or for the baselines the loss (constrained) or the answers (sdft). A run is
written to OUT/TASK/RUN NAME as a model directory with `run.json` and `loss.jsonl` beside the
weights; `evaluate.py` compares the runs with the seed model. Left out: several GPUs.
"""

import argparse
import gc
import math
import pathlib
import time

import torch

from lookahead import checkpoint
from lookahead.batches import micro_batches, pad, shuffled_batches
from lookahead.chat import TEMPLATES, choose_template
from lookahead.commands import InputError, Parser, Progress, positive, run_script, say, words
from lookahead.lora import add_lora, merge_lora
from lookahead.losses import LOSSES, cross_entropy, loss_by_position
from lookahead.optimizer import Recipe, SplitAdamW, adamw, learning_rate
from lookahead.preview import CONNECTOR, PREFIX
from lookahead.runs import METHODS, ResumeFile, all_runs, is_due, prepare, setting_of
from lookahead.seed import build_seed_model
from lookahead.tasks import TASKS, read_pairs, with_options
from lookahead.toy import write_world


def parse_arguments():
    parser = Parser(__doc__)
    add = parser.add_argument_group("what is trained (defaults in parentheses)").add_argument
    add("--task", choices=TASKS, default="toy", help="(toy)")
    add("--data", help="training rows, JSONL or a JSON array (the toy world brings its own)")
    add("--prompt-field", type=words, metavar="NAME", help="of the rows (the task's own)")
    add("--answer-field", type=words, metavar="NAME", help="of the rows (the task's own)")
    add("--limit", type=positive, metavar="N", help="use only the first N rows")
    add("--model", metavar="DIR", help="seed model, a directory in Hugging Face layout")
    add("--scratch", metavar="TOKENIZER", help="build a small random seed model with it instead")
    add("--template", choices=TEMPLATES, help="chat template (what the model's directory shows)")
    add("--system", metavar="TEXT", help="system prompt of training, '' for none (the task's)")
    add("--world", type=int, metavar="N", default=0, help="which toy world (0)")
    add = parser.add_argument_group("the method; several values make a run each").add_argument
    add("--method", nargs="+", choices=METHODS, default=["vanilla", "real", "virtual"],
        help="(vanilla real virtual)")  # fmt: skip
    add("--m", type=positive, metavar="N", nargs="+", default=[6], help="answer tokens that a real "
        "preview shows (6: the paper)")  # fmt: skip
    add("--prefix", type=words, metavar="TEXT", nargs="+", default=[PREFIX],
        help=f"sentence of a virtual preview ({PREFIX!r}: the paper's code)")  # fmt: skip
    add("--connector", metavar="TEXT", nargs="+", default=[CONNECTOR],
        help=f"words before what a preview shows ({CONNECTOR!r}: the paper)")  # fmt: skip
    add("--seeds", type=positive, metavar="N", default=1, help="N orders of the rows (1)")
    _add_recipe_options(parser)
    add = parser.add_machine_options()
    add("--out", default="out", metavar="DIR", help="folder of all output (out)")
    add("--save-every", type=positive, metavar="N", help="save every N steps, so that --resume can "
        "go on (a 7B model takes 63 GiB, twice while saving)")  # fmt: skip
    add("--resume", action="store_true", help="take up an interrupted command where it was saved")
    add("--recompute", action=argparse.BooleanOptionalAction, help="compute blocks twice, for less "
        "memory (yes, but no on a CPU)")  # fmt: skip
    add("--token-budget", type=positive, metavar="N", help="padded tokens of a micro-batch: costs "
        "memory, changes nothing but rounding (1024 on a CPU, else 16384)")  # fmt: skip
    args = parser.parse_args()
    on_cpu = args.device.startswith("cpu")
    args.token_budget = args.token_budget or (1024 if on_cpu else 16384)
    args.recompute = not on_cpu if args.recompute is None else args.recompute
    if (args.task != "toy" or args.model) and not args.data:
        raise InputError("--data is missing: give the file of training rows.")
    if args.task != "toy" and not (args.model or args.scratch):
        raise InputError("--model is missing: give the seed model's directory, or --scratch.")
    if args.scratch and (args.model or args.task == "toy"):
        raise InputError("--scratch builds a seed model itself: not with --model or the toy task.")
    return args


def _add_recipe_options(parser):
    toy = TASKS["toy"].recipe
    add = parser.add_argument_group("the recipe of all methods (the paper's; for the toy world lr "
        f"{toy.lr}, batch {toy.batch_size}, beta1 {toy.beta1})").add_argument  # fmt: skip
    add("--lr", type=fraction, nargs="+", help="learning rate, one or several (2e-5: the paper)")
    add("--epochs", type=positive, metavar="N", help="passes over the rows (3: the paper)")
    add("--batch-size", type=positive, metavar="N", help="rows a step (64: the paper)")
    add("--schedule", choices=["linear", "cosine"], help="how the rate falls to zero (linear: the "
        "paper's code)")  # fmt: skip
    add("--beta1", type=fraction, help="of AdamW (0.5: hard-coded in the paper's code)")
    add("--max-length", type=positive, metavar="N", help="tokens of prompt and answer; longer rows "
        "are left out (512, SAMSum 1024: the paper's code)")  # fmt: skip
    add("--lora", type=positive, metavar="RANK", help="train only adapters of this rank, with a "
        "higher --lr (all parameters: the paper)")  # fmt: skip


def fraction(text):
    """Read an option's number from 0 up to, but not including, 1."""
    if not 0 <= float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return float(text)


def train(model, examples, recipe, seed, name, token_budget, loss_of=cross_entropy, saved=None):
    """Fine-tune `model` in place on (ids, start) examples; return the loss log, a row a step.

    With `saved`, a ResumeFile, training goes on from what is saved and saves what it reaches.
    """
    device, optimizer = model.lm_head.weight.device, adamw(model, recipe)
    batches = []
    for epoch in range(recipe.epochs):
        batches += shuffled_batches(examples, recipe.batch_size, f"{seed} {epoch}")
    log = saved.restore(model, optimizer) if saved else []
    seen, seconds = (log[-1]["tokens"], log[-1]["seconds"]) if log else (0, 0.0)
    progress, started = Progress(name, len(batches), len(log)), time.monotonic() - seconds

    for step, batch in enumerate(batches[len(log) :], len(log) + 1):
        lr = optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, len(batches))

        # Divided by the answer tokens of the whole batch: micro-batches change only rounding.
        count = sum(len(ids) - start for ids, start, *_ in batch)
        parts = [pad(part, device) for part in micro_batches(batch, token_budget)]
        # PyTorch's AdamW lets the gradients of several backwards add up. SplitAdamW (of bfloat16
        # weights, optimizer.py) steps inside backward, so one backward goes through all parts.
        groups = [parts] if isinstance(optimizer, SplitAdamW) else [[part] for part in parts]
        loss = 0.0
        for group in groups:
            group_loss = loss_of(model, group) / count
            loss += group_loss.item()
            group_loss.backward()
        if not math.isfinite(loss):
            raise InputError(f"{name}: the loss is {loss} at step {step}, lr {lr:.2g}, in the kept "
                             f"rows {_numbers(batch, examples)}; try a lower --lr.")  # fmt: skip
        optimizer.step()
        optimizer.zero_grad()

        seen += sum(len(ids) for ids, *_ in batch)
        seconds = time.monotonic() - started
        log.append({"step": step, "loss": loss, "tokens": seen, "seconds": round(seconds, 3)})
        progress.show(step, f"loss {loss:.3f}  {seen / seconds:,.0f} tokens/s")
        save_now = saved and saved.every and step % saved.every == 0
        if save_now or step == len(batches):
            if not all(weight.isfinite().all() for weight in model.parameters()):
                raise InputError(f"{name}: weights not finite at step {step}; try a lower --lr.")
        if save_now:
            saved.save(model, optimizer, log)
            started = time.monotonic() - seconds  # writing is not training
    return log


def _numbers(batch, examples):
    """Return which of the rows that were kept are in the batch, as text: 3, 8, 20."""
    inside = {id(example) for example in batch}
    return ", ".join(str(i) for i, example in enumerate(examples, 1) if id(example) in inside)


def fine_tune(name, run, examples, seed_model, folder, args):
    """Fine-tune the seed model on a run's examples and write its directory."""
    gc.collect()  # the run before may have left references in circles, and its memory is needed
    recipe = Recipe(**{field: run[field] for field in Recipe._fields})
    saved = ResumeFile(folder / name, args.save_every, run)
    model, tokenizer = checkpoint.load(seed_model, args.device, getattr(torch, args.dtype))
    model.recompute = args.recompute
    measured = {"loss_before": loss_by_position(model, examples, args.token_budget)}
    if recipe.lora:
        add_lora(model, recipe.lora, run["seed"])
    loss_of = LOSSES.get(run["method"], cross_entropy)
    try:
        log = train(model, examples, recipe, run["seed"], name, args.token_budget, loss_of, saved)
    except KeyboardInterrupt:
        there = f"--resume goes on from {saved.path}" if saved.path.exists() else "nothing is saved"
        raise KeyboardInterrupt(f": {name}; {there}") from None
    measured |= {"seconds_per_epoch": log[-1]["seconds"] / recipe.epochs, "loss": log[-1]["loss"]}
    if recipe.lora:
        measured["lost_in_merge"] = merge_lora(model)
        say(f"{name}: merged, {measured['lost_in_merge']:.1%} of the update lost to rounding")
    measured["loss_after"] = loss_by_position(model, examples, args.token_budget)
    checkpoint.save(folder / name, model, tokenizer, run | measured, log, seed_model)
    saved.path.unlink(missing_ok=True)


def main():
    args = parse_arguments()
    task, folder = with_options(TASKS[args.task], args), pathlib.Path(args.out) / args.task
    if args.task == "toy" and not args.model:
        write_world(folder / "data", args.world)
        args.data = args.data or str(folder / "data" / "train.jsonl")
    pairs, blank = read_pairs(args.data, task)  # before a seed model is built: it may be mistaken
    seed_model = pathlib.Path(args.model or build_seed_model(folder, args, train))
    args.template = choose_template(seed_model, args.template)
    if args.model:
        say(f"chat template: {args.template}")
    runs = all_runs(args, task, seed_model, folder)
    todo = [name for name in runs if is_due(folder / name, runs[name], args.resume, seed_model)]
    if todo:
        prepared = prepare(pairs[: args.limit], runs.values(), task, seed_model, args)
    for name in todo:
        examples, counts = prepared[setting_of(runs[name])]
        run = runs[name] | counts | {"blank": blank}
        fine_tune(name, run, examples, seed_model, folder, args)
    print(f"{folder} is ready for: python evaluate.py {folder}")


if __name__ == "__main__":
    run_script(main)
