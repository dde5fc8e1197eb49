"""Intervals: how sure a figure is, alone, over seeds, and against another.

A figure is {"value", "n", "low", "high"} with a 95 % interval. A rate is one from 0 to 1: a share
(Wilson's interval), or a mean of finer scores like ROUGE (the normal distribution's).
"""

import math
import statistics

# By the number of seeds, which is one more than the degrees of freedom; beyond 10 the value of 11.
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def wilson(successes, n):
    """Return a share with its 95 % Wilson interval, or None when there is nothing to count.

    >>> wilson(0, 100)
    {'value': 0.0, 'n': 100, 'low': 0.0, 'high': 0.037}
    """
    if n == 0:
        return None
    z, share = 1.96, successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"value": share, "n": n, "low": round(low, 4), "high": round(high, 4)}


def mean_score(scores):
    """Return the mean of scores from 0 to 1 as a rate, or None when there are none.

    >>> mean_score([0.5, 0.7])
    {'value': 0.6, 'n': 2, 'low': 0.404, 'high': 0.796}
    """
    scores = list(scores)
    if set(scores) <= {0, 1}:
        return wilson(sum(scores), len(scores))
    mean, n = statistics.fmean(scores), len(scores)
    half = 1.96 * statistics.stdev(scores) / math.sqrt(n) if n > 1 else 1.0
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return {"value": mean, "n": n, "low": round(low, 4), "high": round(high, 4)}


def over_seeds(figures, top=1.0):
    """Return several seeds' figures, each from 0 to `top`, as their mean; None when there are none.

    Each end of its interval is the farther of two: Student's t over seeds, which is blind when all
    agree, and the mean of their own ends, which counts a prompt once, as all seeds answer the same.
    """
    if not figures:
        return None
    values, lows, highs = ([figure[key] for figure in figures] for key in ("value", "low", "high"))
    mean, half, seeds = statistics.fmean(values), 0.0, len(values)
    if seeds > 1:
        half = STUDENT.get(seeds, 2.23) * statistics.stdev(values) / math.sqrt(seeds)
    low = max(0.0, min(mean - half, statistics.fmean(lows)))
    high = min(top, max(mean + half, statistics.fmean(highs)))
    return {"value": mean, "n": figures[0]["n"], "low": low, "high": high}


def difference(rate, base):
    """Return the 95 % interval of the difference of two rates (Newcombe 1998, method 10).

    It takes the rates for independent; as they answer the same prompts, it is careful.
    """
    middle = rate["value"] - base["value"]
    below = math.hypot(rate["value"] - rate["low"], base["high"] - base["value"])
    above = math.hypot(rate["high"] - rate["value"], base["value"] - base["low"])
    return middle - below, middle + above


def compare(rate, base):
    """Return "▲" or "▼" when a rate is significantly above or below another, else "".

    >>> compare(wilson(90, 100), wilson(50, 100)), compare(wilson(55, 100), wilson(50, 100))
    ('▲', '')
    """
    if rate is None or base is None:
        return ""
    low, high = difference(rate, base)
    return "▲" if low > 0 else "▼" if high < 0 else ""
