"""A model directory in Hugging Face's layout: read, and written so that transformers reads it too.

`config.json`, `model.safetensors` (or shards with their index) and `tokenizer.model`, and beside
them our `run.json`, written last: a directory that has one is complete. Any Llama-architecture
model with a SentencePiece tokenizer can be read; what the model code does not compute is refused by
name before a weight is touched. Left out: tokenizers other than SentencePiece.
"""

import json
import os
import pathlib

import torch

from lookahead.commands import InputError, Progress
from lookahead.files import load_tokenizer, read_json, whole_file, write_json, write_rows
from lookahead.model import Config, Llama
from lookahead.tensors import read_header, read_tensors, write_tensors

# What a fine-tuned model takes over from its seed model, where it is there, as it is.
COPIED = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
COPIED += ("added_tokens.json", "generation_config.json", "chat_template.jinja")
RESUME_FILE = "resume.safetensors"
FILES = (*COPIED, RESUME_FILE, "config.json", "model.safetensors", "run.json", "loss.jsonl")


def refuse_foreign(folder, ours=FILES):
    """Refuse a folder that is there and holds anything but our files, an earlier run's."""
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give another --out.")
    for path in folder.iterdir() if folder.exists() else ():
        if path.name.removesuffix(".part") not in ours:
            raise InputError(f"{folder}: holds {path.name}, which is not ours; give another --out.")


def save(folder, model, tokenizer, run, log=(), seed_model=None):
    """Write a model directory; `run` (a dictionary) says how it was made, `log` its losses.

    Configuration and tokenizer files are copies of those in the directory `seed_model`, so that
    other programs treat the fine-tuned model like it; without one they are made here. An earlier
    run in the folder counts as incomplete from the first file that is replaced on.
    """
    folder = pathlib.Path(folder)
    refuse_foreign(folder)
    (folder / "run.json").unlink(missing_ok=True)
    write_rows(folder / "loss.jsonl", log)
    weights = model.state_dict()
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    write_tensors(folder / "model.safetensors", weights)
    if seed_model:
        fields, there = read_json(seed_model / "config.json"), set(os.listdir(seed_model))
        texts = {name: (seed_model / name).read_bytes() for name in COPIED if name in there}
    else:
        fields, texts = _describe(model.config, tokenizer)
    fields.pop("dtype", None)  # the newer name of the next field
    fields["torch_dtype"] = str(model.lm_head.weight.dtype).removeprefix("torch.")
    write_json(folder / "config.json", fields)
    for name in COPIED:
        (folder / name).unlink(missing_ok=True)
    for name, text in texts.items():
        with whole_file(folder / name, "wb") as file:
            file.write(text)
    write_json(folder / "run.json", run)


def _describe(config, tokenizer):
    """Return the `config.json` and {name: bytes} of the tokenizer files of a model made here."""
    marks = {"bos": tokenizer.bos_id(), "eos": tokenizer.eos_id(), "unk": tokenizer.unk_id()}
    fields = config._asdict() | {"model_type": "llama", "hidden_act": "silu"}
    fields |= {"architectures": ["LlamaForCausalLM"]}
    fields |= {f"{mark}_token_id": marks[mark] for mark in ("bos", "eos")}
    words = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": True}
    words |= {f"{mark}_token": tokenizer.id_to_piece(number) for mark, number in marks.items()}
    texts = {"tokenizer.model": tokenizer.serialized_model_proto()}
    return fields, texts | {"tokenizer_config.json": json.dumps(words, indent=1).encode()}


def _read_config(path):
    """Return the Config of a `config.json`, and refuse by name what the model does not compute."""
    fields = read_json(path)
    try:
        rope = fields.get("rope_parameters") or {}  # where transformers 5 keeps it
        heads, window = fields.get("num_attention_heads"), fields.get("sliding_window")
        fields["num_key_value_heads"] = fields.get("num_key_value_heads") or heads
        fields["rope_theta"] = fields.get("rope_theta") or rope.get("rope_theta", 10000.0)
        width = fields.get("hidden_size", 0) // (heads or 1)
        supported = {
            "model_type": fields.get("model_type") in ("llama", "mistral"),
            "hidden_act": fields.get("hidden_act", "silu") == "silu",
            "rope_parameters": rope.get("rope_type", "default") == "default",
            "head_dim": fields.get("head_dim") in (None, width),
            "sliding_window": not window or window >= fields.get("max_position_embeddings", 0),
        }
        for name in ("attention_bias", "mlp_bias", "rope_scaling", "quantization_config"):
            supported[name] = not fields.get(name)
        for name, fine in supported.items():
            if not fine:
                mend = "; set max_position_embeddings to it, so that no text is longer"
                mend = mend if name == "sliding_window" else ""
                value = f"{name} {fields.get(name)!a:.80}"
                raise InputError(f"{path}: {value} is not supported by this model{mend}.")
        config = Config(**{name: fields[name] for name in Config._fields if name in fields})
        _check_sizes(config)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a Llama configuration ({error}).") from None
    return config


def _check_sizes(config):
    """Refuse values that no model can have, with a ValueError."""
    for name, kind in Config.__annotations__.items():
        value, most = getattr(config, name), 1000 if name == "num_hidden_layers" else 1e9
        kinds = (int, float) if kind is float else (kind,)
        if type(value) not in kinds or kind is not bool and not 0 < value <= most:
            raise ValueError(f"{name} is {value!a:.40}")
    heads = config.num_attention_heads
    if config.hidden_size % heads or heads % config.num_key_value_heads or config.head_dim % 2:
        raise ValueError("the heads do not share the width evenly")


def weight_files(folder):
    """Return the paths of a model directory's weights: one file, or the shards of an index."""
    paths, index = [folder / "model.safetensors"], folder / "model.safetensors.index.json"
    if index.exists() and not paths[0].exists():
        shards = read_json(index).get("weight_map")
        names = shards.values() if isinstance(shards, dict) else ()
        if not names or not all(isinstance(name, str) and len(name) < 200 for name in names):
            raise InputError(f"{index}: has no weight_map from tensors to files.")
        paths = [folder / name for name in sorted(set(names))]
    for path in paths:
        if path.parent != folder or not path.is_file():
            raise InputError(f"{path}: no such file; only safetensors weights are read.")
    return paths


def load(folder, device="cpu", dtype=torch.float32):
    """Return (model, tokenizer) of a model directory, the weights in `dtype` on `device`.

    Everything is checked before memory is taken for it; then the tensors are read one by one into
    their place, so that there is one copy of the model. Weights that are stored more finely than
    `dtype` are rounded.
    """
    folder = pathlib.Path(folder)
    config = _read_config(folder / "config.json")
    tokenizer = load_tokenizer(folder / "tokenizer.model")
    if tokenizer.vocab_size() > config.vocab_size:
        raise InputError(f"{folder}: its tokenizer has more pieces than the model has words.")
    with torch.device("meta"):
        model = Llama(config).to(dtype)
    files = weight_files(folder)
    _check_weights(files, model)
    model = model.to_empty(device=device)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    parameters, done = dict(model.named_parameters()), 0
    progress = Progress(f"load {folder.name}", len(parameters))
    for file in files:
        for name, tensor in read_tensors(file):
            if name in parameters:
                parameters[name].data.copy_(tensor)
                done += 1
                progress.show(done)
    return model, tokenizer


def _check_weights(files, model):
    """Refuse, by the files' headers alone, weights that are not exactly the model's parameters."""
    missing = {name: list(tensor.shape) for name, tensor in model.named_parameters()}
    unread = ["lm_head.weight"] if model.config.tie_word_embeddings else []  # stored twice
    for file in files:
        for name, entry in read_header(file)[0].items():
            if name in unread or name.endswith("rotary_emb.inv_freq"):  # of old checkpoints
                continue
            if missing.pop(name, None) != entry["shape"]:
                raise InputError(f"{file}: tensor {name!a:.80} {tuple(entry['shape'])} comes twice "
                                 "or does not fit the config.json.")  # fmt: skip
    if missing:
        first = f"{len(missing)} tensors are missing, {min(missing)} first"
        raise InputError(f"{files[0].parent}: {first}.")
