"""The examples in the docstrings give what they say."""

import doctest
import importlib
import pathlib

import pytest
import torch

from lookahead.tasks import Recipe
from lookahead.templates import TEMPLATES

ROOT = pathlib.Path(__file__).parents[1]
FILES = [path for path in (*ROOT.glob("lookahead/**/*.py"), ROOT / "train.py")]
WITH_EXAMPLES = [path for path in FILES if ">>>" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_docstring_examples(path, tokenizer):
    if path.stem == "bpe":
        pytest.skip("its example needs a downloaded tokenizer")
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    names = {"tokenizer": tokenizer, "torch": torch, "TEMPLATES": TEMPLATES, "Recipe": Recipe}
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0 and result.attempted > 0
