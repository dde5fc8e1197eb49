"""Runs: their settings, which `run.json` holds, and the folders in which they lie.

`recipe` and `data` decide which runs may be compared: those that have both equal. `data` is what is
trained on before any preview, so commands that name other methods give comparable runs.
"""

import hashlib
import itertools
import json
import os

from lookahead.cli import InputError
from lookahead.files.checkpoint import weights_sha256
from lookahead.files.rows import read_json

TABLE_ORDER = ("vanilla", "sdft", "constrained", "real", "virtual")  # the paper's


def describe_data(pairs, left_out, task, template, aligned):
    """Return `data` of a run: the rows that are trained on, and from which model."""
    texts = json.dumps([pair[:3] for pair in pairs]).encode()  # prompt, answer, system
    return {
        "rows_sha256": hashlib.sha256(texts).hexdigest(),
        "examples": len(pairs),
        "left_out": left_out,
        "system": task.system,
        "template": template,
        "aligned_model_sha256": weights_sha256(aligned),
    }


def plan(folder, options, task, data, aligned, args):
    """Return {folder: settings} of the runs that a command still has to make.

    `options` are those of each method's preview, by method. A folder that holds a run with other
    settings is rejected.
    """
    shared = {"task": args.task, "data": data}
    shared |= {"recipe": task.recipe._asdict() | {"dtype": args.dtype}}
    shared |= {"aligned_model": os.path.relpath(aligned, folder)}
    todo = {}
    for method, seed in itertools.product(args.method, range(args.seeds)):
        name = args.name or method
        run = {"name": name, "method": method, "seed": seed, **options[method], **shared}
        target = folder / f"{name}-seed{seed}"
        above = next(path for path in target.parents if path.exists())
        if not above.is_dir():
            raise InputError(f"{above}: is a file, not a folder; give another --out.")
        if is_due(target, run, args.resume):
            todo[target] = run
    return todo


def is_due(folder, run, resume):
    """Return whether a run is still to be made in a folder, or to be resumed there."""
    saved = folder / "resume.safetensors"
    if saved.exists() and not resume:
        raise InputError(f"{saved}: an interrupted run; give --resume or remove it.")
    if saved.exists() or not (folder / "run.json").exists():
        return True
    check_same(folder / "run.json", read_json(folder / "run.json"), run)
    return not resume


def check_same(path, found, run):
    """Reject what was made with other settings than a run has now."""
    for key, value in run.items():
        if found.get(key) != value:
            raise InputError(f"{path}: was made with {key} {found.get(key)}, now it is {value}; "
                             "give --name or --out, or remove it.")  # fmt: skip


def find_runs(folder):
    """Return the directory of the aligned model, and {path: settings} of the runs made from it.

    All runs of a folder have one aligned model, which has not changed since, one chat template and
    one system prompt.
    """
    found = {path.parent: read_json(path) for path in sorted(folder.glob("*/run.json"))}
    found = {path: run for path, run in found.items() if run["method"] != "aligned"}
    if not found:
        raise InputError(f"{folder}: holds no runs of train.py; give OUT/TASK, like out/toy.")
    order = {method: place for place, method in enumerate(TABLE_ORDER)}
    paths = sorted(found, key=lambda path: order.get(found[path]["method"], len(order)))

    first = found[paths[0]]
    aligned = folder / first["aligned_model"]
    wanted = first["data"] | {"aligned_model_sha256": weights_sha256(aligned)}
    for path in paths:
        for key in ("aligned_model_sha256", "template", "system"):
            if found[path]["data"][key] != wanted[key]:
                raise InputError(f"{path}: was trained with another {key} than {paths[0]}, or than "
                                 f"{aligned} has now; train it again elsewhere.")  # fmt: skip
    return aligned, {path: found[path] for path in paths}
