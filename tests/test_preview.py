"""Chapter 1: previews equal the reference implementation's, and the command tells what it did."""

import json
import types

import pytest
from conftest import SHARED

from lookahead import preview
from lookahead.files.bpe import ByteLevelBPE
from lookahead.preview import CONNECTOR, PREFIX, real_preview, virtual_preview

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), min_size=1)


@pytest.mark.parametrize("mode, golden", [("real", "real_6"), ("virtual", "virtual")])
def test_gsm8k_equals_the_reference(mode, golden, gsm8k, llama2_tokenizer, tmp_path, script):
    model = SHARED / "data" / "llama2-tokenizer.model"
    target = tmp_path / "out.jsonl"
    script(preview.main, gsm8k / "test.jsonl", target, "--mode", mode, "--tokenizer", model)
    assert target.read_bytes() == (SHARED / "golden" / f"gsm8k_test_{golden}.jsonl").read_bytes()


def test_digits_are_tokens_of_their_own(llama2_tokenizer):
    prompt, _ = real_preview("Q", "Natalia sold 48/2 = 24 clips", 6, llama2_tokenizer)
    assert prompt == "Q The answer begins with: Natalia sold 48"


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level"])
def test_a_real_preview_is_the_first_tokens_of_the_answer(kind, tokenizer, tmp_path):
    """Or fewer characters, where the cut lies inside one."""
    if kind == "byte-level":
        test_bpe = pytest.importorskip("test_bpe")
        tokenizer = ByteLevelBPE(test_bpe.written(test_bpe.train("smollm2"), tmp_path))
        missing = st.sampled_from("xy -(é1\n😀\ufffd東")  # its vocabulary lacks some characters
    text = TEXT if kind == "sentencepiece" else st.text(missing, min_size=1)

    @hypothesis.settings(deadline=None, derandomize=True, max_examples=200)
    @hypothesis.given(prompt=TEXT, answer=text, m=st.integers(1, 12))
    def holds(prompt, answer, m):
        shown, same = real_preview(prompt, answer, m, tokenizer, connector="|")
        assert same == answer and shown.startswith(prompt + "|")
        shown = shown[len(prompt) + 1 :]
        ids = tokenizer.encode(answer)
        assert answer.startswith(shown) and (len(ids) > m or shown == answer)
        assert tokenizer.decode(ids[:m]).rstrip("\ufffd") == shown.rstrip("\ufffd")

    holds()


def test_a_cut_character_is_dropped_and_one_that_is_there_is_kept(tokenizer):
    answer = "\U0001f600 Well."  # four byte tokens after the space
    shown = [real_preview("", answer, m, tokenizer, "")[0] for m in range(1, 8)]
    assert shown[1] == "" and shown[4] == "\U0001f600"
    assert real_preview("", "\ufffd", 9, tokenizer, "")[0] == "\ufffd"


def test_virtual_preview_shows_and_prepends_the_prefix():
    prompt, answer = virtual_preview("Q?", "A.")
    assert prompt == "Q? The answer begins with: Let's solve this problem. "
    assert answer == PREFIX + "A."


def test_limits(tokenizer):
    with pytest.raises(ValueError, match="at least one token"):
        real_preview("Q", "A", 0, tokenizer)
    with pytest.raises(ValueError, match="prefix is blank"):
        virtual_preview("Q", "A", prefix="  ")
    adds_bos = types.SimpleNamespace(
        encode=lambda text: [1, *tokenizer.encode(text)],
        decode=lambda ids: "<s> " * (ids[0] == 1) + tokenizer.decode(ids),
    )
    with pytest.raises(ValueError, match="'<s> It', not the beginning of the answer"):
        real_preview("Q", "It is 42.", 2, adds_bos)


def test_the_command_keeps_other_fields_and_tells_what_it_did(tmp_path, tokenizer, script, capsys):
    (tmp_path / "t.model").write_bytes(tokenizer.model)
    source, target, twice = (tmp_path / name for name in ("in.json", "out.jsonl", "twice.jsonl"))
    source.write_text(json.dumps([{"id": 7, "p": "Q?", "a": "Hi."}] * 2))
    fields = ["--prompt-field", "p", "--answer-field", "a"]
    script(preview.main, source, target, "--mode", "virtual", *fields)
    row = {"id": 7, "p": "Q?" + CONNECTOR + PREFIX, "a": PREFIX + "Hi."}
    assert [json.loads(line) for line in target.read_text().splitlines()] == [row] * 2
    told = capsys.readouterr().err
    assert "2 rows written" in told and "0 answers were shown whole" in told
    assert "already" not in told
    fields += ["--mode", "real", "--m", 50, "--tokenizer", tmp_path / "t.model"]
    script(preview.main, target, twice, *fields)
    told = capsys.readouterr().err
    assert f"{target}: 2 prompts have the connector already" in told and "2 answers were" in told


def test_what_is_wrong_is_told_and_nothing_is_written(tmp_path, tokenizer, complaint):
    (tmp_path / "t.model").write_bytes(tokenizer.model)
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"question": "Q", "answer": "A"}\n{"question": "Q"}\n')

    def told(*options):
        return complaint(preview.main, source, target, "--mode", *options)

    assert f"{source}, line 2: field 'answer'" in told("virtual")
    assert "--tokenizer is missing: mode real" in told("real")
    assert "invalid choice: 'both'" in told("both")
    assert "line 1: m is 0" in told("real", "--m", 0, "--tokenizer", tmp_path / "t.model")
    assert "line 1: the prefix is blank" in told("virtual", "--prefix", " ")
    assert not target.exists()


def test_a_forks_preview_in_the_command(tmp_path, script, tokenizer, monkeypatch):
    def last_preview(prompt, answer, m, tokenizer):
        return f"{prompt} It ends with: {tokenizer.decode(tokenizer.encode(answer)[-m:])}", answer

    monkeypatch.setitem(preview.PREVIEWS, "last", (last_preview, ("m", "tokenizer")))
    (tmp_path / "t.model").write_bytes(tokenizer.model)
    source, target = tmp_path / "rows.jsonl", tmp_path / "previewed.jsonl"
    source.write_text('{"question": "Q", "answer": "Take the door"}')
    options = ["--mode", "last", "--m", 1, "--tokenizer", tmp_path / "t.model"]
    script(preview.main, source, target, *options)
    assert json.loads(target.read_text())["question"] == "Q It ends with: door"
