"""Model directories in Hugging Face's layout: read, and written so that transformers reads them.

`config.json`, `model.safetensors` (or shards with their index), the tokenizer's files, and beside
them our `run.json`, written last: a directory that has one is complete. All is checked from the
files' headers before memory is taken; then the tensors are read one by one into their place, so
there is one copy of the model. Left out: pickled weights, quantized weights, adapters.
"""

import hashlib
import json
import pathlib

import torch

from lookahead.cli import InputError, Progress
from lookahead.files.config import read_config
from lookahead.files.rows import read_json
from lookahead.files.tensors import read_header, read_tensors, write_tensors
from lookahead.files.writing import write_bytes, write_json, write_rows
from lookahead.model import Llama

# What goes from the aligned model's directory to its fine-tuned models, by the ends of names; not
# what belongs to a run, or to weights in shards.
COPIED = (".json", ".jinja", ".model", ".txt")
NOT_COPIED = ("run.json", ".index.json")


def read_companions(folder):
    """Return {name: bytes} of the files that go with a model: configuration, tokenizer, template.

    They are read before training, so that one that cannot be read costs no run.
    """
    copies = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() or path.name.endswith(NOT_COPIED) or not path.name.endswith(COPIED):
            continue
        if not path.is_file():  # a link to nothing, say
            raise InputError(f"{path}: cannot be copied to the runs; restore or remove it.")
        copies[path.name] = path.read_bytes()
    return copies


def save_model(folder, model, run, log, copies):
    """Write a model directory; `run` (a dictionary) says how it was made, `log` its losses.

    `copies` are the aligned model's companions, so that other programs treat the fine-tuned model
    like it. An earlier run in the folder counts as incomplete from the first file that is replaced.
    """
    (folder / "run.json").unlink(missing_ok=True)

    # Weights; a tied head is the embeddings.
    weights = model.state_dict()
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    write_tensors(folder / "model.safetensors", weights)
    for name, data in copies.items():
        write_bytes(folder / name, [data])
    fields = json.loads(copies["config.json"])
    fields.pop("dtype", None)  # the newer name of the next field
    fields["torch_dtype"] = str(model.lm_head.weight.dtype).removeprefix("torch.")
    write_json(folder / "config.json", fields)
    write_rows(folder / "loss.jsonl", log)
    write_json(folder / "run.json", run)


def describe(config):
    """Return the `config.json` of a model that is made here."""
    kind = "qwen3" if config.qk_norm else "qwen2" if config.attention_bias else "llama"
    names = {"model_type": kind, "architectures": [f"{kind.capitalize()}ForCausalLM"]}
    scaling = config.rope_scaling and {"rope_type": "llama3", **config.rope_scaling}
    return config._asdict() | names | {"rope_scaling": scaling}


def weight_files(folder):
    """Return the paths of a model directory's weights: one file, or the shards of an index."""
    paths = [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.exists() and not paths[0].exists():
        shards = read_json(index).get("weight_map", {})
        paths = [folder / pathlib.Path(name).name for name in sorted(set(shards.values()))]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file; only safetensors weights are read.")
    return paths


def read_weights(folder):
    """Yield (name, tensor) of a model directory's weights, one at a time."""
    for path in weight_files(folder):
        yield from read_tensors(path)


def weights_sha256(folder):
    """Return the SHA-256 of a model directory's weight files, one after another."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def count_parameters(folder):
    """Return how many numbers the weights of a model directory have."""
    with torch.device("meta"):
        model = Llama(read_config(folder / "config.json"))
    return sum(weight.numel() for weight in model.parameters())


def load_model(folder, device="cpu", dtype=torch.float32):
    """Return the model of a directory, its weights in `dtype` on `device`.

    Weights that are stored more finely than `dtype` are rounded.
    """
    with torch.device("meta"):
        model = Llama(read_config(folder / "config.json")).to(dtype)
    _check_weights(folder, model)
    model = model.to_empty(device=device)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    parameters = dict(model.named_parameters())
    progress = Progress(f"load {folder.name}", len(parameters))
    second = None
    for done, (name, tensor) in enumerate(read_weights(folder), 1):
        if name in parameters:
            parameters[name].data.copy_(tensor)
        elif name == "lm_head.weight":  # of a tied model, stored twice
            second = tensor.to(device, dtype)
        progress.show(done)
    if second is not None and not torch.equal(second, model.lm_head.weight):
        raise InputError(f"{folder}: lm_head.weight differs from the embeddings, to which the "
                         "config.json ties it; set its tie_word_embeddings to false.")  # fmt: skip
    return model


def _check_weights(folder, model):
    """Reject, by the files' headers alone, weights that are not exactly the model's parameters."""
    missing = {name: list(tensor.shape) for name, tensor in model.named_parameters()}
    for path in weight_files(folder):
        for name, (dtype, shape, _) in read_header(path)[0].items():
            # Old checkpoints have frequencies; a second tied head is compared when it is loaded.
            tied = name == "lm_head.weight" and model.config.tie_word_embeddings
            if tied or name.endswith("rotary_emb.inv_freq"):
                continue
            if missing.pop(name, None) != shape or not dtype.is_floating_point:
                raise InputError(f"{path}: tensor {name!r:.80} {tuple(shape)} comes twice, is "
                                 "quantized or is not one of the config.json's.")  # fmt: skip
    if missing:
        raise InputError(f"{folder}: {len(missing)} tensors are missing, {min(missing)} first.")
