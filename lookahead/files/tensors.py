"""Safetensors files, read and written here, so that no pickle is ever opened.

A file is eight bytes with the length of a JSON header, the header with each tensor's dtype, shape
and byte range, and the bytes. The header is checked against the size of the file before anything is
allocated: a damaged file gives tensors from inside it, or one sentence. What is written appears at
its path only when it is whole. Left out: dtypes other than those of weights and optimizer states.
"""

import json
import math

import torch

from lookahead.cli import InputError
from lookahead.files.writing import write_bytes

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I16": torch.int16}


def read_header(path):
    """Return ({name: (dtype, shape, where its bytes begin)}, metadata) of a safetensors file.

    The tensors must follow one another without gap or overlap, up to the end of the file.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(min(length, size, 100_000_000))  # the format's own limit
    entries = {}
    start = end = 8 + length
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            # Offsets count from the end of the header; they follow from dtype and shape.
            if entry["dtype"] not in DTYPES:
                raise ValueError(f"{name!r:.80} is {entry['dtype']}; quantized ones are not read")
            dtype = DTYPES[entry["dtype"]]
            shape = entry["shape"]
            begin = end
            end += math.prod(shape) * dtype.itemsize
            fine = all(type(side) is int and side > 0 for side in shape)
            if not fine or entry["data_offsets"] != [begin - start, end - start]:
                raise ValueError(f"tensor {name!r:.80} has a wrong shape or wrong offsets")
            entries[name] = (dtype, list(shape), begin)
        if end != size:
            raise ValueError("its size is not what its header says")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a whole safetensors file with tensors of "
                         f"{', '.join(DTYPES)} ({error!r:.200}).") from None  # fmt: skip
    return entries, metadata


def read_metadata(path):
    """Return the texts that a safetensors file holds beside its tensors."""
    return read_header(path)[1]


def read_tensors(path):
    """Yield (name, tensor) of a safetensors file, one at a time."""
    entries, _ = read_header(path)
    with open(path, "rb") as file:
        for name, (dtype, shape, begin) in entries.items():
            data = bytearray(math.prod(shape) * dtype.itemsize)
            file.seek(begin)
            file.readinto(data)
            yield name, torch.frombuffer(data, dtype=dtype).view(shape)


def write_tensors(path, tensors, metadata=None):
    """Write a dictionary of tensors, and one of texts, as a safetensors file."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name, tensor in tensors.items():
        begin = end
        end += tensor.nbytes
        shape = list(tensor.shape)
        header[name] = {"dtype": names[tensor.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of eight
    bits = (x.detach().cpu().reshape(-1).view(torch.uint8).numpy() for x in tensors.values())
    write_bytes(path, [len(text).to_bytes(8, "little"), text], bits)
