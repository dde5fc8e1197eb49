"""bench/: on a tiny shape, all sides of a table do the same work."""

import argparse
import contextlib
import pathlib
import shutil
import sys
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F

import train
from lookahead import losses

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))
import sides


@pytest.mark.parametrize("table", sides.SIDES)
def test_all_sides_do_the_same_work(table):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    job = {"shape": "test", "device": "cpu", "dtype": "float32", "rows": 8, "table": table}
    results = []
    for side, prepare in sides.SIDES[table].items():
        if side == "blocks compiled" and not shutil.which("g++"):
            continue
        settings = argparse.Namespace(**job, batch_size=8, token_budget=1024, side=side)
        changed = (train, losses, F, torch.optim)  # what ablations replace, and is put back
        with contextlib.ExitStack() as stack:
            for module in changed:
                stack.enter_context(patch.dict(vars(module)))
            results.append(float(prepare(settings)[0]().split()[1]))
    assert results == pytest.approx(results[:1] * len(results), abs=0.002)
