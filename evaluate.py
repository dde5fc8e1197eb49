"""Evaluation: every run of a folder against the aligned model that it started from.

    python evaluate.py                     the toy world, out/toy
    python evaluate.py out/gsm8k --data test.jsonl --harmful harmful.jsonl

For each model: utility on the task's test rows and the loss of their answers, how many of them it
refuses, RSR and JSR on harmful requests (`safety.py`), and the KL divergence of its first answer
tokens from the aligned model's, on harmful pairs and on task pairs (`kl.py`). Prompts are plain:
nothing here knows of previews. Written beside the runs are `results.json`, `report.md`, its
pictures, and all completions. Left out: a judge like GPT-4.
"""

import pathlib

import torch

from lookahead import cli
from lookahead.batches import Example
from lookahead.cli import InputError, at, positive, say, utf8
from lookahead.files import load_model, write_json
from lookahead.generate import generate
from lookahead.kl import POSITIONS
from lookahead.losses import answer_log_probs
from lookahead.report import Measured, print_report, save_completions, score, write_report
from lookahead.runs import dtype_of, find_runs
from lookahead.safety import prefilled
from lookahead.tasks import read_harmful, read_pairs
from lookahead.templates import load_chat
from lookahead.toy.aligned import TASKS


def parse_arguments():
    # The runs, the test rows, the harmful requests.
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("folder", nargs="?", type=pathlib.Path, default="out/toy", help="OUT/TASK of train.py")
    add("--data", help="the task's test rows (the toy world brings its own)")
    add("--harmful", help="harmful requests, for RSR; those with answers serve JSR and KL too")
    add("--harmful-answers", help="requests with answers, where those of JSR and KL differ")
    add("--limit", type=positive, metavar="N", help="use only the first N rows of each file")

    # The system prompts that the models are tested under.
    add("--system", type=utf8, metavar="TEXT", help="of test rows that bring none (the runs' own)")
    add("--safety-system", type=utf8, metavar="TEXT", help="of the harmful requests (the task's)")

    # How long an answer may be, and how many are decoded at a time.
    add("--max-new-tokens", type=positive, metavar="N", help="answer to a test row (the task's)")
    add("--safety-tokens", type=positive, metavar="N", help="answer to a harmful request (the "
        "task's); the phrase test reads 100 characters")  # fmt: skip
    add("--batch-size", type=positive, metavar="N", help="prompts decoded at a time (as many "
        "as memory has room for, up to 256)")  # fmt: skip
    cli.add_machine_options(parser, dtype="the runs' own")
    return parser.parse_args()


def find_task(run, args):
    """Return the task of a run with the settings of this evaluation."""
    # The utility test has the runs' own system prompt, so that it asks what was trained.
    task = TASKS[run["task"]]
    system = run["data"]["system"]
    if args.system not in (None, system):
        say(f"--system: the runs were trained under {system!r}")
    return task._replace(
        system=system if args.system is None else args.system,
        safety_system=task.safety_system if args.safety_system is None else args.safety_system,
        max_new_tokens=args.max_new_tokens or task.max_new_tokens,
        safety_tokens=args.safety_tokens or task.safety_tokens,
    )


def read_data(folder, task, args):
    """Return {kind of completion: pairs}: test rows, harmful requests, and those with answers."""
    # The toy world brings its own files.
    own = {path.name: path for path in folder.glob("data/*.jsonl")}
    test_path = args.data or own.get("test.jsonl")
    harmful_path = args.harmful or own.get("harmful.jsonl") or args.harmful_answers
    answers_path = args.harmful_answers or harmful_path
    if not (test_path or harmful_path):
        raise InputError("--data is missing: give the task's test rows, or --harmful.")

    # RSR needs requests, JSR and KL need answers to them.
    tests = read_pairs(test_path, task, test=True) if test_path else []
    harmful = read_harmful(harmful_path) if harmful_path else []
    answers = read_harmful(answers_path) if answers_path else []
    data = {"utility": tests, "safety": harmful, "jailbreak": answers}
    data = {kind: pairs[: args.limit] for kind, pairs in data.items()}

    # A request without an answer serves the RSR alone.
    data["jailbreak"] = [pair for pair in data["jailbreak"] if pair.answer is not None]
    return data


def encode_data(data, chat, task, context):
    """Return {kind: examples}: plain prompts, under the system prompt of their test."""
    examples = {}
    for kind, pairs in data.items():
        # Prompt and answer in one list: the answer is generated to, and scored as it is given.
        chat = chat._replace(system=task.system if kind == "utility" else task.safety_system)
        examples[kind] = []
        for pair in pairs:
            with at(pair.place):
                example = Example(*chat.encode(pair.prompt, pair.answer, pair.system))
            if len(example.ids) > context:
                raise InputError(f"{pair.place}: prompt and answer have {len(example.ids)} tokens, "
                                 f"the model's context {context}; leave the row out.")  # fmt: skip
            examples[kind].append(example)
    return examples


def measure(model, chat, name, task, examples, args):
    """Return what is Measured of a model."""
    # What it says: to prompts alone, and after the first tokens of a harmful answer.
    completions = {}
    for kind, prompts in examples.items():
        limit = task.max_new_tokens if kind == "utility" else task.safety_tokens
        ids = [example.ids[: example.start] for example in prompts]
        if kind == "jailbreak":
            ids = [prefilled(example.ids, example.start) for example in prompts]
        answers = generate(model, ids, chat.end_ids, limit, args.batch_size, f"{name}: {kind}")
        completions[kind] = [chat.decode(answer) for answer in answers]

    # What it gives test answers, and the first tokens of these and of harmful answers.
    budget = args.token_budget
    opening = [Example(e.ids[: e.start + POSITIONS], e.start) for e in examples["jailbreak"]]
    _, harmful = answer_log_probs(model, opening, budget, POSITIONS, f"{name}: harmful answers")
    of_tests, of_task = answer_log_probs(
        model, examples["utility"], budget, POSITIONS, f"{name}: test answers"
    )
    return Measured(completions, of_tests, {"harmful": harmful, "task": of_task})


def main():
    # What is asked, and how. All runs of a folder are one comparison.
    args = parse_arguments()
    aligned, runs = find_runs(args.folder)
    first = next(iter(runs.values()))
    task = find_task(first, args)

    # Weights are read as they were trained.
    args.dtype = dtype_of(runs, args.dtype)
    cli.settle(args)
    if first["task"] == "toy":
        torch.set_num_threads(1)  # sums in one order, as in training
    data = read_data(args.folder, task, args)
    chat = load_chat(aligned, first["data"]["template"], task.system)

    def measure_model(path, name):
        model = load_model(path, args.device, getattr(torch, args.dtype))
        examples = encode_data(data, chat, task, model.config.max_position_embeddings)
        measured = measure(model, chat, name, task, examples, args)
        save_completions(args.folder / "completions" / name, measured.completions, task, data)
        return measured

    # The aligned model first: every other one is compared with it. One is in memory at a time.
    of_aligned = measure_model(aligned, "aligned")
    numbers = score(of_aligned, of_aligned, task, data)
    rows = [{"name": "aligned", "method": "aligned", **numbers}]
    for path, run in runs.items():
        measured = measure_model(path, path.name)
        rows.append(run | score(measured, of_aligned, task, data))

    # What the report is made from, and what other programs read.
    results = {"task": first["task"], "system": task.system, "safety_system": task.safety_system}
    results |= {"max_new_tokens": task.max_new_tokens, "safety_tokens": task.safety_tokens}
    results["runs"] = rows
    write_json(args.folder / "results.json", results)
    write_report(args.folder, results)
    print_report(args.folder, results)


if __name__ == "__main__":
    cli.run_script(main)
