"""Which runs a command makes, how an interrupted one goes on, and what each trains on.

Every method, m, prefix, connector, rate and seed that the options give makes a run. A run's
*setting*, the method and its preview, decides its training texts. Two baselines of the paper ask
the seed model first: `sdft` has it rewrite the answers (`distill.py`), `constrained` needs its
log-probabilities (`losses.py`).
"""

import itertools
import json
import os
import re
import sys
import zlib

import sentencepiece
import torch

from lookahead import checkpoint, files
from lookahead.chat import encode_chat
from lookahead.commands import InputError, say
from lookahead.distill import rewrite_answers
from lookahead.losses import LOSSES, answer_log_probs
from lookahead.preview import CONNECTOR, PREFIX, PREVIEWS, count_shown_whole, preview_pairs
from lookahead.tables import PREVIEW_FIELDS
from lookahead.tasks import TASKS
from lookahead.tensors import read_header, read_tensors, write_tensors

METHODS = ("vanilla", *PREVIEWS, *LOSSES, "sdft")
NOT_IN_NAME = ("data_sha256", "template", "prompt_field", "answer_field")


def all_runs(args, task, seed_model, folder):
    """Return {name: run}; a run is what `run.json` says of it before it is made, to repeat it."""
    shared = {name: getattr(args, name) for name in ("task", "template", "limit", "dtype")}
    shared |= {name: getattr(task, name) for name in ("system", "prompt_field", "answer_field")}
    shared |= {"data_sha256": files.sha256(args.data), "arguments": vars(args)}
    shared |= {"seed_model": os.path.relpath(seed_model, folder)}
    shared |= {"seed_model_sha256": files.sha256(*checkpoint.weight_files(seed_model))}
    shared |= {"python": sys.version.split()[0], "torch": torch.__version__}
    shared |= {"sentencepiece": sentencepiece.__version__}
    given = {name: value for name, value in vars(args).items() if value is not None}
    for field, default in task.recipe._asdict().items():
        shared[field] = given.get(field, default)
    runs, lrs = {}, args.lr or [task.recipe.lr]
    for seed, lr, method in itertools.product(range(args.seeds), lrs, args.method):
        taken = PREVIEWS[method][1] if method in PREVIEWS else ()
        values = [getattr(args, field) if field in taken else [None] for field in PREVIEW_FIELDS]
        for options in itertools.product(*values):
            run = shared | {"method": method, "seed": seed, "lr": lr}
            run |= dict(zip(PREVIEW_FIELDS, options))
            if runs.setdefault(_run_name(run), run) != run:
                raise InputError(f"two runs are named {_run_name(run)}; make one at a time.")
    return runs


def _run_name(run):
    """Return a name that tells what differs from the defaults, so that no run hides another."""
    task = TASKS[run["task"]]
    defaults = task.recipe._asdict() | {"prefix": PREFIX, "connector": CONNECTOR, "limit": None}
    defaults |= {"dtype": "float32", "system": task.system}
    name = run["method"] + (f"-m{run['m']}" if run["m"] else "")
    for field, default in defaults.items():
        if run[field] not in (None, default):
            value = str(run[field])
            if not re.fullmatch(r"[\w.-]{1,20}", value):  # a text: its start and a checksum
                value = re.sub(r"\W+", "_", value)[:20] + f".{zlib.crc32(value.encode()):08x}"
            name += f"-{field.replace('_', '')}{value}"
    return f"{name}-seed{run['seed']}"


def is_due(folder, run, resume, seed_model):
    """Return whether a run is still to be made; refuse a folder in which it must not be written."""
    checkpoint.refuse_foreign(folder)
    if folder.resolve() == seed_model.resolve():
        raise InputError(f"{folder}: this run would overwrite its seed model; give another --out.")
    saved, path = folder / checkpoint.RESUME_FILE, folder / "run.json"
    if saved.exists() and not resume:
        raise InputError(f"{saved}: an interrupted run; give --resume or remove it.")
    if saved.exists() or not path.exists():
        return True
    found = files.read_json(path)
    if resume:
        _check_same(path, found, run)
        say(f"{folder.name}: complete already")
    elif found.get("seed_model_sha256") == run["seed_model_sha256"]:  # else it is out of date
        _check_same(path, found, {key: run[key] for key in NOT_IN_NAME})
    return not resume


def _check_same(path, found, run):
    """Refuse what was made by another run than this one."""
    for key, value in run.items():
        if key != "arguments" and found.get(key) != value:
            raise InputError(f"{path}: was made with {key} {found.get(key)!r:.60}, and now it is "
                             f"{value!r:.60}; remove it, or give another --out.")  # fmt: skip


class ResumeFile:
    """The file in which training saves, every so many steps, what it has reached.

    It holds the trained weights, the optimizer's state and, in its header, the loss log and `run`.
    It replaces the one before only when it is whole on the disk, so a run that is killed at any
    moment, during a save too, is taken up exactly and ends with the weights of one that was never
    interrupted. Nothing random has to be saved: seed and epoch alone decide the order of the data.
    """

    def __init__(self, folder, every, run):
        self.path, self.every, self.run = folder / checkpoint.RESUME_FILE, every, run

    def save(self, model, optimizer, log):
        tensors = {}
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                tensors[name] = weight
                for key, value in optimizer.state[weight].items():
                    bits = value.dtype == torch.int16  # the rests; the file's dtypes are of floats
                    tensors[f"{name} {key}"] = value.view(torch.bfloat16) if bits else value
        write_tensors(self.path, tensors, {"run": json.dumps(self.run), "log": json.dumps(log)})

    def restore(self, model, optimizer):
        """Put what was saved into model and optimizer; return the loss log, empty if none was."""
        if not self.path.exists():
            return []
        texts = read_header(self.path)[2]
        _check_same(self.path, json.loads(texts.get("run", "{}")), self.run)
        weights = dict(model.named_parameters())
        for name, tensor in read_tensors(self.path):
            name, _, key = name.partition(" ")
            weight, state = weights[name], optimizer.state[weights[name]]
            if not key:
                weight.data.copy_(tensor)
            elif key in state:
                state[key].copy_(tensor.view(state[key].dtype))
            else:  # PyTorch's AdamW has no state before its first step
                state[key] = tensor.to(weight.device)
        return json.loads(texts["log"])


def setting_of(run):
    return run["method"], *(run[field] for field in PREVIEW_FIELDS)


def prepare(pairs, runs, task, seed_model, args):
    """Return {setting: (examples, counts for `run.json`)} of the runs' settings.

    All train on the same rows in the same order, and no answer is ever cut: a row that is too long
    in one setting is left out of all.
    """
    settings = list(dict.fromkeys(map(setting_of, runs)))
    model, tokenizer = checkpoint.load(seed_model, args.device, getattr(torch, args.dtype))
    chat = tokenizer, args.template, task.system
    versions = []
    for method, *options in settings:
        version = pairs
        if method in PREVIEWS:
            options = dict(zip(PREVIEW_FIELDS, options))
            version = preview_pairs(pairs, method, **options, tokenizer=tokenizer)
        elif method == "sdft":
            version, share = rewrite_answers(model, *chat, pairs, task, args.token_budget)
            say(f"sdft: {share:.1%} of the rewrites replace answers")
        versions.append([encode_chat(*chat, *pair) for pair in version])
    longest = args.max_length or task.recipe.max_length
    fits = _rows_that_fit(versions, min(longest, model.config.max_position_embeddings))
    kept, prepared = list(itertools.compress(pairs, fits)), {}
    for setting, version in zip(settings, versions):
        method, m, *_ = setting
        examples = list(itertools.compress(version, fits))
        counts = {"examples": len(kept), "left_out": len(pairs) - len(kept)}
        if m:
            whole = counts["shown_whole"] = count_shown_whole(kept, m, tokenizer)
            if whole:
                say(f"m = {m}: {whole} answers are shown whole")
        elif method == "sdft":
            counts["rewritten"] = share
        elif method == "constrained":
            name = "constrained: ask seed model"
            values = answer_log_probs(model, examples, args.token_budget, name)
            examples = [(*e, v.cpu()) for e, v in zip(examples, values)]
        prepared[setting] = examples, counts
    return prepared


def _rows_that_fit(versions, max_length):
    """Return for each row whether its example is at most `max_length` tokens in every version."""
    if len(set(map(len, versions))) > 1:
        raise ValueError("a setting has other rows than the rest: it may change rows, not add any")
    fits = [max(len(ids) for ids, _ in row) <= max_length for row in zip(*versions)]
    if not any(fits):
        raise InputError(f"none of {len(fits)} rows fits in {max_length} tokens, the lower of "
                         "--max-length and the model's context.")  # fmt: skip
    if left_out := fits.count(False):
        say(f"{left_out} rows of over {max_length} tokens left out")
    return fits
