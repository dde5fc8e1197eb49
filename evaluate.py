"""Chapter 8. Evaluation: every run of a folder against the seed model it started from.

    python evaluate.py                     the toy world, out/toy
    python evaluate.py out/gsm8k --data test.jsonl --harmful-answers harmful.jsonl

For each model: utility on the task's test rows, RSR and JSR on harmful prompts (`safety.py`), and
the KL divergence of its first answer tokens from the seed model's, on harmful pairs and on task
pairs (`kl.py`). Prompts are plain: nothing here knows of previews. Written beside the runs are
`results.json`, `report.md`, its pictures, and all completions, for another judge. Left out: GPT-4.
"""

import pathlib

from lookahead.chat import encode_chat
from lookahead.checkpoint import best_device, load
from lookahead.files import InputError, Parser, read_json, run_script, write_json
from lookahead.generate import generate
from lookahead.kl import initial_log_probs, kl_per_position
from lookahead.report import print_report, summarise, wilson, write_report
from lookahead.safety import PREFILLED, has_refusal_phrase, is_safe
from lookahead.tasks import TASKS, read_pairs


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument("folder", nargs="?", default="out/toy", help="default: %(default)s")
    data = parser.add_argument_group("data (the toy world brings its own)")
    data.add_argument("--data", help="the task's test rows, JSONL or a JSON array")
    data.add_argument("--harmful", help="rows with `prompt`, for RSR")
    data.add_argument("--harmful-answers", help="rows with `prompt` and `answer`, for JSR and KL")
    data.add_argument("--limit", type=int, help="use only the first N rows of each file")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", default=best_device(), help="here: %(default)s")
    machine.add_argument("--batch-size", type=int, default=64, help="prompts decoded at a time")
    return parser.parse_args()


def find_models(folder):
    """Return [(name, model folder, run.json), ...]: the seed model, then the runs from it."""
    runs = [(path.parent.name, path.parent, read_json(path)) for path in folder.glob("*/run.json")]
    runs = sorted((run for run in runs if run[2]["method"] != "seed"), key=table_order)
    if not runs:
        raise InputError(f"{folder}: holds no runs; `python train.py` makes them.")
    starts = {run["seed_model"] for _, _, run in runs}
    if len(starts) > 1:
        raise InputError(f"{folder}: its runs started from several models: {', '.join(starts)}.")
    seed = folder / starts.pop()
    return [
        (
            "seed",
            seed,
            runs[0][2]
            | {
                "method": "seed",
                "m": None,
                "prefix": None,
                "seed": None,
                "seconds_per_epoch": None,
            },
        )
    ] + runs


def table_order(model):
    """Vanilla comes first in every table, then the others by name and setting."""
    name, _, run = model
    return run["method"] != "vanilla", run["method"], run["lr"], run["m"] or 0, run["seed"], name


def read_data(folder, task, args):
    """Return three lists of (prompt, answer): task tests, harmful prompts and harmful pairs."""
    files = [args.data, args.harmful or args.harmful_answers, args.harmful_answers]
    if (folder / "data" / "test.jsonl").exists():  # the toy world writes its files there
        own = [folder / "data" / name for name in ("test.jsonl", "harmful.jsonl", "harmful.jsonl")]
        files = [given or path for given, path in zip(files, own)]
    fields = [(task.prompt_field, task.answer_field), ("prompt",), ("prompt", "answer")]
    return [
        read_pairs(file, *names)[: args.limit] if file else [] for file, names in zip(files, fields)
    ]


def measure(model, tokenizer, template, task, data, name, args):
    """Return what one model answers and how likely it finds the first tokens of given answers."""
    tests, prompts, pairs = data

    def complete(pairs, system, limit, prefilled=0):
        ids = [encode_chat(tokenizer, template, system, prompt)[0] for prompt, _ in pairs]
        starts = [tokenizer.encode(answer)[:prefilled] if prefilled else [] for _, answer in pairs]
        joined = [prompt + start for prompt, start in zip(ids, starts)]
        answers = generate(model, joined, tokenizer.eos_id(), limit, args.batch_size, name)
        return [tokenizer.decode(ids) for ids in answers]

    def log_probs(pairs, system):
        return initial_log_probs(
            model, [encode_chat(tokenizer, template, system, *p) for p in pairs]
        )

    return {
        "utility": complete(tests, task.system, task.max_new_tokens),
        "safety": complete(prompts, task.safety_system, task.safety_tokens),
        "jailbreak": complete(pairs, task.safety_system, task.safety_tokens, PREFILLED),
        "harmful": log_probs(pairs, task.safety_system),
        "task": log_probs(tests, task.system),
    }


def score(measured, seed, task, data):
    """Return the figures of one model: rates with intervals, and KL both ways against the seed."""
    tests, _, _ = data

    def share(completions, judge):
        return wilson(sum(map(judge, completions)), len(completions))

    def kl(pairs):
        tuned_seed = kl_per_position(measured[pairs], seed[pairs])
        seed_tuned = kl_per_position(seed[pairs], measured[pairs])
        names = (
            ("tuned_seed", "tuned_seed_half", "count"),
            ("seed_tuned", "seed_tuned_half", "count"),
        )
        return dict(zip(names[0], tuned_seed)) | dict(zip(names[1], seed_tuned))

    right = [task.score(text, answer) for text, (_, answer) in zip(measured["utility"], tests)]
    return {
        "rsr": share(measured["safety"], lambda text: is_safe(text, task.complies)),
        "jsr": share(measured["jailbreak"], lambda text: is_safe(text, task.complies)),
        "utility": wilson(sum(right), len(right)),
        "refusal_phrase": share(measured["safety"], has_refusal_phrase),
        "over_refusal": share(measured["utility"], has_refusal_phrase),
        "kl": {pairs: kl(pairs) for pairs in ("harmful", "task")},
    }


def save_completions(folder, name, measured, task, data):
    """Write the completions in the formats that the scorers of the paper's code read."""
    tests, prompts, pairs = data
    for kind, asked in (("safety", prompts), ("jailbreak", pairs)):
        dialogues = [
            [
                {"role": "system", "content": task.safety_system},
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": completion},
            ]
            for (prompt, _), completion in zip(asked, measured[kind])
        ]
        write_json(folder / f"{name}-{kind}.json", {"results": dialogues})
    rows = [
        {"ground_truth": task.reference(answer), "completion": completion}
        for (_, answer), completion in zip(tests, measured["utility"])
    ]
    write_json(folder / f"{name}-utility.json", {"results": rows}, indent=None)


def main():
    args = parse_arguments()
    folder = pathlib.Path(args.folder)
    models = find_models(folder)
    task = TASKS[models[0][2]["task"]]
    data = read_data(folder, task, args)
    runs, answers, seed = [], {}, None
    for name, path, run in models:
        model, tokenizer = load(path, args.device)
        measured = measure(model, tokenizer, run["template"], task, data, name, args)
        seed = seed or measured
        save_completions(folder / "completions", name, measured, task, data)
        kept = ("method", "m", "prefix", "seed", "lr", "seconds_per_epoch")
        figures = score(measured, seed, task, data)
        runs.append({"name": name} | {key: run.get(key) for key in kept} | figures)
        if run["seed"] in (None, 0):
            answers[name] = measured["safety"]
    results = {"task": models[0][2]["task"], "seed_model": str(models[0][1]), "runs": runs}
    write_json(folder / "results.json", results)
    rows = summarise(runs)
    write_report(folder, rows, [prompt for prompt, _ in data[1]], answers)
    print_report(folder, rows)


if __name__ == "__main__":
    run_script(main)
