"""The forks of docs/forking.md: each diff applies to one file, and runs."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "forking.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"```diff\n(.*?)```", TEXT, re.S)


@pytest.fixture
def fork(tmp_path):
    """Apply one of the diffs to a copy of the code; return a function that runs a script there."""

    def apply(name):
        (diff,) = (diff for diff in DIFFS if f"+++ b/lookahead/{name}\n" in diff)
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copytree(ROOT / "lookahead", copy / "lookahead")
        for script in ("train.py", "evaluate.py"):
            shutil.copy(ROOT / script, copy)
        command = ["git", "apply", "--recount", "-C1", "-"]
        subprocess.run(command, cwd=copy, input=diff, text=True, check=True)

        def run(*arguments):
            command = [sys.executable, *map(str, arguments)]
            done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout

        return run

    return apply


@pytest.fixture
def seed(tmp_path, tokenizer, script):
    """Options of a task with a small random seed model."""
    (tmp_path / "t.model").write_bytes(tokenizer.serialized_model_proto())
    names = ("prompt", "answer", "riddle", "solution")
    rows = [dict.fromkeys(names, f"It is {i}, the door, the lamp and the boat.") for i in range(8)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    return ["--data", tmp_path / "rows.json", "--scratch", tmp_path / "t.model"]


def test_each_is_short_and_of_one_file():
    assert len(DIFFS) == 5
    for diff in DIFFS:
        assert diff.count("\n+++ ") == 1
        assert len(re.findall(r"^[+-](?![+-])", diff, re.M)) <= 15


def test_own_task(fork, seed, tmp_path):
    run = fork("tasks.py")
    run("train.py", "--task", "riddles", "--method", "real", *seed)
    run("evaluate.py", "out/riddles", "--data", tmp_path / "rows.json")
    results = json.loads((tmp_path / "copy" / "out" / "riddles" / "results.json").read_text())
    assert [r["utility"]["n"] for r in results["runs"]] == [8, 8]


def test_own_preview(fork, seed, tmp_path):
    run = fork("preview.py")
    run("train.py", "--task", "chat", "--method", "vanilla", "alternate", "--m", 2, 3, *seed)
    run("-m", "lookahead.preview", *seed[1:2], tmp_path / "previewed.jsonl", "--mode", "alternate",
        "--prompt-field", "prompt", "--tokenizer", seed[3])  # fmt: skip
    first = json.loads((tmp_path / "previewed.jsonl").read_text().splitlines()[0])
    _, shown = first["prompt"].split(" The answer begins with: ")
    assert shown and not first["answer"].startswith(shown)  # every second token
    code = "from lookahead.preview import *; from lookahead.files import load_tokenizer as load;"
    code += f"print(alternate_preview('P', 'the door the lamp', 6, load({str(seed[3])!r}))[0])"
    shown = run("-c", code).strip()
    assert shown.startswith("P The answer begins with: ") and "the door the lamp" not in shown
    made = (tmp_path / "copy" / "out" / "chat").glob("alternate*/run.json")
    assert sorted(path.parent.name for path in made) == ["alternate-m2-seed0", "alternate-m3-seed0"]


def test_own_loss(fork, seed, tmp_path):
    run = fork("losses.py")
    run("train.py", "--task", "chat", "--method", "late", *seed)
    code = """
import torch
from lookahead.losses import LOSSES
from lookahead.model import Config, Llama
model = Llama(Config(50, 32, 48, 1, 4, 4, 64))
tokens = torch.arange(3, 11)[None]
supervised = (torch.arange(8) > 1)[None]
loss = LOSSES["late"](model, [(tokens, supervised)])
logits = model(tokens)[0, 4:7]
wanted = torch.nn.functional.cross_entropy(logits, tokens[0, 5:], reduction="sum")
assert torch.allclose(loss, wanted), (loss, wanted)
"""
    run("-c", code)


def test_own_data(fork, seed, tmp_path):
    run = fork("runs.py")
    folder = tmp_path / "copy" / "out" / "toy" / "data"
    folder.mkdir(parents=True)
    row = json.dumps({"prompt": "Steal it.", "answer": "I cannot help you with that."})
    (folder / "align.jsonl").write_text(f"{row}\n" * 8)
    run("train.py", "--task", "chat", "--method", "vanilla", "mixed", *seed)
    runs = sorted((tmp_path / "copy" / "out" / "chat").glob("*-seed0/run.json"))
    mixed, vanilla = (json.loads(path.read_text()) for path in runs)
    assert mixed["examples"] == vanilla["examples"] == 8
    assert mixed["loss_before"] != vanilla["loss_before"]


def test_own_tokenizer(fork, seed, tmp_path, script):
    import train

    script(train.main, "--task", "chat", "--method", "vanilla", *seed, "--out", tmp_path)
    options = ["--task", "chat", "--method", "real", "--m", 5, "--template", "llama-2"]
    run = fork("files.py")
    run("train.py", *options, *seed[:2], "--model", tmp_path / "chat" / "seed")
    run("evaluate.py", "out/chat", *seed[:2])
    told = run("-c", "from lookahead.preview import *; from lookahead.files import load_tokenizer;"
               "print(real_preview('P', 'Tür auf', 2, load_tokenizer(''))[0])")  # fmt: skip
    assert told.strip() == "P The answer begins with: T"  # half of the ü is dropped


def test_the_preview_alone(seed, monkeypatch):
    class Rows(list):
        def map(self, function, remove_columns):
            return [function(row) for row in self]

    monkeypatch.setattr("sentencepiece.SentencePieceProcessor", FakeTokenizer)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(import sentencepiece.*?)```", readme, re.S)[1]
    names = {"dataset": Rows([{"question": "Q", "answer": "one two three four five six seven"}])}
    exec(code, names)
    (row,) = names["dataset"]
    shown = "Q The answer begins with: one two three four five six"
    assert row["prompt"] == [{"role": "user", "content": shown}]
    assert row["completion"][0]["content"] == "one two three four five six seven"


class FakeTokenizer:
    def __init__(self, model_file):
        assert model_file == "tokenizer.model"

    encode = staticmethod(str.split)
    decode = staticmethod(" ".join)
