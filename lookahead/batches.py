"""Chapter 3. Batches: examples of different lengths become rectangles of tokens.

An example is a pair (ids, start): the token ids of prompt and answer, and the index of the first
answer token. A batch is cut into micro-batches by a token budget; sorting by length *inside* the
batch keeps padding small and changes nothing but rounding, because the loss is summed and divided
by the answer tokens of the whole batch. Left out: packing, data-loader workers, bucketing across
batches (which would change the order of examples). Shapes: B examples, T tokens of the longest one.
"""

import random

import torch

PAD = 0  # any valid id will do: no real token sees a pad, and no pad is supervised


def shuffled_batches(examples, batch_size, seed):
    """Return the examples as a list of batches; the order depends on the seed and their number."""
    order = list(examples)
    random.Random(seed).shuffle(order)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def micro_batches(batch, token_budget):
    """Cut a batch into lists of examples, each at most `token_budget` tokens when padded.

    The longest come first, so that a budget too large for the memory fails at once. An example
    longer than the budget stands alone.

    >>> micro_batches([([1] * 2, 1), ([1] * 6, 1), ([1] * 3, 1)], token_budget=6)
    [[([1, 1, 1, 1, 1, 1], 1)], [([1, 1, 1], 1), ([1, 1], 1)]]
    """
    parts, longest = [], 0
    for example in sorted(batch, key=lambda example: len(example[0]), reverse=True):
        if parts and (len(parts[-1]) + 1) * longest <= token_budget:
            parts[-1].append(example)
        else:
            parts.append([example])
            longest = len(example[0])
    return parts


def pad(examples, device="cpu"):
    """Pad on the right; return tokens (B, T) and `supervised` (B, T), true at answer tokens.

    An example may carry more than (ids, start): tensors with a number for each answer token. They
    are joined and returned too, in the order of `tokens[supervised]`.

    >>> tokens, supervised = pad([([1, 5, 6, 2], 2), ([1, 7, 2], 1)])
    >>> tokens.tolist(), supervised.int().tolist()
    ([[1, 5, 6, 2], [1, 7, 2, 0]], [[0, 0, 1, 1], [0, 1, 1, 0]])
    """
    tokens = torch.full((len(examples), max(len(ids) for ids, *_ in examples)), PAD)
    supervised = torch.zeros_like(tokens, dtype=torch.bool)
    for row, mask, (ids, start, *_) in zip(tokens, supervised, examples):
        row[: len(ids)] = torch.tensor(ids)
        mask[start : len(ids)] = True
    extras = zip(*(more for _, _, *more in examples))  # most often none
    return tokens.to(device), supervised.to(device), *(torch.cat(x).to(device) for x in extras)
