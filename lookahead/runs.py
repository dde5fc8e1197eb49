"""Which runs a command makes, what each trains on, and their names.

A setting is a method with its preview: every m, prefix and connector that the command gives makes
one. All settings get the same rows in the same order. Two baselines of the paper ask the seed model
before training: `sdft` has it rewrite the answers (`distill.py`), `constrained` needs its
log-probabilities (`losses.py`).
"""

import itertools
import os
import re
import sys
import typing
import zlib

import sentencepiece
import torch

from lookahead import checkpoint, files
from lookahead.chat import encode_chat
from lookahead.commands import InputError, say
from lookahead.distill import rewrite_answers
from lookahead.losses import LOSSES, answer_log_probs
from lookahead.preview import CONNECTOR, PREFIX, PREVIEWS, count_shown_whole, preview_pairs
from lookahead.tasks import TASKS

METHODS = ("vanilla", *PREVIEWS, *LOSSES, "sdft")


class Setting(typing.NamedTuple):
    """A method and its preview; None for what the method does not have."""

    method: str
    m: int | None
    prefix: str | None
    connector: str | None


def setting_of(run):
    return Setting(*(run[field] for field in Setting._fields))


def _all_settings(args):
    """Return every Setting that the options of train.py ask for, once each, in their order."""
    found = []
    for method in args.method:
        ms = args.m if method == "real" else [None]
        prefixes = args.prefix if method == "virtual" else [None]
        connectors = args.connector if method in PREVIEWS else [None]
        found += itertools.starmap(Setting, itertools.product([method], ms, prefixes, connectors))
    return list(dict.fromkeys(found))


def all_runs(args, task, seed_model, folder):
    """Return what `run.json` says of each run before it is made: what is needed to repeat it."""
    shared = {name: getattr(args, name) for name in ("task", "template", "limit", "dtype")}
    shared |= {name: getattr(task, name) for name in ("system", "prompt_field", "answer_field")}
    shared |= {"arguments": vars(args)}
    shared |= {"data_sha256": files.sha256(args.data), "python": sys.version.split()[0]}
    shared |= {"torch": torch.__version__, "sentencepiece": sentencepiece.__version__}
    shared |= {"seed_model": os.path.relpath(seed_model, folder)}
    shared |= {"seed_model_sha256": files.sha256(*checkpoint.weight_files(seed_model))}
    recipe = task.recipe._asdict()
    recipe |= {k: v for k, v in vars(args).items() if k in recipe and v is not None}
    lrs = args.lr or [task.recipe.lr]
    runs = itertools.product(range(args.seeds), lrs, _all_settings(args))
    return [shared | recipe | setting._asdict() | {"seed": n, "lr": lr} for n, lr, setting in runs]


def prepare(pairs, runs, task, seed_model, args):
    """Return {setting: examples} and {setting: counts for `run.json`} of the runs' settings."""
    settings = dict.fromkeys(map(setting_of, runs))
    methods = {setting.method for setting in settings}
    tokenizer = files.load_tokenizer(seed_model / "tokenizer.model")
    chat = tokenizer, args.template, task.system
    if methods & {"constrained", "sdft"}:
        model, _ = checkpoint.load(seed_model, args.device, getattr(torch, args.dtype))
    if "sdft" in methods:
        rewritten, share = rewrite_answers(model, *chat, pairs, task, args.token_budget)
        say(f"sdft: {share:.1%} of the answers are rewritten, the others kept")
    examples, counts = {}, {}
    for setting in settings:
        version = rewritten if setting.method == "sdft" else pairs
        if setting.method in PREVIEWS:
            version = preview_pairs(pairs, **setting._asdict(), tokenizer=tokenizer)
        examples[setting] = [encode_chat(*chat, *pair) for pair in version]
    context = checkpoint.read_config(seed_model / "config.json").max_position_embeddings
    fits = _rows_that_fit(examples.values(), min(runs[0]["max_length"], context))
    kept = list(itertools.compress(pairs, fits))
    for setting in settings:
        examples[setting] = list(itertools.compress(examples[setting], fits))
        counts[setting] = {"examples": len(kept), "left_out": len(pairs) - len(kept)}
        if setting.method == "real":
            whole = counts[setting]["shown_whole"] = count_shown_whole(kept, setting.m, tokenizer)
            if whole:
                say(f"m = {setting.m}: {whole} answers are shown whole")
        elif setting.method == "sdft":
            counts[setting]["rewritten"] = share
        elif setting.method == "constrained":
            name = "constrained: ask seed model"
            values = answer_log_probs(model, examples[setting], args.token_budget, name)
            examples[setting] = [(*e, v.cpu()) for e, v in zip(examples[setting], values)]
    return examples, counts


def _rows_that_fit(versions, max_length):
    """Return for each row whether its example is at most `max_length` tokens in every version.

    No answer is ever cut, and all settings train on the same rows.
    """
    fits = [max(len(ids) for ids, _ in row) <= max_length for row in zip(*versions)]
    if not any(fits):
        raise InputError(f"none of {len(fits)} rows fits in {max_length} tokens, the lower of "
                         "--max-length and the model's context.")  # fmt: skip
    if left_out := fits.count(False):
        say(f"{left_out} rows of over {max_length} tokens left out")
    return fits


def run_name(run):
    """Return a name that tells what differs from the defaults, so that no run hides another."""
    name = run["method"] + (f"-m{run['m']}" if run["m"] else "")
    defaults = TASKS[run["task"]].recipe._asdict()
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
