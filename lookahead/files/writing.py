"""Writing."""
import json
import os
import pathlib

from lookahead.cli import InputError


def write_bytes(path, *parts):
    """Write iterables of bytes as a file that appears at `path` only when it is whole."""
    path = pathlib.Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            for pieces in parts:
                file.writelines(pieces)
        os.replace(part, path)
    except OSError as error:
        if part.exists():
            part.unlink()
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from None


def write_json(path, value, indent=1):
    write_bytes(path, [json.dumps(value, indent=indent).encode(), b"\n"])


def write_rows(path, rows):
    write_bytes(path, [json.dumps(row).encode() + b"\n" for row in rows])

def write_text(path, text):
    write_bytes(path, [text.encode()])
