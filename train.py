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

import dataclasses
import gc
import itertools
import math
import os
import pathlib
import sys
import time

import sentencepiece
import torch

from lookahead import checkpoint, files
from lookahead.batches import micro_batches, pad, shuffled_batches
from lookahead.chat import choose_template
from lookahead.commands import InputError, Progress, run_script, say
from lookahead.lora import add_lora, merge_lora
from lookahead.losses import constrained_sft, cross_entropy, loss_by_position
from lookahead.optimizer import SplitAdamW, adamw, learning_rate
from lookahead.options import read_options
from lookahead.resume import Saved, is_complete
from lookahead.runs import all_settings, prepare, run_name
from lookahead.seed import build_seed_model
from lookahead.tasks import TASKS, read_pairs, with_fields


def train(model, examples, recipe, seed, name, token_budget, loss_function=cross_entropy,
          saved=None):  # fmt: skip
    """Fine-tune `model` in place on (ids, start) examples; return the loss log, a row a step.

    With `saved`, a `resume.Saved`, training goes on from what is saved and saves what it reaches.
    """
    device, optimizer = model.lm_head.weight.device, adamw(model, recipe)
    log = saved.restore(model, optimizer) if saved else []
    before, batches = log[-1] if log else {"tokens": 0, "seconds": 0.0}, []
    for epoch in range(recipe.epochs):
        batches += shuffled_batches(examples, recipe.batch_size, f"{seed} {epoch}")
    progress, seen = Progress(name, len(batches)), before["tokens"]
    started = time.monotonic() - before["seconds"]

    for step, batch in enumerate(batches[len(log) :], len(log) + 1):
        rate = learning_rate(recipe, step, len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate

        # The loss is divided by the answer tokens of the whole batch: micro-batches change nothing.
        count = sum(len(ids) - start for ids, start, *_ in batch)
        loss, parts = 0.0, [pad(part, device) for part in micro_batches(batch, token_budget)]
        one_backward = isinstance(optimizer, SplitAdamW)  # which steps inside it
        for group in [parts] if one_backward else [[part] for part in parts]:
            group_loss, _ = loss_function(model, group)
            loss += group_loss.item() / count
            if not math.isfinite(loss):
                numbers = [i for i, one in enumerate(examples, 1) if any(one is e for e in batch)]
                raise InputError(f"{name}: the loss is {loss} at step {step}, rate {rate:.2g}, in "
                                 f"examples {str(numbers)[1:-1]}; try a lower --lr.")  # fmt: skip
            (group_loss / count).backward()
        optimizer.step()
        optimizer.zero_grad()

        seen += sum(len(ids) for ids, *_ in batch)
        seconds = time.monotonic() - started
        log.append({"step": step, "loss": loss, "tokens": seen, "seconds": round(seconds, 3)})
        progress.show(step, f"loss {loss:.3f}  {seen / seconds:,.0f} tokens/s")
        due = step == len(batches) or saved and saved.every and step % saved.every == 0
        if due and not all(weight.isfinite().all() for weight in model.parameters()):
            raise InputError(f"{name}: weights are not finite at step {step}; try a lower --lr.")
        if due and saved and step < len(batches):
            saved.save(model, optimizer, log)
    return log


def fine_tune(run, recipe, examples, seed_model, folder, args):
    """Fine-tune the seed model and write the run's directory."""
    gc.collect()  # the run before may have left references in circles, and its memory is needed
    name = run_name(run)
    checkpoint.refuse_foreign(folder / name)
    facts = {key: value for key, value in run.items() if key != "arguments"}
    saved = Saved(folder / name / "resume.safetensors", args.save_every, facts)
    if saved.path.exists() and not args.resume:
        raise InputError(f"{saved.path}: an interrupted run; give --resume or remove it.")
    if args.resume and not saved.path.exists() and is_complete(folder / name, facts):
        say(f"{name}: complete already")
        return
    if (folder / name).resolve() == seed_model.resolve():
        raise InputError(f"{seed_model}: this run would overwrite its seed model; "
                         "give another --out.")  # fmt: skip
    model, tokenizer = checkpoint.load(seed_model, args.device, checkpoint.DTYPES[args.dtype])
    model.recompute = args.recompute
    run["loss_before"] = loss_by_position(model, examples, args.token_budget)
    if recipe.lora:
        add_lora(model, recipe.lora, run["seed"])
    loss_function = constrained_sft if run["method"] == "constrained" else cross_entropy
    try:
        settings = run["seed"], name, args.token_budget, loss_function, saved
        log = train(model, examples, recipe, *settings)
    except KeyboardInterrupt:
        there = f"--resume goes on from {saved.path}" if saved.path.exists() else "nothing is saved"
        raise KeyboardInterrupt(f": {name}; {there}") from None
    run |= {"seconds_per_epoch": log[-1]["seconds"] / recipe.epochs, "loss": log[-1]["loss"]}
    run["loss_after"] = loss_by_position(model, examples, args.token_budget)
    if recipe.lora:
        run["lost_in_merge"] = merge_lora(model)
        say(f"{name}: merged, {run['lost_in_merge']:.1%} of the update lost to rounding")
    checkpoint.save(folder / name, model, tokenizer, run, log, seed_model)
    saved.path.unlink(missing_ok=True)


def main():
    args = read_options(__doc__)
    folder = pathlib.Path(args.out) / args.task
    task = with_fields(TASKS[args.task], args)
    seed_model = pathlib.Path(args.model or build_seed_model(folder, args, train))
    args.template = choose_template(seed_model, args.template)
    if args.model:
        say(f"chat template: {args.template}")
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
    shared |= {"torch": torch.__version__, "sentencepiece": sentencepiece.__version__}
    rates = args.rates or [recipe.lr]
    for seed, lr, setting in itertools.product(range(args.seeds), rates, settings):
        recipe = dataclasses.replace(recipe, lr=lr)
        run = shared | told[setting] | dataclasses.asdict(recipe) | setting._asdict()
        fine_tune(run | {"seed": seed}, recipe, examples[setting], seed_model, folder, args)
    print(f"{folder} is ready for: python evaluate.py {folder}")


if __name__ == "__main__":
    run_script(main)
