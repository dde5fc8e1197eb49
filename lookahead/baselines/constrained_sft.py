"""Constrained SFT (arXiv 2406.05946, section 4): a baseline that the paper compares with.

It holds the first answer tokens near the aligned model by another loss:

    sum over t of  (2 / beta_t) * softplus(beta_t * (log p_aligned(y_t) - log p(y_t)))

The gradient is cross-entropy's, weighted by 2 sigmoid(beta_t (log p_aligned - log p)): by 1 before
the first step, and the less the likelier a token becomes, sooner where beta is large. Its authors'
code keeps the weight above 0.001; this is the formula.
"""

import torch
import torch.nn.functional as F

BETAS = [0.5, 2.0, 2.0, 2.0, 2.0, 0.1]  # of answer tokens 1, 2 to 5, and the rest


def constrained_sft(logits, targets, positions, aligned_log_probs, betas=BETAS):
    """Return the summed loss of targets (N,) at positions (N,) under logits (N, V).

    `aligned_log_probs` (N,) is the aligned model's log p of the targets.

    >>> even = torch.zeros(1, 2)  # log p = log p_aligned = -ln 2: (2 / 0.5) ln 2
    >>> aligned = -torch.tensor([2.0]).log()
    >>> constrained_sft(even, torch.tensor([0]), torch.tensor([1]), aligned).item()
    2.7725887298583984
    """
    log_probs = -F.cross_entropy(logits.float(), targets, reduction="none")  # (N,)
    gain = log_probs - aligned_log_probs
    places = (positions - 1).clamp(max=len(betas) - 1)
    beta = torch.tensor(betas, device=logits.device)[places]  # (N,)
    return (2 / beta * F.softplus(-beta * gain)).sum()
