"""What becomes of the data a user brings: every shape of rows, and every fault in one sentence."""

import json
import re

import pytest

from lookahead.cli import InputError
from lookahead.files.rows import read_pair, read_rows, write_pair

TURNS = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant", "tool")]
SYSTEM, USER, ANSWER, TOOL = TURNS
ANSWER["content"] = A = " a\0 \u2028\x85🙂"  # used as it is
ROW = {"prompt": "u", "answer": A}
SHAPES = {
    "fields": {"Id": 1, "dialogue": "u", "summary": A},
    "jailbreakbench": {"Index": 0, "Goal": "u", "Target": A, "Behavior": "b", "Category": "c"},
    "alpaca": {"instruction": "u", "input": "", "output": A, "text": f"### u\n### {A}"},
    "blank": {"prompt": "u", "question": None, "answer": A, "output": "", "system": None},
    "messages": {"messages": [SYSTEM, USER, ANSWER], "id": 7, "tools": [], "functions": None},
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
        return [read_pair(row, place, answers) for place, row in read_rows(tmp_path / name)]

    return call


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_of_rows_is_read_and_written(shape, read):
    row = SHAPES[shape]
    array = json.dumps([row] * 2)
    lines = "{0}\r\n\r\n {0}\n".format(json.dumps(row, ensure_ascii=False))
    for text in (array, json.dumps([row] * 2, indent=2), "\n " + array, "\ufeff" + lines, lines):
        pairs = read(text)
        assert [pair[:3] for pair in pairs] == [("u", A, "s" if '"s"' in array else None)] * 2
    assert pairs[1].place.endswith("rows.jsonl, line 3") and read(array)[1].place.endswith("row 2")
    new = write_pair(row, "new u", "new answer")
    (pair,) = read(row)  # one row, or one chat, in one line
    assert read(new) == [pair._replace(prompt="new u", answer="new answer")]
    if shape != "alpaca":
        assert write_pair(new, "u", A) == row == SHAPES[shape]
    assert "### u" not in json.dumps(new)  # not beside the new ones


def test_csv(read):
    pairs = read('Goal,target\n"u, or\n""u""?",a\n\nu,a\n', "x.CSV")
    assert [pair[:2] for pair in pairs] == [('u, or\n"u"?', "a"), ("u", "a")]
    assert pairs[0].place.endswith("line 2") and pairs[1].place.endswith("x.CSV, line 5")
    assert read(",goal,target\n0,u,a\n", "x.csv")[0][:2] == ("u", "a")  # pandas' index


@pytest.mark.parametrize("text, words", [
    ("goal,target\nu,a\nwrite, please,a", "line 3: 3 values, where the header has 2"),
    ("Do x.\nDo y.\n", "line 1: the header names no prompt, but 'Do x.'"),  # HEx-PHI
    ('goal,target\nu,a\n\nu,"say "yes""\n', "line 4: ',' expected"),
    ('goal,target\nu,"a\nb"\nu,"open\nu,a\nu,a\n', "line 4: unexpected end"),
])  # fmt: skip
def test_a_fault_of_a_csv_file_names_its_line(text, words, read):
    with pytest.raises(InputError, match=f"x.csv, {re.escape(words)}"):
        read(text, "x.csv")


def test_what_belongs_to_the_prompt_is_joined_to_it(read):
    row = {"instruction": "u", "ContextString": "more", "output": "a"}
    assert read(row)[0][:2] == ("u\n\nmore", "a")
    new = write_pair(row, "u\n\nmore, previewed", "a")
    assert read(new)[0].prompt == "u\n\nmore, previewed"  # not joined twice


def test_an_empty_system_message_says_that_there_is_none(read):
    assert read([SYSTEM | {"content": ""}, USER, ANSWER])[0].system == ""
    assert read(ROW | {"system": None})[0].system is None


GOOD = json.dumps(ROW)


@pytest.mark.parametrize("content, words", [
    (None, "cannot be read .No such file"), ("", "holds no rows"), ("\n [] ", "holds no rows"),
    (GOOD.encode() + b"\xff", "not UTF-8 at byte 62"), (b"PAR1\x15", "not JSON"),
    (GOOD + "\n" + GOOD[:-9], "line 2: not JSON"), ("[" + GOOD, ": not JSON"),
    ("[" * 10**5, "not JSON"),
    ('{"prompt": "u", "answer": "a", "answer": "b"}', "line 1: not JSON .'answer' comes twice"),
    ("null", "1: expected a JSON object, found None"), ("[7]", "row 1: expected a JSON object"),
])  # fmt: skip
def test_files_that_are_rejected(content, words, read):
    with pytest.raises(InputError, match=f"rows.jsonl.*{words}") as error:
        read(content)
    assert "\n" not in str(error.value)


UNREAD = "is not read, and may say something"


@pytest.mark.parametrize("row, words", [
    # Something is missing, or is no text.
    *[(ROW | {"answer": text}, "has no answer, or a blank one") for text in (None, "", " \n", [])],
    ({"prompt": "u"}, "has no answer"), ({}, "has no prompt"), ([USER], "has no answer"),
    *[(ROW | {"answer": value}, "'answer' is no text") for value in (3, ["a"], {"b": 1}, False)],
    ([SYSTEM | {"content": [{"text": "s"}]}, USER, ANSWER], "'system' is no text"),
    (ROW | {"prompt": "u\ud83d"}, "'prompt' is no text, or has half of a surrogate pair"),
    # Two may be meant.
    (ROW | {"Prompt": "v"}, "'Prompt' is a second prompt, beside 'prompt'"),
    (ROW | {"input": "v", "context": "w"}, "'context' is a second joined"),
    ({"prompt": "u", "messages": [USER, ANSWER]}, "'user' is a second prompt, beside 'prompt'"),
    ({"system": "", "messages": [SYSTEM, USER, ANSWER]}, "'system' is a second system"),
    # Nothing says what to do with it.
    *[(ROW | {name: "x"}, f"'{name}' {UNREAD}") for name in ("history", "tools", "weight")],
    ({"messages": [USER, ANSWER], "input": "x"}, f"'input' {UNREAD}"),
    *[([USER, ANSWER | {name: value}], f"'{name} of assistant' {UNREAD}") for name, value in
      {"weight": 0, "train": False, "reasoning_content": "x", "tool_calls": [{}]}.items()],
    (ROW | {"text": "u"}, "'text' is not prompt and answer once more"),
    # No exchange.
    (7, "expected a JSON object"), ({"messages": "u"}, "'messages' is not read"),
    *[(turns, "the roles are ") for turns in
      ([], [USER, "x"], {"messages": []}, {"prompt": ["u"], "completion": [ANSWER]},
       [ANSWER, USER], [USER, ANSWER] * 2, [USER, SYSTEM, ANSWER], [USER, TOOL, ANSWER])],
    ({"prompt": [USER], "completion": 5}, "'completion' is no text"),
])  # fmt: skip
def test_rows_that_are_rejected(row, words, read):
    with pytest.raises(InputError, match=f"rows.jsonl, line 2: {re.escape(words)}"):
        read(GOOD + "\n" + json.dumps(row))


def test_a_harmful_request_needs_no_answer(read):
    for row in ([USER], {"messages": [SYSTEM, USER]}, ROW | {"answer": " "}):
        assert read(row, answers=False)[0][:2] == ("u", None)
    with pytest.raises(InputError, match="'answer' is no text"):
        read(ROW | {"answer": 3}, answers=False)
