"""The examples in the docstrings give what they say."""

import doctest
import importlib
import pathlib

import pytest
import torch

from lookahead.files.writing import write_json
from lookahead.templates import TEMPLATES

ROOT = pathlib.Path(__file__).parents[1]
FILES = [path for path in ROOT.glob("lookahead/**/*.py") if ">>> " in path.read_text("utf-8")]
NAMES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES]

# As much of SmolLM2's tokenizer.json as the example of bpe.py needs.
VOCAB = {"<|im_end|>": 2, "Hello": 19556, ",": 28, "Ġworld": 905, "!": 17}
SMOLLM2 = {"normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "use_regex": True}}
SMOLLM2 |= {"model": {"type": "BPE", "vocab": VOCAB, "merges": [], "ignore_merges": True}}
SMOLLM2 |= {"added_tokens": [{"id": 2, "content": "<|im_end|>", "special": True}]}


@pytest.mark.parametrize("name", NAMES)
def test_docstring_examples(name, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "SmolLM2-135M-Instruct" / "tokenizer.json", SMOLLM2)
    names = {"tokenizer": tokenizer, "torch": torch, "TEMPLATES": TEMPLATES}
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed
