"""Chapter 5: the loss is the answer's negative log-likelihood, however a batch is cut."""

import pytest
import torch
from conftest import tiny
from test_batches import examples

from lookahead.batches import micro_batches, pad
from lookahead.losses import (
    answer_log_probs,
    answer_logits,
    constrained_sft,
    cross_entropy,
    loss_by_position,
)


def gradients(model, batch, parts):
    """The gradient of the batch's mean loss, accumulated over parts, as one vector."""
    model.zero_grad()
    count = sum(len(ids) - start for ids, start in batch)
    total = 0.0
    for part in parts:
        loss = cross_entropy(model, [pad(part)])
        (loss / count).backward()
        total += loss.item()
    return torch.cat([p.grad.flatten() for p in model.parameters()]), total / count


def test_loss_is_the_answers_negative_log_likelihood():
    model, batch = tiny().double(), examples(5)
    expected = 0.0
    for ids, start in batch:
        log_probs = model(torch.tensor([ids]))[0].log_softmax(-1)
        expected -= sum(log_probs[t - 1, ids[t]].item() for t in range(start, len(ids)))
    loss = cross_entropy(model, [pad(batch)])
    torch.testing.assert_close(loss.item(), expected, rtol=1e-6, atol=0)


def test_the_head_at_answer_positions_only():
    model, batch = tiny(), examples(5)
    tokens, supervised = pad(batch)
    logits, targets = answer_logits(model, [(tokens, supervised)])
    shifted = supervised[:, 1:]
    torch.testing.assert_close(logits, model(tokens)[:, :-1][shifted])
    assert targets.tolist() == sum([ids[start:] for ids, start in batch], [])


def test_cutting_a_batch_changes_nothing():
    model, batch = tiny(), examples(64)
    whole, loss = gradients(model, batch, [batch])
    eighths = [batch[i : i + 8] for i in range(0, 64, 8)]
    for parts in (eighths, [[e] for e in batch], micro_batches(batch, 200)):
        cut, cut_loss = gradients(model, batch, parts)
        assert torch.cosine_similarity(whole, cut, dim=0) > 1 - 1e-6
        torch.testing.assert_close(whole, cut, rtol=1e-3, atol=1e-6)
        assert abs(loss - cut_loss) < 1e-5


def test_parts_side_by_side_are_the_whole_batch():
    model, batch = tiny(), examples(64)
    _, targets = answer_logits(model, [pad(part) for part in micro_batches(batch, 200)])
    assert sorted(targets.tolist()) == sorted(i for ids, start in batch for i in ids[start:])
    whole, _ = gradients(model, batch, [batch])
    model.zero_grad()
    loss = cross_entropy(model, [pad(part) for part in micro_batches(batch, 200)])
    (loss / sum(len(ids) - start for ids, start in batch)).backward()
    together = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    assert torch.cosine_similarity(whole, together, dim=0) > 1 - 1e-6


def test_in_backward_the_blocks_end_one_after_another():
    """What lets an optimizer inside backward free a block's gradients before the next begin."""
    model, ended = tiny(layers=3), []
    model.recompute = True
    for name, weight in model.named_parameters():
        weight.register_post_accumulate_grad_hook(lambda _, name=name: ended.append(name))
    loss = cross_entropy(model, [pad(part) for part in micro_batches(examples(64), 200)])
    loss.backward()
    blocks = [int(name.split(".")[2]) for name in ended if name.startswith("model.layers")]
    assert blocks == sorted(blocks, reverse=True) and len(blocks) == 3 * 9
    assert ended[0] == "lm_head.weight" and ended[-1] == "model.embed_tokens.weight"


def test_recomputing_blocks_in_backward_changes_nothing():
    batch, recomputed = examples(16), tiny()
    recomputed.recompute = True
    assert torch.equal(
        gradients(recomputed, batch, [batch])[0], gradients(tiny(), batch, [batch])[0]
    )


def test_the_gradient_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    batch, model = examples(64), tiny()
    config = transformers.LlamaConfig(**model.config._asdict())
    peer = transformers.LlamaForCausalLM(config)
    peer.load_state_dict(model.state_dict())
    tokens, supervised = pad(batch)
    lengths = torch.tensor([len(ids) for ids, _ in batch])
    mask = torch.arange(tokens.size(1)) < lengths[:, None]
    labels = tokens.masked_fill(~supervised, -100)
    peer(input_ids=tokens, attention_mask=mask.long(), labels=labels).loss.backward()
    weights = dict(peer.named_parameters())
    theirs = torch.cat([weights[name].grad.flatten() for name, _ in model.named_parameters()])
    ours, _ = gradients(model, batch, micro_batches(batch, 200))
    assert torch.cosine_similarity(ours.double(), theirs.double(), dim=0) > 1 - 1e-6
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def with_reference(model, batch):
    values = answer_log_probs(model, batch, 200)
    return [(*example, log_probs) for example, log_probs in zip(batch, values)]


def test_log_probs_of_answers():
    model, batch = tiny().double(), examples(9)
    for (ids, start), found in zip(batch, answer_log_probs(model, batch, 60)):
        log_probs = model(torch.tensor([ids]))[0].log_softmax(-1)
        expected = [log_probs[t - 1, ids[t]].item() for t in range(start, len(ids))]
        torch.testing.assert_close(found.tolist(), expected, rtol=1e-5, atol=1e-6)


def test_constrained_sft_is_its_formula():
    """Value and gradient against float64 autograd of the sum as the paper writes it."""
    seed, model, batch = tiny().double(), tiny().double(), examples(12)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    rows = with_reference(seed, batch)
    expected = 0.0
    for ids, start in batch:
        own, its = (m(torch.tensor([ids]))[0].log_softmax(-1) for m in (model, seed))
        for t, position in enumerate(range(start, len(ids)), 1):
            beta = 0.5 if t == 1 else 2.0 if t <= 5 else 0.1
            ratio = (own - its.detach())[position - 1, ids[position]]
            expected = expected - 2 / beta * torch.nn.functional.logsigmoid(beta * ratio)
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    for parts in ([rows], micro_batches(rows, 60)):
        value = constrained_sft(model, [pad(part) for part in parts])
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
        found = torch.autograd.grad(value, list(model.parameters()))
        for ours, theirs in zip(found, wanted):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_constrained_sft_begins_as_cross_entropy():
    """At the seed model every weight is 1: the two gradients agree."""
    model, batch = tiny(), examples(12)
    loss = constrained_sft(model, [pad(with_reference(model, batch))])
    constrained = torch.autograd.grad(loss, list(model.parameters()))
    plain = torch.autograd.grad(cross_entropy(model, [pad(batch)]), list(model.parameters()))
    for ours, theirs in zip(constrained, plain):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_small_constant_beta_is_cross_entropy():
    seed, model, batch = tiny(), tiny(), examples(12)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    part = [pad(with_reference(seed, batch))]
    plain = torch.autograd.grad(cross_entropy(model, part), list(model.parameters()))
    plain = torch.cat([g.flatten() for g in plain])
    distances = []
    for beta in (1.0, 1e-2, 1e-4):
        loss = constrained_sft(model, part, betas=(beta,))
        found = torch.autograd.grad(loss, list(model.parameters()))
        found = torch.cat([g.flatten() for g in found])
        distances.append(((found - plain).norm() / plain.norm()).item())
    assert distances[0] > 0.05 and distances[1] < 0.05 and distances[2] < 1e-3


def test_loss_by_position():
    model, batch = tiny().double(), [([1, 5, 6, 2], 2), ([1, 7, 8, 9, 2], 1)]
    means = loss_by_position(model, batch, 200)
    losses = [-values for values in answer_log_probs(model, batch, 200)]
    expected = [(losses[0][0] + losses[1][0]) / 2, (losses[0][1] + losses[1][1]) / 2]
    assert means == [pytest.approx(v.item()) for v in [*expected, losses[1][2], losses[1][3]]]
    assert loss_by_position(model, batch, 200, positions=1, rows=1) == [losses[0][0].item()]


def test_a_loss_that_is_not_a_number_is_not_hidden(monkeypatch):
    values = [torch.tensor([-1.0, torch.nan, -3.0]), torch.tensor([-2.0])]
    monkeypatch.setattr("lookahead.losses.answer_log_probs", lambda *_: values)
    first, second, third = loss_by_position(None, [], 0)
    assert first == 1.5 and second != second and third == 3.0
