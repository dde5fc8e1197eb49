"""What comes in and what goes out: options, JSON rows, tokenizers, whole files, progress, mistakes.

Every chapter reads and writes through here, so that a mistake is told once and in one way: an
`InputError` is a sentence that names the file, the line, the field or the option and the mend. The
scripts print it on standard error and end with status 2.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import re
import sys
import time

import sentencepiece


class InputError(Exception):
    """A mistake in what the user gave; its text is one sentence for standard error."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one sentence too."""

    def __init__(self, description):
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message):
        raise InputError(f"{message}; see --help.")


def positive(text):
    """Read an option's whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def fraction(text):
    """Read an option's number from 0 up to, but not including, 1."""
    if not 0 <= float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return float(text)


def words(text):
    """Read an option's text that may not be blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give some words")
    return text


def run_script(main):
    """Call `main()`; a user's mistake ends in one sentence and exit status 2, without traceback."""
    try:
        try:
            main()
        except RuntimeError as error:
            if "out of memory" not in str(error) and "not enough memory" not in str(error):
                raise
            mend = "give a smaller --token-budget or --batch-size, or train with --lora"
            raise InputError(f"the device is out of memory; {mend}.") from None
    except InputError as error:
        start = "\r\033[K" if sys.stderr.isatty() else ""  # over an unfinished line of progress
        print(f"{start}error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


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
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if text.lstrip().startswith("[") and not (len(lines) > 1 and is_json(lines[0][1])):
        values = [(f"row {i}", value) for i, value in enumerate(parse(text, path), 1)]
    else:  # also lines that each hold an array
        values = [(f"line {i}", parse(line, f"{path}, line {i}")) for i, line in lines]
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
            raise InputError(
                f"{path}, {place}: field '{field}' is missing, empty or not a string "
                f"(fields here: {', '.join(row) or 'none'})."
            )
        if re.search(r"[\ud800-\udfff]", row[field]):
            raise InputError(f"{path}, {place}: field '{field}' has half of a surrogate pair.")


def is_json(text):
    try:
        parse(text, "")
    except InputError:
        return False
    return True


def parse(text, place):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not JSON ({error.msg} at column {error.colno}).") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets too deep
        raise InputError(f"{place}: not JSON that can be read.") from None


def read_json(path):
    """Return the JSON object that a file holds."""
    value = parse(read_text(path), path)
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
    """Write dictionaries as JSONL."""
    with whole_file(path) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_json(path, value, indent=1):
    """Write one JSON value, indented for the eye."""
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

    Of it, training and evaluation use `encode(text)`, `decode(ids)`, `bos_id()`, `eos_id()` and
    `vocab_size()`, and saving a model copies `serialized_model_proto()`.
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


class Progress:
    """How far something is, and the time left: one line on a terminal, now and then a line else."""

    def __init__(self, name, total):
        self.name, self.total = name, total
        self.terminal = sys.stderr.isatty()
        self.started = self.shown = time.monotonic()

    def show(self, done, note=""):
        now = time.monotonic()
        if now - self.shown < (0.2 if self.terminal else 10) and done < self.total:
            return
        self.shown = now
        left = (now - self.started) * (self.total - done) / max(done, 1)
        line = f"{self.name:24} {done:5}/{self.total}  {note}  {left:3.0f} s left"
        if self.terminal:
            line = "\r\033[K" + line + ("\n" if done == self.total else "")
        print(line, end="" if self.terminal else "\n", file=sys.stderr, flush=True)
