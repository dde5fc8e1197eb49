"""docs/forking.md: each diff applies to the code and runs; what is only described runs too."""

import pathlib
import re
import shutil
import subprocess
import sys

from lookahead.files.rows import write_json

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "forking.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"```diff\n(.*?)```", TEXT, re.S)
APPLY = ["git", "apply", "--recount", "-C1", "-"]

BEFORE = """
import json, pathlib, sys
import torch, evaluate, train
from lookahead import preview
from lookahead.files.tokenizers import load_tokenizer

def run(main, *arguments):
    sys.argv = ["script", *arguments]
    main()

def read(path):
    return json.loads(pathlib.Path("out", path).read_text())

options = sys.argv[1:]
rows = options[7]
tokenizer = load_tokenizer(options[3])
"""
FIVE = """
# Own task.
run(train.main, "--task", "riddles", "--method", "real", *options[2:])
run(evaluate.main, "out/riddles", "--data", rows)
assert [made["utility"]["n"] for made in read("riddles/results.json")["runs"]] == [8, 8]

# All own methods beside vanilla: equal data, and each trains on something else.
pathlib.Path("out/toy/data").mkdir(parents=True)
row = json.dumps({"prompt": "Steal it.", "answer": "I cannot help you with that."})
pathlib.Path("out/toy/data/align.jsonl").write_text(row + "\\n" + row)
methods = "vanilla", "sentence", "stride", "late", "mixed"
run(train.main, "--method", *methods, "--stride", "3", *options)
made = {method: read(f"chat/{method}-seed0/run.json") for method in methods}
logs = {pathlib.Path(f"out/chat/{method}-seed0/loss.jsonl").read_text() for method in methods}
assert len(logs) == 5 and all(made[method]["data"] == made["vanilla"]["data"] for method in methods)
assert [made[method]["stride"] for method in methods] == [None, None, 3, None, None]
run(evaluate.main, "out/chat", "--data", rows)

# Own previews, and an option of their own on the other command line.
shown = preview.apply_preview("sentence", "P", "Go. Then stop.", {"connector": " C: "})
assert shown == ("P C: Go.", "Go. Then stop.")
run(preview.main, rows, "out/rows.jsonl", "--mode", "stride", "--m", "2", "--stride", "4",
    "--tokenizer", options[3], "--prompt-field", "prompt")
row = json.loads(pathlib.Path("out/rows.jsonl").read_text().splitlines()[0])
tokens = tokenizer.encode(row["answer"])
assert row["prompt"].split(" begins with: ")[1] == tokenizer.decode([tokens[0], tokens[4]])

# Own loss.
logits, targets = torch.randn(6, 9), torch.arange(6)
late = train.late(logits, targets, torch.tensor([1, 2, 3, 4, 1, 5]), None)
assert late == train.cross_entropy(logits[[3, 5]], targets[[3, 5]])
"""
TOKENIZER = """
pathlib.Path(rows).write_text('{"prompt": "Hi.", "answer": "Good day."}')
run(train.main, "--method", "real", *options, "--out", "own")
run(evaluate.main, "own/chat", "--data", rows)
shown, _ = preview.real_preview("P", "Tür auf", 2, tokenizer)
assert shown == "P The answer begins with: T"  # half of the ü is dropped
"""


def test_each_fork_applies_and_runs(chat_model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "lookahead", copy / "lookahead")
    for script in ("train.py", "evaluate.py"):
        shutil.copy(ROOT / script, copy)
    for diff in DIFFS:
        subprocess.run([*APPLY, "--check"], cwd=copy, input=diff, text=True, check=True)
    for code, diffs in ((FIVE, DIFFS[:5]), (TOKENIZER, DIFFS[5:])):
        for diff in diffs:
            subprocess.run(APPLY, cwd=copy, input=diff, text=True, check=True)
        command = [sys.executable, "-c", BEFORE + code, *map(str, chat_model), "--system", ""]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_what_is_only_described(tmp_path, monkeypatch, capsys):
    half = {"value": 0.5, "low": 0.4, "high": 0.6}
    runs = [{"name": name, "rsr": half, "jsr": half} for name in ("vanilla", "real")]
    write_json(tmp_path / "out/toy/results.json", {"runs": runs})
    turns = [{"content": text} for text in ("system", "request", "answer")]
    write_json(tmp_path / "out/toy/completions/real-seed0-safety.json", {"results": [turns] * 3})
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        exec(block, {"judge": lambda request, said: {"request": {"answer": 5}}[request][said]})
    assert "{'value': 0.0, 'n': 3" in capsys.readouterr().out
    assert "real" in pathlib.Path("real.svg").read_text()
