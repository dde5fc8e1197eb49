"""Chapter 1: previews equal the reference implementation's, and the command tells what it did."""

import json
import types

import pytest
from conftest import SHARED

from lookahead import __main__ as command
from lookahead.files.tokenizers import load_tokenizer
from lookahead.preview import CONNECTOR, PREFIX, real_preview, virtual_preview

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), min_size=1)


@pytest.mark.parametrize("mode, golden", [("real", "real_6"), ("virtual", "virtual")])
def test_gsm8k_equals_the_reference(mode, golden, tmp_path, script):
    if not SHARED.exists():
        pytest.skip("the data are not here")
    options = ["--mode", mode, "--tokenizer", SHARED / "data" / "llama2-tokenizer.model"]
    script(command.main, SHARED / "data" / "gsm8k" / "test.jsonl", tmp_path / "out", *options)
    expected = SHARED / "golden" / f"gsm8k_test_{golden}.jsonl"
    assert (tmp_path / "out").read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level"])
def test_a_real_preview_is_the_first_tokens_of_the_answer(kind, tokenizer, tmp_path):
    """Or fewer characters, where the cut lies inside one."""
    if kind == "byte-level":
        bpe = pytest.importorskip("test_bpe")
        tokenizer = load_tokenizer(bpe.written(bpe.train("qwen"), tmp_path))
    answers = st.text("xy -(é1\n😀\ufffd東", min_size=1)  # of characters that the tokenizers keep

    @hypothesis.settings(deadline=None, derandomize=True, max_examples=200)
    @hypothesis.given(prompt=TEXT, answer=answers, m=st.integers(1, 12))
    def holds(prompt, answer, m):
        previewed, same = real_preview(prompt, answer, m, tokenizer)
        begin, _, shown = previewed.rpartition(CONNECTOR)
        ids = tokenizer.encode(answer)
        assert (begin, same) == (prompt, answer) and answer.startswith(shown)
        assert len(ids) > m or shown == answer
        assert tokenizer.decode(ids[:m]).rstrip("\ufffd") == shown.rstrip("\ufffd")

    holds()


def test_limits(tokenizer):
    with pytest.raises(ValueError, match="at least one token"):
        real_preview("Q", "A", 0, tokenizer)
    with pytest.raises(ValueError, match="prefix is blank"):
        virtual_preview("Q", "A", prefix="  ")
    wrong = types.SimpleNamespace(encode=tokenizer.encode, decode=lambda ids: "<s> It")
    with pytest.raises(ValueError, match="'<s> It', not the beginning of the answer"):
        real_preview("Q", "It is 42.", 2, wrong)


def test_the_command_keeps_other_fields_and_says_what_it_did(tmp_path, tokenizer, script, capsys):
    (tmp_path / "t.model").write_bytes(tokenizer.model)
    source, target, twice = (tmp_path / name for name in ("in.json", "out.jsonl", "twice.jsonl"))
    source.write_text(json.dumps([{"id": 7, "question": "Q?", "answer": "Hi."}] * 2))
    script(command.main, source, target, "--mode", "virtual")
    row = {"id": 7, "question": "Q?" + CONNECTOR + PREFIX, "answer": PREFIX + "Hi."}
    assert [json.loads(line) for line in target.read_text().splitlines()] == [row] * 2
    assert capsys.readouterr().err == f"2 rows written to {target}; 0 answers are shown whole.\n"
    options = ["--mode", "real", "--m", 50, "--tokenizer", tmp_path / "t.model"]
    script(command.main, target, twice, *options)
    assert "2 answers are" in capsys.readouterr().err
