"""What is read and written by all chapters: JSON rows, tokenizers, whole files."""

import contextlib
import hashlib
import json
import os
import pathlib
import re

import sentencepiece

from lookahead.commands import InputError


def read_text(path):
    """Return what a UTF-8 text file holds, without a byte-order mark."""
    try:
        return pathlib.Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8.") from None


def read_values(path):
    """Return [(place, value), ...] of a JSONL file, or of a file that holds one JSON array.

    Blank lines are skipped. The place, a line or row with its number, is for complaints.
    """
    text = read_text(path)
    several = re.search(r"\][^\S\n]*\n\s*[\[{]", text)  # lines of arrays: no comma between
    if text.lstrip().startswith("[") and not several:
        values = [(f"row {i}", value) for i, value in enumerate(_parse(text, path), 1)]
    else:
        lines = [(f"line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        values = [(place, _parse(line, f"{path}, {place}")) for place, line in lines]
    if not values:
        raise InputError(f"{path}: holds no rows; expected one JSON object a line.")
    return values


def read_rows(path, fields=()):
    """Return the rows of a JSONL file or JSON array as dictionaries, checked for the fields."""
    values = read_values(path)
    for place, row in values:
        check_row(path, place, row, fields)
    return [row for _, row in values]


def check_row(path, place, row, fields):
    """Refuse a row that is no object, or in which a field is missing, blank or not a string."""
    if not isinstance(row, dict):
        raise InputError(f"{path}, {place}: expected a JSON object, found {row!r:.40}.")
    for field in fields:
        if not isinstance(row.get(field), str) or not row[field].strip():
            raise InputError(f"{path}, {place}: field '{field}' is missing, empty or not a string "
                             f"(fields here: {', '.join(row) or 'none'}).")  # fmt: skip
        if re.search(r"[\ud800-\udfff]", row[field]):
            raise InputError(f"{path}, {place}: field '{field}' has half of a surrogate pair.")


def _parse(text, place):
    """Return the JSON value of a text that stands at a place."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not JSON ({error.msg} at column {error.colno}).") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets too deep
        raise InputError(f"{place}: not JSON that can be read.") from None


def read_json(path):
    """Return the JSON object that a file holds."""
    value = _parse(read_text(path), path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {value!r:.40}.")
    return value


@contextlib.contextmanager
def whole_file(path, mode="w"):
    """Open a file that appears at `path` only when it was written to its end."""
    path = pathlib.Path(path)
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from None
    finally:
        if temporary.exists():
            temporary.unlink()


def write_rows(path, rows):
    with whole_file(path) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_json(path, value, indent=1):
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=indent) + "\n")


def sha256(*paths):
    """Return the hash of the files' bytes, one file after another."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def load_tokenizer(path):
    """Return the SentencePiece tokenizer stored at `path`, Llama-2's `tokenizer.model` for example.

    Training and evaluation use its `encode(text)`, `decode(ids)`, `bos_id()`, `eos_id()` and
    `vocab_size()`; saving a model made here copies `serialized_model_proto()`.
    """
    if not pathlib.Path(path).is_file():
        raise InputError(f"{path}: no such file; only SentencePiece tokenizers are read.")
    try:
        tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError):
        raise InputError(f"{path}: not a SentencePiece model.") from None
    if tokenizer.bos_id() < 0 or tokenizer.eos_id() < 0:
        raise InputError(f"{path}: the tokenizer has no BOS or no EOS piece.")
    return tokenizer
