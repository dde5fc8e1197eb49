"""A model directory in Hugging Face's layout: read, and written so that transformers reads it too.

`config.json`, `model.safetensors` (or shards with their index) and `tokenizer.model`, and beside
them our `run.json`, written last: a directory that has one is complete. A safetensors file is eight
bytes with the length of a JSON header, the header with each tensor's dtype, shape and byte range,
and the bytes; nothing is ever unpickled. Left out: tokenizers other than SentencePiece.
"""

import argparse
import dataclasses
import json
import math
import pathlib

import torch

from lookahead.files import (
    InputError,
    load_tokenizer,
    read_json,
    whole_file,
    write_json,
    write_rows,
)
from lookahead.model import Config, Llama

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FILES = ("config.json", "model.safetensors", "tokenizer.model", "run.json", "loss.jsonl")


def best_device():
    """Return the name of the fastest device here."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(name):
    """Read an option's device, and try it."""
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError):
        raise argparse.ArgumentTypeError(f"{name!r} is not a device of this machine") from None
    return name


def read_header(path):
    """Return (header, offset of the first data byte), with every entry checked against the size."""
    size, end = path.stat().st_size, 0
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8).ljust(8, b"\xff"), "little")
        if length > size - 8:
            raise InputError(
                f"{path}: not a safetensors file (its header is longer than the file)."
            )
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
                if entry["dtype"] not in DTYPES:
                    known = ", ".join(DTYPES)
                    raise InputError(f"{path}: {name} is {entry['dtype']}; only {known} are read.")
                begin, stop = entry["data_offsets"]
                count = math.prod(entry["shape"]) if min(entry["shape"], default=0) > 0 else -1
                if begin != end or stop - begin != count * DTYPES[entry["dtype"]].itemsize:
                    raise InputError(f"{path}: tensor {name} has wrong offsets.")
                end = stop
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: its safetensors header is broken ({error!r}).") from None
    if end != size - 8 - length:
        raise InputError(f"{path}: holds {size} bytes where its header says {end + 8 + length}.")
    return header, 8 + length


def read_tensors(path):
    """Yield (name, tensor) of a safetensors file, one at a time."""
    header, offset = read_header(path)
    with open(path, "rb") as file:
        for name, entry in header.items():
            begin, stop = entry["data_offsets"]
            data = bytearray(stop - begin)
            file.seek(offset + begin)
            file.readinto(data)
            flat = torch.frombuffer(data, dtype=DTYPES[entry["dtype"]])
            yield name, flat.view(entry["shape"])


def write_tensors(path, tensors):
    """Write a dictionary of tensors as a safetensors file."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        shape, dtype = list(tensor.shape), names[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of eight
    with whole_file(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)


def save(folder, model, tokenizer, run, log=()):
    """Write a model directory; `run` (a dictionary) says how it was made, `log` its losses.

    An earlier run in the folder counts as incomplete from the first file that is replaced on.
    """
    folder = pathlib.Path(folder)
    refuse_foreign(folder)
    (folder / "run.json").unlink(missing_ok=True)
    write_rows(folder / "loss.jsonl", log)
    config, weights = model.config, model.state_dict()
    if config.tie_word_embeddings:
        del weights["lm_head.weight"]
    write_tensors(folder / "model.safetensors", weights)
    with whole_file(folder / "tokenizer.model", "wb") as file:
        file.write(tokenizer.serialized_model_proto())
    fields = dataclasses.asdict(config) | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": str(model.lm_head.weight.dtype).removeprefix("torch."),
        "hidden_act": "silu",
        "bos_token_id": tokenizer.bos_id(),
        "eos_token_id": tokenizer.eos_id(),
    }
    write_json(folder / "config.json", fields)
    write_json(folder / "run.json", run)


def read_config(path):
    """Return the Config of a `config.json`, and refuse by name what the model does not compute."""
    fields = read_json(path)
    rope = fields.get("rope_parameters") or {}  # where transformers 5 keeps it
    supported = {
        "model_type": fields.get("model_type") in ("llama", "mistral"),
        "hidden_act": fields.get("hidden_act", "silu") == "silu",
        "attention_bias": not fields.get("attention_bias"),
        "mlp_bias": not fields.get("mlp_bias"),
        "rope_scaling": not fields.get("rope_scaling"),
        "rope_parameters": rope.get("rope_type", "default") == "default",
        "sliding_window": not fields.get("sliding_window"),
        "quantization_config": not fields.get("quantization_config"),
    }
    for name, fine in supported.items():
        if not fine:
            raise InputError(f"{path}: {name} {fields.get(name)!r} is not supported by this model.")
    heads = fields.get("num_attention_heads")
    fields["num_key_value_heads"] = fields.get("num_key_value_heads") or heads
    fields.setdefault("rope_theta", rope.get("rope_theta", 10000.0))
    known = {field.name for field in dataclasses.fields(Config)}
    try:
        config = Config(**{name: fields[name] for name in known & fields.keys()})
        head_dim = config.head_dim
    except (TypeError, ZeroDivisionError) as error:
        raise InputError(f"{path}: not a Llama configuration ({error}).") from None
    if fields.get("head_dim") not in (None, head_dim):
        raise InputError(f"{path}: head_dim {fields['head_dim']} is not supported by this model.")
    return config


def weight_files(folder):
    """Return the paths of a model directory's weights: one file, or the shards of an index."""
    path, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    paths = [path]
    if index.exists() and not path.exists():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict):
            raise InputError(f"{index}: has no weight_map.")
        paths = [folder / pathlib.Path(str(shard)).name for shard in sorted(set(shards.values()))]
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file; a model directory has its weights there.")
    return paths


def load(folder, device="cpu", dtype=torch.float32):
    """Return (model, tokenizer) of a model directory, the weights in `dtype` on `device`.

    The tensors are read one by one into their place, so that memory holds one copy of the model.
    """
    folder = pathlib.Path(folder)
    config = read_config(folder / "config.json")
    tokenizer = load_tokenizer(folder / "tokenizer.model")
    if tokenizer.vocab_size() > config.vocab_size:
        raise InputError(f"{folder}: its tokenizer has more pieces than the model has words.")
    with torch.device("meta"):
        model = Llama(config)
    model = model.to(dtype).to_empty(device=device)
    missing = set(model.state_dict())
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
        missing.discard("lm_head.weight")
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for file in weight_files(folder):
        for name, tensor in read_tensors(file):
            if name.endswith("rotary_emb.inv_freq"):
                continue  # old checkpoints store this constant
            if name not in parameters or parameters[name].shape != tensor.shape:
                raise InputError(
                    f"{file}: tensor {name} {tuple(tensor.shape)} does not fit the "
                    f"model of {folder}/config.json."
                )
            parameters[name].data.copy_(tensor)
            missing.discard(name)
    if missing:
        raise InputError(f"{folder}: {len(missing)} tensors are missing, {min(missing)} first.")
    return model, tokenizer


def refuse_foreign(folder, ours=FILES):
    """Refuse a folder that is there and holds anything but our files, an earlier run's."""
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give another --out.")
    for path in folder.iterdir() if folder.exists() else ():
        if path.name.removesuffix(".part") not in ours:
            raise InputError(f"{folder}: holds {path.name}, which is not ours; give another --out.")
