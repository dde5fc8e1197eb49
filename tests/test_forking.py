"""docs/forking.md: each diff applies to the code and runs."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "forking.md").read_text("utf-8")
DIFFS = re.findall(r"```diff\n(.*?)```", TEXT, re.S)

# What a fork's processes run: the task, the methods, the previews, the losses, the tokenizer.
BEFORE = """
import json, pathlib, sys
import evaluate, train
from lookahead import __main__ as previews, files, methods
def run(main, *arguments):
    sys.argv = ["script", *arguments]
    main()
options = sys.argv[1:]
model, rows = options[3], options[7]
"""
FORKS = """
tokenizer = files.load_tokenizer(model)
row = {"riddle": "What is red?", "solution": "It is the door."}
pathlib.Path("riddles.jsonl").write_text(json.dumps(row) * 1)
riddles = [*options, "--task", "riddles", "--data", "riddles.jsonl"]
run(train.main, *riddles, "--method", "vanilla")
run(evaluate.main, "out/riddles", "--data", "riddles.jsonl", "--harmful", rows, "--limit", "2",
    "--safety-tokens", "4", "--max-new-tokens", "4")
assert "| repeats" in open("out/riddles/report.md").read()
assert files.read_json("out/riddles/results.json")["runs"][1]["repeats"]["n"] == 2

names = ["vanilla", "late", "mixed", "early", "connector", "unseen", "silent", "near"]
names += ["sentence", "stride"]
pathlib.Path("refusals.jsonl").write_text('{"prompt": "Steal the door.", "answer": "No."}')
run(train.main, *options, "--method", *names, "--stride", "3", "--skip", "2", "--pull", "0.5",
    "--refusals", "refusals.jsonl")
run(evaluate.main, "out/chat", "--data", rows, "--limit", "2")
runs = files.read_json("out/chat/results.json")["runs"][1:]
assert {run["method"]: run["stride"] for run in runs} == dict.fromkeys(names) | {"stride": 3}
settings = {run["method"]: (run["skip"], run["pull"]) for run in runs}
assert settings["late"] == settings["silent"] == (2, None) and settings["near"] == (None, 0.5)
assert [run["method"] for run in runs if run["refusals"]] == ["mixed"]
assert all(run["data"] == runs[0]["data"] for run in runs)
assert len({open(f"out/chat/{name}-seed0/loss.jsonl").read() for name in names}) == 10

assert methods.sentence_preview("P", "Go. Stop.", " C: ") == ("P C: Go.", "Go. Stop.")
run(previews.main, rows, "rows.jsonl", "--mode", "stride", "--m", "2", "--stride", "4",
    "--tokenizer", model)
row = json.loads(open("rows.jsonl").readline())
assert row["prompt"].endswith(tokenizer.decode(tokenizer.encode(row["answer"])[:5:4]))
"""
TOKENIZER = """
pathlib.Path(model, "bytes.txt").touch()
pathlib.Path(rows).write_text('{"prompt": "Hi.", "answer": "Good day."}')
run(train.main, *options, "--method", "real", "--out", "own")
run(evaluate.main, "own/chat", "--data", rows)
previewed = methods.real_preview("P", "T\u00fcr", 2, files.load_tokenizer(model), " C: ")
assert previewed[0] == "P C: T"  # half of the second letter goes
"""


@pytest.fixture
def fork(tmp_path):
    """Copy the project, and return a function that applies a diff to the copy, or tries to."""
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns("out", ".*", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=ignored)

    def apply(diff, *options):
        command = ["git", "apply", "--recount", "-C1", *options, "-"]
        subprocess.run(command, cwd=copy, input=diff, text=True, check=True)
        return copy

    return apply


def run(code, copy, chat_model):
    command = [sys.executable, "-c", BEFORE + code, *map(str, chat_model), "--system", ""]
    subprocess.run(command, cwd=copy, check=True)


def test_each_fork_applies_alone_and_after_the_others_and_the_suite_passes(fork, chat_model):
    for diff in DIFFS:
        fork(diff, "--check")
    for diff in DIFFS:
        copy = fork(diff)
    run(FORKS, copy, chat_model)
    run(TOKENIZER, copy, chat_model)
    suite = [sys.executable, "-m", "pytest", "-q", "-x", "--ignore=tests/test_forking.py"]
    subprocess.run(suite, cwd=copy, check=True)


def test_two_rooms_may_go_with_their_lines(fork, chat_model):
    copy = fork(DIFFS[-1])
    shutil.rmtree(copy / "lookahead" / "baselines")
    shutil.rmtree(copy / "lookahead" / "one_gpu")
    for path in (copy / "train.py", copy / "lookahead" / "methods.py"):
        lines = r"(?m), one_gpu|^.*(BETAS|rewrite_answers).*\n|^    .constrained(.*\n)+?    \),\n"
        path.write_text(re.sub(lines, "", path.read_text()))
    run(TOKENIZER, copy, chat_model)


def test_what_is_only_described(tmp_path, monkeypatch, capsys):
    half = {"value": 0.5, "low": 0.4, "high": 0.6}
    turns = [{"content": text} for text in ("system", "request", "answer")]
    saved = {"results": [turns] * 3, "runs": [{"name": "real", "rsr": half, "jsr": half}]}
    monkeypatch.setattr("json.load", lambda file: saved)
    plain = open
    monkeypatch.setattr("builtins.open", lambda *given: plain(*given) if given[1:] else None)
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        exec(block, {"judge": lambda request, said: {"request": {"answer": 5}}[request][said]})
    assert "{'value': 0.0, 'n': 3" in capsys.readouterr().out and pathlib.Path("real.svg").exists()
