"""Chapter 5. The loss: cross-entropy on the answer tokens, previewed ones included.

A loss is a pure function of logits (N, V), targets (N,), positions (N,) and, for those that want
it, reference (N,); it returns a sum over answer tokens. The training loop divides by the answer
tokens of the whole batch, so cutting the batch up changes nothing but rounding. LookAhead Tuning
changes no loss: what a preview changes is which tokens are easy. A fork with another objective adds
a function here and a line to METHODS in train.py; the rival of the paper is in `baselines/`.

Shapes: B examples, T tokens, N answer tokens of a micro-batch, V vocabulary.
"""

import torch
import torch.nn.functional as F

from lookahead.batches import micro_batches, pad
from lookahead.cli import Progress


def select_answers(states, tokens, loss_mask):
    """Return the states (N, D) that predict the answer tokens, those tokens, and their positions.

    The state at t predicts the token at t + 1, hence the shift by one. Positions (N,) count from 1
    within each answer.
    """
    # The answers of all rows, one after another.
    targets = tokens[loss_mask]  # (N,)
    positions = loss_mask.cumsum(1)[loss_mask]  # (N,)

    # The state that predicts a token stands one position earlier.
    return states[:, :-1][loss_mask[:, 1:]], targets, positions


def answer_logits(model, tokens, loss_mask):
    """Return logits (N, V) that predict the answer tokens, those tokens (N,), and positions (N,).

    The head is applied at these states only: at 32,000 words the logits of all positions would be
    the largest tensor of a step.
    """
    # Every token goes through the blocks, only those before an answer token through the head.
    states = model.hidden(tokens)  # (B, T, D)
    states, targets, positions = select_answers(states, tokens, loss_mask)
    return model.lm_head(states), targets, positions


def cross_entropy(logits, targets, positions=None, reference=None):
    """Return the summed negative log-likelihood, in nats, of the targets.

    >>> cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item()  # 3 ln 4
    4.158883094787598
    """
    # In float32: a log-softmax over all words loses too much in bfloat16.
    return F.cross_entropy(logits.float(), targets, reduction="sum")


@torch.no_grad()
def answer_losses(model, examples, token_budget, name="loss of the answers"):
    """Return float32 tensors, one for each example: the cross-entropy of its answer's tokens."""
    # One pass without gradients, in micro-batches.
    device = model.lm_head.weight.device
    progress = Progress(name, len(examples))

    # Micro-batches come sorted by length. Sorted the same way here, it is known which is which.
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].ids), reverse=True)
    found = []
    for part in micro_batches([examples[i] for i in order], token_budget):
        tokens, loss_mask, _ = pad(part, device)
        logits, targets, _ = answer_logits(model, tokens, loss_mask)
        values = F.cross_entropy(logits.float(), targets, reduction="none")  # (N,)
        found += values.split(loss_mask.sum(1).tolist())
        progress.show(len(found))

    # Back in the order of the examples.
    losses = dict(zip(order, found))
    return [losses[i] for i in range(len(examples))]
