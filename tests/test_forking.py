"""docs/forking.md: each diff applies to the code and runs; what is only described runs too."""

import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "forking.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"```diff\n(.*?)```", TEXT, re.S)

# What a fork's processes run: the task, the methods, the previews, the loss; then the tokenizer.
BEFORE = """
import json, sys
import torch, evaluate, train
from lookahead import files, preview
def run(main, *arguments):
    sys.argv = ["script", *arguments]
    main()
options = sys.argv[1:]
model, rows = options[3], options[7]
tokenizer = files.load_tokenizer(model)
"""
FIVE = """
run(train.main, *options, "--task", "riddles", "--method", "vanilla")
run(evaluate.main, "out/riddles", "--data", rows, "--limit", "2")

files.write_json("out/toy/data/align.jsonl", [{"prompt": "Go.", "answer": "I cannot go."}])
methods = "vanilla", "sentence", "stride", "late", "mixed"
run(train.main, *options, "--method", *methods, "--stride", "3")
run(evaluate.main, "out/chat", "--data", rows, "--limit", "2")
made = files.read_json("out/chat/results.json")["runs"][1:]
assert {run["method"]: run["stride"] for run in made} == dict.fromkeys(methods) | {"stride": 3}
assert all(run["data"] == made[0]["data"] for run in made)
assert len({open(f"out/chat/{method}-seed0/loss.jsonl").read() for method in methods}) == 5

assert preview.sentence_preview("P", "Go. Stop.", " C: ") == ("P C: Go.", "Go. Stop.")
run(preview.main, rows, "out/rows.jsonl", "--mode", "stride", "--m", "2", "--stride", "4",
    "--tokenizer", model)
row = json.loads(open("out/rows.jsonl").readline())
assert row["prompt"].endswith(tokenizer.decode(tokenizer.encode(row["answer"])[:5:4]))

logits, targets = torch.randn(6, 9), torch.arange(6)
late = train.late(logits, targets, torch.tensor([1, 2, 3, 4, 1, 5]), None)
assert late == train.cross_entropy(logits[[3, 5]], targets[[3, 5]])
"""
TOKENIZER = """
open(rows, "w").write('{"prompt": "Hi.", "answer": "Good day."}')
run(train.main, *options, "--method", "real", "--out", "own")
run(evaluate.main, "own/chat", "--data", rows)
assert preview.real_preview("P", "Tür", 2, tokenizer, " C: ")[0] == "P C: T"  # half of ü goes
"""


def test_each_fork_applies_and_runs(chat_model, tmp_path):
    """The last one runs without two rooms: they may go, with their lines in train.py."""
    shutil.copytree(ROOT / "lookahead", tmp_path / "lookahead")
    for name in ("train.py", "evaluate.py"):
        shutil.copy(ROOT / name, tmp_path)

    def run(code, diffs):
        for diff in diffs:
            apply = ["git", "apply", "--recount", "-C1", "-"]
            subprocess.run(apply, cwd=tmp_path, input=diff, text=True, check=True)
        command = [sys.executable, "-c", BEFORE + code, *map(str, chat_model), "--system", ""]
        subprocess.run(command, cwd=tmp_path, check=True)

    run(FIVE, DIFFS[:5])
    shutil.rmtree(tmp_path / "lookahead" / "baselines")
    shutil.rmtree(tmp_path / "lookahead" / "one_gpu")
    text = (tmp_path / "train.py").read_text()
    text = re.sub(" one_gpu,|.*(constrained_sft|rewrite_answers).*", "", text)
    (tmp_path / "train.py").write_text(text)
    run(TOKENIZER, DIFFS[5:])


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
