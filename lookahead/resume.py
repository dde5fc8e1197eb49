"""Interrupted runs: what training has reached is saved now and then, and taken up again exactly.

One safetensors file holds the trained weights, the optimizer's state and, in its header, the step,
the losses and what the run is. It replaces the one before only when it is whole on the disk, so a
run that is killed at any moment, during a save too, goes on from the last whole one and ends with
the weights of a run that was never interrupted. Nothing random has to be saved: the order of the
data depends on seed and epoch alone.
"""

import json

import torch

from lookahead.checkpoint import RESUME_FILE, refuse_foreign
from lookahead.commands import InputError, say
from lookahead.files import read_json
from lookahead.tensors import read_header, read_tensors, write_tensors

NOT_IN_NAME = ("data_sha256", "template", "prompt_field", "answer_field")


class ResumeFile:
    """The file in which a run is saved every `every` steps; `run` is its part of `run.json`."""

    def __init__(self, folder, every, run):
        self.path, self.every, self.run = folder / RESUME_FILE, every, run

    def save(self, model, optimizer, log):
        """Write weights, optimizer state and the loss log."""
        tensors = {}
        for name, weight in trained(model):
            tensors[name] = weight
            for key, value in optimizer.state[weight].items():
                bits = value.dtype == torch.int16  # the rests; the file's dtypes are of floats
                tensors[f"{name} {key}"] = value.view(torch.bfloat16) if bits else value
        texts = {"run": json.dumps(self.run), "log": json.dumps(log)}
        write_tensors(self.path, tensors, texts)

    def restore(self, model, optimizer):
        """Put what was saved into model and optimizer; return the loss log, empty if none was."""
        if not self.path.exists():
            return []
        texts = read_header(self.path)[2]
        _check_same(self.path, json.loads(texts.get("run", "{}")), self.run)
        weights = dict(trained(model))
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


def is_due(folder, run, resume, seed_model):
    """Return whether a run is still to be made; refuse a folder in which it must not be written."""
    refuse_foreign(folder)
    if folder.resolve() == seed_model.resolve():
        raise InputError(f"{folder}: this run would overwrite its seed model; give another --out.")
    saved, path = folder / RESUME_FILE, folder / "run.json"
    if saved.exists() and not resume:
        raise InputError(f"{saved}: an interrupted run; give --resume or remove it.")
    if saved.exists() or not path.exists():
        return True
    found = read_json(path)
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


def trained(model):
    """Return [(name, weight), ...] of the weights that training changes."""
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
