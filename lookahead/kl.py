"""Chapter 6. KL divergence of the first answer tokens, between tuned and aligned model.

The paper's measurement of harm. Prompt and answer are fed as they are (teacher-forced), both models
see identical ids, and at answer position k (k = 1 predicts the first answer token)

    KL_k = mean over pairs of  sum_v p_a(v) * (log p_a(v) - log p_b(v))     in nats.

Both directions are computed. With a = tuned and b = aligned it is KL(tuned || aligned), apparently
the paper's; the other way KL(aligned || tuned), that of the work it builds on (arXiv 2406.05946).
One model at a time is in memory: what is kept of the other are its log-probabilities at the first
positions.

Shapes: N pairs, K positions, V vocabulary.
"""

import torch
import torch.nn.functional as F

from lookahead.batches import Example, pad

POSITIONS = 8  # as in the paper's figure


@torch.no_grad()
def initial_log_probs(model, examples, positions=POSITIONS, batch_size=32):
    """Return a list of N float32 tensors (K or fewer, V): log p at each answer's first positions.

    An answer shorter than K tokens gives fewer.
    """
    weight = model.lm_head.weight.float()  # a bfloat16 product would blur the KL
    result = []
    for first in range(0, len(examples), batch_size):
        # Of an answer only the first positions are needed: the ids end behind them.
        part = examples[first : first + batch_size]
        part = [Example(ids[: start + positions], start) for ids, start, _ in part]
        # Both models are fed the same ids in the same shapes.
        tokens, _, _ = pad(part, weight.device)
        states = model.hidden(tokens).float()  # (B, T, D)
        for example, rows in zip(part, states):
            # The state at t predicts the token at t + 1.
            rows = rows[example.start - 1 : len(example.ids) - 1]  # (K, D)
            result.append(F.linear(rows, weight).log_softmax(-1).cpu())
    return result


def kl_both_ways(log_a, log_b):
    """Return KL(a || b) and KL(b || a) in nats, (K,) float64 each, of log-probabilities (K, V).

    Rounding leaves float32 probabilities a little off a sum of 1, by which a KL could fall below 0;
    so they are normalised again in float64.

    >>> half, quarter = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> there, back = kl_both_ways(half, quarter)
    >>> round(there.item(), 4), round(back.item(), 4)  # 0.5 ln 2 + 0.5 ln (2/3), ...
    (0.1438, 0.1308)
    """
    log_a = log_a.double().log_softmax(-1)
    log_b = log_b.double().log_softmax(-1)

    # How much likelier a makes each word, in nats; each direction weighs it by its own words.
    difference = log_a - log_b
    return (log_a.exp() * difference).sum(-1), -(log_b.exp() * difference).sum(-1)


def mean_by_position(values, positions=POSITIONS):
    """Return (means, half-widths, counts) at each answer position, over tensors of values (K,).

    The half-width is that of a 95 % interval over answers, 1.96 standard errors. Positions that no
    answer reaches are left out; one that a single answer reaches has no width (None).
    """
    means = []
    halves = []
    counts = []

    # Answers that have ended are in no later mean.
    for k in range(min(positions, max(map(len, values), default=0))):
        reached = torch.stack([value[k] for value in values if len(value) > k])
        n = len(reached)
        means.append(reached.mean().item())
        halves.append(1.96 * reached.std().item() / n**0.5 if n > 1 else None)
        counts.append(n)
    return means, halves, counts
