"""What becomes of the data a user brings: docs/data.md, line by line, and over random texts."""

import json

import pytest

import evaluate
import train
from lookahead import preview
from lookahead.chat import TEMPLATES, encode_chat
from lookahead.commands import InputError
from lookahead.preview import real_preview, virtual_preview
from lookahead.safety import read_harmful
from lookahead.tasks import TASKS, read_pairs

ROW = {"question": "Q", "answer": "A", "prompt": "Q"}


def read_task(path):
    return read_pairs(path, TASKS["gsm8k"])[0]


def read_safety(path):
    return read_harmful(path, True)


@pytest.fixture(params=[read_task, read_safety])
def read(request, tmp_path):
    """Read a file of the given content as training rows, or as harmful requests."""

    def call(content):
        path = tmp_path / "rows.jsonl"
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return request.param(path)

    return call


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROW),
        b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\n",
        "\r\n" + json.dumps(ROW) + "\r\n\r\n \n",
        json.dumps([ROW]),
        json.dumps([ROW], indent=2).replace("\n", "\r\n"),
    ],
)
def test_forms_of_a_file(read, content):
    assert read(content) == [("Q", "A")]


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "rows.jsonl: cannot be read \\(No such file"),
        ("", "holds no rows"),
        ("\n \n", "holds no rows"),
        ("[]", "holds no rows"),
        (json.dumps(ROW).encode() + b"\xff", "not UTF-8 at byte"),
        (json.dumps(ROW).encode("utf-16"), "not UTF-8 at byte 0"),
        (json.dumps(ROW) + "\n" + json.dumps(ROW)[:-9], "line 2: not JSON .* column"),
        (json.dumps([ROW])[:-3], "not JSON"),
        ("7", "line 1: expected a JSON object, found 7"),
        ('"text"', "line 1: expected a JSON object"),
        ("null", "line 1: expected a JSON object, found None"),
        ("NaN", "line 1: expected a JSON object"),
        (json.dumps([ROW, 7]), "row 2: expected a JSON object, found 7"),
    ],
)
def test_files_that_are_refused(read, content, words):
    with pytest.raises(InputError, match=words):
        read(content)


@pytest.mark.parametrize("value", ["missing", None, 3, ["A"], {}, "", "  \n", "a\ud83d"])
def test_fields_that_are_refused(read, value):
    row = {key: its for key, its in (ROW | {"answer": value}).items() if its != "missing"}
    with pytest.raises(InputError, match="line 2: field 'answer'"):
        read(json.dumps(ROW) + "\n" + json.dumps(row))


def test_a_folder_is_refused(tmp_path):
    for read in (read_task, read_safety):
        with pytest.raises(InputError, match="cannot be read \\(Is a directory"):
            read(tmp_path)


def test_rows_that_are_used_as_they_are(read, tokenizer):
    texts = ["A\0B", "Ä 🙂 \u2028 \x85", " a ", "x" * 10**6, "same", "same"]
    rows = [ROW | {"answer": text} for text in texts]
    pairs = read("\n".join(json.dumps(row) for row in rows))
    assert [answer for _, answer in pairs] == texts
    for text in texts[:3]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_what_is_left_out_is_counted(tmp_path, tokenizer, script, capsys):
    (tmp_path / "t.model").write_bytes(tokenizer.serialized_model_proto())
    answers = ["It is 42, is it not?", "x" * 10**6, "Hi.", "Hi."]
    rows = [{"question": "Q", "answer": answer} for answer in answers]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    options = ["--task", "gsm8k", "--scratch", tmp_path / "t.model", "--out", tmp_path]
    script(train.main, *options, "--data", tmp_path / "rows.json")
    told = capsys.readouterr().err
    assert "1 rows of over 512 tokens left out" in told
    assert "m = 6: 2 answers are shown whole" in told
    runs = [json.loads(path.read_text()) for path in tmp_path.glob("gsm8k/*/run.json")]
    runs = [run for run in runs if run["method"] != "seed"]
    assert [(run["examples"], run["left_out"]) for run in runs] == [(3, 1)] * 3


def test_a_prompt_without_room(tmp_path, tokenizer, script, complaint):
    (tmp_path / "t.model").write_bytes(tokenizer.serialized_model_proto())
    (tmp_path / "rows.json").write_text(json.dumps([ROW]))
    options = ["--task", "gsm8k", "--scratch", tmp_path / "t.model", "--out", tmp_path]
    script(train.main, *options, "--data", tmp_path / "rows.json", "--method", "vanilla")
    (tmp_path / "long.json").write_text(json.dumps([ROW | {"question": "x " * 2000}]))
    folder = tmp_path / "gsm8k"
    assert "no room" in complaint(evaluate.main, folder, "--data", tmp_path / "long.json")


def test_the_preview_command_reads_and_complains_alike(tmp_path, script, complaint):
    source, target = tmp_path / "in.json", tmp_path / "out.jsonl"
    source.write_text(json.dumps([ROW, ROW]))
    script(preview.main, source, target, "--mode", "virtual")
    assert len(target.read_text().splitlines()) == 2
    source.write_text(json.dumps([ROW, {"question": "Q"}]))
    target.unlink()
    assert "row 2: field 'answer'" in complaint(preview.main, source, target, "--mode", "virtual")
    assert not target.exists()


hypothesis = pytest.importorskip("hypothesis")
given, st = hypothesis.given, hypothesis.strategies
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
FREELY = hypothesis.settings(
    deadline=None, max_examples=150, derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)  # fmt: skip


@FREELY
@given(prompt=TEXT, answer=TEXT, template=st.sampled_from(sorted(TEMPLATES)))
def test_supervised_are_the_answer_and_eos(tokenizer, prompt, answer, template):
    ids, start = encode_chat(tokenizer, template, "Be kind.", prompt, answer)
    line = "\n" if template == "zephyr" else ""  # decode drops a first space
    assert tokenizer.decode(tokenizer.encode(line) + ids[start:-1]) == line + answer
    assert ids[-1] == tokenizer.eos_id()
    assert ids[:start] == encode_chat(tokenizer, template, "Be kind.", prompt)[0]
    assert ids[start:-1].count(tokenizer.eos_id()) == 0


@FREELY
@given(prompt=TEXT, answer=TEXT, m=st.integers(1, 20))
def test_a_preview_is_a_beginning_of_the_answer(tokenizer, prompt, answer, m):
    shown, same = real_preview(prompt, answer, m, tokenizer, connector="|")
    assert same == answer and shown.startswith(prompt + "|")
    assert answer.startswith(shown[len(prompt) + 1 :])
    if len(tokenizer.encode(answer)) <= m:
        assert shown == prompt + "|" + answer


@FREELY
@given(prompt=TEXT, answer=TEXT, prefix=TEXT)
def test_a_virtual_preview_shows_its_prefix(prompt, answer, prefix):
    hypothesis.assume(prefix.strip())
    shown, new = virtual_preview(prompt, answer, prefix, "|")
    assert shown == f"{prompt}|{prefix}" and new == prefix + answer
