"""Chapter 5. The loss: cross-entropy on the answer tokens, previewed ones included.

A loss returns (sum, count), never a mean: the training loop divides by the answer tokens of the
whole batch, so that cutting a batch into micro-batches changes nothing. LookAhead Tuning needs no
loss of its own; a fork with another objective adds a function here.

Shapes: B examples, T tokens, D width, V vocabulary, N answer tokens of the micro-batch.
"""

import torch.nn.functional as F


def answer_logits(model, tokens, supervised):
    """Return logits (N, V) that predict the answer tokens, and those tokens (N,).

    The state at t predicts the token at t + 1, hence the shift by one. The head is applied at these
    states only: at the others it would cost as much and be thrown away.
    """
    states = model.hidden(tokens)[:, :-1][supervised[:, 1:]]  # (N, D)
    return model.lm_head(states), tokens[:, 1:][supervised[:, 1:]]


def cross_entropy(model, tokens, supervised):
    """Return the summed negative log-likelihood in nats of the answer tokens, and their count."""
    logits, targets = answer_logits(model, tokens, supervised)
    return F.cross_entropy(logits.float(), targets, reduction="sum"), targets.numel()
