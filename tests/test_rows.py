"""Data as people have it: every shape of rows, and a sentence with its place for every fault."""

import json
import re

import pytest

from lookahead.cli import InputError
from lookahead.files.rows import read_pair, read_rows, write_pair
from lookahead.tasks import TASKS, read_harmful, read_pairs

FIELDS = (("question",), ("answer",))
USER = {"role": "user", "content": "Q"}
ANSWER = {"role": "assistant", "content": "A"}
SYSTEM = {"role": "system", "content": "S"}
ROW = {"question": "Q", "answer": "A", "prompt": "Q"}


def write(path, rows):
    text = rows if isinstance(rows, str) else "\n".join(map(json.dumps, rows))
    path.write_bytes(rows if isinstance(rows, bytes) else text.encode())
    return path


def pairs_of(path, answers=True):
    return [pair[:3] for pair in read_harmful(path, answers)]


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": "Q", "answer": "A"}] * 2,
        [{"instruction": "Q", "output": "A", "category": 3, "input": ""}] * 2,
        "goal,target\nQ,A\nQ,A\n",
        json.dumps([ROW] * 2, indent=2),
        json.dumps([ROW]) [:-1] + ",\n" + json.dumps(ROW) + "]",
        [[USER, ANSWER]] * 2,
        json.dumps([[USER, ANSWER]] * 2, indent=1),
        [{"messages": [SYSTEM, USER, ANSWER]}] * 2,
        [{"prompt": [SYSTEM, USER], "completion": [ANSWER]}] * 2,
        b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\r\n\r\n" + json.dumps(ROW).encode() + b"\r\n",
    ],
)  # fmt: skip
def test_shapes_of_harmful_files(rows, tmp_path, capsys):
    path = write(tmp_path / ("x.csv" if str(rows).startswith("goal") else "x.jsonl"), rows)
    assert pairs_of(path) == pairs_of(path, answers=False) == [("Q", "A", None)] * 2
    assert ("2 system messages are not used" in capsys.readouterr().err) == ("'S'" in str(rows))


def test_one_chat_in_one_line_is_one_row(tmp_path):
    path = write(tmp_path / "x.json", json.dumps([SYSTEM, USER, ANSWER]))
    (pair,) = read_pairs(path, TASKS["gsm8k"])
    assert pair[:3] == ("Q", "A", "S")
    assert pairs_of(write(path, [[USER]]), answers=False) == [("Q", None, None)]


def test_what_belongs_to_the_prompt_is_joined_to_it(tmp_path):
    row = {"instruction": "Sum up.", "input": "A text.", "output": "A"}
    assert pairs_of(write(tmp_path / "x", [row])) == [("Sum up.\n\nA text.", "A", None)]
    pair = read_pair({"question": "Q", "context": "C", "answer": "A"}, FIELDS, "")
    assert pair.prompt == "Q\n\nC"


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q", "answer": "A", "id": 7},
        {"question": "Q", "context": "C", "answer": "A"},
        [SYSTEM, USER, ANSWER],
        {"messages": [USER, ANSWER], "id": 7},
        {"prompt": [SYSTEM, USER], "completion": [ANSWER]},
    ],
)
def test_a_row_is_written_in_its_own_shape(row):
    new = write_pair(row, FIELDS, "Q2", "A2")
    assert read_pair(new, FIELDS, "")[:2] == ("Q2", "A2")
    assert type(new) is type(row) and len(new) == len(row)
    if "id" in row:
        assert new["id"] == 7


TOOL = {"role": "tool", "content": "T"}


@pytest.mark.parametrize(
    "rows, words",
    [
        (None, "cannot be read (No such file"),
        ("", "holds no rows"),
        ("\n \n", "holds no rows"),
        ("[]", "holds no rows"),
        (json.dumps(ROW).encode() + b"\xff", "not UTF-8 at byte"),
        (json.dumps(ROW).encode("utf-16"), "is UTF-16"),
        (b"\x1f\x8b\x08", "is gzip"),
        (b"PAR1", "is Parquet"),
        (json.dumps(ROW) + "\n" + json.dumps(ROW)[:-9], "line 2: not JSON"),
        (json.dumps([ROW], indent=1)[:-3], "x: not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "line 1: not JSON"),
        ("7", "line 1: expected a JSON object, found 7"),
        ("null", "line 1: expected a JSON object, found None"),
        (json.dumps([ROW, 7]), "row 2: expected a JSON object, found 7"),
        ([{"question": "Q"}], "line 1: field 'prompt' is missing"),
        ([ROW, {"prompt": "Q"}], "line 2: field 'answer' is missing"),
        ([ROW | {"answer": 3}], "field 'answer' is missing, empty or not a string"),
        ([ROW | {"answer": ["A"]}], "field 'answer'"),
        ([ROW | {"answer": " \n"}], "field 'answer'"),
        ([ROW | {"answer": "a\ud83d"}], "field 'answer' has half of a surrogate pair"),
        ([[USER, USER]], "has the roles user, user"),
        ([[ANSWER, USER, ANSWER]], "has the roles assistant, user, assistant"),  # a greeting first
        ([[USER, ANSWER, USER, ANSWER]], "has the roles"),  # several turns
        ([[USER, TOOL, ANSWER]], "has the roles user, tool, assistant"),
        ([[{"role": "developer", "content": "D"}, USER, ANSWER]], "has the roles developer"),
        ([[USER]], "has the roles user;"),
        ([{"messages": []}], "expected chat messages"),
        ([{"messages": "x"}], "expected chat messages"),
        ([[USER, {"role": "assistant", "content": None}]], "field 'assistant' is missing"),
    ],
)
def test_faults_are_told_with_their_place(rows, words, tmp_path):
    path = tmp_path / "x"
    if rows is not None:
        write(path, rows)
    with pytest.raises(InputError, match=re.escape(words)) as told:
        read_harmful(path, answers=True)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_texts_are_used_as_they_are(tmp_path, tokenizer):
    texts = ["A\0B", "Ä 🙂 \u2028 \x85", " a ", "x" * 10**6, "same", "same"]
    path = write(tmp_path / "x", [ROW | {"answer": text} for text in texts])
    assert [pair.answer for pair in read_pairs(path, TASKS["gsm8k"])] == texts
    for text in texts[:3]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(read_rows(path)) == 6
