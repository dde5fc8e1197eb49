"""Chapter 5: the loss is the answer's negative log-likelihood, however a batch is cut."""

import dataclasses

import pytest
import torch
from conftest import tiny
from test_batches import examples

from lookahead.batches import micro_batches, pad
from lookahead.losses import answer_logits, cross_entropy


def gradients(model, batch, parts):
    """The gradient of the batch's mean loss, accumulated over parts, as one vector."""
    model.zero_grad()
    count = sum(len(ids) - start for ids, start in batch)
    total = 0.0
    for part in parts:
        loss, answer_tokens = cross_entropy(model, [pad(part)])
        assert answer_tokens == sum(len(ids) - start for ids, start in part)
        (loss / count).backward()
        total += loss.item()
    return torch.cat([p.grad.flatten() for p in model.parameters()]), total / count


def test_loss_is_the_answers_negative_log_likelihood():
    model, batch = tiny().double(), examples(5)
    expected = 0.0
    for ids, start in batch:
        log_probs = model(torch.tensor([ids]))[0].log_softmax(-1)
        expected -= sum(log_probs[t - 1, ids[t]].item() for t in range(start, len(ids)))
    loss, _ = cross_entropy(model, [pad(batch)])
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
    whole, _ = gradients(model, batch, [batch])
    model.zero_grad()
    loss, count = cross_entropy(model, [pad(part) for part in micro_batches(batch, 200)])
    assert count == sum(len(ids) - start for ids, start in batch)
    (loss / count).backward()
    together = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    assert torch.cosine_similarity(whole, together, dim=0) > 1 - 1e-6


def test_in_backward_the_blocks_end_one_after_another():
    """What lets an optimizer inside backward free a block's gradients before the next begin."""
    model, ended = tiny(layers=3), []
    model.recompute = True
    for name, weight in model.named_parameters():
        weight.register_post_accumulate_grad_hook(lambda _, name=name: ended.append(name))
    loss, _ = cross_entropy(model, [pad(part) for part in micro_batches(examples(64), 200)])
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
    config = transformers.LlamaConfig(**dataclasses.asdict(model.config))
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
