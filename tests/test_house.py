"""The order of the chapters: what may import what, and what is used where."""

import ast
import pathlib
import re
import subprocess
import sys

import lookahead

ROOT = pathlib.Path(__file__).parents[1]
CHAPTERS = {
    path.stem: path for path in (ROOT / "lookahead").glob("*.py") if path.stem != "__init__"
}
EVALUATION = ("kl", "safety", "intervals", "tables", "report", "generate")


def imports(path):
    """Return the chapters that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "lookahead":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lookahead."):
            found.add(node.module.split(".")[1])
    return found


def reach(path):
    """Return the chapters that a file imports, and those that they import, and so on."""
    seen, todo = set(), imports(path)
    while todo:
        name = todo.pop()
        seen.add(name)
        todo |= imports(CHAPTERS[name]) - seen
    return seen


def test_the_reading_order_of_the_idea():
    order = re.findall(r"^    \d\. (\w+)\.py", lookahead.__doc__, re.M)
    assert order == "preview chat batches model losses kl train evaluate".split()
    for place, name in enumerate(order[:6]):
        assert imports(CHAPTERS[name]) <= {"commands", "files", *order[:place]}, name


def test_all_chapters_are_in_the_reading_order():
    assert all(f"{name}.py" in lookahead.__doc__ for name in CHAPTERS)


def test_no_chapter_imports_itself_by_a_detour():
    for name, path in CHAPTERS.items():
        assert name not in reach(path)


def test_nothing_that_evaluates_knows_of_previews():
    for name in EVALUATION:
        assert "preview" not in reach(CHAPTERS[name]), name
    assert "preview" not in reach(ROOT / "evaluate.py")


def test_public_functions_are_used_elsewhere():
    texts = {path: path.read_text(encoding="utf-8") for path in ROOT.glob("**/*.py")}
    for path in CHAPTERS.values():
        others = "\n".join(text for other, text in texts.items() if other != path)
        for node in ast.parse(texts[path]).body:
            if isinstance(node, ast.FunctionDef) and node.name != "main" and node.name[0] != "_":
                assert re.search(rf"\b{node.name}\b", others), f"{path.name}: {node.name}"


def test_the_preview_needs_no_torch():
    code = "import sys, lookahead.preview; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
