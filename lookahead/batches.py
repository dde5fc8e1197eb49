"""Chapter 3. Batches: examples of different lengths become rectangles of tokens.

A batch is cut into micro-batches by a token budget. Sorting by length *inside* the batch keeps
padding small and changes no result but for rounding, because the loss is summed and divided by the
answer tokens of the whole batch. Left out: packing, data-loader workers, bucketing across batches
(which would change the order of examples).

Shapes: B examples, T tokens of the longest one.
"""

import random
import typing

import torch

PAD = 0  # any valid id will do: no real token sees a pad, and no pad is in the loss


class Example(typing.NamedTuple):
    ids: list  # prompt and answer
    start: int  # where the answer begins
    aligned_log_probs: torch.Tensor | None = None  # what a loss takes of the aligned model


def shuffled_batches(examples, batch_size, seed, epochs=1):
    """Return the batches of all epochs, lists of examples in an order of each epoch's own.

    The order depends on seed, epoch and the number of examples alone: every method of a comparison
    sees the rows in the same order, and a run that resumes goes on in it.
    """
    batches = []
    for epoch in range(epochs):
        order = list(examples)
        random.Random(f"{seed} {epoch}").shuffle(order)
        batches += [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return batches


def micro_batches(batch, token_budget):
    """Cut a batch into lists of examples, each at most `token_budget` tokens when padded.

    The longest come first, so that a budget too large for the memory fails at once. An example
    longer than the budget stands alone.

    >>> cut = micro_batches([Example([1] * n, 1) for n in (2, 6, 3)], token_budget=6)
    >>> [[len(example.ids) for example in micro_batch] for micro_batch in cut]
    [[6], [3, 2]]
    """
    # Take examples from the longest to the shortest, and begin anew when a micro-batch is full.
    result = []
    longest = 0
    for example in sorted(batch, key=lambda example: len(example.ids), reverse=True):
        # Padded, every example of a micro-batch is as long as its first.
        if result and (len(result[-1]) + 1) * longest <= token_budget:
            result[-1].append(example)
        else:
            result.append([example])
            longest = len(example.ids)
    return result


def pad(examples, device="cpu"):
    """Pad on the right; return tokens (B, T), loss mask (B, T) and aligned log-probs or None.

    The loss mask is true at answer tokens. The aligned log-probs are joined in the order of
    the examples: (N,), or (K, V) an example where a loss takes whole distributions.

    >>> tokens, loss_mask, _ = pad([Example([1, 5, 6, 2], 2), Example([1, 7, 2], 1)])
    >>> tokens.tolist(), loss_mask.int().tolist()
    ([[1, 5, 6, 2], [1, 7, 2, 0]], [[0, 0, 1, 1], [0, 1, 1, 0]])
    """
    # Each row is as long as the longest example; what is left of it stays padding.
    longest = max(len(example.ids) for example in examples)
    tokens = torch.full((len(examples), longest), PAD)  # (B, T)
    loss_mask = torch.zeros_like(tokens, dtype=torch.bool)  # (B, T)
    for i, example in enumerate(examples):
        end = len(example.ids)
        tokens[i, :end] = torch.tensor(example.ids)
        loss_mask[i, example.start : end] = True

    # What a loss takes of the aligned model goes along in the same order.
    aligned_log_probs = None
    if examples[0].aligned_log_probs is not None:
        parts = [example.aligned_log_probs for example in examples]
        aligned_log_probs = torch.cat(parts).to(device)
    return tokens.to(device), loss_mask.to(device), aligned_log_probs
