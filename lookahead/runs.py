"""Runs: their settings, which `run.json` holds, and the folders in which they lie.

A folder OUT/TASK is one comparison: its runs share `task`, `recipe` and `data` (the rows before any
preview, the template, the system prompt, the aligned model). A run that would differ is rejected,
so whatever stands in one table may be compared.
"""

import json
import os

from lookahead.cli import InputError, say
from lookahead.examples import texts_sha256
from lookahead.files.checkpoint import weights_sha256
from lookahead.files.rows import read_json
from lookahead.files.tensors import read_metadata
from lookahead.methods import METHODS, options_of

SHARED = ("task", "recipe", "dtype", "data", "aligned_model")  # by all runs of a folder


def describe_data(rows, system, template, aligned):
    """Return `data` of a run: the rows that are trained on, and from which model."""
    return {
        "rows_sha256": texts_sha256(rows.pairs),
        "examples": len(rows.pairs),
        "left_out": rows.left_out,
        "system": system,
        "template": template,
        "aligned_model_sha256": weights_sha256(aligned),
    }


def plan_runs(folder, args, recipe, data, aligned):
    """Return {method: {folder: settings}} of the runs that a command still has to make.

    InputError where a run would differ from those of its folder, or from others of its name.
    """
    shared = {"task": args.task, "recipe": recipe._asdict(), "dtype": args.dtype, "data": data}

    # The aligned model's directory as seen from the folder, symbolic links followed.
    shared["aligned_model"] = os.path.relpath(os.path.realpath(aligned), os.path.realpath(folder))

    # Each run is checked before any is made.
    todo = {}
    for method in args.method:
        name = args.name or method
        options = options_of(METHODS[method], vars(args))
        run = {"name": name, "method": method, **options, **shared}
        check_folder(folder, run)
        for seed in range(args.seeds):
            target = folder / f"{name}-seed{seed}"
            interrupted = target / "resume.safetensors"
            if args.resume and interrupted.exists():
                check_same(interrupted, json.loads(read_metadata(interrupted)["run"]), run, run)
            if is_due(target, args.resume):
                todo.setdefault(method, {})[target] = run | {"seed": seed}
    return todo


def check_folder(folder, run):
    """Reject a run whose settings differ from those of a folder, or of other runs of its name."""
    if any(above.exists() and not above.is_dir() for above in (folder, *folder.parents)):
        raise InputError(f"{folder}: a file is in the way of this folder; give another --out.")
    for path, other in read_runs(folder).items():
        check_same(path / "run.json", other, run, run if other["name"] == run["name"] else SHARED)


def check_same(file, other, run, keys):
    """Reject a run, `other`, whose settings in a file are not those of `run`."""
    for key in keys:
        ours, theirs = run[key], other.get(key)
        way = "another --out" if key in SHARED else "--name"
        # Of the recipe and the data, name the part that differs.
        if isinstance(ours, dict) and isinstance(theirs, dict) and ours != theirs:
            key = next(name for name in ours | theirs if ours.get(name) != theirs.get(name))
            ours, theirs = ours.get(key), theirs.get(key)
        if ours != theirs:
            raise InputError(f"{file}: was made with {key} {theirs}, now it is {ours}; "
                             f"give {way}, or remove it.")  # fmt: skip


def is_due(target, resume):
    """Return whether a run is still to be made in a folder; without `resume` it is made again."""
    complete = (target / "run.json").exists()
    interrupted = (target / "resume.safetensors").exists()
    if resume:
        return interrupted or not complete
    if complete or interrupted:
        say(f"{target}: exists and is made again; --resume would keep it")
    return True


def read_runs(folder):
    """Return {path: settings} of the complete runs of a folder, in the order of the methods."""
    runs = [(path.parent, read_json(path)) for path in sorted(folder.glob("*/run.json"))]
    order = {method: place for place, method in enumerate(METHODS)}
    runs.sort(key=lambda pair: order.get(pair[1]["method"], len(order)))
    return {path: run for path, run in runs if run["method"] != "aligned"}


def find_runs(folder):
    """Return the directory of the aligned model, and {path: settings} of the runs made from it.

    InputError where a folder has none, or where the aligned model has changed since.
    """
    runs = read_runs(folder)
    if not runs:
        raise InputError(f"{folder}: holds no runs of train.py; give OUT/TASK, like out/toy.")
    first = next(iter(runs.values()))
    for path, run in runs.items():
        check_same(path / "run.json", run, first, SHARED)
    aligned = folder / first["aligned_model"]
    if weights_sha256(aligned) != first["data"]["aligned_model_sha256"]:
        raise InputError(f"{aligned}: has changed since the runs were made; train them again.")
    return aligned, runs


def dtype_of(runs, given):
    """Return the dtype that the weights of runs are read in: what is given, or their own.

    InputError where that rounds them: most of a small update would be lost.
    """
    own = next(iter(runs.values()))["dtype"]
    if own == "float32" and given == "bfloat16":
        raise InputError("--dtype bfloat16 rounds away what float32 runs learned; leave it out.")
    return given or own
