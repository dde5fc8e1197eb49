"""Chapter 6: the KL of the first answer tokens, against float64 and a distribution by hand."""

import math

import pytest
import torch
from conftest import tiny
from test_batches import examples
from test_losses import moved

from lookahead.kl import initial_log_probs, kl_both_ways, mean_by_position


@torch.no_grad()
def test_against_float64():
    models = tiny(), moved(tiny())
    tuned, aligned = (initial_log_probs(model, examples(20), batch_size=7) for model in models)
    expected = []
    for ids, start, _ in examples(20):
        p, q = (model.double()(torch.tensor([ids]))[0].log_softmax(-1) for model in models)
        both = (p.exp() * (p - q)).sum(-1), (q.exp() * (q - p)).sum(-1)
        expected.append([values[start - 1 : len(ids) - 1][:8] for values in both])
    for direction in (0, 1):
        found = [kl_both_ways(a, b)[direction] for a, b in zip(tuned, aligned)]
        means, _, counts = mean_by_position(found)
        for k in range(8):
            rows = [pair[direction][k].item() for pair in expected if len(pair[direction]) > k]
            assert counts[k] == len(rows)
            assert means[k] == pytest.approx(sum(rows) / len(rows), rel=1e-4)


def test_by_hand_and_in_two_directions():
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.25, 0.25, 0.5]])
    expected = 0.7 * math.log(0.7 / 0.25) + 0.2 * math.log(0.2 / 0.25) + 0.1 * math.log(0.1 / 0.5)
    other_way = 0.25 * math.log(0.25 / 0.7) + 0.25 * math.log(0.25 / 0.2) + 0.5 * math.log(5)
    found = [value.item() for value in kl_both_ways(p.log(), q.log())]
    assert found == pytest.approx([expected, other_way], abs=1e-6)


def test_a_model_with_itself_is_zero_and_never_below():
    alone, together = (initial_log_probs(tiny(), examples(20), batch_size=b) for b in (1, 20))
    for a, b in zip(alone, together):
        assert kl_both_ways(a, a)[0].max() == 0
        assert all(0 <= value.min() and value.max() < 1e-7 for value in kl_both_ways(a, b))


def test_counts_and_intervals():
    values = [torch.tensor(row) for row in ([1.0, 5.0, 7.0], [2.0, 6.0], [6.0])]
    means, halves, counts = mean_by_position(values)
    assert (means, counts) == ([3.0, 5.5, 7.0], [3, 2, 1]) and halves[2] is None
    assert halves[0] == pytest.approx(1.96 * math.sqrt(7) / math.sqrt(3))  # (4 + 1 + 9) / 2 = 7
    assert mean_by_position(values, positions=1)[0] == [3.0]
    assert mean_by_position([]) == ([], [], [])
