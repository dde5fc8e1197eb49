"""Rows of data: JSONL, a JSON array or CSV, read into pairs of prompt and answer.

A row is an object with a field for each, or chat messages (an optional system message, one of the
user, one of the assistant): a list, one under `messages`, or two under `prompt` and `completion` as
TRL has them. Nothing that a row says to the model is dropped in silence: an `input` or `context`
beside the prompt is joined to it. What cannot be used stops the command with file and line. Left
out: dialogues of several turns, compressed files.
"""

import csv
import io
import json
import os
import pathlib
import re
import typing

from lookahead.cli import InputError

CONTAINERS = {b"\x1f\x8b": "gzip", b"PAR1": "Parquet", b"PK\x03\x04": "zip", b"ARROW1": "Arrow"}
CONTAINERS |= {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
JOINED = ("input", "context")  # fields that belong to the prompt where they are not blank
UNREAD = ("history", "tools")  # what else may be said to a model, and cannot be used here


class Pair(typing.NamedTuple):
    prompt: str
    answer: str | None = None  # None where none is needed
    system: str | None = None  # the row's own system message
    place: str = ""  # file and line, for complaints


def read_text(path):
    """Return what a UTF-8 text file holds, without a byte-order mark."""
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    for start, name in CONTAINERS.items():
        if data.startswith(start):
            raise InputError(f"{path}: is {name}; save it as UTF-8 text, one JSON object a line.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8.") from None


def parse_json(text, place):
    """Return the JSON value of a text; the place is for complaints."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON ({error}).") from None


def read_json(path):
    """Return the JSON object that a file holds."""
    value = parse_json(read_text(path), path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {value!r:.40}.")
    return value


def read_rows(path):
    """Return [(place, row), ...] of a JSONL file, a JSON array, or a CSV file with a header."""
    text = read_text(path)
    if str(path).endswith(".csv"):
        reader = csv.DictReader(io.StringIO(text), strict=True)
        try:
            rows = [(f"line {reader.line_num}", row) for row in reader]
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}.") from None
    elif re.match(r"\s*[^\s\[]|\s*\[.*\]\s*\n\s*\S", text):
        # One value a line.
        lines = [(f"line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        rows = [(place, parse_json(line, f"{path}, {place}")) for place, line in lines]
    else:
        # One array over the whole file: of rows, or of the messages of a single chat.
        value = parse_json(text.strip() or "[]", path)
        rows = [(f"row {i}", row) for i, row in enumerate([value] if _is_chat(value) else value, 1)]
    if not rows:
        raise InputError(f"{path}: holds no rows; expected one JSON object a line.")
    return [(f"{path}, {place}", row) for place, row in rows]


def _is_chat(value):
    return bool(value) and all(isinstance(turn, dict) and "role" in turn for turn in value)


def chat_messages(row):
    """Return the chat messages of a row, or None where it has fields instead."""
    if isinstance(row, list):
        return row
    if "messages" in row:
        return row["messages"]
    if isinstance(row.get("prompt"), list):
        return [*row["prompt"], *(row.get("completion") or [])]
    return None


def field_names(row, fields):
    """Return the names of a row's two fields: of the candidates for each the first that it has."""
    return [next((name for name in names if name in row), names[0]) for names in fields]


def read_pair(row, place, answers=True, fields=None):
    fields = fields or (("prompt","question","dialogue","instruction","goal"), ("answer","summary","output","target"))
    return _read_pair(row, fields, place, answers)

def _read_pair(row, fields, place, answers=True):
    """Return the Pair of a row; InputError says what is missing or cannot be used, and where.

    `fields` are candidates for the prompt's name, and for the answer's. Without `answers` a row
    needs none.
    """
    if not isinstance(row, dict | list):
        raise InputError(f"{place}: expected a JSON object, found {row!r:.40}.")
    unread = [name for name in UNREAD if isinstance(row, dict) and row.get(name)]
    if unread:
        raise InputError(f"{place}: its field '{unread[0]}' cannot be used; leave it out.")
    if None in row:
        raise InputError(f"{place}: has more values than the header; quote texts with commas.")
    texts = row
    messages = chat_messages(row)
    if messages is None:
        names = field_names(row, fields)
    else:
        names = ["user", "assistant"]
        texts = _by_role(messages, answers, place)

    more = [name for name in ("system", *JOINED) if str(texts.get(name) or "").strip()]
    more = [name for name in more if name not in names]
    for name in (names if answers else names[:1]) + more:
        text = texts.get(name)
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{place}: field '{name}' is missing, empty or not a string (fields "
                             f"here: {', '.join(map(str, texts)) or 'none'}).")  # fmt: skip
        if re.search(r"[\ud800-\udfff]", text):
            raise InputError(f"{place}: field '{name}' has half of a surrogate pair.")

    prompt = texts[names[0]]
    for name in JOINED:
        if name in more:
            prompt = f"{prompt}\n\n{texts[name]}"
    answer = texts[names[1]] if answers else None
    system = texts["system"] if "system" in more else None
    return Pair(prompt, answer, system, place)


def _by_role(messages, answers, place):
    """Return {role: content} of a system message or none, one of the user, one of the assistant."""
    if not isinstance(messages, list) or not _is_chat(messages):
        raise InputError(f"{place}: expected chat messages, a list of objects with a role.")
    roles = [turn["role"] for turn in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if turns != ["user", "assistant"] and (answers or turns != ["user"]):
        raise InputError(f"{place}: has the roles {', '.join(map(str, roles))}; expected one user "
                         "and one assistant, after a system message or none.")  # fmt: skip
    return {turn["role"]: turn.get("content") for turn in messages}


def write_pair(row, prompt, answer, fields=None):
    fields = fields or (("prompt","question","dialogue","instruction","goal"), ("answer","summary","output","target"))
    """Return a row in the shape it has, with another prompt and answer."""
    texts = {"user": prompt, "assistant": answer}
    messages = chat_messages(row)
    if messages is None:
        blank = {name: "" for name in JOINED if row.get(name)}  # it is in the prompt now
        return row | blank | dict(zip(field_names(row, fields), (prompt, answer)))
    turns = [turn | {"content": texts.get(turn["role"], turn.get("content"))} for turn in messages]
    if isinstance(row, list):
        return turns
    if "messages" in row:
        return row | {"messages": turns}
    return row | {"prompt": turns[:-1], "completion": turns[-1:]}


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
