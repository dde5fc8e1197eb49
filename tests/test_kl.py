"""Chapter 6: the KL of the first answer tokens, against float64 and a distribution by hand."""

import math

import torch
from conftest import tiny
from test_batches import examples

from lookahead.kl import initial_log_probs, kl_divergence, kl_per_position


def other(seed=1):
    model = tiny()
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model


def test_log_probs_are_those_that_predict_the_answer():
    model, pairs = tiny(), examples(20)
    for (ids, start), log_p in zip(pairs, initial_log_probs(model, pairs, 8, batch_size=7)):
        whole = model(torch.tensor([ids]))[0].log_softmax(-1)
        expected = whole[start - 1 : len(ids) - 1][:8]
        torch.testing.assert_close(log_p, expected, atol=1e-5, rtol=0)


def test_against_float64():
    pairs = examples(20)
    a, b = (initial_log_probs(model, pairs) for model in (tiny(), other()))
    doubles = [initial_log_probs_double(model, pairs) for model in (tiny(), other())]
    means, _, counts = kl_per_position(a, b)
    for k in range(8):
        rows = [(p[k], q[k]) for p, q in zip(*doubles) if len(p) > k]
        expected = sum((p.exp() * (p - q)).sum().item() for p, q in rows) / len(rows)
        assert counts[k] == len(rows)
        assert abs(means[k] - expected) < 1e-6 + 1e-5 * expected


def initial_log_probs_double(model, pairs):
    model = model.double()
    return [model(torch.tensor([i]))[0].log_softmax(-1)[s - 1 : len(i) - 1] for i, s in pairs]


def test_by_hand():
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.25, 0.5])
    expected = 0.5 * math.log(2) - 0.25 * math.log(2)
    assert abs(kl_divergence(p.log(), q.log()).item() - expected) < 1e-7
    r = torch.tensor([0.7, 0.2, 0.1])
    there, back = kl_divergence(p.log(), r.log()), kl_divergence(r.log(), p.log())
    assert abs(there - back) > 1e-2  # the direction matters


def test_a_model_with_itself_is_zero():
    alone, together = (initial_log_probs(tiny(), examples(20), batch_size=b) for b in (1, 20))
    for a, b in ((alone, alone), (alone, together)):
        means, halves, _ = kl_per_position(a, b)
        assert max(map(abs, means)) < 1e-7 and max(halves[:2]) < 1e-7


def test_counts_and_intervals():
    log_p = torch.tensor([[0.5, 0.5]]).log()
    log_q = torch.tensor([[0.9, 0.1]]).log()
    a = [log_p.repeat(3, 1), log_p, log_p]
    b = [log_q.repeat(3, 1), log_q, log_p]
    means, halves, counts = kl_per_position(a, b)
    kl = kl_divergence(log_p, log_q).item()
    assert counts == [3, 1, 1] and halves[1:] == [None, None]
    assert abs(means[0] - 2 * kl / 3) < 1e-6 and abs(means[1] - kl) < 1e-6
    deviation = math.sqrt((2 * (kl / 3) ** 2 + (2 * kl / 3) ** 2) / 2)
    assert abs(halves[0] - 1.96 * deviation / math.sqrt(3)) < 1e-6
