"""bench/: all sides do the same work, and a table is printed where a side does not run."""

import argparse
import pathlib
import sys

import pytest
import torch.nn.functional as F

import train
from lookahead import losses, optimizer

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))
import run
import sides


def result(table, side):
    settings = {"shape": "test", "device": "cpu", "dtype": "float32", "rows": 20}
    settings |= {"batch_size": 8, "token_budget": 1024, "table": table, "side": side}
    work, tokens, held = sides.SIDES[table][side](argparse.Namespace(**settings))
    assert tokens > 1000 and held
    return work()


@pytest.mark.parametrize("table", ["training", "decoding"])
def test_peers_do_the_same_work(table):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    results = {result(table, side) for side in sides.SIDES[table]}
    assert len(results) == 1


@pytest.mark.parametrize("side", sides.ABLATIONS)
def test_ablations_train_on_the_same_loss(side, monkeypatch):
    for place, name in (
        (train, "micro_batches"),
        (train, "adamw"),
        (losses, "answer_logits"),
        (optimizer, "SplitAdamW"),
        (F, "scaled_dot_product_attention"),
    ):
        monkeypatch.setattr(place, name, getattr(place, name))  # given back after the test
    loss = float(result("ablation", side).split()[1])
    assert loss == pytest.approx(float(result("training", "ours").split()[1]), abs=0.002)


def test_the_table_and_a_side_that_does_not_run(monkeypatch, capsys):
    def measure(table, side, args):
        if "8 times" in side:
            return {"why": "ModuleNotFoundError: No module named 'accelerate'"}
        rate = 30.0 if side == "ours" else 10.0
        return {
            "rate": rate,
            "seconds": 1.0,
            "peak": 2**30,
            "used": 0.5,
            "held": "x",
            "result": "y",
        }

    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.setattr("sys.argv", ["run.py", "training", "--device", "cpu"])
    run.main()
    shown = capsys.readouterr().out
    assert "| Trainer, 64 at once | 10 | 3.00 | 1.0 | 1.00 | 50% | x | y |" in shown
    assert "| Trainer, 8 times 8 | not run: ModuleNotFoundError: No module named 'acc" in shown
