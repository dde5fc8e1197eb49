"""Intervals: how sure an estimate is, alone, over seeds, and against another.

An estimate is {"value", "n", "low", "high"} with a 95 % interval over n prompts, rows or pairs.
Shares have Wilson's interval, means of finer scores (ROUGE, nats a token) the normal
distribution's. Two models that answer the same prompts are compared prompt by prompt. The paper
gives one run without intervals. Left out: corrections for the number of comparisons.
"""

import math
import statistics

STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def student(n):
    """Return how many standard errors of n values 95 % are: Student's t, n - 1 degrees of freedom.

    >>> student(10), round(student(11), 2), round(student(120), 2)
    (2.26, 2.23, 1.98)
    """
    # Beyond the table the series of t around the normal distribution's 1.96.
    freedom = max(n - 1, 1)
    return STUDENT.get(n) or 1.96 + 2.372 / freedom + 2.823 / freedom**2


def wilson(successes, n):
    """Return a share with its 95 % Wilson interval, or None when there is nothing to count.

    >>> wilson(0, 100)
    {'value': 0.0, 'n': 100, 'low': 0.0, 'high': 0.037}
    """
    if n == 0:
        return None
    share = successes / n
    centre = (successes + 1.96**2 / 2) / (n + 1.96**2)
    half = 1.96 * math.sqrt(n * share * (1 - share) + 1.96**2 / 4) / (n + 1.96**2)
    return _estimate(share, n, centre - half, centre + half)


def mean_score(scores):
    """Return the mean of scores from 0 to 1 as an estimate, or None when there are none.

    >>> mean_score([0.5, 0.7])
    {'value': 0.6, 'n': 2, 'low': 0.404, 'high': 0.796}
    """
    if set(scores) <= {0, 1}:
        return wilson(sum(scores), len(scores))
    return ratio(scores, [1] * len(scores), top=1.0)


def ratio(sums, counts, top=math.inf):
    """Return sum(sums) / sum(counts) over rows as an estimate, or None when there are no rows.

    This is the loss per token of test rows that differ in length: row i brings a sum s_i over its
    c_i tokens. Rows are independent, tokens are not, so the interval is the ratio estimator's, from
    the residuals s_i - R c_i. A single row does not show how rows differ: at least 1 to each side.

    >>> ratio([2.0, 6.0], [2, 2])
    {'value': 2.0, 'n': 2, 'low': 0.04, 'high': 3.96}
    """
    n = len(counts)
    if n == 0:
        return None
    value = sum(sums) / sum(counts)
    squares = sum((s - value * c) ** 2 for s, c in zip(sums, counts))
    half = 1.96 * math.sqrt(n / (n - 1) * squares) / sum(counts) if n > 1 else max(1.0, value)
    return _estimate(value, n, value - half, min(top, value + half))


def by_position(values, positions):
    """Return the mean at each answer position as a list of estimates, over values (A,) an answer.

    An answer that has ended is in no later mean; a position that no answer reaches is left out.
    """
    estimates = []
    for k in range(min(positions, max(map(len, values), default=0))):
        reached = [value[k].item() for value in values if len(value) > k]
        estimates.append(ratio(reached, [1] * len(reached)))
    return estimates


def _estimate(value, n, low, high):
    # Rounding errors may push the ends of a share a little out of 0 to 1.
    return {"value": value, "n": n, "low": round(max(0.0, low), 4), "high": round(high, 4)}


def over_seeds(estimates, top=1.0):
    """Return the mean of several seeds' estimates, each from 0 to `top`.

    Each end of its interval is the farther of two: Student's t over seeds, which is blind when all
    agree, and the mean of their own ends, which counts a prompt once, as all seeds answer the same.
    """
    values = [estimate["value"] for estimate in estimates]
    mean = statistics.fmean(values)
    # The standard error over seeds; with this divisor it is 0 for a single seed.
    error = statistics.pstdev(values) / math.sqrt(max(len(values) - 1, 1))
    half = student(len(values)) * error
    low = min(mean - half, statistics.fmean(estimate["low"] for estimate in estimates))
    high = max(mean + half, statistics.fmean(estimate["high"] for estimate in estimates))
    return {"value": mean, "n": estimates[0]["n"], "low": max(0.0, low), "high": min(top, high)}


def difference(scores, base, shares):
    """Return the 95 % interval (low, high) of the mean difference of two models' scores per prompt.

    Each is a list of runs (seeds), a run a list of scores of the same prompts; a prompt's score is
    its mean over runs. Of `shares`, whose scores are 0 or 1, two more prompts are counted, one for
    each side, so that a few differing answers are not taken for more (Bonett and Price 2012). Fewer
    than two prompts show nothing.

    >>> low, high = difference([[0.5, 0.9, 0.7]], [[0.5, 0.5, 0.5]], shares=False)
    >>> round(low, 3), round(high, 3)
    (-0.297, 0.697)
    """
    means = zip(map(statistics.fmean, zip(*scores)), map(statistics.fmean, zip(*base)))
    differences = [ours - theirs for ours, theirs in means]
    if len(differences) < 2:
        return -math.inf, math.inf
    errors = 1.96 if shares else student(len(differences))
    if shares:
        differences += [1.0, -1.0]
    mean = statistics.fmean(differences)
    half = errors * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean - half, mean + half


def compare(scores, base):
    """Return "▲" or "▼" when scores are significantly above or below another model's, else "".

    >>> compare([[1] * 90 + [0] * 10], [[1] * 50 + [0] * 50])
    '▲'
    """
    shares = {score for run in (*scores, *base) for score in run} <= {0, 1}
    low, high = difference(scores, base, shares)
    return "▲" if low > 0 else "▼" if high < 0 else ""
