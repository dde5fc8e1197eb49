"""Chapter 5. The loss: cross-entropy on the answer tokens, previewed ones included.

A loss is a pure function of logits (N, V), targets (N,), positions (N,) and, for one that compares
with the aligned model, `aligned_log_probs`; it returns a sum over answer tokens, each by itself: it
sees those of a micro-batch, or with bf16 weights of a piece of it. The training loop divides by the
answer tokens of the whole batch, so cutting it up changes nothing but rounding. LookAhead Tuning
changes no loss: a preview changes which tokens are easy. The paper's rival with another loss is in
`baselines/`, and a fork adds its own to the table in `methods.py`.

`answer_log_probs` scores given answers without training: for the test loss, for the KL divergence
(chapter 8), and for losses that compare with the aligned model.

Shapes: B examples, T tokens, N answer tokens of a micro-batch, V vocabulary, D width, A tokens of
one answer, K first positions of it.
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

    The head is applied at these states only: with a vocabulary of 32,000 the logits of all
    positions would be the largest tensor of a step.
    """
    # Every token goes through the blocks, only those before an answer token through the head.
    states = model.hidden(tokens)  # (B, T, D)
    states, targets, positions = select_answers(states, tokens, loss_mask)
    return model.lm_head(states), targets, positions


def cross_entropy(logits, targets, positions=None, aligned_log_probs=None):
    """Return the summed negative log-likelihood, in nats, of the targets.

    >>> cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item()  # 3 ln 4
    4.158883094787598
    """
    # In float32: a log-softmax over the vocabulary loses too much in bfloat16.
    return F.cross_entropy(logits.float(), targets, reduction="sum")


@torch.no_grad()
def answer_log_probs(model, examples, token_budget, first=0, name="log p of the answers"):
    """Return log-probabilities of the examples' answers in float32, on the CPU, as two lists.

    With one tensor an example each: the log p of each answer token (A,), and the log p of the whole
    vocabulary at the `first` positions, (K, V), K fewer where the answer is shorter.
    """
    # One pass without gradients, in micro-batches.
    device = model.lm_head.weight.device
    head = model.lm_head.weight.float() if first else None  # a bfloat16 product would blur the KL
    progress = Progress(name, len(examples))

    # Micro-batches come sorted by length. Sorted the same way here, it is known which is which.
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].ids), reverse=True)
    of_tokens = [None] * len(examples)
    of_vocabulary = [None] * len(examples)
    done = 0
    for micro_batch in micro_batches([examples[i] for i in order], token_budget):
        places = order[done : done + len(micro_batch)]
        done += len(micro_batch)
        lengths = [len(example.ids) - example.start for example in micro_batch]

        # Each answer token, as in training.
        tokens, loss_mask, _ = pad(micro_batch, device)
        states, targets, positions = select_answers(model.hidden(tokens), tokens, loss_mask)
        losses = F.cross_entropy(model.lm_head(states).float(), targets, reduction="none")  # (N,)
        for place, values in zip(places, (-losses).cpu().split(lengths)):
            of_tokens[place] = values

        # The whole vocabulary, at the first positions.
        if first:
            log_probs = F.linear(states[positions <= first].float(), head).log_softmax(-1).cpu()
            lengths = [min(length, first) for length in lengths]
            for place, values in zip(places, log_probs.split(lengths)):
                of_vocabulary[place] = values  # (K, V)
        progress.show(done)
    return of_tokens, of_vocabulary
