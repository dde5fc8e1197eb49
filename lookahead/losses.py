"""Chapter 5. Losses on the answer tokens: cross-entropy, and the constrained SFT of earlier work.

A loss returns a sum over answer tokens, never a mean: the training loop divides it by the answer
tokens of the whole batch, so that cutting the batch up changes nothing. LookAhead Tuning needs no
loss of its own, it trains with cross-entropy, previewed tokens included. Constrained SFT is what
the paper compares with. A fork with another objective adds a function here, and its name to LOSSES.

Shapes: B examples, T tokens, D width, V vocabulary, N answer tokens of all parts.
"""

import torch
import torch.nn.functional as F

from lookahead.batches import micro_batches, pad
from lookahead.commands import Progress

BETAS = (0.5, 2.0, 2.0, 2.0, 2.0, 0.1)  # of answer tokens 1, 2 to 5, and all that follow


def answer_logits(model, parts):
    """Return logits (N, V) that predict the answer tokens, and those tokens (N,).

    `parts` are micro-batches, whose first two members are tokens and supervised, each (B, T). The
    state at t predicts the token at t + 1, hence the shift by one. The head is applied at these
    states only: at the others it would cost as much and be thrown away.
    """
    states, targets = model.hidden([tokens for tokens, *_ in parts]), []
    for i, (tokens, supervised, *_) in enumerate(parts):
        states[i] = states[i][:, :-1][supervised[:, 1:]]
        targets.append(tokens[:, 1:][supervised[:, 1:]])
    return model.lm_head(torch.cat(states)), torch.cat(targets)


def cross_entropy(model, parts):
    """Return the summed negative log-likelihood, in nats, of the answer tokens."""
    logits, targets = answer_logits(model, parts)
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def constrained_sft(model, parts, betas=BETAS):
    """Return the summed loss of constrained SFT (arXiv 2406.05946, section 4).

        sum over t of  (2 / beta_t) * softplus(beta_t * (log p_seed(y_t) - log p(y_t)))

    A part's third member has the seed model's log p of its answer tokens (see `answer_log_probs`).
    The gradient is cross-entropy's, weighted by 2 sigmoid(beta_t (log p_seed - log p)). The weight
    is 1 before the first step and tends to 0 as a token becomes likelier than it was for the seed
    model. The authors' code keeps it above 0.001; this is the formula.
    """
    logits, targets = answer_logits(model, parts)
    gained = -F.cross_entropy(logits.float(), targets, reduction="none")
    gained = gained - torch.cat([seed_log_probs for _, _, seed_log_probs in parts])
    order = torch.cat([supervised.cumsum(1)[supervised] for _, supervised, *_ in parts])  # 1, 2, ..
    beta = torch.tensor(betas, device=order.device)[(order - 1).clamp(max=len(betas) - 1)]
    return (2 / beta * F.softplus(-beta * gained)).sum()


LOSSES = {"constrained": constrained_sft}  # by the method's name; all others: cross-entropy


@torch.no_grad()
def answer_log_probs(model, examples, token_budget, name=None):
    """Return a list of float32 tensors, one for each (ids, start): log p of its answer's tokens.

    They stay on the model's device; with a name there is a line of progress.
    """
    found, progress = {}, Progress(name, len(examples))
    numbered = [(ids, start, i) for i, (ids, start, *_) in enumerate(examples)]
    for rows in micro_batches(numbered, token_budget):
        part = pad([(ids, start) for ids, start, _ in rows], model.lm_head.weight.device)
        logits, targets = answer_logits(model, [part])
        log_probs = -F.cross_entropy(logits.float(), targets, reduction="none")
        lengths = [len(ids) - start for ids, start, _ in rows]
        found |= {i: values for (_, _, i), values in zip(rows, log_probs.split(lengths))}
        if name:
            progress.show(len(found))
    return [found[i] for i in range(len(examples))]


def loss_by_position(model, examples, token_budget, positions=12, rows=128):
    """Return the mean cross-entropy in nats at each of the first answer positions.

    It is measured on the first `rows` examples. This is the paper's explanation made visible:
    before training, previewed tokens cost little.
    """
    losses = [-values for values in answer_log_probs(model, examples[:rows], token_budget)]
    means = []
    for k in range(min(positions, max(map(len, losses)))):
        means.append(torch.stack([values[k] for values in losses if len(values) > k]).mean().item())
    return means
