"""Chapter 1: previews equal the reference implementation's, and the command tells what it did."""

import json

import pytest
from conftest import SHARED

from lookahead import preview
from lookahead.files import read_rows
from lookahead.preview import CONNECTOR, PREFIX, real_preview, virtual_preview


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("mode, golden", [("real", "real_6"), ("virtual", "virtual")])
def test_gsm8k_equals_the_reference(mode, golden, gsm8k, llama2_tokenizer, tmp_path, script):
    model = SHARED / "data" / "llama2-tokenizer.model"
    target = tmp_path / "out.jsonl"
    options = ["--mode", mode, "--m", 6, "--tokenizer", model]
    script(preview.main, gsm8k / "test.jsonl", target, *options)
    assert rows_of(target) == rows_of(SHARED / "golden" / f"gsm8k_test_{golden}.jsonl")


@pytest.mark.parametrize("m", [1, 3, 4, 9, 12])
def test_real_preview_is_the_start_of_the_answer(m, gsm8k, llama2_tokenizer):
    for row in read_rows(gsm8k / "train.jsonl"):
        prompt, answer = real_preview(row["question"], row["answer"], m, llama2_tokenizer)
        shown = prompt.removeprefix(row["question"] + CONNECTOR)
        assert answer == row["answer"] and answer.startswith(shown)
        ids = llama2_tokenizer.encode(answer)[:m]
        assert shown == llama2_tokenizer.decode(ids)


def test_digits_are_tokens_of_their_own(llama2_tokenizer):
    prompt, _ = real_preview("Q", "Natalia sold 48/2 = 24 clips", 6, llama2_tokenizer)
    assert prompt == "Q The answer begins with: Natalia sold 48"


def test_a_cut_character_is_dropped(tokenizer):
    answer = "\U0001f600 Well."  # four byte tokens after the space
    shown = [real_preview("", answer, m, tokenizer, "")[0] for m in range(1, 8)]
    assert all(answer.startswith(text) for text in shown)
    assert shown[1] == "" and shown[4] == "\U0001f600"
    genuine = real_preview("", "\ufffd", 9, tokenizer, "")[0]
    assert genuine == "\ufffd"


def test_virtual_preview_shows_and_prepends_the_prefix():
    prompt, answer = virtual_preview("Q?", "A.")
    assert prompt == "Q? The answer begins with: Let's solve this problem. "
    assert answer == PREFIX + "A."


def test_limits():
    with pytest.raises(ValueError, match="at least one token"):
        real_preview("Q", "A", 0, None)
    with pytest.raises(ValueError, match="prefix is empty"):
        virtual_preview("Q", "A", prefix="  ")


def test_command_keeps_other_fields_and_counts(tmp_path, script, capsys):
    source, target = tmp_path / "in.json", tmp_path / "out.jsonl"
    source.write_text(json.dumps([{"id": 7, "p": "Q?", "a": "A."}]), encoding="utf-8")
    options = ["--mode", "virtual", "--prompt-field", "p", "--answer-field", "a"]
    script(preview.main, source, target, *options)
    assert rows_of(target) == [{"id": 7, "p": "Q?" + CONNECTOR + PREFIX, "a": PREFIX + "A."}]
    assert "1 rows written" in capsys.readouterr().err


def test_command_counts_answers_shown_whole(tmp_path, tokenizer, script, capsys):
    model, source = tmp_path / "t.model", tmp_path / "in.jsonl"
    model.write_bytes(tokenizer.serialized_model_proto())
    source.write_text('{"question": "Q", "answer": "It is 42."}\n' * 3, encoding="utf-8")
    options = ["--mode", "real", "--m", 50, "--tokenizer", model]
    script(preview.main, source, tmp_path / "out.jsonl", *options)
    assert "3 answers were shown whole" in capsys.readouterr().err


def test_mistakes(tmp_path, complaint):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"question": "Q", "answer": "A"}\n{"question": "Q"}\n', encoding="utf-8")
    assert "line 2: field 'answer'" in complaint(preview.main, source, target, "--mode", "virtual")
    assert "--tokenizer is missing" in complaint(preview.main, source, target, "--mode", "real")
    assert "--mode" in complaint(preview.main, source, target, "--mode", "both")
    assert "'0' is not a whole" in complaint(preview.main, source, target, "--m", "0")
    blank = ["--mode", "virtual", "--prefix", " "]
    assert "--prefix: is empty" in complaint(preview.main, source, target, *blank)
    source.write_text('{"question": "\\ud83d", "answer": "A"}')
    assert "surrogate" in complaint(preview.main, source, target, "--mode", "virtual")
    assert not target.exists()


def test_rows_with_a_preview_are_told(tmp_path, script, capsys):
    source, target = tmp_path / "rows.jsonl", tmp_path / "previewed.jsonl"
    source.write_text('{"question": "Q", "answer": "A"}\n' * 2)
    script(preview.main, source, target, "--mode", "virtual")
    assert "already" not in capsys.readouterr().err
    script(preview.main, target, tmp_path / "twice.jsonl", "--mode", "virtual")
    assert f"{target}: 2 prompts have the connector already" in capsys.readouterr().err


def test_a_forks_preview_in_the_command(tmp_path, script, complaint, tokenizer, monkeypatch):
    def last_preview(prompt, answer, m, tokenizer):
        return f"{prompt} It ends with: {tokenizer.decode(tokenizer.encode(answer)[-m:])}", answer

    monkeypatch.setitem(preview.PREVIEWS, "last", (last_preview, ("m", "tokenizer")))
    (tmp_path / "t.model").write_bytes(tokenizer.serialized_model_proto())
    source, target = tmp_path / "rows.jsonl", tmp_path / "previewed.jsonl"
    source.write_text('{"question": "Q", "answer": "Take the door"}')
    assert "last mode counts" in complaint(preview.main, source, target, "--mode", "last")
    options = ["--mode", "last", "--m", 1, "--tokenizer", tmp_path / "t.model"]
    script(preview.main, source, target, *options)
    assert json.loads(target.read_text())["question"] == "Q It ends with: door"
