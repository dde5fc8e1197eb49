"""What the tests share: a throwaway tokenizer, a tiny model, a tiny toy world, the shared data."""

import pathlib

import pytest
import torch

from lookahead import commands, toy
from lookahead.model import Config, Llama
from lookahead.seed import train_tokenizer

SHARED = pathlib.Path(__file__).parents[2] / "shared"
TEXTS = [
    "Hi. Hello. What is 6 * 7? It is 42. The answer begins with: Well.",
    "Tell me how to paint the door. Take the brush, not the hammer!",
    "I cannot help you with that, and the lamp is not yours.",
]


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(TEXTS * 20, 400)


@pytest.fixture(scope="session")
def llama2_tokenizer():
    from lookahead.files import load_tokenizer

    path = SHARED / "data" / "llama2-tokenizer.model"
    if not path.exists():
        pytest.skip("the Llama-2 tokenizer is not here")
    return load_tokenizer(path)


@pytest.fixture(scope="session")
def gsm8k():
    folder = SHARED / "data" / "gsm8k"
    if not folder.exists():
        pytest.skip("the GSM8K files are not here")
    return folder


def tiny(vocab_size=97, kv_heads=2, tied=False, layers=2):
    """A small random Llama whose logits are far from uniform."""
    torch.manual_seed(0)
    config = Config(vocab_size, 32, 48, layers, 4, kv_heads, 128, tie_word_embeddings=tied)
    model = Llama(config)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def tiny_world(monkeypatch):
    """A toy world of few rows and an even smaller model, for runs of a second."""
    monkeypatch.setattr(toy, "ROWS", {"copy": 64, "chat": 400, "align": 64, "train": 48})
    monkeypatch.setitem(toy.CONFIG, "hidden_size", 32)
    monkeypatch.setitem(toy.CONFIG, "intermediate_size", 32)


@pytest.fixture
def complaint(capsys, monkeypatch):
    """Run a script's main with arguments; return its one sentence, having checked the status."""

    def run(main, *arguments):
        from lookahead.commands import run_script

        monkeypatch.setattr("sys.argv", ["script", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_script(main)
        assert stop.value.code == 2
        shown = capsys.readouterr().err
        *progress, sentence = shown.splitlines()
        assert sentence.startswith("error: ") and "error: " not in "".join(progress)
        return sentence

    return run


@pytest.fixture
def script(monkeypatch):
    """Run a script's main with arguments, in this process."""

    def run(main, *arguments):
        monkeypatch.setattr("sys.argv", ["script", *map(str, arguments)])
        monkeypatch.setattr(commands, "quiet", False)
        main()

    return run
