"""The rooms: what may import what, what may be deleted, and a table of contents that is true."""

import ast
import pathlib
import re
import shutil
import subprocess
import sys

import lookahead

ROOT = pathlib.Path(__file__).parents[1]
HOUSE = ROOT / "lookahead"
CHAPTERS = "preview chat batches model losses kl generate safety".split()


def imports(path):
    """Return the chapters and rooms that a file imports at its top."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "lookahead":
            found |= set(node.module.split(".")[1:2]) or {alias.name for alias in node.names}
    return found


def test_chapters_import_earlier_chapters_only_and_none_the_preview():
    for place, name in enumerate(CHAPTERS):
        assert imports(HOUSE / f"{name}.py") <= {"cli", *CHAPTERS[1:place]}, name
    assert "preview" not in imports(ROOT / "evaluate.py")


def test_the_table_of_contents():
    there = {path.name + "/" * path.is_dir() for path in HOUSE.glob("[!_]*")}
    listed = re.findall(r"^    ([\w.]+/?) ", lookahead.__doc__, re.M)
    assert sorted(listed) == sorted({"train.py", "evaluate.py"} | there)
    numbered = re.findall(r"^    (\w+)\.py +\d+\. ", lookahead.__doc__, re.M)
    assert numbered == [*CHAPTERS, "train", "evaluate"]


def test_the_preview_needs_no_torch():
    code = "import sys, lookahead.preview; assert not {'torch', 'sentencepiece'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_two_rooms_may_be_deleted(chat_model, tmp_path):
    """What is left of their lines in train.py is for --lora and --dtype bfloat16."""
    rooms = shutil.ignore_patterns("baselines", "one_gpu")
    shutil.copytree(HOUSE, tmp_path / "lookahead", ignore=rooms)
    text = (ROOT / "train.py").read_text(encoding="utf-8").replace(" one_gpu,", "", 1)
    text = re.sub(".*(constrained_sft|rewrite_answers).*", "", text)
    (tmp_path / "train.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "train.py", *map(str, chat_model), "--system", ""]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert len(list(tmp_path.glob("out/chat/*/run.json"))) == 3
