"""Fine-tuning: rows, methods, runs.

    python train.py                  toy world: the aligned model once, then vanilla, real, virtual
    python train.py --seeds 5        the same with the rows in five orders
    python train.py --method vanilla real virtual constrained sdft
    python train.py --show 2         what each method trains on, token by token
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

import torch

from lookahead import cli, files, one_gpu
from lookahead.chat import view
from lookahead.cli import InputError, fraction, positive, say, utf8
from lookahead.examples import choose_rows, make_examples
from lookahead.methods import METHODS, add_method_options, loss_of
from lookahead.runs import describe_data, plan_runs
from lookahead.templates import TEMPLATES, load_chat
from lookahead.toy import aligned as toy
from lookahead.toy.aligned import TASKS
from lookahead.training import Loop, Recipe, make_adamw, take_step, train

RECIPE_OPTIONS = {"epochs": positive, "batch_size": positive, "lr": fraction, "beta1": fraction}
RECIPE_OPTIONS |= {"max_length": positive, "lora": positive}


def parse_arguments():
    # The rows, and the model to start from.
    parser = cli.Parser(__doc__)
    add = parser.add_argument_group("what is trained").add_argument
    add("--task", choices=TASKS, default="toy", help="what is asked and how it is scored")
    add("--data", help="training rows: JSONL, a JSON array or CSV (the toy world brings its own)")
    add("--limit", type=positive, metavar="N", help="use only the first N rows")
    add("--model", metavar="DIR", help="aligned model, a directory in Hugging Face layout")
    add("--template", choices=TEMPLATES, help="chat template of the model")
    add("--system", type=utf8, metavar="TEXT", help="of rows that bring none (the task's)")
    add("--world", type=cli.world_number, metavar="N", default=0, help="which toy world (0)")

    # What is compared.
    group = parser.add_argument_group("methods")
    add = group.add_argument
    add("--method", nargs="+", choices=METHODS, default=["vanilla", "real", "virtual"])
    add("--name", type=cli.run_name, help="of one method's runs with other options (the method)")
    add("--seeds", type=positive, metavar="N", default=1, help="orders of the rows")
    add("--show", type=positive, metavar="N", help="print the first N examples, and stop")
    add_method_options(group)

    # The recipe that all methods share: a task's own, but for what is given.
    group = parser.add_argument_group("recipe of all methods (default: the task's)")
    for name, kind in RECIPE_OPTIONS.items():
        own = ", ".join(f"{task} {getattr(TASKS[task].recipe, name)}" for task in TASKS)
        flag = f"--{name.replace('_', '-')}"
        metavar = "RANK" if name == "lora" else "N"
        group.add_argument(flag, type=kind, metavar=metavar, help=own)

    # Where it runs, and where it writes.
    cli.add_training_options(parser)
    args = cli.settle(parser.parse_args())

    # Options that need each other.
    if args.task == "toy" and not args.model:
        if args.template not in (None, toy.TEMPLATE):
            raise InputError(f"--template: the toy world has its own, {toy.TEMPLATE}.")
        args.template = toy.TEMPLATE
    elif not (args.data and args.model and args.template):
        raise InputError("--data, --model and --template are needed for this.")
    if args.name and len(args.method) > 1:
        raise InputError("--name names the runs of one method; give one --method.")
    return args


def set_up(args):
    """Return the task with its recipe, the aligned model's directory, its chat format, the rows."""
    # The task with the paper's recipe, but for what options say.
    task = TASKS[args.task]
    given = {name: getattr(args, name) for name in RECIPE_OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    system = task.system if args.system is None else args.system
    task = task._replace(system=system, recipe=task.recipe._replace(**given))

    # The aligned model that every run starts from, and its chat format.
    if args.task == "toy":
        torch.set_num_threads(1)  # sums in one order: the same numbers on any number of cores
    folder = pathlib.Path(args.out) / args.task
    aligned = pathlib.Path(args.model) if args.model else toy.make_aligned_model(folder, args)
    chat = load_chat(aligned, args.template, system)

    # All methods train on the same rows.
    path = args.data or folder / "data" / "train.jsonl"
    context = files.read_config(aligned / "config.json").max_position_embeddings
    longest = min(context, task.recipe.max_length)
    return task, aligned, chat, choose_rows(path, task, chat, longest, args.limit)


def load_aligned(aligned, args):
    """Return the aligned model; the memory of the model before it is freed first."""
    # Python frees a model late, where something still points to it in a circle.
    gc.collect()
    torch.cuda.empty_cache()
    model = files.load_model(aligned, args.device, getattr(torch, args.dtype))
    on_cuda = args.device.startswith("cuda")
    model.recompute = on_cuda if args.recompute is None else args.recompute
    return model


def prepare(name, rows, chat, task, aligned, args):
    """Return a method's examples and a note for its run.json; some ask the aligned model."""
    asks = METHODS[name].data or METHODS[name].ask_aligned
    model = load_aligned(aligned, args) if asks else None
    context = files.read_config(aligned / "config.json").max_position_embeddings
    return make_examples(name, rows, chat, task, model, context, args)


def make_optimizer(model, recipe, aligned, seed, args):
    """Return the optimizer of a run and its `take_step`; LoRA's adapters go on the model first."""
    if recipe.lora:
        one_gpu.add_lora(model, recipe.lora, seed)
    elif args.dtype == "bfloat16":
        weights = files.read_weights(aligned)
        return one_gpu.with_masters(model, recipe, weights, seed), one_gpu.take_step
    return make_adamw(model, recipe), take_step


def fine_tune(target, run, examples, aligned, companions, args):
    """Fine-tune the aligned model on examples, as a run's settings say; write its directory."""
    recipe = Recipe(**run["recipe"])
    model = load_aligned(aligned, args)
    optimizer, step = make_optimizer(model, recipe, aligned, run["seed"], args)

    # The loop; an interrupted run goes on after the last step that was saved.
    saved = files.ResumeFile(target, run, model, optimizer, args.save_every)
    if not args.resume:
        saved.path.unlink(missing_ok=True)
    log = saved.restore()
    loss = loss_of(METHODS[run["method"]], vars(args))
    loop = Loop(recipe, run["seed"], loss, step, args.token_budget, target.name)
    log = train(model, optimizer, examples, loop, log, after_step=saved.save)
    seconds = log[-1]["seconds"]
    say(f"{target.name}: loss {log[-1]['loss']:.3f} after {len(log)} steps, {seconds:.0f} s")

    # Adapters go into the weights. A diverged last step shows in the weights only.
    if recipe.lora:
        one_gpu.merge_lora(model, run["seed"])
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise InputError(f"{target.name}: the weights are not finite; try a lower --lr.")

    # A model directory like the aligned one's, with what this run is.
    run = run | {"seconds_per_epoch": seconds / recipe.epochs}
    files.save_model(target, model, run, log, companions)
    saved.path.unlink(missing_ok=True)


def main():
    # --show: what is trained on, and nothing is trained.
    args = parse_arguments()
    task, aligned, chat, rows = set_up(args)
    if args.show:
        for name in args.method:
            print(f"{name}:\n")
            for example in prepare(name, rows.pairs[: args.show], chat, task, aligned, args)[0]:
                print(view(chat.tokenizer, example.ids, example.start), end="\n\n")
        return

    # Settings and examples of all runs are checked before the first one begins.
    folder = pathlib.Path(args.out) / args.task
    data = describe_data(rows, task.system, args.template, aligned)
    plan = plan_runs(folder, args, task.recipe, data, aligned)
    companions = files.read_companions(aligned)
    examples = {name: prepare(name, rows.pairs, chat, task, aligned, args) for name in plan}

    # What runs, and then each run.
    steps = task.recipe.epochs * math.ceil(len(rows.pairs) / task.recipe.batch_size)
    say(f"{files.count_parameters(aligned):,} parameters on {args.device} in {args.dtype}: "
        f"{len(rows.pairs)} rows, {steps} steps of {task.recipe.batch_size}, lr {task.recipe.lr} "
        "falling to 0")  # fmt: skip
    for name, targets in plan.items():
        for target, run in targets.items():
            of_method, note = examples[name]
            fine_tune(target, run | note, of_method, aligned, companions, args)
    print(f"{folder} is ready for: python evaluate.py {folder}")


if __name__ == "__main__":
    cli.run_script(main)
