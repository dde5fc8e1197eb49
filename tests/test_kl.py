"""Chapter 6: the KL of the first answer tokens, against float64 and a distribution by hand."""

import math

import pytest
import torch
from conftest import tiny
from test_batches import examples

from lookahead.kl import initial_log_probs, kl_both_ways, mean_by_position


def other():
    model = tiny()
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model


def in_float64(model, example):
    log_probs = model.double()(torch.tensor([example.ids]))[0].log_softmax(-1)
    return log_probs[example.start - 1 : len(example.ids) - 1][:8]


@torch.no_grad()
def test_against_float64():
    tuned, aligned = (initial_log_probs(m, examples(20), batch_size=7) for m in (tiny(), other()))
    expected = []
    for i, example in enumerate(examples(20)):
        p, q = in_float64(tiny(), example), in_float64(other(), example)
        torch.testing.assert_close(tuned[i].double(), p, atol=1e-5, rtol=0)
        expected.append(((p.exp() * (p - q)).sum(-1), (q.exp() * (q - p)).sum(-1)))
    for direction in (0, 1):
        found = [kl_both_ways(a, b)[direction] for a, b in zip(tuned, aligned)]
        means, _, counts = mean_by_position(found)
        for k in range(8):
            rows = [pair[direction][k].item() for pair in expected if len(pair[direction]) > k]
            assert counts[k] == len(rows)
            assert means[k] == pytest.approx(sum(rows) / len(rows), rel=1e-4)


def test_by_hand_and_in_two_directions():
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.25, 0.25, 0.5]])
    there, back = kl_both_ways(p.log(), q.log())
    expected = 0.7 * math.log(0.7 / 0.25) + 0.2 * math.log(0.2 / 0.25) + 0.1 * math.log(0.1 / 0.5)
    assert there.item() == pytest.approx(expected, abs=1e-6)
    expected = 0.25 * math.log(0.25 / 0.7) + 0.25 * math.log(0.25 / 0.2) + 0.5 * math.log(5)
    assert back.item() == pytest.approx(expected, abs=1e-6)


def test_a_model_with_itself_is_zero_and_never_below():
    alone, together = (initial_log_probs(tiny(), examples(20), batch_size=b) for b in (1, 20))
    for a, b in zip(alone, together):
        assert kl_both_ways(a, a)[0].max() == 0
        assert all(0 <= value.min() and value.max() < 1e-7 for value in kl_both_ways(a, b))


def test_counts_and_intervals():
    values = [torch.tensor(row) for row in ([1.0, 5.0, 7.0], [2.0, 6.0], [6.0])]
    means, halves, counts = mean_by_position(values, positions=3)
    assert (means, counts) == ([3.0, 5.5, 7.0], [3, 2, 1]) and halves[2] is None
    assert halves[0] == pytest.approx(1.96 * math.sqrt(7) / math.sqrt(3))  # (4 + 1 + 9) / 2 = 7
    assert mean_by_position(values, positions=1)[0] == [3.0]
    assert mean_by_position([]) == ([], [], [])
    assert math.isnan(mean_by_position([torch.tensor([1.0]), torch.tensor([torch.nan])])[0][0])
