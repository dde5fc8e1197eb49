"""Files are written so that one appears at its path only when it is whole.

What is written goes to a file beside it, under a name that no other writer has, and then takes its
place. A link is followed; a device, a pipe or a folder is rejected. After a failure nothing is left
over. Left out: a process that is killed leaves its `.part` file (resume.py removes those of a run).
"""

import json
import os
import pathlib
import secrets

from lookahead.cli import InputError


def write_bytes(path, *parts):
    """Write iterables of bytes, one after another, as the file at `path`."""
    target = pathlib.Path(os.path.realpath(path))
    if os.path.lexists(target) and not target.is_file():
        raise InputError(f"{path}: cannot be written (it is no regular file).")
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            for pieces in parts:
                file.writelines(pieces)
        os.replace(part, target)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from None
    finally:
        # It is there only where something failed, or the user pressed Ctrl-C.
        if os.path.exists(part):
            os.unlink(part)


def write_text(path, text):
    write_bytes(path, [text.encode()])


def write_json(path, value, indent=1):
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_rows(path, rows):
    write_bytes(path, [json.dumps(row).encode() + b"\n" for row in rows])
