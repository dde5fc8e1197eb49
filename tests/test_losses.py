"""Chapter 5: the loss is the answer's negative log-likelihood, however a batch is cut."""

import pytest
import torch
from conftest import tiny
from test_batches import examples

from lookahead.baselines import constrained_sft
from lookahead.batches import pad
from lookahead.files.checkpoint import describe
from lookahead.losses import answer_losses, cross_entropy
from lookahead.tasks import Recipe
from train import learning_rate, micro_losses


def moved(model):
    """The model after some training, as it were."""
    torch.manual_seed(3)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    return model


def with_reference(batch, model):
    losses = answer_losses(model, batch, 200)
    return [example._replace(reference=-loss) for example, loss in zip(batch, losses)]


def gradient(model, batch, budget=10**6, loss=cross_entropy):
    """Return a batch's summed loss, and its gradient as one vector."""
    losses = list(micro_losses(model, batch, budget, loss))
    sum(losses).backward()
    grads = [weight.grad.flatten() for weight in model.parameters()]
    return sum(losses).item(), torch.cat(grads)


def log_probs(model, example):
    """Return log p of each answer token, of one example and without a selection."""
    ids, start, _ = example
    rows = model(torch.tensor([ids]))[0].log_softmax(-1)
    return torch.stack([rows[t - 1, ids[t]] for t in range(start, len(ids))])


def close(ours, theirs):
    return (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_the_loss_is_the_answers_negative_log_likelihood():
    model, batch = tiny().double(), examples(9)
    expected = [-log_probs(model, example) for example in batch]
    assert gradient(model, batch, 60)[0] == pytest.approx(sum(map(sum, expected)).item(), rel=1e-6)
    for found, values in zip(answer_losses(model, batch, 60), expected):
        torch.testing.assert_close(found.double(), values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, constrained_sft])
def test_cutting_a_batch_changes_nothing(loss):
    batch = with_reference(examples(64), tiny())
    whole, expected = gradient(moved(tiny()), batch, loss=loss)
    for budget in (1, 60, 200):
        total, found = gradient(moved(tiny()), batch, budget, loss)
        assert total == pytest.approx(whole, rel=1e-5) and close(found, expected)


def test_the_gradient_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    batch, model = examples(64), tiny()
    config = transformers.AutoConfig.for_model(**describe(model.config))
    peer = transformers.AutoModelForCausalLM.from_config(config)
    peer.load_state_dict(model.state_dict())
    tokens, loss_mask, _ = pad(batch)
    peer(input_ids=tokens, labels=tokens.where(loss_mask, -100)).loss.backward()
    weights = dict(peer.named_parameters())
    theirs = torch.cat([weights[name].grad.flatten() for name, _ in model.named_parameters()])
    assert close(gradient(model, batch, 200)[1] / loss_mask.sum(), theirs)


def test_constrained_sft_is_its_formula():
    """Value and gradient against float64 autograd of the sum as its paper writes it."""
    aligned, model, batch = tiny().double(), moved(tiny().double()), examples(12)
    expected = 0.0
    for example in batch:
        gained = log_probs(model, example) - log_probs(aligned, example).detach()
        for t, value in enumerate(gained, 1):
            beta = 0.5 if t == 1 else 2.0 if t <= 5 else 0.1
            expected = expected - 2 / beta * torch.nn.functional.logsigmoid(beta * value)
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    value, found = gradient(model, with_reference(batch, aligned), 60, constrained_sft)
    assert value == pytest.approx(expected.item(), rel=1e-6)
    assert close(found, torch.cat([weight.flatten() for weight in wanted]))


def test_the_learning_rate_falls_linearly_to_zero():
    rates = [learning_rate(Recipe(lr=2.0), step, 4) for step in (1, 2, 3, 4)]
    assert rates == [2.0, 1.5, 1.0, 0.5] and learning_rate(Recipe(), 10**6, 10**6) < 1e-10
