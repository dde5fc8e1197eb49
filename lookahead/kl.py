"""Chapter 6. KL divergence of the first answer tokens, between the tuned model and its seed model.

The paper's measurement of harm. Prompt and answer are fed as they are (teacher-forced), both models
see identical ids, and at answer position k (k = 1 predicts the first answer token)

    KL_k = mean over pairs of  sum_v p_a(v) * (log p_a(v) - log p_b(v))     in nats.

Both directions are computed: KL(tuned || seed), which is apparently the paper's, and KL(seed ||
tuned), that of the work it builds on (arXiv 2406.05946). Only one model need be in memory at a
time: what is kept of a model are its log-probabilities at the first positions.

Shapes: N pairs, K positions, V vocabulary.
"""

import torch
import torch.nn.functional as F

from lookahead.batches import pad

POSITIONS = 8  # as in the paper's figure


@torch.no_grad()
def initial_log_probs(model, examples, positions=POSITIONS, batch_size=32):
    """Return a list of N float32 tensors (K or fewer, V): log p at each answer's first positions.

    `examples` are (ids, start) pairs; an answer shorter than K tokens gives fewer rows.
    """
    weight, result = model.lm_head.weight.float(), []  # a bfloat16 product would blur the KL
    for first in range(0, len(examples), batch_size):
        part = examples[first : first + batch_size]
        part = [(ids[: start + positions], start) for ids, start in part]  # no more is needed
        tokens, _ = pad(part, weight.device)
        for (ids, start), states in zip(part, model.hidden([tokens])[0].float()):  # (T, D) each
            states = states[start - 1 : len(ids) - 1]  # the state at t predicts the token at t + 1
            result.append(F.linear(states, weight).log_softmax(-1).cpu())
    return result


def kl_divergence(log_a, log_b):
    """Return KL(a || b) in nats, (K,) float64, of log-probabilities (K, V).

    Rounding leaves float32 probabilities a little off a sum of 1, by which the KL could fall below
    0; so they are normalised again in float64.

    >>> half, quarter = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> round(kl_divergence(half, quarter).item(), 4)  # 0.5 ln 2 + 0.5 ln (2/3)
    0.1438
    """
    log_a, log_b = log_a.double().log_softmax(-1), log_b.double().log_softmax(-1)
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def kl_per_position(log_a, log_b):
    """Return (means, half-widths, counts) of KL(a || b) at each position, over pairs.

    The half-width is that of a 95 % interval over pairs, 1.96 standard errors. Positions that no
    answer reaches are left out; one that a single answer reaches has no width (None).
    """
    means, halves, counts = [], [], []
    pairs = [kl_divergence(a, b) for a, b in zip(log_a, log_b)]
    for k in range(max(map(len, pairs), default=0)):
        values = torch.stack([pair[k] for pair in pairs if len(pair) > k])
        means.append(values.mean().item())
        halves.append(1.96 * values.std().item() / len(values) ** 0.5 if len(values) > 1 else None)
        counts.append(len(values))
    return means, halves, counts
