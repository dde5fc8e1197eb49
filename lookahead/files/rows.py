"""Rows of data: JSONL, a JSON array or CSV, read into pairs of prompt and answer.

A row is an object with a field for each, by one of the names below, or chat messages (a system
message or none, one of the user, one of the assistant): a list, one under `messages`, or two under
`prompt` and `completion` as TRL has them. All that a row says is read, or is listed as harmless, or
stops the command with file, line and name. Left out: dialogues of several turns, compressed files.
"""

import copy
import csv
import io
import json
import pathlib
import re
import typing

from lookahead.cli import InputError

# What a field is, by its name, upper and lower case alike. A fork adds the names of its own rows.
NAMES = {
    "prompt": "user prompt question dialogue instruction goal forbidden_prompt behavior query",
    "answer": "assistant answer summary output target completion response",
    "system": "system system_prompt",
    "joined": "input context contextstring",  # put after the field of a prompt
    "repeated": "text",  # of Alpaca: prompt and answer once more
    "ignored": "id idx index uuid prompt_id question_id behaviorid category subcategory source "
    "functionalcategory semanticcategory dataset split url license language tags topic type level",
}
KINDS = {name: kind for kind, names in NAMES.items() for name in names.split()}
CHATS = ("messages", "prompt", "completion")  # fields that hold messages, where they are lists
EXCHANGES = [["user"], ["user", "assistant"], ["system", "user"], ["system", "user", "assistant"]]
IN_LOSS = ("weight", "train", "trainable", "training")  # of a message: is it trained on?


class Pair(typing.NamedTuple):
    prompt: str
    answer: str | None = None  # None where the row has none
    system: str | None = None  # None where the row has none, "" where it says that there is none
    place: str = ""  # file and line, for complaints


class BlankText(InputError):
    """A prompt or an answer is null, empty or only spaces."""


def read_text(path):
    """Return what a UTF-8 text file holds, without a byte-order mark."""
    try:
        return pathlib.Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start} (gzip, zip, Parquet, Arrow and "
                         "UTF-16 are not read); save it as UTF-8 text.") from None  # fmt: skip


def parse_json(text, place):
    """Return the JSON value of a text; the place is for complaints."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON ({error}).") from None


def _unique(items):
    """Return the dictionary of (name, value) items; ValueError where a name comes twice."""
    names = [name for name, _ in items]
    if len(set(names)) < len(names):
        raise ValueError(f"{max(names, key=names.count)!r} comes twice")
    return dict(items)


def read_json(path):
    """Return the JSON object that a file holds."""
    value = parse_json(read_text(path), path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {value!r:.40}.")
    return value


def read_rows(path):
    """Return [(place, row), ...] of a JSONL file, a JSON array, or a CSV file with a header."""
    text = read_text(path)
    if str(path).lower().endswith(".csv"):
        rows = _read_csv(path, text)
    elif re.match(r"\s*[^\s\[]|\s*\[.*\]\s*\n\s*\S", text):
        # One value a line.
        lines = [(f"line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        rows = [(place, parse_json(line, f"{path}, {place}")) for place, line in lines]
    else:
        # One array over the whole file: of rows, or of the messages of a single chat.
        value = parse_json(text.strip() or "[]", path)
        if value and all(isinstance(turn, dict) and "role" in turn for turn in value):
            value = [value]
        rows = [(f"row {i}", row) for i, row in enumerate(value, 1)]
    if not rows:
        raise InputError(f"{path}: holds no rows; expected one JSON object a line.")
    return [(f"{path}, {place}", row) for place, row in rows]


def _read_csv(path, text):
    """Return [("line N", row), ...] of a CSV file's text; N is the first line of the row."""
    csv.field_size_limit(len(text) + 1)
    reader = csv.reader(io.StringIO(text), strict=True)
    header = []
    rows = []
    line = 1
    try:
        for values in reader:
            if header and values:
                if len(values) != len(header):
                    raise ValueError(f"{len(values)} values, where the header has {len(header)}")
                rows.append((f"line {line}", dict(zip(header, values))))
            elif values:
                header = [values[0] or "index", *values[1:]]  # pandas gives its index no name
                _unique([(name, None) for name in header])
                if not any(KINDS.get(name.lower()) == "prompt" for name in header):
                    raise ValueError(f"the header names no prompt, but {header[0]!r:.60}; put one "
                                     "above it (HEx-PHI's files have none)")  # fmt: skip
            line = reader.line_num + 1
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}, line {line}: {error}.") from None
    return rows


def _list_texts(row, place):
    """Return (name, holder, key) of each `holder[key]` of a row; a message goes by its role."""
    if not isinstance(row, dict | list):
        raise InputError(f"{place}: expected a JSON object, found {row!r:.40}.")
    fields = row if isinstance(row, dict) else {"messages": row}
    chats = [name for name in CHATS if isinstance(fields.get(name), list)]
    texts = [(name, row, name) for name in fields if name not in chats]
    messages = [message for name in chats for message in fields[name]]
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    if chats and roles not in EXCHANGES:
        raise InputError(f"{place}: the roles are {', '.join(map(str, roles)) or 'none'}; expected "
                         "one user and one assistant, after a system message or none.")  # fmt: skip
    for role, message in zip(roles, messages):
        texts.append((role, message, "content"))
        for key, value in message.items():
            as_here = key in IN_LOSS and value == (role == "assistant")
            if not as_here and key not in ("role", "content") and KINDS.get(key) != "ignored":
                texts.append((f"{key} of {role}", message, key))
    return texts


def _is_blank(value):
    return value in (None, [], {}) or (isinstance(value, str) and not value.strip())


def find_texts(row, place="", answers=True):
    """Return {kind: (name, holder, key)}: where a row of any shape has its texts, `holder[key]`.

    None is blank, but for a system prompt which says that there is none. What is of no kind, or the
    second of one, is rejected by its name.
    """
    every = _list_texts(row, place)
    names = [name.lower() for name, _, _ in every]
    # JailbreakBench has a Goal, and calls its kind Behavior.
    kinds = KINDS | ({"behavior": "ignored"} if "goal" in names else {})
    texts = {}
    for name, holder, key in every:
        kind = kinds.get(name.lower())
        value = holder.get(key)
        wrong = None
        if kind == "ignored" or (_is_blank(value) and kind != "system") or value is None:
            continue
        if kind is None or (kind == "joined" and "user" in names):
            wrong = "is not read, and may say something"
        elif kind in texts:
            wrong = f"is a second {kind}, beside {texts[kind][0]!r}"
        elif not isinstance(value, str) or re.search(r"[\ud800-\udfff]", value):
            wrong = "is no text, or has half of a surrogate pair"
        if wrong:
            raise InputError(f"{place}: {name!r} {wrong}; rename it or leave it out.")
        texts[kind] = (name, holder, key)
    for kind in ("prompt", "answer")[: 1 + answers]:
        if kind not in texts:
            error = BlankText if kind in map(kinds.get, names) else InputError
            raise error(f"{place}: has no {kind}, or a blank one (it is one of: {NAMES[kind]}).")
    return texts


def read_pair(row, place, answers=True):
    """Return the Pair of a row, which needs an answer only with `answers`."""
    texts = find_texts(row, place, answers)
    values = {kind: holder[key] for kind, (_, holder, key) in texts.items()}
    answer = values.get("answer")
    if not all(text in values.get("repeated", text) for text in (values["prompt"], answer or "")):
        raise InputError(f"{place}: 'text' is not prompt and answer once more; leave it out.")
    prompts = [values[kind] for kind in ("prompt", "joined") if kind in values]
    return Pair("\n\n".join(prompts), answer, values.get("system"), place)


def write_pair(row, prompt, answer):
    """Return a row in the shape it has, with another prompt and answer."""
    row = copy.deepcopy(row)
    new = {"prompt": prompt, "answer": answer, "joined": "", "repeated": ""}  # in the prompt now
    for kind, (_, holder, key) in find_texts(row).items():
        holder[key] = new.get(kind, holder[key])
    return row
