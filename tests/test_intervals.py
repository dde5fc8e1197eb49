"""Intervals against published values and by hand."""

import random

import pytest

from lookahead.intervals import compare, difference, mean_score, over_seeds, wilson


@pytest.mark.parametrize(
    "successes, n, low, high",  # Newcombe (1998), table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval(successes, n, low, high):
    rate = wilson(successes, n)
    assert rate["value"] == successes / n and rate["n"] == n
    assert rate["low"] == pytest.approx(low, abs=1e-3)
    assert rate["high"] == pytest.approx(high, abs=1e-3)


def test_wilson_at_the_ends_and_without_data():
    assert wilson(0, 50)["low"] == 0 and wilson(50, 50)["high"] == 1
    assert wilson(0, 50)["high"] == pytest.approx(1 - wilson(50, 50)["low"])
    assert wilson(0, 0) is None


def test_mean_over_seeds_has_the_wider_interval():
    agreeing = over_seeds([wilson(50, 50)] * 5)
    assert agreeing == pytest.approx(wilson(50, 50))  # Student's is blind here
    apart = over_seeds([wilson(k, 50) for k in (10, 20, 30)])  # 0.2, 0.4, 0.6
    half = 4.30 * 0.2 / 3**0.5
    assert apart["value"] == pytest.approx(0.4)
    assert (apart["low"], apart["high"]) == (0, pytest.approx(0.4 + half))
    assert over_seeds([]) is None


def test_mean_of_fine_scores():
    assert mean_score([]) is None and mean_score([1, 0, 1]) == wilson(2, 3)
    assert mean_score([0.5]) == {"value": 0.5, "n": 1, "low": 0.0, "high": 1.0}
    rng = random.Random(0)
    inside = 0
    for _ in range(400):
        rate = mean_score([rng.random() for _ in range(50)])
        inside += rate["low"] <= 0.5 <= rate["high"]
    assert 0.91 < inside / 400 < 0.98


@pytest.mark.parametrize(
    "a, m, b, n, low, high",  # Newcombe (1998), table II, method 10
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (10, 10, 0, 20, 0.6791, 1.0),
        (5, 56, 0, 29, -0.0381, 0.1926),
    ],
)
def test_comparison_is_newcombes(a, m, b, n, low, high):
    assert difference(wilson(a, m), wilson(b, n)) == pytest.approx((low, high), abs=2e-4)
    assert difference(wilson(b, n), wilson(a, m)) == pytest.approx((-high, -low), abs=2e-4)


def test_the_edge_of_significance():
    marks = [compare(wilson(k, 100), wilson(50, 100)) for k in range(101)]
    assert [marks.index("") - 1, 101 - marks[::-1].index("")] == [36, 64]
    assert marks[36] == "▼" and marks[64] == "▲" and set(marks[37:64]) == {""}
    assert compare(None, wilson(1, 2)) == compare(wilson(1, 2), None) == ""
