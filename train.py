"""Chapter 9. Fine-tuning: rows, preview, ids, loop, model directory.

    python train.py                  toy world: the aligned model once, then vanilla, real, virtual
    python train.py --seeds 5        the same with the rows in five orders
    python train.py --method vanilla real virtual constrained sdft
    python train.py --method real --m 1 --name real-m1
    python train.py --task gsm8k --data train.jsonl --model DIR --template llama-2

Every method gets the same rows in the same order, the same learning rate and number of steps; only
the preview differs, or for the baselines the loss (constrained) or the answers (sdft). A run is
written to OUT/TASK/NAME-seedN as a model directory with `run.json` and `loss.jsonl` beside the
weights; `evaluate.py` compares the runs with the aligned model. Left out: several GPUs.
"""

import gc
import math
import pathlib
import time
import typing
from collections.abc import Callable

import torch

from lookahead import cli, files, one_gpu, runs
from lookahead.baselines import constrained_sft, rewrite_answers
from lookahead.batches import Example, micro_batches, pad, shuffled_batches
from lookahead.chat import Chat
from lookahead.cli import InputError, positive
from lookahead.kl import mean_by_position
from lookahead.losses import answer_logits, answer_losses, cross_entropy
from lookahead.preview import DEFAULTS, PREVIEWS, add_preview_options, apply_preview, options_taken
from lookahead.tasks import TASKS, add_recipe_options, read_pairs, with_options
from lookahead.templates import TEMPLATES, check_template
from lookahead.toy import aligned as toy
from lookahead.toy.world import write_world


class Method(typing.NamedTuple):
    preview: str | None = None  # of PREVIEWS; None trains on the prompts as they are
    loss: Callable = cross_entropy  # (logits, targets, positions, reference) -> sum
    reference: bool = False  # whether the loss wants the aligned model's log p of the answers
    data: Callable | None = None  # (pairs, model, ...) -> other pairs, and a note for run.json


# A fork adds its method here. Preview, loss and data are independent of each other.
METHODS = {
    "vanilla": Method(),
    "real": Method(preview="real"),
    "virtual": Method(preview="virtual"),
    "constrained": Method(loss=constrained_sft, reference=True),
    "sdft": Method(data=rewrite_answers),
}


def parse_arguments():
    # The rows, and the model to start from.
    parser = cli.Parser(__doc__)
    add = parser.add_argument_group("what is trained (defaults in parentheses)").add_argument
    add("--task", choices=["toy", *TASKS], default="toy", help="(toy)")
    add("--data", help="training rows: JSONL, a JSON array or CSV (the toy world brings its own)")
    add("--prompt-field", metavar="NAME", help="of the rows (the task's own)")
    add("--answer-field", metavar="NAME", help="of the rows (the task's own)")
    add("--limit", type=positive, metavar="N", help="use only the first N rows")
    add("--model", metavar="DIR", help="aligned model, a directory in Hugging Face layout")
    add("--template", choices=TEMPLATES, help="chat template of the model")
    add(
        "--system",
        metavar="TEXT",
        help="of rows that bring none; '' is none, or the template's (the task's)",
    )
    add("--world", type=int, metavar="N", default=0, help="which toy world (0)")

    # What is compared. Previews and recipe declare their options where they are defined.
    group = parser.add_argument_group("the method")
    add = group.add_argument
    add("--method", nargs="+", choices=METHODS, default=["vanilla", "real", "virtual"])
    add("--name", help="of the run's folder, for one method with other options (the method)")
    add("--seeds", type=positive, metavar="N", default=1, help="N orders of the rows (1)")
    add_preview_options(group)
    add_recipe_options(parser)

    # Where it runs, and where it writes.
    cli.add_training_options(parser)
    args = parser.parse_args()

    # Options that need each other.
    if args.task == "toy" and not args.model:
        if args.template not in (None, toy.TEMPLATE):
            raise InputError(f"--template {args.template}: the toy world has {toy.TEMPLATE}.")
        args.template = toy.TEMPLATE
    elif not (args.data and args.model and args.template):
        raise InputError("--data, --model and --template are needed for this.")
    if args.name and len(args.method) > 1:
        raise InputError("--name names the runs of one method; give one --method.")
    return args


def learning_rate(recipe, step, steps):
    """Return the learning rate of a step, counted from 1: it falls linearly to zero.

    >>> [learning_rate(Recipe(lr=1.0), step, 4) for step in (1, 2, 3, 4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    return recipe.lr * (1 - (step - 1) / steps)


def micro_losses(model, batch, token_budget, loss):
    """Yield the summed loss of each micro-batch of a batch."""
    # The token budget bounds the memory of a micro-batch; the longest examples come first.
    for part in micro_batches(batch, token_budget):
        tokens, loss_mask, reference = pad(part, model.lm_head.weight.device)  # (B, T), _, (N,)
        logits, targets, positions = answer_logits(model, tokens, loss_mask)  # (N, V), (N,), (N,)
        yield loss(logits, targets, positions, reference)


def make_adamw(model, recipe):
    """Return AdamW over the weights that are trained; the paper's code has no weight decay."""
    # LoRA has frozen the others.
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    betas = (recipe.beta1, recipe.beta2)
    return torch.optim.AdamW(weights, betas=betas, weight_decay=0.0, fused=True)


def train(model, optimizer, examples, recipe, seed, name, token_budget, loss=cross_entropy,
          forward=micro_losses, saved=None):  # fmt: skip
    """Fine-tune `model` in place on examples; return the loss log, a row a step.

    `forward` yields the losses of a batch: see `micro_losses`, and `one_gpu` for bfloat16 weights.
    With `saved`, a ResumeFile, training goes on from what is saved and saves what it reaches.
    """
    # A run that was interrupted goes on behind the last step that was saved.
    batches = shuffled_batches(examples, recipe.batch_size, seed, recipe.epochs)
    log = saved.restore(model, optimizer) if saved else []
    before = log[-1] if log else {"tokens": 0, "seconds": 0.0}
    seen = before["tokens"]
    started = time.monotonic() - before["seconds"]
    progress = cli.Progress(name, len(batches), len(log))

    for step in range(len(log) + 1, len(batches) + 1):
        # The learning rate falls to zero.
        optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, len(batches))

        # The batch's answer tokens divide the loss, so that cutting it up changes nothing.
        batch = batches[step - 1]
        answer_tokens = sum(len(example.ids) - example.start for example in batch)

        # Forward and backward, a micro-batch at a time: their gradients add up.
        mean = 0.0
        for part_sum in forward(model, batch, token_budget, loss):
            part = part_sum / answer_tokens
            mean += part.item()
            if not math.isfinite(mean):
                raise InputError(f"{name}: the loss is {mean} at step {step}; try a lower --lr.")
            part.backward()

        # The step; with bfloat16 weights it was taken inside backward.
        optimizer.step()
        optimizer.zero_grad()

        # The log counts real tokens, without padding, and no time for writing.
        seen += sum(len(example.ids) for example in batch)
        seconds = time.monotonic() - started
        log.append({"step": step, "loss": mean, "tokens": seen, "seconds": round(seconds, 3)})
        progress.show(step, f"loss {mean:.3f}  {seen / seconds:,.0f} tokens/s")
        if saved:
            saved.save(model, optimizer, log)
            started = time.monotonic() - seconds
    return log


def make_aligned_model(folder, args):
    """Return the directory of the toy world's aligned model; train it if it is not there."""
    # Another world would take the place of the one that runs here started from.
    target = folder / "aligned"
    made = files.read_json(target / "run.json") if (target / "run.json").exists() else {}
    if made.get("world", args.world) != args.world:
        raise InputError(f"{folder}: holds --world {made['world']}; give another --out.")
    write_world(folder / "data", args.world)

    # An aligned model made from the same texts, shapes and recipes is taken as it is.
    stages = toy.read_stages(folder / "data")
    run = toy.describe_run(stages, args.world)
    if made == run:
        return target

    # From random weights, one stage after another.
    tokenizer = toy.train_tokenizer(stages)
    chat = Chat(tokenizer, TEMPLATES[toy.TEMPLATE])
    model = toy.random_model(tokenizer.size, args.world).to(args.device)
    log = []
    for stage, pairs in stages.items():
        examples = [to_example(pair, chat) for pair in pairs]
        # Each stage has its recipe, and an optimizer that begins anew.
        recipe = toy.STAGES[stage]
        optimizer = make_adamw(model, recipe)
        name = f"aligned model: {stage}"
        log += train(model, optimizer, examples, recipe, 0, name, args.token_budget)

    # A model directory like a downloaded one.
    toy.write_files(target, model.config, tokenizer)
    files.save_model(target, model, run, log, target)
    return target


def to_example(pair, chat, preview=None, options=None):
    """Return the Example of a pair under a preview."""
    # The preview changes the text; what follows does not know of it.
    try:
        prompt, answer = apply_preview(preview, pair.prompt, pair.answer, options)
    except ValueError as error:
        raise InputError(f"{pair.place}: {error}.") from None
    return Example(*chat.encode(prompt, answer, pair.system))


def prepare(run, pairs, model, chat, task, fits, args):
    """Return the examples of a run; the model is still the aligned one, and may be asked."""
    # Data, preview, ids.
    method = METHODS[run["method"]]
    if method.data:
        pairs, told = method.data(pairs, model, chat, task, fits, args.token_budget)
        run |= told
    options = vars(args) | {"tokenizer": chat.tokenizer}
    examples = [to_example(pair, chat, method.preview, options) for pair in pairs]

    # An answer of at most m tokens is given away whole.
    if method.preview == "real":
        lengths = [len(chat.tokenizer.encode(pair.answer)) for pair in pairs]
        run["shown_whole"] = sum(length <= args.m for length in lengths)

    # What the first answer tokens cost before training shows what a preview does.
    losses = answer_losses(model, examples[:32], args.token_budget)
    run["loss_before"] = mean_by_position(losses, positions=12)[0]

    # Constrained SFT compares with the aligned model at each answer token.
    if method.reference:
        losses = answer_losses(model, examples, args.token_budget, "log p of the aligned model")
        examples = [example._replace(reference=-loss) for example, loss in zip(examples, losses)]
    return examples


def fine_tune(folder, run, pairs, chat, task, fits, aligned, args):
    """Fine-tune the aligned model on pairs, as a run's settings say, and write its directory."""
    # The memory of the run before is needed.
    gc.collect()
    torch.cuda.empty_cache()
    saved = files.ResumeFile(folder, args.save_every, dict(run))
    model = files.load_model(aligned, args.device, getattr(torch, args.dtype))
    model.recompute = args.recompute or args.device.startswith("cuda")
    examples = prepare(run, pairs, model, chat, task, fits, args)
    recipe = task.recipe

    # Training; adapters go on before it and into the weights behind it.
    if recipe.lora:
        one_gpu.add_lora(model, recipe.lora, run["seed"])
    if args.dtype == "bfloat16" and not recipe.lora:
        forward = one_gpu.one_backward
        optimizer = one_gpu.with_masters(model, recipe, files.read_weights(aligned), run["seed"])
    else:
        forward = micro_losses
        optimizer = make_adamw(model, recipe)
    log = train(model, optimizer, examples, recipe, run["seed"], folder.name, args.token_budget,
                METHODS[run["method"]].loss, forward, saved)  # fmt: skip
    if recipe.lora:
        one_gpu.merge_lora(model, run["seed"])

    # A diverged last step shows in the weights only.
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise InputError(f"{folder.name}: the weights are not finite; try a lower --lr.")

    # A model directory like the aligned one's, with what this run is.
    run["seconds_per_epoch"] = log[-1]["seconds"] / recipe.epochs
    files.save_model(folder, model, run, log, aligned)
    saved.path.unlink(missing_ok=True)


def main():
    # The paper's recipe for this task, but for what options say.
    args = parse_arguments()
    task = with_options((TASKS | {"toy": toy.TASK})[args.task], args)
    folder = pathlib.Path(args.out) / args.task

    # The aligned model that every run starts from, and the rows.
    if args.model:
        aligned = pathlib.Path(args.model)
    else:
        aligned = make_aligned_model(folder, args)
        args.data = args.data or folder / "data" / "train.jsonl"
    pairs = read_pairs(args.data, task)[: args.limit]

    # A template that is not the model's would train on text that it does not know.
    chat = Chat(files.load_tokenizer(aligned), TEMPLATES[args.template], task.system)
    check_template(args.template, chat.tokenizer)
    files.check_end(aligned, chat.tokenizer, chat.template.end)

    # All runs train on the rows that are short enough under every preview, with this command's
    # options and with the default ones. No answer is ever cut.
    longest = files.read_config(aligned / "config.json").max_position_embeddings
    longest = min(longest, task.recipe.max_length)
    variants = [(None, {})]
    for options in (vars(args), DEFAULTS):
        options = options | {"tokenizer": chat.tokenizer}
        variants += [(preview, options) for preview in PREVIEWS]

    def fits(pair):
        return all(len(to_example(pair, chat, *variant).ids) <= longest for variant in variants)

    kept = [pair for pair in pairs if fits(pair)]
    left_out = len(pairs) - len(kept)
    cli.say(f"{len(kept)} rows; {left_out} of over {longest} tokens are left out")
    if not kept:
        raise InputError(
            f"{args.data}: no row fits in {longest} tokens (--max-length, or context)."
        )

    # Every folder is checked before the first run begins.
    data = runs.describe_data(kept, left_out, task, args.template, aligned)
    options = {name: options_taken(METHODS[name].preview, vars(args)) for name in args.method}
    for target, run in runs.plan(folder, options, task, data, aligned, args).items():
        fine_tune(target, run, kept, chat, task, fits, aligned, args)
    print(f"{folder} is ready for: python evaluate.py {folder}")


if __name__ == "__main__":
    cli.run_script(main)
