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

import gc
import math
import pathlib
import time

import torch

from lookahead import checkpoint
from lookahead.batches import micro_batches, pad, shuffled_batches
from lookahead.chat import choose_template
from lookahead.commands import InputError, Progress, run_script, say
from lookahead.lora import add_lora, merge_lora
from lookahead.losses import LOSSES, cross_entropy, loss_by_position
from lookahead.optimizer import Recipe, SplitAdamW, adamw, learning_rate
from lookahead.options import read_options
from lookahead.resume import ResumeFile, is_due
from lookahead.runs import all_runs, prepare, run_name, setting_of
from lookahead.seed import build_seed_model
from lookahead.tasks import TASKS, read_pairs, with_options
from lookahead.toy import write_world


def train(model, examples, recipe, seed, name, token_budget, loss_of=cross_entropy, saved=None):
    """Fine-tune `model` in place on (ids, start) examples; return the loss log, a row a step.

    With `saved`, a ResumeFile, training goes on from what is saved and saves what it reaches.
    """
    device, optimizer = model.lm_head.weight.device, adamw(model, recipe)
    batches = []
    for epoch in range(recipe.epochs):
        batches += shuffled_batches(examples, recipe.batch_size, f"{seed} {epoch}")
    log = saved.restore(model, optimizer) if saved else []
    progress, seen = Progress(name, len(batches), len(log)), log[-1]["tokens"] if log else 0
    started = time.monotonic() - (log[-1]["seconds"] if log else 0.0)

    for step, batch in enumerate(batches[len(log) :], len(log) + 1):
        lr = learning_rate(recipe, step, len(batches))
        optimizer.param_groups[0]["lr"] = lr

        # The loss is divided by the answer tokens of the whole batch: micro-batches change nothing.
        count = sum(len(ids) - start for ids, start, *_ in batch)
        parts = [pad(part, device) for part in micro_batches(batch, token_budget)]
        # PyTorch's AdamW lets the gradients of several backwards add up. SplitAdamW steps inside
        # backward, so one backward must go through all parts.
        groups = [parts] if isinstance(optimizer, SplitAdamW) else [[part] for part in parts]
        loss = 0.0
        for group in groups:
            group_loss = loss_of(model, group) / count
            loss += group_loss.item()
            group_loss.backward()
        if not math.isfinite(loss):
            raise InputError(f"{name}: the loss is {loss} at step {step}, lr {lr:.2g}, in examples "
                             f"{_numbers(batch, examples)}; try a lower --lr.")  # fmt: skip
        optimizer.step()
        optimizer.zero_grad()

        seen += sum(len(ids) for ids, *_ in batch)
        seconds = time.monotonic() - started
        log.append({"step": step, "loss": loss, "tokens": seen, "seconds": round(seconds, 3)})
        progress.show(step, f"loss {loss:.3f}  {seen / seconds:,.0f} tokens/s")
        last, save_now = step == len(batches), saved and saved.every and step % saved.every == 0
        if (last or save_now) and not all(weight.isfinite().all() for weight in model.parameters()):
            raise InputError(f"{name}: weights are not finite at step {step}; try a lower --lr.")
        if save_now and not last:
            saved.save(model, optimizer, log)
            started = time.monotonic() - seconds  # writing is not training
    return log


def _numbers(batch, examples):
    """Return which of the examples are in the batch, as text: 3, 8, 20."""
    numbers = {id(example): i for i, example in enumerate(examples, 1)}
    return ", ".join(str(i) for i in sorted(numbers[id(example)] for example in batch))


def fine_tune(run, examples, counts, seed_model, folder, args):
    """Fine-tune the seed model on a run's examples and write its directory."""
    gc.collect()  # the run before may have left references in circles, and its memory is needed
    name, recipe = run_name(run), Recipe(**{field: run[field] for field in Recipe._fields})
    saved = ResumeFile(folder / name, args.save_every, run)
    model, tokenizer = checkpoint.load(seed_model, args.device, getattr(torch, args.dtype))
    model.recompute = args.recompute
    measured = counts | {"loss_before": loss_by_position(model, examples, args.token_budget)}
    if recipe.lora:
        add_lora(model, recipe.lora, run["seed"])
    loss_of = LOSSES.get(run["method"], cross_entropy)
    try:
        log = train(model, examples, recipe, run["seed"], name, args.token_budget, loss_of, saved)
    except KeyboardInterrupt:
        there = f"--resume goes on from {saved.path}" if saved.path.exists() else "nothing is saved"
        raise KeyboardInterrupt(f": {name}; {there}") from None
    measured |= {"seconds_per_epoch": log[-1]["seconds"] / recipe.epochs, "loss": log[-1]["loss"]}
    measured["loss_after"] = loss_by_position(model, examples, args.token_budget)
    if recipe.lora:
        measured["lost_in_merge"] = merge_lora(model)
        say(f"{name}: merged, {measured['lost_in_merge']:.1%} of the update lost to rounding")
    checkpoint.save(folder / name, model, tokenizer, run | measured, log, seed_model)
    saved.path.unlink(missing_ok=True)


def main():
    args = read_options(__doc__)
    task, folder = with_options(TASKS[args.task], args), pathlib.Path(args.out) / args.task
    if args.task == "toy":
        write_world(folder / "data", args.world)
        args.data = args.data or str(folder / "data" / "train.jsonl")
    pairs, blank = read_pairs(args.data, task)  # before a seed model is built: it may be mistaken
    seed_model = pathlib.Path(args.model or build_seed_model(folder, args, train))
    args.template = choose_template(seed_model, args.template)
    if args.model:
        say(f"chat template: {args.template}")
    runs = all_runs(args, task, seed_model, folder)
    todo = [run for run in runs if is_due(folder / run_name(run), run, args.resume, seed_model)]
    if todo:
        examples, counts = prepare(pairs[: args.limit], runs, task, seed_model, args)
    for run in todo:
        setting = setting_of(run)
        left = counts[setting] | {"blank": blank}
        fine_tune(run, examples[setting], left, seed_model, folder, args)
    print(f"{folder} is ready for: python evaluate.py {folder}")


if __name__ == "__main__":
    run_script(main)
