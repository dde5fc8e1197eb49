"""The examples in the docstrings give what they say."""

import doctest
import importlib
import pathlib

import pytest
import torch

CHAPTERS = sorted(
    p.stem
    for p in (pathlib.Path(__file__).parents[1] / "lookahead").glob("*.py")
    if p.stem != "__init__"
)


@pytest.mark.parametrize("name", CHAPTERS)
def test_docstring_examples(name, tokenizer):
    module = importlib.import_module(f"lookahead.{name}")
    names = {"tokenizer": tokenizer, "torch": torch}
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_the_method_has_examples():
    for name, least in {"preview": 3, "chat": 2, "kl": 1, "batches": 2, "safety": 1}.items():
        module = importlib.import_module(f"lookahead.{name}")
        found = sum(len(test.examples) for test in doctest.DocTestFinder().find(module))
        assert found >= least, name
