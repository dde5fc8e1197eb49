"""Intervals against published values and closed forms."""

import math
import random

import pytest
import torch

from lookahead.report import intervals
from lookahead.report.intervals import difference, mean_score, over_seeds, ratio, wilson

# Newcombe (1998), table I, method 3
NEWCOMBE = [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]


@pytest.mark.parametrize("successes, n, low, high", NEWCOMBE)
def test_wilson_interval(successes, n, low, high):
    expected = {"value": successes / n, "n": n, "low": low, "high": high}
    assert wilson(successes, n) == pytest.approx(expected, abs=1e-3)


def test_mean_of_fine_scores():
    assert mean_score([]) is wilson(0, 0) is None and mean_score([1, 0, 1]) == wilson(2, 3)
    assert mean_score([0.5]) == {"value": 0.5, "n": 1, "low": 0.0, "high": 1.0}
    assert mean_score([0.1, 0.99])["high"] == 1


def test_ratio_weighs_rows_by_their_tokens():
    loss = ratio([1.0, 6.0], [1, 3])  # R = 7/4, residuals -3/4 and 3/4
    half = 1.96 * math.sqrt(2 * 2 * (3 / 4) ** 2) / 4
    assert loss["value"] == 1.75 and loss["high"] == pytest.approx(1.75 + half, abs=1e-4)
    assert ratio([1.0, 3.0], [1, 3])["low"] == 1  # rows that agree
    assert ratio([], []) is None and ratio([5.0], [2])["low"] == 0


def test_mean_over_seeds_has_the_wider_interval():
    # Student's t is blind where seeds agree.
    assert over_seeds([wilson(50, 50)] * 5) == pytest.approx(wilson(50, 50))
    apart = over_seeds([wilson(k, 50) for k in (10, 20, 30)])
    high = 0.4 + 4.30 * 0.2 / 3**0.5
    assert apart == pytest.approx({"value": 0.4, "n": 50, "low": 0, "high": high})


def test_means_by_position_count_the_answers_that_reach_it():
    values = [torch.tensor(row) for row in ([1.0, 5.0, 7.0], [2.0, 6.0], [6.0])]
    first, second, third = intervals.by_position(values, 8)
    half = 1.96 * math.sqrt(7 / 3)  # a variance of (4 + 1 + 9) / 2 = 7
    assert first == pytest.approx({"value": 3, "n": 3, "low": 3 - half, "high": 3 + half}, abs=1e-4)
    assert (second["value"], second["n"], third["value"], third["n"]) == (5.5, 2, 7, 1)
    assert intervals.by_position(values, 1) == [first] and intervals.by_position([], 8) == []


def test_a_difference_is_that_of_prompts():
    # 100 prompts: 30 right with ours alone, 10 with theirs alone; one more is counted on each side.
    ours, theirs = [1] * 80 + [0] * 20, [1] * 50 + [0] * 40 + [1] * 10
    mean = 20 / 102
    half = 1.96 * math.sqrt((42 / 102 - mean**2) / 101)
    assert difference([ours], [theirs], shares=True) == pytest.approx((mean - half, mean + half))

    # Means over runs come first: differences of 1, 2 and 3.
    apart = difference([[1, 4, 3], [1, 2, 7]], [[0, 1, 2]] * 3, shares=False)
    assert apart == pytest.approx((2 - 4.30 / 3**0.5, 2 + 4.30 / 3**0.5))


def test_the_edge_of_significance():
    """Answers that differ on 5 prompts, one way, may be chance (1 in 16); on 6 not (1 in 32)."""
    answers = [[1] * k + [0] * (100 - k) for k in range(101)]
    assert intervals.compare([[1]], [[0]]) == ""  # one prompt shows nothing
    marks = [intervals.compare([ours], [answers[50]]) for ours in answers]
    assert set(marks[:45]) == {"▼"} and set(marks[45:56]) == {""} and set(marks[56:]) == {"▲"}


def test_finer_scores_are_no_shares():
    theirs = [[0.3, 0.5] * 20]
    assert intervals.compare([[0.3, 0.65] * 20], theirs) == "▲"


def simulate(ours, theirs, n, seeds=1):
    """Return 1,000 intervals of the difference of two models that are right with these shares.

    Half of the answers depend on how hard the prompt is, for both models and all seeds.
    """
    rng = random.Random(0)
    for _ in range(1000):
        prompts = [rng.random() for _ in range(n)]
        pair = []
        for share in [ours] * seeds + [theirs] * seeds:
            pair.append([rng.choice((hard, rng.random())) < share for hard in prompts])
        yield difference(pair[:seeds], pair[seeds:], shares=True)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_difference_holds_the_truth_95_times_in_100(seeds):
    inside = sum(low <= 0.2 <= high for low, high in simulate(0.9, 0.7, 100, seeds))
    assert 0.935 < inside / 1000 < 0.975


@pytest.mark.parametrize("n, share", [(5, 0.5), (10, 0.5), (20, 0.5), (20, 0.9), (80, 0.5)])
def test_equal_models_are_marked_5_times_in_100_at_most(n, share):
    marks = sum(low > 0 or high < 0 for low, high in simulate(share, share, n))
    assert marks / 1000 < 0.06  # 0.05, but for luck
