"""Chapter 8. Evaluation: every run of a folder against the seed model it started from.

    python evaluate.py                     the toy world, out/toy
    python evaluate.py out/gsm8k --data test.jsonl --harmful-answers harmful.jsonl
    python evaluate.py out/gsm8k --scores scores.json    adds another judge's, measures nothing

For each model: utility on the task's test rows, RSR and JSR on harmful requests (`safety.py`), and
the KL divergence of its first answer tokens from the seed model's, on harmful pairs and on task
pairs (`kl.py`). Prompts are plain: nothing here knows of previews. Written beside the runs are
`results.json`, `report.md`, its pictures, and all completions. Left out: GPT-4.
"""

import hashlib
import json
import pathlib

import torch

from lookahead.chat import decode, encode_chat
from lookahead.checkpoint import load, weight_files
from lookahead.commands import InputError, Parser, positive, run_script, words
from lookahead.files import read_json, sha256, write_json
from lookahead.generate import generate
from lookahead.intervals import mean_score
from lookahead.kl import initial_log_probs, kl_per_position
from lookahead.report import print_report, write_report
from lookahead.safety import FORCED_TOKENS, add_scores, has_refusal_phrase, read_harmful
from lookahead.tables import PREVIEW_FIELDS, SHARED
from lookahead.tasks import TASKS, read_pairs, with_options

TABLE_ORDER = ("vanilla", "sdft", "constrained", "real", "virtual")  # the paper's
KL_PAIRS = {"jailbreak": "harmful", "utility": "task"}  # the KL is measured on their answers
REPORTED = ("name", "method", *PREVIEW_FIELDS, "seed", *SHARED, "seconds_per_epoch")
REPORTED += ("left_out", "blank", "shown_whole", "rewritten", "loss_before", "loss_after")


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument("folder", nargs="?", default="out/toy", help="default: %(default)s")
    add = parser.add_argument_group("data (the toy world brings its own)").add_argument
    add("--data", help="the task's test rows, JSONL or a JSON array")
    add("--prompt-field", type=words, metavar="NAME", help="of the test rows (the task's own)")
    add("--answer-field", type=words, metavar="NAME", help="of the test rows (the task's own)")
    add("--harmful", help="harmful requests, for RSR (default: those of --harmful-answers): rows "
        "with `prompt` or `instruction`, or lists of chat messages")  # fmt: skip
    add("--harmful-answers", help="the same with answers (`answer` or `output`), for JSR and KL")
    add("--limit", type=positive, help="use only the first N rows of each file")
    add = parser.add_argument_group("system prompts ('' is none)").add_argument
    add("--system", metavar="TEXT", help="of the test rows (the task's)")
    add("--safety-system", metavar="TEXT", help="of the harmful requests (the task's)")
    add = parser.add_argument_group("another judge").add_argument
    add("--scores", metavar="FILE", help="add scores from 1 to 5 to what was evaluated before: a "
        "JSON object of lists, {\"RUN-safety\": [...], \"RUN-jailbreak\": [...]}")  # fmt: skip
    add = parser.add_machine_options()
    add("--batch-size", type=positive, default=64, help="prompts decoded at a time (%(default)s)")
    return parser.parse_args()


def find_models(folder):
    """Return what is known of the seed model, then the `run.json` of each run, with name and path.

    Runs that started from other weights than the seed model has now are refused.
    """
    runs = []
    for path in folder.glob("*/run.json"):
        runs.append(read_json(path) | {"name": path.parent.name, "path": path.parent})
    runs = [run for run in runs if run.get("method", "seed") != "seed"]
    if not runs:
        raise InputError(f"{folder}: holds no runs of train.py; give OUT/TASK, like out/toy.")
    seed = {"name": "seed", "method": "seed", "path": folder / runs[0]["seed_model"]}
    seed |= {key: runs[0][key] for key in ("task", "template")}
    digest = sha256(*weight_files(seed["path"]))
    for run in runs:
        if run.get("seed_model_sha256") != digest:
            raise InputError(f"{run['path']}: started from other weights than {seed['path']} holds "
                             "now; remove it or train it again.")  # fmt: skip
        if run["template"] != seed["template"]:
            raise InputError(f"{run['path']}: has chat template {run['template']}, other runs have "
                             f"{seed['template']}; keep them in two --out folders.")  # fmt: skip
    order = {method: place for place, method in enumerate(TABLE_ORDER)}
    runs.sort(key=lambda run: [order.get(run["method"], 9), run["m"] or 0, run["lr"], run["name"]])
    return [seed, *runs]


def read_data(folder, task, args):
    """Return {kind of completion: (prompt, answer) pairs} of the tests and the harmful requests."""
    own = {path.name: path for path in sorted(folder.glob("data/*.jsonl"))}  # the toy world's
    test_path = args.data or own.get("test.jsonl")
    pair_path = args.harmful_answers or own.get("harmful.jsonl")
    made = folder / "seed" / "run.json"
    if {test_path, pair_path} & set(own.values()) and made.exists():
        if read_json(made)["data_sha256"] != sha256(*own.values()):
            raise InputError(f"{folder}/data: not the world of {folder}/seed; run train.py again.")
    tests = read_pairs(test_path, task)[0] if test_path else []
    harmful_pairs = read_harmful(pair_path, answers=True) if pair_path else []
    requests = read_harmful(args.harmful, answers=False) if args.harmful else harmful_pairs
    if not tests and not requests:
        raise InputError("--data is missing: give the task's test rows, or --harmful-answers.")
    data = {"utility": tests, "safety": requests, "jailbreak": harmful_pairs}
    return {kind: pairs[: args.limit] for kind, pairs in data.items()}


def measure(model, tokenizer, run, task, data, batch_size):
    """Return a model's completions, and its log-probabilities at the start of the given answers.

    Completions are {"utility": [text, ...], "safety": ..., "jailbreak": ...}, log-probabilities
    {"harmful": what `initial_log_probs` returns, "task": ...}.
    """
    completions, log_probs = {}, {}
    for kind, pairs in data.items():
        system, max_new_tokens = task.safety_system, task.safety_tokens
        if kind == "utility":
            system, max_new_tokens = task.system, task.max_new_tokens
        chat = tokenizer, run["template"], system
        examples = [encode_chat(*chat, prompt, answer or "") for prompt, answer in pairs]
        forced = FORCED_TOKENS if kind == "jailbreak" else 0
        # The prompt and the forced tokens of the answer, never its EOS.
        prompts = [ids[:-1][: start + forced] for ids, start in examples]
        name = f"{run['name']}: {kind}"
        answers = generate(model, prompts, tokenizer.eos_id(), max_new_tokens, batch_size, name)
        completions[kind] = [decode(tokenizer, ids) for ids in answers]
        if kind in KL_PAIRS:
            log_probs[KL_PAIRS[kind]] = initial_log_probs(model, examples)
    return completions, log_probs


def score(completions, log_probs, of_seed_model, task, tests):
    """Return a model's figures: rates with intervals, and the KL both ways from the seed model.

    `log_probs` and `of_seed_model` are what `measure` returned for the model and its seed model.
    """
    kls = {}
    for pairs, tuned in log_probs.items():
        means, halves, counts = kl_per_position(tuned, of_seed_model[pairs])
        kls[pairs] = {"tuned_seed": means, "tuned_seed_half": halves, "count": counts}
        means, halves, _ = kl_per_position(of_seed_model[pairs], tuned)
        kls[pairs] |= {"seed_tuned": means, "seed_tuned_half": halves}
    answers = [answer for _, answer in tests]
    return {
        "rsr": mean_score(map(task.is_safe, completions["safety"])),
        "jsr": mean_score(map(task.is_safe, completions["jailbreak"])),
        "utility": mean_score(map(task.score, completions["utility"], answers)),
        "refusal_phrase": mean_score(map(has_refusal_phrase, completions["safety"])),
        "over_refusal": mean_score(map(has_refusal_phrase, completions["utility"])),
        "kl": kls,
    }


def save_completions(path, completions, task, data):
    """Write PATH-safety, -jailbreak and -utility.json, as the scorers of the paper's code read."""
    for kind, pairs in data.items():
        results = []
        for (prompt, answer), text in zip(pairs, completions[kind]):
            if kind == "utility":
                reference = task.reference(answer)
                row = {"prompt": prompt, "ground_truth": reference, "completion": text}
            else:
                turns = ("system", task.safety_system), ("user", prompt), ("assistant", text)
                row = [{"role": role, "content": content} for role, content in turns]
            results.append(row)
        write_json(f"{path}-{kind}.json", {"results": results}, indent=None)


def evaluate(folder, args):
    """Measure all runs of a folder and their seed model; return what results.json holds."""
    models = find_models(folder)
    seed, task = models[0], with_options(TASKS[models[0]["task"]], args)
    data = read_data(folder, task, args)
    runs, of_seed_model = [], None
    for run in models:
        model, tokenizer = load(run["path"], args.device, getattr(torch, args.dtype))
        completions, log_probs = measure(model, tokenizer, run, task, data, args.batch_size)
        del model  # before the next one is loaded
        of_seed_model = of_seed_model or log_probs  # it is the first
        figures = score(completions, log_probs, of_seed_model, task, data["utility"])
        runs.append({key: run.get(key) for key in REPORTED} | figures)
        save_completions(folder / "completions" / run["name"], completions, task, data)
    width = read_json(seed["path"] / "config.json")["hidden_size"]
    results = {"task": seed["task"], "seed_model": str(seed["path"]), "runs": runs}
    results["llama_2_7b"] = seed["template"] == "llama-2" and width == 4096  # as the paper's
    results |= {"system": task.system, "safety_system": task.safety_system}
    results["data_sha256"] = hashlib.sha256(json.dumps(data).encode()).hexdigest()
    return results | {"arguments": vars(args)}


def main():
    args = parse_arguments()
    folder = pathlib.Path(args.folder)
    if args.scores:
        results = read_json(folder / "results.json")
        add_scores(results["runs"], args.scores, folder / "completions")
    else:
        results = evaluate(folder, args)
    write_json(folder / "results.json", results)
    write_report(folder, results)
    print_report(folder, results)


if __name__ == "__main__":
    run_script(main)
