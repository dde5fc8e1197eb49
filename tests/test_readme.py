"""The README shows the code as it is, and names files that exist with their line counts."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_idea_is_the_code():
    block = re.search(r"```python\n(.*?)```", README, re.S)[1]
    code = (ROOT / "lookahead" / "preview.py").read_text(encoding="utf-8")
    lines = [line for line in block.splitlines() if line]
    assert len(lines) > 5
    for line in lines:
        assert line in code.splitlines()


def test_line_counts():
    found = 0
    for row in README.splitlines():
        files = re.findall(r"\[`\w+\.py`\]\(([\w/.]+)\)", row)
        if row.startswith("| [") and files:
            counts = [len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in files]
            assert row.split(" | ")[1] == " + ".join(map(str, counts)), (row, counts)
            found += len(files)
    assert found >= 15


def test_every_chapter_and_picture_is_there():
    named = set(re.findall(r"\]\(([\w/.]+\.(?:py|svg))\)", README))
    chapters = {f"lookahead/{p.name}" for p in (ROOT / "lookahead").glob("*.py")}
    assert chapters - {"lookahead/__init__.py"} <= named
    assert all((ROOT / name).exists() for name in named)
