"""bench/: on a tiny shape, all sides of a table do the same work."""

import argparse
import pathlib
import sys

import pytest
import torch.nn.functional as F

import train
from lookahead import losses

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))
import sides


@pytest.mark.parametrize("table", sides.SIDES)
def test_all_sides_do_the_same_work(table, monkeypatch):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    settings = {"shape": "test", "device": "cpu", "dtype": "float32", "rows": 20}
    settings |= {"batch_size": 8, "token_budget": 1024, "table": table}
    results = []
    for side, prepare in sides.SIDES[table].items():
        before = [(place, dict(vars(place))) for place in (train, losses, F)]  # ablations patch
        work, tokens, held = prepare(argparse.Namespace(**settings, side=side))
        assert tokens > 1000 and held
        results.append(float(work().split()[1]))
        for place, names in before:
            vars(place).update(names)
    assert results == pytest.approx(results[:1] * len(results), abs=0.002)
