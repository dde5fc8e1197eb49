"""The file in which training saves where it is, so that it can resume.

It holds the trained weights, the optimizer's state and, as texts, the run's settings and its loss
log. It replaces the one before only when it is whole, so a run that is killed at any moment, during
a save too, resumes exactly and ends with the weights of one that was never interrupted. Nothing
random has to be saved: seed and epoch alone decide the order of the data.
"""

import json

from lookahead.cli import InputError
from lookahead.files.tensors import read_metadata, read_tensors, write_tensors


class ResumeFile:
    def __init__(self, folder, run, model, optimizer, every):
        self.path = folder / "resume.safetensors"
        self.every = every  # steps between saves; None: never
        self.run = run
        self.model = model
        self.optimizer = optimizer

    def save(self, log):
        """Save, if it is time for it: `log` has a row for each step."""
        if not self.every or len(log) % self.every:
            return
        tensors = {}
        for name, weight in self.model.named_parameters():
            if weight.requires_grad:
                tensors[name] = weight
                for key, value in self.optimizer.state[weight].items():
                    tensors[f"{name} {key}"] = value
        write_tensors(self.path, tensors, {"run": json.dumps(self.run), "log": json.dumps(log)})

    def restore(self):
        """Put what was saved into model and optimizer; return the loss log, empty if none was."""
        # A process that was killed amid a file has left a part of it.
        for part in self.path.parent.glob("*.part"):
            part.unlink(missing_ok=True)
        if not self.path.exists():
            return []
        texts = read_metadata(self.path)
        if json.loads(texts["run"]) != self.run:
            raise InputError(f"{self.path}: another run was interrupted here; remove it.")
        weights = dict(self.model.named_parameters())
        for name, tensor in read_tensors(self.path):
            name, _, key = name.partition(" ")
            weight = weights[name]
            if key:
                # Where the optimizer has it; AdamW has nothing yet and keeps all with the weight.
                place = self.optimizer.state[weight].get(key, weight)
                self.optimizer.state[weight][key] = tensor.to(place.device)
            else:
                weight.data.copy_(tensor)
        return json.loads(texts["log"])
