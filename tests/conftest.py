"""What the tests share: a throwaway tokenizer, a tiny model, a tiny toy world, the shared data."""

import os
import pathlib

os.environ["OMP_NUM_THREADS"] = "1"  # sums in one order, in the processes of the tests too

import pytest
import torch

from lookahead.cli import run_script
from lookahead.files import read_companions, save_model
from lookahead.files.writing import write_rows
from lookahead.model import Config, Llama
from lookahead.toy import aligned, world

SHARED = pathlib.Path(__file__).parents[2] / "shared"
TEXTS = [
    "Hi. Hello. What is 6 * 7? It is 42. The answer begins with: Well.",
    "Tell me how to paint the door. Take the brush, not the hammer!",
    "I cannot help you with that, and the lamp is not yours.",
]


@pytest.fixture(scope="session")
def tokenizer():
    return aligned.train_tokenizer({"texts": [(text, "") for text in TEXTS] * 20}, 400)


def random_model(config):
    """A model whose logits are far from uniform; no gain is one and no bias zero."""
    torch.manual_seed(0)
    model = Llama(config)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def tiny(vocab_size=97, kv_heads=2, layers=2, **settings):
    return random_model(Config(vocab_size, 32, 48, layers, 4, kv_heads, 8, 128, **settings))


@pytest.fixture
def chat_model(tmp_path, tokenizer):
    """Options of a task with eight rows and a small random model in a directory."""
    folder = tmp_path / "model"
    model = tiny(tokenizer.size, kv_heads=4)
    aligned.write_files(folder, model.config, tokenizer)
    save_model(folder, model, {"method": "aligned"}, [], read_companions(folder))
    text = "It is {}, the door, the lamp and the boat."
    rows = [dict.fromkeys(("prompt", "answer"), text.format(i)) for i in range(8)]
    write_rows(tmp_path / "rows.jsonl", rows)
    options = ["--task", "chat", "--model", folder, "--template", "llama-2"]
    return [*options, "--data", tmp_path / "rows.jsonl"]


@pytest.fixture
def tiny_world(monkeypatch):
    """A toy world of few rows and an even smaller model, for runs of a second."""
    monkeypatch.setattr(world, "ROWS", {"copy": 64, "chat": 400, "align": 64, "train": 48})
    for name in ("hidden_size", "intermediate_size"):
        monkeypatch.setitem(aligned.SHAPE, name, 32)


@pytest.fixture
def script(monkeypatch):
    """Run a script's main with arguments, in this process."""

    def run(main, *arguments):
        monkeypatch.setattr("sys.argv", ["script", *map(str, arguments)])
        main()

    return run


@pytest.fixture
def complaint(capsys, monkeypatch):
    """Run a script's main with arguments; return its one sentence, having checked the status."""

    def run(main, *arguments):
        monkeypatch.setattr("sys.argv", ["script", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_script(main)
        assert stop.value.code == 2
        *progress, sentence = capsys.readouterr().err.splitlines()
        assert sentence.startswith("error: ") and "error: " not in "".join(progress)
        return sentence

    return run
