"""Chapter 8: the KL of the first answer tokens, against float64."""

import torch
from conftest import tiny
from test_batches import examples
from test_losses import moved

from lookahead.kl import POSITIONS, kl_both_ways
from lookahead.losses import answer_log_probs


def first_log_probs(model, token_budget):
    return answer_log_probs(model, examples(20), token_budget, first=POSITIONS)[1]


@torch.no_grad()
def test_against_float64():
    models = tiny(), moved(tiny())
    pairs = zip(*(first_log_probs(model, 200) for model in models))
    for (ids, start, _), (tuned, aligned) in zip(examples(20), pairs):
        p, q = (model.double()(torch.tensor([ids]))[0].log_softmax(-1) for model in models)
        there, back = (p.exp() * (p - q)).sum(-1), (q.exp() * (q - p)).sum(-1)
        for ours, values in zip(kl_both_ways(tuned, aligned), (there, back)):
            expected = values[start - 1 : len(ids) - 1][:8]
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=0)


def test_a_model_with_itself_is_zero_and_never_below():
    alone, together = (first_log_probs(tiny(), token_budget) for token_budget in (1, 10**6))
    for a, b in zip(alone, together):
        assert kl_both_ways(a, a)[0].max() == 0
        assert all(0 <= value.min() and value.max() < 1e-7 for value in kl_both_ways(a, b))
