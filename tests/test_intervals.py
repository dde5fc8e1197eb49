"""Intervals against published values, closed forms, and simulation."""

import math
import random

import pytest

from lookahead.report.intervals import compare, difference, mean_score, over_seeds, ratio, wilson

NEWCOMBE_1 = [  # Newcombe (1998), table I, method 3
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]
NEWCOMBE_2 = [  # Newcombe (1998), table II, method 10
    (56, 70, 48, 80, 0.0524, 0.3339),
    (9, 10, 3, 10, 0.1705, 0.8090),
    (10, 10, 0, 20, 0.6791, 1.0),
    (5, 56, 0, 29, -0.0381, 0.1926),
]


@pytest.mark.parametrize("successes, n, low, high", NEWCOMBE_1)
def test_wilson_interval(successes, n, low, high):
    share = wilson(successes, n)
    assert share["value"] == successes / n and share["n"] == n
    assert (share["low"], share["high"]) == pytest.approx((low, high), abs=1e-3)


def test_wilson_at_the_ends_and_without_data():
    assert wilson(0, 50)["low"] == 0 and wilson(50, 50)["high"] == 1
    assert wilson(0, 50)["high"] == pytest.approx(1 - wilson(50, 50)["low"])
    assert wilson(0, 0) is None


def test_mean_of_fine_scores():
    assert mean_score([]) is None and mean_score([1, 0, 1]) == wilson(2, 3)
    assert mean_score([0.5]) == {"value": 0.5, "n": 1, "low": 0.0, "high": 1.0}
    # 0.6 and 1.96 times a standard error of 0.1
    assert mean_score([0.5, 0.7]) == {"value": 0.6, "n": 2, "low": 0.404, "high": 0.796}
    assert mean_score([0.1, 0.99])["high"] == 1


def test_ratio_weighs_rows_by_their_tokens():
    loss = ratio([1.0, 6.0], [1, 3])  # R = 7/4, residuals -3/4 and 3/4
    half = 1.96 * math.sqrt(2 * 2 * (3 / 4) ** 2) / 4
    assert loss["value"] == 1.75 and loss["high"] == pytest.approx(1.75 + half, abs=1e-4)
    assert ratio([1.0, 3.0], [1, 3])["low"] == 1  # rows that agree
    assert ratio([], []) is None and ratio([5.0], [2])["low"] == 0


def test_ratio_holds_the_truth_95_times_in_100():
    rng = random.Random(0)
    inside = 0
    for _ in range(400):
        # Rows of 1 token cost 1 nat a token, rows of 9 tokens 3 nats: 28 nats for 10 tokens.
        counts = [rng.choice([1, 9]) for _ in range(100)]
        loss = ratio([c * rng.gauss(1 + (c - 1) / 4, 1) for c in counts], counts)
        inside += loss["low"] <= 28 / 10 <= loss["high"]
    assert 0.92 < inside / 400 < 0.98


def test_mean_over_seeds_has_the_wider_interval():
    assert over_seeds([]) is None
    # Student's t is blind where seeds agree.
    assert over_seeds([wilson(50, 50)] * 5) == pytest.approx(wilson(50, 50))
    assert over_seeds([wilson(3, 50)]) == pytest.approx(wilson(3, 50))
    apart = over_seeds([wilson(k, 50) for k in (10, 20, 30)])
    half = 4.30 * 0.2 / 3**0.5
    assert apart == pytest.approx({"value": 0.4, "n": 50, "low": 0, "high": 0.4 + half})
    losses = [{"value": x, "n": 9, "low": x, "high": x} for x in (1.0, 3.0)]
    assert over_seeds(losses, math.inf)["high"] == pytest.approx(2 + 12.71)


@pytest.mark.parametrize("a, m, b, n, low, high", NEWCOMBE_2)
def test_difference_is_newcombes(a, m, b, n, low, high):
    assert difference(wilson(a, m), wilson(b, n)) == pytest.approx((low, high), abs=2e-4)
    assert difference(wilson(b, n), wilson(a, m)) == pytest.approx((-high, -low), abs=2e-4)


def test_the_edge_of_significance():
    marks = [compare(wilson(k, 100), wilson(50, 100)) for k in range(101)]
    assert set(marks[:37]) == {"▼"} and set(marks[37:64]) == {""} and set(marks[64:]) == {"▲"}
    assert compare(None, wilson(1, 2)) == compare(wilson(1, 2), None) == ""
