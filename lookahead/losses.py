"""Chapter 5. The loss: cross-entropy on the answer tokens, previewed ones included.

A loss returns (sum, count), never a mean: the training loop divides by the answer tokens of the
whole batch, so that cutting a batch into micro-batches changes nothing. LookAhead Tuning needs no
loss of its own; a fork with another objective adds a function here.

Shapes: B examples, T tokens, D width, V vocabulary, N answer tokens of all parts.
"""

import torch
import torch.nn.functional as F


def answer_logits(model, parts):
    """Return logits (N, V) that predict the answer tokens, and those tokens (N,).

    `parts` are micro-batches (tokens, supervised), each (B, T). The state at t predicts the token
    at t + 1, hence the shift by one. The head is applied at these states only: at the others it
    would cost as much and be thrown away.
    """
    states, targets = model.hidden_of_parts([tokens for tokens, _ in parts]), []
    for i, (tokens, supervised) in enumerate(parts):
        states[i] = states[i][:, :-1][supervised[:, 1:]]
        targets.append(tokens[:, 1:][supervised[:, 1:]])
    return model.lm_head(torch.cat(states)), torch.cat(targets)


def cross_entropy(model, parts):
    """Return the summed negative log-likelihood in nats of the answer tokens, and their count."""
    logits, targets = answer_logits(model, parts)
    return F.cross_entropy(logits.float(), targets, reduction="sum"), targets.numel()
