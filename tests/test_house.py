"""The rooms: what may import what, and a map that is true."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
CHAPTERS = "preview chat batches model losses training generate kl safety methods".split()


def imports(path):
    """Return the chapters and rooms that a file imports at its top."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^from lookahead(?:\.(\w+)| import (.*))", text, re.M)
    return {name for room, names in found for name in [room, *names.split(", ")] if name}


def test_chapters_import_earlier_chapters_only_and_none_the_preview():
    """But for the last: the table of methods names what is compared, of whatever room."""
    for place, name in enumerate(CHAPTERS[:-1]):
        assert imports(ROOT / "lookahead" / f"{name}.py") <= {"cli", *CHAPTERS[1:place]}, name
    assert "preview" not in imports(ROOT / "evaluate.py")


def test_the_map():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = readme[readme.index("## The map") : readme.index("## Hardware")]
    there = {path.name + "/" * path.is_dir() for path in ROOT.glob("lookahead/[!_]*")}
    listed = re.findall(r"^ {4,6}([\w.]+/?) {2}", text, re.M)
    assert sorted(listed) == sorted({"train.py", "evaluate.py"} | there)
    assert re.findall(r"^      (\w+)\.py +\d+\. ", text, re.M) == CHAPTERS


def test_the_preview_needs_no_torch():
    code = "import sys, lookahead.preview; assert not {'torch', 'sentencepiece'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
