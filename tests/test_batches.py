"""Chapter 3: batches hold every example once, and say exactly what is supervised."""

import random

import torch

from lookahead.batches import micro_batches, pad, shuffled_batches


def examples(n=50):
    draw = random.Random(0)
    lengths = [draw.randint(3, 40) for _ in range(n)]
    return [(list(range(1, length + 1)), draw.randint(1, length - 1)) for length in lengths]


def test_batches_hold_every_example_once_in_an_order_of_the_seed():
    batches = shuffled_batches(examples(), 8, "a")
    assert sorted(sum(batches, [])) == sorted(examples())
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    assert batches == shuffled_batches(examples(), 8, "a") != shuffled_batches(examples(), 8, "b")


def test_micro_batches_keep_the_budget():
    parts = micro_batches(examples(), 64)
    assert sorted(sum(parts, [])) == sorted(examples())
    assert all(len(part) * max(len(ids) for ids, _ in part) <= 64 for part in parts)
    assert len(micro_batches([([1] * 100, 1)], 64)) == 1  # longer than the budget: alone


def test_pad_supervises_exactly_the_answers():
    tokens, supervised = pad(examples())
    for row, mask, (ids, start) in zip(tokens, supervised, examples()):
        assert row[: len(ids)].tolist() == ids and not row[len(ids) :].any()
        assert row[mask].tolist() == ids[start:]
    assert tokens.dtype == torch.int64
