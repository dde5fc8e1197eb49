"""The README shows the code as it is, and names files that exist."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_idea_is_the_code():
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert "def real_preview" in block and "def virtual_preview" in block
    code = (ROOT / "lookahead" / "preview.py").read_text(encoding="utf-8")
    assert set(block.splitlines()) <= set(code.splitlines())


def test_files_that_are_named_exist():
    named = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert [name for name in named if not (ROOT / name).exists()] == []
