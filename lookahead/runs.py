"""Which runs a command makes, what each trains on, and their names.

A setting is a method with its preview: every m, prefix and connector that the command gives makes
one. All settings get the same rows in the same order. Two baselines of the paper ask the seed model
before training: `sdft` has it rewrite the answers (`distill.py`), `constrained` needs its
log-probabilities (`losses.py`).
"""

import dataclasses
import itertools
import os
import re
import sys
import typing
import zlib

import sentencepiece
import torch

from lookahead import checkpoint, files
from lookahead.chat import encode_versions
from lookahead.commands import say
from lookahead.distill import rewrite_answers
from lookahead.losses import answer_log_probs
from lookahead.preview import CONNECTOR, PREFIX, PREVIEWS, count_shown_whole, preview_pairs
from lookahead.tasks import TASKS

METHODS = (*PREVIEWS, "constrained", "sdft")


class Setting(typing.NamedTuple):
    """A method and its preview; None for what the method does not have."""

    method: str
    m: int | None
    prefix: str | None
    connector: str | None


def _all_settings(args):
    """Return every Setting that the options of train.py ask for, once each, in their order."""
    found = []
    for method in args.method:
        ms = args.m if method == "real" else [None]
        prefixes = args.prefix if method == "virtual" else [None]
        connectors = args.connector if method in ("real", "virtual") else [None]
        found += itertools.starmap(Setting, itertools.product([method], ms, prefixes, connectors))
    return list(dict.fromkeys(found))


def all_runs(args, task, seed_model, folder):
    """Return what `run.json` says of each run before it is made: what is needed to repeat it."""
    names = ("task", "template", "system", "limit", "dtype")
    shared = {name: getattr(args, name) for name in names} | {"arguments": vars(args)}
    shared |= {"prompt_field": task.prompt_field, "answer_field": task.answer_field}
    shared |= {"data_sha256": files.sha256(args.data), "python": sys.version.split()[0]}
    shared |= {"torch": torch.__version__, "sentencepiece": sentencepiece.__version__}
    shared |= {"seed_model": os.path.relpath(seed_model, folder)}
    shared |= {"seed_model_sha256": files.sha256(*checkpoint.weight_files(seed_model))}
    recipe = dataclasses.asdict(task.recipe)
    recipe |= {k: v for k, v in vars(args).items() if k in recipe and v is not None}
    rates = args.rates or [recipe["lr"]]
    runs = itertools.product(range(args.seeds), rates, _all_settings(args))
    return [shared | recipe | setting._asdict() | {"seed": n, "lr": lr} for n, lr, setting in runs]


def prepare(pairs, seed_model, max_length, args):
    """Return {setting: examples} and {setting: what `run.json` tells of them}."""
    settings = _all_settings(args)
    methods = {setting.method for setting in settings}
    tokenizer = files.load_tokenizer(seed_model / "tokenizer.model")
    context = checkpoint.read_config(seed_model / "config.json").max_position_embeddings
    limit, versions, told = min(max_length, context), {}, {}
    if methods & {"constrained", "sdft"}:
        model, _ = checkpoint.load(seed_model, args.device, checkpoint.DTYPES[args.dtype])
    if "sdft" in methods:
        request = args.template, args.system, pairs, TASKS[args.task], args.token_budget
        rewritten, share = rewrite_answers(model, tokenizer, *request)
        say(f"sdft: {share:.1%} of the answers are rewritten, the others kept")
    for setting in settings:
        versions[setting] = rewritten if setting.method == "sdft" else pairs
        if setting.method in PREVIEWS:
            versions[setting] = preview_pairs(pairs, *setting, tokenizer)
    examples, kept = encode_versions(tokenizer, args.template, args.system, versions, limit)
    rows = list(itertools.compress(pairs, kept))
    if left_out := len(pairs) - len(rows):
        say(f"{left_out} rows of over {limit} tokens left out")
    for setting in settings:
        told[setting] = {"examples": len(rows), "left_out": left_out}
        if setting.method == "real":
            whole = told[setting]["shown_whole"] = count_shown_whole(rows, setting.m, tokenizer)
            if whole:
                say(f"m = {setting.m}: {whole} answers are shown whole")
        elif setting.method == "sdft":
            told[setting]["rewritten"] = share
        elif setting.method == "constrained":
            name = "constrained: ask seed model"
            values = answer_log_probs(model, examples[setting], args.token_budget, name)
            examples[setting] = [(*e, v.cpu()) for e, v in zip(examples[setting], values)]
    return examples, told


def run_name(run):
    """Return a name that tells what differs from the defaults, so that no run hides another."""
    name = run["method"] + (f"-m{run['m']}" if run["m"] else "")
    defaults = dataclasses.asdict(TASKS[run["task"]].recipe)
    defaults |= {"prefix": PREFIX, "connector": CONNECTOR, "limit": None, "dtype": "float32"}
    defaults |= {"system": TASKS[run["task"]].system}
    for field, default in defaults.items():
        if run[field] in (None, default):
            continue
        value = str(run[field])
        if not re.fullmatch(r"[\w.-]{1,20}", value):  # a text: its start, and a sum of the whole
            value = re.sub(r"\W+", "_", value)[:20] + f".{zlib.crc32(value.encode()):08x}"
        name += f"-{field.replace('_', '')}{value}"
    return f"{name}-seed{run['seed']}"
