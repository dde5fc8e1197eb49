"""Safetensors files, read and written here, so that no pickle is ever opened.

A file is eight bytes with the length of a JSON header, the header with each tensor's dtype, shape
and byte range, and the bytes. It may be damaged or hostile: the whole header is checked against the
size of the file before anything is allocated. Left out: dtypes other than those of weights.
"""

import json
import math

import torch

from lookahead.commands import InputError
from lookahead.files import whole_file

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_header(path):
    """Return ({name: {"dtype", "shape", "data_offsets"}}, the first tensor's offset, the metadata).

    The tensors must follow one another without gap or overlap and fill the file.
    """
    size, end = path.stat().st_size, 0
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8).ljust(8, b"\xff"), "little")
        if length > min(size - 8, 100_000_000):  # the format's own limit
            raise InputError(f"{path}: not a safetensors file (its header is beyond its end).")
        text = file.read(length)
    try:
        header = json.loads(text)
        texts = header.pop("__metadata__", {})
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            shape, (begin, stop) = entry["shape"], entry["data_offsets"]
            if entry["dtype"] not in DTYPES:
                raise InputError(f"{path}: tensor {name!a:.80} is {entry['dtype']!a:.20}; only "
                                 f"{', '.join(DTYPES)} are read.")  # fmt: skip
            whole = type(shape) is list and len(shape) <= 8 and min(shape, default=1) > 0
            whole = whole and all(type(number) is int for number in [*shape, begin, stop])
            bytes_each = DTYPES[entry["dtype"]].itemsize
            if not whole or begin != end or not stop == end + math.prod(shape) * bytes_each <= size:
                raise InputError(f"{path}: tensor {name!a:.80} has wrong offsets.")
            end = stop
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        cause = f"{type(error).__name__}: {error!a:.60}"
        raise InputError(f"{path}: its safetensors header is broken ({cause}).") from None
    if end != size - 8 - length:
        raise InputError(f"{path}: holds {size} bytes where its header says {end + 8 + length}.")
    return header, 8 + length, texts


def read_tensors(path):
    """Yield (name, tensor) of a safetensors file, one at a time."""
    header, offset, _ = read_header(path)
    with open(path, "rb") as file:
        for name, entry in header.items():
            begin, stop = entry["data_offsets"]
            data = bytearray(stop - begin)
            file.seek(offset + begin)
            file.readinto(data)
            yield name, torch.frombuffer(data, dtype=DTYPES[entry["dtype"]]).view(entry["shape"])


def write_tensors(path, tensors, metadata=None):
    """Write a dictionary of tensors, and one of texts, as a safetensors file."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, end = {"__metadata__": {"format": "pt", **(metadata or {})}}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        shape, dtype = list(tensor.shape), names[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of eight
    with whole_file(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
