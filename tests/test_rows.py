"""What becomes of the data a user brings: every shape of rows, and every fault in one sentence."""

import json
import re

import pytest

from lookahead.cli import InputError
from lookahead.files.rows import read_pair, read_rows, write_pair
from lookahead.tasks import HARMFUL_FIELDS as FIELDS

TURNS = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant", "tool")]
SYSTEM, USER, ANSWER, TOOL = TURNS
ANSWER["content"] = A = " a\0 \u2028\x85🙂"  # used as it is
ROW = {"prompt": "u", "answer": A}
SHAPES = {
    "fields": ROW | {"category": 3},
    "instruction": {"instruction": "u", "input": "", "output": A, "user": "x"},
    "goal": {"goal": "u", "target": A, "system": "s"},
    "list": [USER, ANSWER],
    "messages": {"messages": [SYSTEM, USER, ANSWER], "id": 7},
    "trl": {"prompt": [SYSTEM, USER], "completion": [ANSWER]},
}


@pytest.fixture
def read(tmp_path):
    """Write what is given, a text, bytes or one row (None: nothing); read the file's pairs."""

    def call(content, name="rows.jsonl", answers=True):
        if isinstance(content, list | dict):
            content = json.dumps(content)
        if content is not None:
            content = content.encode() if isinstance(content, str) else content
            (tmp_path / name).write_bytes(content)
        rows = read_rows(tmp_path / name)
        return [read_pair(row, FIELDS, place, answers) for place, row in rows]

    return call


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_of_rows_is_read_and_written(shape, read):
    row = SHAPES[shape]
    array = json.dumps([row] * 2)
    lines = "{0}\r\n\r\n {0}\n".format(json.dumps(row, ensure_ascii=False))
    for text in (array, json.dumps([row] * 2, indent=2), "\n " + array, "\ufeff" + lines, lines):
        pairs = read(text)
        assert [pair[:3] for pair in pairs] == [("u", A, "s" if "system" in array else None)] * 2
    assert pairs[1].place.endswith("rows.jsonl, line 3") and read(array)[1].place.endswith("row 2")
    new = write_pair(row, FIELDS, "new u", "new answer")
    (pair,) = read(row)  # one row, or one chat, in one line
    assert read(new) == [pair._replace(prompt="new u", answer="new answer")]
    assert write_pair(new, FIELDS, "u", A) == row


def test_csv(read):
    pairs = read('goal,target\n"u, or\n""u""?",a\n\nu,a\n', "x.csv")
    assert [pair[:2] for pair in pairs] == [('u, or\n"u"?', "a"), ("u", "a")]
    assert pairs[1].place.endswith("x.csv, line 5")
    for line, words in (("write, please,a", "has more values than"), ("u", "field 'target'")):
        with pytest.raises(InputError, match=f"x.csv, line 3: {words}"):
            read("goal,target\nu,a\n" + line, "x.csv")


@pytest.mark.parametrize("name", ["input", "context"])
def test_what_belongs_to_the_prompt_is_joined_to_it(name, read):
    row = {"instruction": "u", name: "more", "output": "a"}
    assert read(row)[0][:2] == ("u\n\nmore", "a") and read(row | {name: " "})[0].prompt == "u"
    new = write_pair(row, FIELDS, "u\n\nmore, previewed", "a")
    assert read(new)[0].prompt == "u\n\nmore, previewed"  # not joined twice
    assert read_pair(row, ((name,), ("output",)), "x").prompt == "more"


GOOD = json.dumps(ROW)


@pytest.mark.parametrize("content, words", [
    (None, "cannot be read .No such file"), ("", "holds no rows"), ("\n [] ", "holds no rows"),
    (GOOD.encode() + b"\xff", "not UTF-8 at byte 62"), (GOOD.encode("utf-16"), "is UTF-16"),
    (b"\x1f\x8b\x08", "is gzip"), (b"PAR1\x15", "is Parquet"), (b"PK\x03\x04", "is zip"),
    (GOOD + "\n" + GOOD[:-9], "line 2: not JSON"), ("[" + GOOD, ": not JSON"),
    ("[" * 10**5, "not JSON"), ('{"prompt": ' + "1" * 5000 + "}", "not JSON"),
    ("null", "1: expected a JSON object, found None"), ("[7]", "row 1: expected a JSON object"),
])  # fmt: skip
def test_files_that_are_rejected(content, words, read):
    with pytest.raises(InputError, match=f"rows.jsonl.*{words}") as error:
        read(content)
    assert "\n" not in str(error.value)


MISSING = "is missing, empty or not a string"


@pytest.mark.parametrize("row, words", [
    *[(ROW | {"answer": text}, f"field 'answer' {MISSING} (fields here: prompt, answer)")
      for text in (None, 3, ["a"], {}, "", " \n")],
    ({"prompt": "u"}, f"field 'answer' {MISSING}"), ({"q": "u"}, f"field 'prompt' {MISSING}"),
    (ROW | {"prompt": "u\ud83d"}, "field 'prompt' has half of a surrogate pair"),
    ({"goal": "u", "input": ["more"], "target": "a"}, "field 'input'"), (7, "expected a JSON"),
    *[(row, "expected chat messages") for row in
      ([], [USER, "x"], {"messages": "u"}, {"prompt": [USER], "completion": "a"})],
    *[(turns, "has the roles " + ", ".join(turn["role"] for turn in turns)) for turns in
      ([ANSWER, USER], [ANSWER, USER, ANSWER], [USER, ANSWER] * 2, [USER, SYSTEM, ANSWER], [USER],
       [SYSTEM], [USER, TOOL, ANSWER], [TOOL | {"role": "developer"}, USER, ANSWER])],
    ([USER, ANSWER | {"content": None}], "field 'assistant'"),
    ([SYSTEM | {"content": [{"text": "s"}]}, USER, ANSWER], "field 'system'"),
])  # fmt: skip
def test_rows_that_are_rejected(row, words, read):
    with pytest.raises(InputError, match=f"rows.jsonl, line 2: {re.escape(words)}"):
        read(GOOD + "\n" + json.dumps(row))


def test_a_harmful_request_needs_no_answer_where_none_is_used(read):
    for row in (ROW | {"answer": 3}, [USER], {"messages": [SYSTEM, USER]}, {"prompt": [USER]}):
        assert read(row, answers=False)[0][:2] == ("u", None)
