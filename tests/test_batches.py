"""Chapter 3: batches hold every example once, and say exactly what is in the loss."""

import random

import torch
from conftest import tiny

from lookahead.batches import Example, micro_batches, pad, shuffled_batches


def examples(n=50):
    draw = random.Random(0)
    lengths = [draw.randint(3, 40) for _ in range(n)]
    return [Example(list(range(1, length + 1)), draw.randint(1, length - 1)) for length in lengths]


def test_batches_hold_every_example_once_in_an_order_of_the_seed():
    batches = shuffled_batches(examples(), 8, "a")
    assert sorted(sum(batches, [])) == sorted(examples()) and len(batches) == 7
    assert batches == shuffled_batches(examples(), 8, "a") != shuffled_batches(examples(), 8, "b")


def test_micro_batches_keep_the_budget():
    parts = micro_batches(examples(), 64)
    assert sorted(sum(parts, [])) == sorted(examples())
    assert all(len(part) * max(len(example.ids) for example in part) <= 64 for part in parts)
    assert len(micro_batches([Example([1] * 100, 1)], 64)) == 1  # longer than the budget: alone


def test_the_loss_mask_is_exactly_the_answers_and_the_reference_is_in_its_order():
    batch = [example._replace(reference=torch.tensor(example.ids[example.start :]))
             for example in examples()]  # fmt: skip
    tokens, loss_mask, reference = pad(batch)
    for row, mask, (ids, start, _) in zip(tokens, loss_mask, batch):
        assert row[: len(ids)].tolist() == ids and not row[len(ids) :].any()
        assert mask.nonzero().flatten().tolist() == list(range(start, len(ids)))
    assert torch.equal(tokens[loss_mask], reference) and tokens.dtype == torch.int64


def test_padding_on_the_right_needs_no_mask():
    """A row's logits do not depend on what is behind it."""
    model = tiny()
    tokens, _, _ = pad(examples(5))
    for row, other, (ids, _, _) in zip(
        model(tokens), model(tokens.where(tokens > 0, 9)), examples(5)
    ):
        torch.testing.assert_close(row[: len(ids)], model(torch.tensor([ids]))[0])
        torch.testing.assert_close(row[: len(ids)], other[: len(ids)])
