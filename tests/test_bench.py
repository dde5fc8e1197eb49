"""bench/: on a tiny shape, all sides of a table do the same work."""

import argparse
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))
import sides


@pytest.mark.parametrize("table", sides.SIDES)
def test_all_sides_do_the_same_work(table):
    pytest.importorskip("accelerate")
    job = {"shape": "test", "device": "cpu", "dtype": "float32", "rows": 8, "table": table}
    results = []
    for side, prepare in sides.SIDES[table].items():
        settings = argparse.Namespace(**job, batch_size=8, token_budget=1024, side=side)
        results.append(float(prepare(settings)[0]().split()[1]))
    assert results == pytest.approx(results[:1] * len(results), abs=0.002)
