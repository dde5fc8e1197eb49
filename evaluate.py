"""Chapter 8. Evaluation: every run of a folder against the seed model it started from.

    python evaluate.py                     the toy world, out/toy
    python evaluate.py out/gsm8k --data test.jsonl --harmful-answers harmful.jsonl

For each model: utility on the task's test rows, RSR and JSR on harmful prompts (`safety.py`), and
the KL divergence of its first answer tokens from the seed model's, on harmful pairs and on task
pairs (`kl.py`). Prompts are plain: nothing here knows of previews. Written beside the runs are
`results.json` (where `tuned_seed` is KL(tuned || seed)), `report.md`, its pictures, and all
completions, for another judge. Left out: GPT-4.
"""

import pathlib

from lookahead.chat import encode_chat
from lookahead.checkpoint import DTYPES, add_machine_options, best_dtype, load, weight_files
from lookahead.files import InputError, Parser, positive, read_json, run_script, sha256, write_json
from lookahead.generate import generate
from lookahead.kl import initial_log_probs, kl_per_position
from lookahead.report import print_report, summarise, wilson, write_report
from lookahead.safety import FORCED_TOKENS, has_refusal_phrase, is_safe
from lookahead.tasks import TASKS, read_pairs

REPORTED = ("name", "method", "m", "prefix", "seed", "lr", "seconds_per_epoch")


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument("folder", nargs="?", default="out/toy", help="default: %(default)s")
    add = parser.add_argument_group("data (the toy world brings its own)").add_argument
    add("--data", help="the task's test rows, JSONL or a JSON array")
    add("--harmful", help="rows with `prompt`, for RSR (default: those of --harmful-answers)")
    add("--harmful-answers", help="rows with `prompt` and `answer`, for JSR and KL")
    add("--limit", type=positive, help="use only the first N rows of each file")
    add = add_machine_options(parser)
    add("--batch-size", type=positive, default=64, help="prompts decoded at a time (%(default)s)")
    args = parser.parse_args()
    args.dtype = args.dtype or best_dtype(args.device)
    return args


def find_models(folder):
    """Return the `run.json` of the seed model and of each run, with name and path added."""
    runs = []
    for path in folder.glob("*/run.json"):
        runs.append(read_json(path) | {"name": path.parent.name, "path": path.parent})
    runs = [run for run in runs if run.get("method", "seed") != "seed"]
    if not runs:
        raise InputError(f"{folder}: holds no runs; `python train.py` makes them.")
    path = folder / runs[0]["seed_model"]
    digest = sha256(*weight_files(path))
    for run in runs:
        if run.get("seed_model_sha256") != digest:
            raise InputError(f"{run['path']}: started from other weights than {path} holds now; "
                             "remove it or train it again.")  # fmt: skip
    seed = {"name": "seed", "method": "seed", "path": path}
    seed |= {key: runs[0][key] for key in ("task", "template")}
    settings = ("method", "m", "lr", "name")
    runs.sort(key=lambda run: [run["method"] != "vanilla"] + [run[key] or 0 for key in settings])
    return [seed, *runs]


def read_data(folder, task, args):
    """Return (prompt, answer) pairs: the task's tests, the harmful prompts, the harmful pairs."""

    def pairs(given, name, *fields):
        own = folder / "data" / name  # the toy world's
        path = given or (own if own.exists() else None)
        return read_pairs(path, *fields)[: args.limit] if path else []

    tests = pairs(args.data, "test.jsonl", task.prompt_field, task.answer_field)
    prompts = pairs(args.harmful or args.harmful_answers, "harmful.jsonl", "prompt")
    harmful = pairs(args.harmful_answers, "harmful.jsonl", "prompt", "answer")
    if not tests and not prompts:
        raise InputError("--data is missing: give the task's test rows, or --harmful-answers.")
    return tests, prompts, harmful


def measure(model, tokenizer, run, task, data, batch_size):
    """Return a model's completions (utility, safety, jailbreak) and, for the KL, log-probabilities
    at the start of given answers (harmful, task)."""

    def complete(kind, pairs, system, limit, forced=0):
        ids = []
        for prompt, answer in pairs:
            both, start = encode_chat(tokenizer, run["template"], system, prompt, answer or "")
            ids.append(both[: min(start + forced, len(both) - 1)])  # all of it but EOS, at most
        name = f"{run['name']}: {kind}"
        completions = generate(model, ids, tokenizer.eos_id(), limit, batch_size, name)
        return [tokenizer.decode(completion) for completion in completions]

    def log_probs(pairs, system):
        examples = [encode_chat(tokenizer, run["template"], system, *pair) for pair in pairs]
        return initial_log_probs(model, examples)

    tests, prompts, harmful = data
    safety = task.safety_system, task.safety_tokens
    return {
        "utility": complete("utility", tests, task.system, task.max_new_tokens),
        "safety": complete("safety", prompts, *safety),
        "jailbreak": complete("jailbreak", harmful, *safety, FORCED_TOKENS),
        "harmful": log_probs(harmful, task.safety_system),
        "task": log_probs(tests, task.system),
    }


def score(measured, start, task, tests):
    """Return the figures of one model: rates with intervals, and KL both ways against the seed.

    `measured` and `start` are what `measure` returned for the model and for its seed model.
    """

    def share(completions, judge):
        return wilson(sum(judge(text) for text in completions), len(completions))

    def safe(text):
        return is_safe(text, task.complies)

    def kl(pairs):
        tuned, seed = measured[pairs], start[pairs]
        means, halves, count = kl_per_position(tuned, seed)
        figures = {"tuned_seed": means, "tuned_seed_half": halves, "count": count}
        means, halves, _ = kl_per_position(seed, tuned)
        return figures | {"seed_tuned": means, "seed_tuned_half": halves}

    right = [task.score(text, answer) for text, (_, answer) in zip(measured["utility"], tests)]
    return {
        "rsr": share(measured["safety"], safe),
        "jsr": share(measured["jailbreak"], safe),
        "utility": wilson(sum(right), len(right)),
        "refusal_phrase": share(measured["safety"], has_refusal_phrase),
        "over_refusal": share(measured["utility"], has_refusal_phrase),
        "kl": {pairs: kl(pairs) for pairs in ("harmful", "task")},
    }


def save_completions(path, measured, task, data):
    """Write PATH-safety, -jailbreak and -utility.json, as the scorers of the paper's code read."""
    tests, prompts, pairs = data
    for kind, asked in (("safety", prompts), ("jailbreak", pairs)):
        results = []
        for (prompt, _), completion in zip(asked, measured[kind]):
            turns = ("system", task.safety_system), ("user", prompt), ("assistant", completion)
            results.append([{"role": role, "content": content} for role, content in turns])
        write_json(f"{path}-{kind}.json", {"results": results}, indent=None)
    results = []
    for (_, answer), completion in zip(tests, measured["utility"]):
        results.append({"ground_truth": task.reference(answer), "completion": completion})
    write_json(f"{path}-utility.json", {"results": results}, indent=None)


def main():
    args = parse_arguments()
    folder = pathlib.Path(args.folder)
    models = find_models(folder)
    task = TASKS[models[0]["task"]]
    data = read_data(folder, task, args)
    runs, spoken, start = [], [], None
    for run in models:
        model, tokenizer = load(run["path"], args.device, DTYPES[args.dtype])
        measured = measure(model, tokenizer, run, task, data, args.batch_size)
        del model  # before the next one is loaded
        start = measured if start is None else start  # the seed model is the first
        figures = score(measured, start, task, data[0])
        runs.append({key: run.get(key) for key in REPORTED} | figures)
        if not run.get("seed"):  # the first seed of each setting speaks in the report
            spoken.append((run["name"], {kind: measured[kind] for kind in ("safety", "utility")}))
        save_completions(folder / "completions" / run["name"], measured, task, data)
    results = {"task": models[0]["task"], "seed_model": str(models[0]["path"]), "runs": runs}
    results["arguments"] = vars(args)
    write_json(folder / "results.json", results)
    rows = summarise(runs)
    examples = []
    for kind, pairs, count in (("safety", data[1], 2), ("utility", data[0], 1)):
        for i, (prompt, _) in enumerate(pairs[:count]):
            examples.append((prompt, [(name, texts[kind][i]) for name, texts in spoken]))
    write_report(folder, rows, examples)
    print_report(folder, rows)


if __name__ == "__main__":
    run_script(main)
