"""Chapter 3: batches hold every example once, and say exactly what is in the loss."""

import random

import torch

from lookahead.batches import Example, pad, shuffled_batches


def examples(n=50):
    draw = random.Random(0)
    lengths = [draw.randint(3, 40) for _ in range(n)]
    return [Example(list(range(1, length + 1)), draw.randint(1, length - 1)) for length in lengths]


def test_each_epoch_holds_every_example_once_in_an_order_of_its_own():
    batches = shuffled_batches(examples(), 8, 0, epochs=2)
    first, second = batches[:7], batches[7:]
    for epoch in (first, second):
        assert sorted(sum(epoch, [])) == sorted(examples()) and len(epoch) == 7
    assert first != second and batches == shuffled_batches(examples(), 8, 0, epochs=2)
    assert first == shuffled_batches(examples(), 8, 0) != shuffled_batches(examples(), 8, 1)


def test_the_loss_mask_is_exactly_the_answers_and_aligned_log_probs_are_in_its_order():
    answers = [torch.tensor(example.ids[example.start :]) for example in examples()]
    batch = [Example(*example[:2], answer) for example, answer in zip(examples(), answers)]
    tokens, loss_mask, aligned_log_probs = pad(batch)
    for row, mask, (ids, start, _) in zip(tokens, loss_mask, batch):
        assert row[: len(ids)].tolist() == ids and not row[len(ids) :].any()
        assert mask.nonzero().flatten().tolist() == list(range(start, len(ids)))
    assert torch.equal(tokens[loss_mask], aligned_log_probs) and tokens.dtype == torch.int64
