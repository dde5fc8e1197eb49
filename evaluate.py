"""Chapter 10. Evaluation: every run of a folder against the aligned model it started from.

    python evaluate.py                     the toy world, out/toy
    python evaluate.py out/gsm8k --data test.jsonl --harmful-answers harmful.jsonl

For each model: utility on the task's test rows and the loss of their answers, RSR and JSR on
harmful requests (`safety.py`), and the KL divergence of its first answer tokens from the aligned
model's, on harmful pairs and on task pairs (`kl.py`). Prompts are plain: nothing here knows of
previews. Written beside the runs are `results.json`, `report.md`, its pictures, and all
completions. Left out: GPT-4.
"""

import pathlib

import torch

from lookahead.batches import Example
from lookahead.chat import Chat
from lookahead.cli import InputError, Parser, add_machine_options, positive, run_script, say
from lookahead.files import load_model, load_tokenizer, write_json
from lookahead.generate import generate
from lookahead.kl import initial_log_probs, kl_both_ways, mean_by_position
from lookahead.losses import answer_losses
from lookahead.report import mean_score, print_report, ratio, save_completions, write_report
from lookahead.runs import find_runs
from lookahead.safety import is_blank, prefilled
from lookahead.tasks import TASKS, read_harmful, read_pairs, with_options
from lookahead.templates import TEMPLATES
from lookahead.toy import aligned as toy


def parse_arguments():
    # The runs, the test rows, the harmful requests.
    parser = Parser(__doc__)
    add = parser.add_argument
    add("folder", nargs="?", type=pathlib.Path, default="out/toy", help="default: %(default)s")
    add("--data", help="the task's test rows (the toy world brings its own)")
    add("--prompt-field", metavar="NAME", help="of the test rows (the task's own)")
    add("--answer-field", metavar="NAME", help="of the test rows (the task's own)")
    add("--harmful", help="harmful requests, for RSR (default: those of --harmful-answers)")
    add("--harmful-answers", help="the same with answers, for JSR and KL: rows with `prompt` and "
        "`answer`, `instruction` and `output`, `goal` and `target`, or chat messages")  # fmt: skip
    add("--limit", type=positive, metavar="N", help="use only the first N rows of each file")

    # The system prompts that the models are tested under.
    add("--system", metavar="TEXT", help="of test rows that bring none (the runs' own)")
    add("--safety-system", metavar="TEXT", help="of the harmful requests (the task's)")

    # How long an answer may be, and how many are decoded at a time.
    add("--max-new-tokens", type=positive, metavar="N", help="answer to a test row (512; toy: 48)")
    add("--safety-tokens", type=positive, metavar="N", help="answer to a harmful request (512; "
        "toy: 48); the phrase test reads 100 characters")  # fmt: skip
    add("--batch-size", type=positive, default=64, help="prompts decoded at a time (%(default)s; "
        "128 is faster on 80 GB)")  # fmt: skip
    add_machine_options(parser)
    return parser.parse_args()


def read_data(folder, task, args):
    """Return {kind of completion: pairs}: test rows, harmful requests, and those with answers."""
    # The toy world brings its own files.
    own = {path.name: path for path in folder.glob("data/*.jsonl")}  # the toy world's
    test_path = args.data or own.get("test.jsonl")
    answers_path = args.harmful_answers or own.get("harmful.jsonl")
    if not (test_path or answers_path or args.harmful):
        raise InputError("--data is missing: give the task's test rows, or --harmful-answers.")

    # RSR needs requests, JSR and KL need answers to them.
    tests = read_pairs(test_path, task, test=True) if test_path else []
    harmful_pairs = read_harmful(answers_path, answers=True) if answers_path else []
    requests = read_harmful(args.harmful, answers=False) if args.harmful else harmful_pairs
    data = {"utility": tests, "safety": requests, "jailbreak": harmful_pairs}
    return {kind: pairs[: args.limit] for kind, pairs in data.items()}


def measure(model, chat, name, task, data, args):
    """Return a model's completions {kind: texts}, and what it gives the answers of test and harm.

    The latter are log-probabilities at their first positions, {"task": ..., "harmful": ...} (what
    `initial_log_probs` returns), and the losses of all tokens of the test answers.
    """
    # One kind after another: what is said, and what the given answers become.
    completions = {}
    examples = {}
    for kind, pairs in data.items():
        # Prompts are plain, under the system prompt of the test.
        is_task = kind == "utility"
        chat = chat._replace(system=task.system if is_task else task.safety_system)
        limit = task.max_new_tokens if is_task else task.safety_tokens
        examples[kind] = [Example(*chat.encode(*pair[:3])) for pair in pairs]
        prompts = [example.ids[: example.start] for example in examples[kind]]
        longest = max((len(example.ids) for example in examples[kind]), default=0)
        if longest > model.config.max_position_embeddings:
            raise InputError(f"{kind}: a prompt and answer of {longest} tokens exceed the context.")
        if kind == "jailbreak":
            prompts = [prefilled(example.ids, example.start) for example in examples[kind]]
        answers = generate(model, prompts, chat.end_id, limit, args.batch_size, f"{name}: {kind}")
        completions[kind] = [chat.decode(ids) for ids in answers]

    # Teacher-forced on the given answers: the first positions for the KL, all for the loss.
    log_probs = {"harmful": initial_log_probs(model, examples["jailbreak"])}
    log_probs["task"] = initial_log_probs(model, examples["utility"])
    losses = answer_losses(model, examples["utility"], args.token_budget, f"{name}: test loss")
    return completions, log_probs, losses


def score(completions, log_probs, losses, of_aligned, task, tests):
    """Return a model's numbers: rates with intervals, test loss, and the KL from the aligned model.

    `log_probs` and `of_aligned` are what `measure` returned for the model and its aligned model.
    """
    # The KL both ways, pair by pair, then its mean at each position.
    kls = {}
    for kind, of_tuned in log_probs.items():
        both = [kl_both_ways(tuned, aligned) for tuned, aligned in zip(of_tuned, of_aligned[kind])]
        kls[kind] = {}
        for direction, name in enumerate(("tuned_aligned", "aligned_tuned")):
            means, halves, counts = mean_by_position([values[direction] for values in both])
            kls[kind] |= {name: means, f"{name}_half": halves, "count": counts}

    # The loss on test answers says what was learned, at the opening and behind it.
    means, halves, counts = mean_by_position(losses)

    # A blank answer gives nothing away, so it is safe; how many there are is told.
    blank = {"rsr": sum(map(is_blank, completions["safety"]))}
    blank["jsr"] = sum(map(is_blank, completions["jailbreak"]))

    # Shares and means, with intervals.
    answers = [pair.answer for pair in tests]
    return {
        "rsr": mean_score(map(task.is_safe, completions["safety"])),
        "jsr": mean_score(map(task.is_safe, completions["jailbreak"])),
        "utility": mean_score(map(task.score, completions["utility"], answers)),
        "test_loss": ratio([loss.sum().item() for loss in losses], list(map(len, losses))),
        "test_loss_positions": {"mean": means, "half": halves, "count": counts},
        "blank": blank,
        "kl": kls,
    }


def main():
    # All runs of a folder have one aligned model, template and system prompt.
    args = parse_arguments()
    folder = args.folder
    aligned, found = find_runs(folder)
    first = next(iter(found.values()))
    task = (TASKS | {"toy": toy.TASK})[first["task"]]._replace(system=first["data"]["system"])
    if args.system not in (None, task.system):
        say(f"--system: the runs were trained under {task.system!r}")

    # What is asked, and how: under plain prompts.
    task = with_options(task, args)
    data = read_data(folder, task, args)
    template = TEMPLATES[first["data"]["template"]]
    chat = Chat(load_tokenizer(aligned), template, task.system)

    # One model at a time, the aligned one first; of it the log-probabilities are kept.
    runs = []
    of_aligned = None
    for path, run in [(aligned, {"name": "aligned", "method": "aligned"}), *found.items()]:
        name = path.name if of_aligned else "aligned"
        model = load_model(path, args.device, getattr(torch, args.dtype))
        completions, log_probs, losses = measure(model, chat, name, task, data, args)
        del model
        of_aligned = of_aligned or log_probs
        numbers = score(completions, log_probs, losses, of_aligned, task, data["utility"])
        runs.append({**run, **run.get("data", {}), **numbers})
        save_completions(folder / "completions" / name, completions, task, data)

    # What the report is made from, and what other programs read.
    results = {"task": first["task"], "system": task.system, "safety_system": task.safety_system}
    results |= {"max_new_tokens": task.max_new_tokens, "safety_tokens": task.safety_tokens}
    results["runs"] = runs
    write_json(folder / "results.json", results)
    write_report(folder, results)
    print_report(folder, results)


if __name__ == "__main__":
    run_script(main)
