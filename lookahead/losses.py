"""Chapter 5. Losses on the answer tokens: cross-entropy, and the constrained SFT of earlier work.

A loss returns a sum over answer tokens: the training loop divides it by the answer tokens of the
whole batch, so that cutting the batch up changes nothing but rounding. LookAhead Tuning trains with
plain cross-entropy, previewed tokens included; constrained SFT is what the paper compares with. A
fork with another objective adds a function here, and its name to LOSSES.

Shapes: B examples, T tokens, D width, V vocabulary, N answer tokens of all parts.
"""

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from lookahead.batches import micro_batches, pad
from lookahead.commands import Progress

BETAS = (0.5, 2.0, 2.0, 2.0, 2.0, 0.1)  # as there: answer tokens 1, 2 to 5, the rest


def answer_logits(model, parts):
    """Return logits (N, V) that predict the answer tokens, and those tokens (N,).

    `parts` are micro-batches, whose first two members are tokens and supervised, each (B, T). The
    state at t predicts the token at t + 1, hence the shift by one. The head is applied at these
    states only: at 32,000 words the logits of a whole batch would be its largest tensor.
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
    The gradient is cross-entropy's, weighted by 2 sigmoid(beta_t (log p_seed - log p)): by 1 before
    the first step, and the less the likelier a token becomes. Its authors' code keeps the weight
    above 0.001; this is the formula.
    """
    logits, targets = answer_logits(model, parts)
    gained = -F.cross_entropy(logits.float(), targets, reduction="none")
    gained = gained - torch.cat([seed_log_probs for _, _, seed_log_probs in parts])
    order = torch.cat([supervised.cumsum(1)[supervised] for _, supervised, *_ in parts])  # 1, 2, ..
    beta = torch.tensor(betas, device=order.device)[(order - 1).clamp(max=len(betas) - 1)]
    return (2 / beta * F.softplus(-beta * gained)).sum()


LOSSES = {"constrained": constrained_sft}  # by the method's name; all others: cross-entropy


@torch.no_grad()
def answer_log_probs(model, examples, token_budget, name="log p of the answers"):
    """Return float32 tensors, one for each (ids, start): log p of its answer's tokens."""
    progress, done, device = Progress(name, len(examples)), 0, model.lm_head.weight.device
    lengths = [len(ids) - start for ids, start, *_ in examples]
    log_probs = torch.empty(sum(lengths), device=device)
    # Micro-batches come in another order: each answer carries the places of its values with it.
    places = torch.arange(sum(lengths)).split(lengths)
    placed = [(ids, start, at) for (ids, start, *_), at in zip(examples, places)]
    for rows in micro_batches(placed, token_budget):
        tokens, supervised, at = pad(rows, device)
        logits, targets = answer_logits(model, [(tokens, supervised)])
        log_probs[at] = -F.cross_entropy(logits.float(), targets, reduction="none")
        done += len(rows)
        progress.show(done)
    return log_probs.split(lengths)


def loss_by_position(model, examples, token_budget, positions=12, rows=128):
    """Return the mean cross-entropy in nats at the first answer positions, of the first `rows`.

    This is the paper's explanation made visible: before training, previewed tokens cost little.
    """
    losses = [-values for values in answer_log_probs(model, examples[:rows], token_budget)]
    counts = pad_sequence([torch.ones_like(values) for values in losses]).sum(1)  # short ones end
    return (pad_sequence(losses).sum(1) / counts)[:positions].tolist()
