"""Chapter 5: the loss is the answer's negative log-likelihood, however a batch is cut."""

from unittest.mock import Mock, call

import pytest
import torch
from conftest import tiny
from test_batches import examples
from test_model import peer_of

from lookahead import training
from lookahead.baselines import constrained_sft
from lookahead.batches import pad
from lookahead.losses import answer_log_probs, cross_entropy


def moved(model):
    """The model after some training, as it were."""
    torch.manual_seed(3)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    return model


def with_aligned(batch, model):
    values, _ = answer_log_probs(model, batch, 200)
    return [example._replace(aligned_log_probs=value) for example, value in zip(batch, values)]


def gradient(model, batch, budget=10**6, loss=cross_entropy):
    """Return a batch's mean loss and its gradient as one vector, from a step that moves nothing."""
    optimizer = Mock()
    mean = training.take_step(model, optimizer, batch, budget, loss)
    assert optimizer.method_calls == [call.step(), call.zero_grad()]
    return mean, torch.cat([weight.grad.flatten() for weight in model.parameters()])


def log_probs(model, example):
    """Return log p of each answer token, of one example and without a selection."""
    ids, start, _ = example
    rows = model(torch.tensor([ids]))[0].log_softmax(-1)
    return torch.stack([rows[t - 1, ids[t]] for t in range(start, len(ids))])


def close(ours, theirs):
    return (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_the_loss_is_the_answers_negative_log_likelihood():
    model, batch = tiny().double(), examples(9)
    expected = [log_probs(model, example) for example in batch]
    assert gradient(model, batch, 60)[0] == pytest.approx(-torch.cat(expected).mean().item())
    for ours, values in zip(answer_log_probs(model, batch, 60)[0], expected):
        torch.testing.assert_close(ours.double(), values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, constrained_sft])
def test_cutting_a_batch_changes_nothing(loss):
    batch = with_aligned(examples(64), tiny())
    mean, expected = gradient(moved(tiny()), batch, loss=loss)
    for budget in (1, 60, 200):
        value, ours = gradient(moved(tiny()), batch, budget, loss)
        assert value == pytest.approx(mean, rel=1e-5) and close(ours, expected)


def test_constrained_sft_is_its_formula():
    """Value and gradient against float64 autograd of the sum as its paper writes it."""
    aligned, model, batch = tiny().double(), moved(tiny().double()), examples(12)
    terms = []
    for example in batch:
        gains = log_probs(model, example) - log_probs(aligned, example).detach()
        for t, gain in enumerate(gains, 1):
            beta = 0.5 if t == 1 else 2.0 if t <= 5 else 0.1
            terms.append(-2 / beta * torch.nn.functional.logsigmoid(beta * gain))
    expected = sum(terms) / len(terms)
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    value, ours = gradient(model, with_aligned(batch, aligned), 60, constrained_sft)
    assert value == pytest.approx(expected.item(), rel=1e-6)
    assert close(ours, torch.cat([part.flatten() for part in theirs]))


def test_the_gradient_is_that_of_transformers():
    batch, model = examples(64), tiny()
    peer = peer_of(model)
    tokens, loss_mask, _ = pad(batch)
    peer(input_ids=tokens, labels=tokens.where(loss_mask, -100)).loss.backward()
    weights = dict(peer.named_parameters())
    theirs = torch.cat([weights[name].grad.flatten() for name, _ in model.named_parameters()])
    assert close(gradient(model, batch, 200)[1], theirs)
